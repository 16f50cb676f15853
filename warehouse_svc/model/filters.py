"""The filters of lists. A field that is None or empty matches every row."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from warehouse_svc.lifecycle import (
    MovementKind,
    Status,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelFilter:
    """The stock levels that a list shows."""

    warehouse_id: str | None = None
    skus: tuple[str, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementFilter:
    """The rows of the ledger that a list shows."""

    warehouse_id: str | None = None
    sku: str | None = None
    order_id: UUID | None = None
    kinds: tuple[MovementKind, ...] = ()
    time_from: datetime | None = None
    time_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationFilter:
    """The reservations that a list shows."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: tuple[Status, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
