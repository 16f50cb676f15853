"""What lies on the shelves: stock levels, the ledger's rows, and the ids of both. No decisions,
no I/O, no clock.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from warehouse_svc.lifecycle import MovementKind

# the namespace that the ids of stock levels are made in
LEVELS = UUID("6f1c5d0e-3a0b-5d57-9c55-2f1f0a4c7b11")
BALANCE_MAX = 10**12  # units that any balance may count

Place = tuple[str, str]  # warehouse_id, sku


def level_id(place: Place) -> UUID:
    """The id of the stock level at a place: known before there is one."""
    return uuid5(LEVELS, "\0".join(place))


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
