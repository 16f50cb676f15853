"""The shipping service's settings, from the environment."""

from typing import ClassVar

from pydantic import Field

from chassis.values.config import ServiceConfig


class Config(ServiceConfig):
    """The settings of the shipping service; chassis.values.config has those of every service."""

    service: ClassVar[str] = "shipping"

    listen_address: str = "127.0.0.1:15054"
    metrics_address: str = "127.0.0.1:15064"
    order_address: str = Field(
        default="127.0.0.1:15051", description="host:port of the order service"
    )
    label_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="seconds that the purchase or the recall of a label may take",
    )
    labels_at_once_max: int = Field(
        default=16,
        ge=1,
        le=1_000,
        description="labels that are bought or recalled at the same time",
    )
    label_retry_after_s: float = Field(
        default=10.0,
        gt=0,
        le=3_600,
        description="seconds after which an unanswered purchase or recall is tried again",
    )
    label_interval_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds between two searches for labels still to be bought or recalled",
    )
    watch_heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        le=300,
        description="seconds without a change after which a watch sends a heartbeat",
    )
