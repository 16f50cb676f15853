"""The fulfilment service's settings, from the environment."""

import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from chassis.config import ServiceConfig
from chassis.money import MoneyError, minor_digits
from fulfillment_svc.model import InspectionPolicy


class Config(ServiceConfig):
    """What the fulfilment service is told; the common part stands in chassis.config. As it stands, nothing is inspected."""

    service: ClassVar[str] = "fulfillment"

    listen_address: str = "127.0.0.1:15053"
    metrics_address: str = "127.0.0.1:15063"
    warehouse_address: str = Field(default="127.0.0.1:15052", description="host:port of the warehouse service")
    shipping_address: str = Field(default="127.0.0.1:15054", description="host:port of the shipping service")
    owed_stock_interval_s: float = Field(
        default=5.0, gt=0, le=3600, description="seconds between two times of asking for stock that is owed"
    )
    owed_stock_batch: int = Field(default=100, ge=1, le=500, description="fulfilments that are asked for at once")
    inspect_order_values: Annotated[dict[str, int], NoDecode] = Field(
        default={}, description='inspect orders of this value or more, by currency, as {"GBP": "1000.00", "JPY": "150000"}'
    )
    inspect_skus: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(), description='inspect whatever is packed with one of these SKUs, as ["Lamp, blue", "mug"]'
    )
    inspect_sample_rate: float = Field(default=0.0, ge=0, le=1, description="inspect this share of all fulfilments, 0 to 1")

    @property
    def inspection(self) -> InspectionPolicy:
        """Which packages are inspected before they leave."""
        return InspectionPolicy(self.inspect_order_values, self.inspect_skus, self.inspect_sample_rate)

    @field_validator("inspect_order_values", mode="before")
    @classmethod
    def _amounts(cls, value: object) -> object:
        """In minor units, exactly."""
        values = _json(value)
        if not isinstance(values, dict):
            raise ValueError("it should be a JSON object of amounts by currency")
        return {currency: _minor(currency, amount) for currency, amount in values.items()}

    @field_validator("inspect_skus", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        skus = _json(value)
        if not isinstance(skus, list | frozenset) or not all(isinstance(sku, str) for sku in skus):
            raise ValueError("it should be a JSON array of SKUs")
        return skus


def _json(value: object) -> object:
    """What the text says; a value that is none is a default, and stays."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("it should be JSON") from None


def _minor(currency: str, amount: Any) -> int:
    try:
        minor = Decimal(str(amount)).scaleb(minor_digits(currency))
    except (InvalidOperation, MoneyError):
        raise ValueError(f"{currency!r} and its amount should be money of ISO 4217") from None
    if not minor.is_finite() or minor != int(minor) or minor < 0:
        raise ValueError(f"the amount of {currency} should be of whole minor units, zero or more")
    return int(minor)
