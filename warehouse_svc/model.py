"""The nouns: stock levels, the ledger's rows, reservations, what may be asked of them, what is told of them; and the picture
that the commands of one write share. No decisions here, no I/O, no clock.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from warehouse_svc.lifecycle import UNITS, Bucket, MovementKind, Status, status_of

LEVELS = UUID("6f1c5d0e-3a0b-5d57-9c55-2f1f0a4c7b11")  # the namespace that the ids of stock levels are made in
BALANCE_MAX = 10**12  # units that any balance may count

Place = tuple[str, str]  # warehouse_id, sku


def level_id(place: Place) -> UUID:
    """The id of the stock level at a place: known before there is one."""
    return uuid5(LEVELS, "\0".join(place))


def derived_id(now: datetime, key: str, number: int) -> UUID:
    """A UUIDv7 for the `number`th thing (below 2**20) that the command `key` makes at `now`: the same whenever it is decided again.

    Ids of one command sort by number, and ids of all commands by time (to the millisecond).
    """
    chance = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7]) & (1 << 54) - 1
    high, low = divmod(number, 1 << 8)
    milliseconds = int(now.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low << 54 | chance)


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
    """A row of the ledger. `available` to `outside` are changes of balances; `level_version` is the version that it made.

    Its business key: kind, source, stock level, line and `cumulative`, the units that this kind has moved there so far, these included.
    The source is the reservation, or the request that received or adjusted.
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


@dataclass(frozen=True, slots=True)
class WantedLine:
    """Units that one order line needs."""

    number: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class ReservationLine:
    """Units of one order line in one warehouse: over all buckets `quantity`. `expired` are those of `released` whose time was over."""

    number: int
    sku: str
    quantity: int
    reserved: int
    released: int = 0
    expired: int = 0
    committed: int = 0
    uncommitted: int = 0
    shipped: int = 0
    written_off: int = 0

    def units(self, bucket: Bucket) -> int:
        """How many units are in the bucket."""
        count: int = getattr(self, bucket)
        return count

    def moved(self, kind: MovementKind, quantity: int) -> "ReservationLine":
        """The line after the movement; the caller has seen to it that the units are there."""
        taken, put = UNITS[kind]
        counts: dict[str, Any] = {str(taken): self.units(taken) - quantity, str(put): self.units(put) + quantity}
        if kind is MovementKind.EXPIRE:
            counts["expired"] = self.expired + quantity
        return replace(self, **counts)

    def cumulative(self, kind: MovementKind) -> int:
        """How many units the kind of movement has put where it puts them, those that have moved on since included."""
        if kind is MovementKind.RESERVE:
            return self.quantity
        if kind is MovementKind.CONFIRM:
            return self.quantity - self.reserved - self.released
        return self.units(UNITS[kind][1])


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one warehouse holds for one attempt of an order. An expired one may be replaced by one of the next generation."""

    id: UUID
    order_id: UUID
    attempt: int
    generation: int
    warehouse_id: str
    status: Status
    version: int
    create_time: datetime
    expire_time: datetime
    lines: tuple[ReservationLine, ...] = ()

    def lapsed(self, now: datetime) -> bool:
        """Whether it has expired, or would have if the worker had come by."""
        return self.status is Status.EXPIRED or (self.status is Status.ACTIVE and self.expire_time <= now)

    def total(self, bucket: Bucket) -> int:
        """How many units are in the bucket, over all lines."""
        return sum(line.units(bucket) for line in self.lines)

    @property
    def status_of_units(self) -> Status:
        """What the lines make of the status."""
        return status_of(
            reserved=self.total(Bucket.RESERVED),
            committed=self.total(Bucket.COMMITTED),
            released=self.total(Bucket.RELEASED),
            expired=sum(line.expired for line in self.lines),
            quantity=sum(line.quantity for line in self.lines),
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """All that is held for one order, over its attempts and all warehouses. Attempts up to `closed_attempt` are dead."""

    order_id: UUID
    closed_attempt: int = 0
    version: int = 0
    reservations: tuple[Reservation, ...] = ()

    def of(self, attempt: int) -> tuple[Reservation, ...]:
        """The attempt's reservations as they stand: those of its last generation, one for each warehouse."""
        last = max((r.generation for r in self.reservations if r.attempt == attempt), default=0)
        return tuple(r for r in self.reservations if r.attempt == attempt and r.generation == last)


# --- facts


@dataclass(frozen=True, slots=True)
class StockChanged:
    """A balance has moved: the level after the movement, and the movement."""

    level: StockLevel
    movement: Movement


@dataclass(frozen=True, slots=True)
class ReservationChanged:
    """A reservation has changed, or its confirmation is `refused` for good. `standing` is all that the attempt holds."""

    reservation: Reservation
    old_status: Status | None
    standing: tuple[Reservation, ...]
    holding_version: int
    time: datetime
    refused: str | None = None


# --- commands


@dataclass(frozen=True, slots=True)
class Command:
    """What may be asked of the warehouse. The target is the order's id; of a receipt or an adjustment the request's."""

    key: str
    digest: bytes
    target: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveStock(Command):
    """Goods have arrived: units by SKU."""

    warehouse_id: str
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustStock(Command):
    """A count has found `delta` more units than the books say."""

    warehouse_id: str
    sku: str
    delta: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock(Command):
    """Set aside all lines, or none, for `ttl`."""

    attempt: int
    lines: tuple[WantedLine, ...]
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewReservations(Command):
    """The request that once reserved has come again: what has expired is made anew."""

    attempt: int
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmReservations(Command):
    """Commit what the attempt has reserved. `by_event`: nobody waits for the answer, so that a refusal for good is told to the world."""

    attempt: int
    by_event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservations(Command):
    """Give up what the attempt still has reserved: by line number the units released so far, these included; empty: all of it."""

    attempt: int
    released: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReservations(Command):
    """Take back what is reserved past its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttempt(Command):
    """The order's attempt is dead. `while_pending`: no fulfilment will ever speak of its units."""

    attempt: int
    while_pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipUnits(Command):
    """One warehouse's goods are with the carrier: by line number the units shipped so far."""

    attempt: int
    warehouse_id: str
    shipped: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnUnits(Command):
    """One warehouse's work was cancelled: by line number the units that are back on the shelf so far."""

    attempt: int
    warehouse_id: str
    uncommitted: Mapping[int, int]


StockCommand = (
    ReceiveStock
    | AdjustStock
    | ReserveStock
    | RenewReservations
    | ConfirmReservations
    | ReleaseReservations
    | ExpireReservations
    | EndAttempt
    | ShipUnits
    | ReturnUnits
)

# --- what the commands of one write share


@dataclass(frozen=True, slots=True)
class View:
    """What one decision sees: all the stock that the set has locked, and what is held for its order.

    `booked` are the requests of the set whose movements already stand in the ledger.
    """

    stock: Mapping[Place, StockLevel]
    holding: Holding | None = None
    booked: frozenset[UUID] = frozenset()


class Picture(MutableMapping[UUID, View]):
    """Views by command target, over one stock: whatever a decision leaves of it, the next decision finds, whichever its target.

    `get` answers with a view of the stock as it stands now; by index stands what a decision on that very target has left.
    """

    def __init__(
        self, levels: Iterable[StockLevel], holdings: Iterable[Holding], requests: Collection[UUID], booked: Collection[UUID]
    ) -> None:
        self._stock: Mapping[Place, StockLevel] = {(level.warehouse_id, level.sku): level for level in levels}
        self._booked = frozenset(booked)
        self._views = {holding.order_id: View(self._stock, holding, self._booked) for holding in holdings}
        self._views |= {request: View(self._stock, None, self._booked) for request in requests}

    def get(self, target: UUID, default: Any = None) -> View:
        """The target's view; of an unknown target one without a holding."""
        known = self._views.get(target)
        return View(self._stock, known.holding if known else None, self._booked)

    def __getitem__(self, target: UUID) -> View:
        return self._views[target]

    def __setitem__(self, target: UUID, view: View) -> None:
        known = self._views.get(target)
        if known is None or view.holding is not known.holding or view.stock is not self._stock:  # else it was a skip: nothing to save
            self._stock, self._views[target] = view.stock, view

    def __delitem__(self, target: UUID) -> None:
        del self._views[target]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


# --- lists: filters that are None or empty filter nothing


@dataclass(frozen=True, slots=True)
class LevelFilter:
    """Which stock levels a list shows."""

    warehouse_id: str | None = None
    skus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MovementFilter:
    """Which rows of the ledger a list shows."""

    warehouse_id: str | None = None
    sku: str | None = None
    order_id: UUID | None = None
    kinds: tuple[MovementKind, ...] = ()
    time_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReservationFilter:
    """Which reservations a list shows."""

    order_id: UUID | None = None
    warehouse_id: str | None = None
    statuses: tuple[Status, ...] = ()


@dataclass(frozen=True, slots=True)
class Availability:
    """One SKU over all warehouses: units asked for, and units that a checkout can still get."""

    sku: str
    asked: int
    sellable: int
