"""Stock levels, the rows of the ledger, and the ids of both. No decisions, no I/O, no clock."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from warehouse_svc.lifecycle import MovementKind

# The namespace of the ids of stock levels.
LEVEL_NAMESPACE = UUID("6f1c5d0e-3a0b-5d57-9c55-2f1f0a4c7b11")
BALANCE_MAX = 10**12  # units that any balance may count

Place = tuple[str, str]  # warehouse_id, sku


def level_id(place: Place) -> UUID:
    """Returns the id of the stock level at a place, whether or not the stock level exists yet."""
    return uuid5(LEVEL_NAMESPACE, "\0".join(place))


@dataclass(frozen=True, slots=True)
class StockLevel:
    """One SKU in one warehouse, in units. Reserved units are among the available ones."""

    id: UUID
    warehouse_id: str
    sku: str
    available: int
    reserved: int
    committed: int
    damaged: int
    version: int
    update_time: datetime

    @property
    def sellable(self) -> int:
        return self.available - self.reserved


@dataclass(frozen=True, slots=True)
class Movement:
    """A row of the ledger. `available` to `outside` are changes of balances; `level_version` is the
    version that it made.

    Its business key: kind, source, stock level, line and `cumulative`, the units that this kind has
    moved there so far, these included. The source is the reservation, the return, or the request
    that received or adjusted.

    `actor`, `claimed_actor`, `cause` and `note` are the command's. `actor` and `cause` are empty in
    rows of releases that did not store them.
    """

    id: UUID
    level_id: UUID
    warehouse_id: str
    sku: str
    kind: MovementKind
    quantity: int
    available: int
    reserved: int
    committed: int
    damaged: int
    outside: int
    source_id: UUID
    order_id: UUID | None
    line_number: int | None
    cumulative: int
    level_version: int
    time: datetime
    actor: str
    claimed_actor: str | None
    cause: str
    note: str | None


@dataclass(frozen=True, slots=True)
class StockChanged:
    """A balance has moved: the level after the movement, and the movement."""

    level: StockLevel
    movement: Movement
