"""Filters of the lists of orders and returns."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from order_svc.lifecycle import ReturnStatus, Status, StockStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeFilter:
    """When the records of a list were created and last changed: from a time on, before a time."""

    create_time_from: datetime | None = None
    create_time_before: datetime | None = None
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter(TimeFilter):
    """Which orders a list shows; what is None or empty filters nothing."""

    statuses: tuple[Status, ...] = ()
    customer_id: str | None = None
    external_reference: str | None = None
    number: str | None = None
    stock: StockStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnFilter(TimeFilter):
    """Which returns a list shows; what is None or empty filters nothing."""

    order_id: UUID | None = None
    statuses: tuple[ReturnStatus, ...] = ()
