"""The order service's settings, from the environment."""

from typing import ClassVar

from pydantic import Field

from chassis.values.config import ServiceConfig


class Config(ServiceConfig):
    """The settings of the order service; chassis.values.config has those of every service."""

    service: ClassVar[str] = "order"

    listen_address: str = "127.0.0.1:15051"
    metrics_address: str = "127.0.0.1:15061"
    warehouse_address: str = Field(
        default="127.0.0.1:15052", description="host:port of the warehouse service"
    )
    watch_heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        le=300,
        description="seconds without a change after which a watch sends a heartbeat",
    )
    expiry_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds between two searches for orders that were not paid in time",
    )
