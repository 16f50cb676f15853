"""The domain events of the warehouse service."""

from dataclasses import dataclass
from datetime import datetime

from warehouse_svc.lifecycle import (
    Reason,
    Status,
)
from warehouse_svc.model.records import Movement, Reservation, StockLevel


@dataclass(frozen=True, slots=True)
class StockChanged:
    """A balance has changed: the stock level after the movement, and the movement."""

    level: StockLevel
    movement: Movement


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationChanged:
    """A reservation has changed, or its confirmation is finally refused: `refused` is the reason.

    `attempt_reservations` are the attempt's current reservations. `actor`, `cause` and
    `claimed_actor` are the command's.
    """

    reservation: Reservation
    old_status: Status | None
    attempt_reservations: tuple[Reservation, ...]
    reservations_version: int
    time: datetime
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    refused: str | None = None
