"""The warehouse service's settings, from the environment."""

from typing import ClassVar

from pydantic import Field

from chassis.values.config import ServiceConfig


class Config(ServiceConfig):
    """The warehouse service's settings; the common ones are in chassis.values.config."""

    service: ClassVar[str] = "warehouse"

    listen_address: str = "127.0.0.1:15052"
    metrics_address: str = "127.0.0.1:15062"
    expiry_interval_s: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="seconds between two searches for reservations past their expire_time",
    )
