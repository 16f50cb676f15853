"""The filters of lists: a filter that is None or empty filters nothing."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from warehouse_svc.lifecycle import (
    MovementKind,
    Status,
)


@dataclass(frozen=True, slots=True)
class LevelFilter:
    """Which stock levels a list shows."""

    warehouse_id: str | None = None
    skus: tuple[str, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class MovementFilter:
    """Which rows of the ledger a list shows."""

    warehouse_id: str | None = None
    sku: str | None = None
    order_id: UUID | None = None
    kinds: tuple[MovementKind, ...] = ()
    time_from: datetime | None = None
    time_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReservationFilter:
    """Which reservations a list shows."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: tuple[Status, ...] = ()
    update_time_from: datetime | None = None
    update_time_before: datetime | None = None
