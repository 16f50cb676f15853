"""The fulfilment service's settings, from the environment."""

import unicodedata
from functools import partial
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, Json, StringConstraints

from chassis.values.config import ServiceConfig

Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
Sku = Annotated[
    str,
    AfterValidator(partial(unicodedata.normalize, "NFC")),
    StringConstraints(min_length=1, max_length=64),
]


class Config(ServiceConfig):
    """The settings of the fulfilment service; the common part is in chassis.values.config.

    By default, no package is inspected.
    """

    service: ClassVar[str] = "fulfillment"

    listen_address: str = "127.0.0.1:15053"
    metrics_address: str = "127.0.0.1:15063"
    warehouse_address: str = Field(
        default="127.0.0.1:15052", description="host:port of the warehouse service"
    )
    shipping_address: str = Field(
        default="127.0.0.1:15054", description="host:port of the shipping service"
    )
    pending_commit_interval_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="seconds between two requests for pending commits",
    )
    pending_commit_batch: int = Field(
        default=100, ge=1, le=500, description="fulfilments whose commit is requested at once"
    )
    inspect_order_values: Json[dict[Currency, Annotated[int, Field(ge=0)]]] = Field(
        default={},
        validate_default=False,
        description=(
            'inspect orders of this value or more, in minor units by currency: {"GBP": 100000,'
            ' "JPY": 150000}'
        ),
    )
    inspect_skus: Json[frozenset[Sku]] = Field(
        default=frozenset(),
        validate_default=False,
        description='inspect packages with one of these SKUs: ["Lamp, blue", "mug"]',
    )
    inspect_sample_rate: float = Field(
        default=0.0, ge=0, le=1, description="inspect this share of all fulfilments, 0 to 1"
    )
