"""Stock levels, the rows of the ledger, and reservations with their units. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from warehouse_svc.lifecycle import (
    COUNTERS,
    EFFECTS,
    UNIT_MOVES,
    Bucket,
    MovementKind,
    Status,
    status_of,
)

# The namespace of the ids of stock levels.
LEVEL_NAMESPACE = UUID("6f1c5d0e-3a0b-5d57-9c55-2f1f0a4c7b11")
BALANCE_MAX = 10**12  # units
Place = tuple[str, str]  # warehouse_id, sku


def level_id(place: Place) -> UUID:
    """Returns the id that the stock level at a place has, or will have."""
    return uuid5(LEVEL_NAMESPACE, "\0".join(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class StockLevel:
    """One SKU in one warehouse, in units. Reserved units are among the available ones."""

    warehouse_id: str
    sku: str
    available: int
    reserved: int
    committed: int
    damaged: int
    version: int
    update_time: datetime

    @property
    def id(self) -> UUID:
        return level_id((self.warehouse_id, self.sku))

    @property
    def sellable(self) -> int:
        return self.available - self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A row of the ledger.

    `available` to `outside` are changes of balances; `level_version` is the stock level's version
    after it.

    Its business key is kind, source, stock level, line and `cumulative`: the units that this kind
    has moved there so far, including these. The source is the reservation, the return, or the
    request that received or adjusted.

    `actor`, `claimed_actor`, `cause` and `note` are the command's.
    """

    id: UUID
    warehouse_id: str
    sku: str
    kind: MovementKind
    quantity: int
    available: int  # of the other changes, each follows from the kind and the quantity
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

    @property
    def level_id(self) -> UUID:
        return level_id((self.warehouse_id, self.sku))

    @property
    def reserved(self) -> int:
        return self.quantity * EFFECTS[self.kind].reserved

    @property
    def committed(self) -> int:
        return self.quantity * EFFECTS[self.kind].committed

    @property
    def damaged(self) -> int:
        return self.quantity * EFFECTS[self.kind].damaged

    @property
    def outside(self) -> int:
        return -(self.available + self.committed + self.damaged)


@dataclass(frozen=True, slots=True)
class WantedLine:
    """Units that one order line needs."""

    number: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationLine:
    """Units of one order line in one warehouse.

    A replacement of spoiled units adds units.
    `expired` counts the released units whose reservation expired; `spoiled` counts the written
    off units that were found damaged.
    """

    number: int
    sku: str
    reserved: int
    released: int = 0
    expired: int = 0
    committed: int = 0
    uncommitted: int = 0
    shipped: int = 0
    written_off: int = 0
    spoiled: int = 0

    @property
    def quantity(self) -> int:
        """The units of all buckets."""
        return (
            self.reserved
            + self.released
            + self.committed
            + self.uncommitted
            + self.shipped
            + self.written_off
        )

    @property
    def allocated(self) -> int:
        """The units that are allocated to the order: reserved, committed or shipped."""
        return self.reserved + self.committed + self.shipped

    def units(self, bucket: Bucket) -> int:
        """Returns the number of units in the bucket."""
        count: int = getattr(self, bucket)
        return count

    def moved(self, kind: MovementKind, quantity: int) -> "ReservationLine":
        """Returns the line after the movement. The caller checks that it has so many units."""
        taken, put = UNIT_MOVES[kind]
        counts: dict[str, Any] = {
            str(taken): self.units(taken) - quantity,
            str(put): self.units(put) + quantity,
        }
        if counter := COUNTERS.get(kind):
            counts[counter] = getattr(self, counter) + quantity
        return replace(self, **counts)

    def enlarged(self, quantity: int) -> "ReservationLine":
        """Returns the line with `quantity` more units, which are reserved."""
        return replace(self, reserved=self.reserved + quantity)

    def cumulative(self, kind: MovementKind) -> int:
        """Returns the number of units that this kind of movement has moved so far.

        It includes those that another movement has moved since.
        """
        if kind is MovementKind.RESERVE:
            return self.quantity
        if kind is MovementKind.CONFIRM:
            return self.quantity - self.reserved - self.released
        if counter := COUNTERS.get(kind):
            count: int = getattr(self, counter)
            return count
        put = UNIT_MOVES[kind][1]
        return self.units(put) - sum(
            self.cumulative(other) for other in COUNTERS if UNIT_MOVES[other][1] is put
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The units that one warehouse reserves for one attempt of an order.

    A reservation of the next generation may replace an expired one.
    """

    id: UUID
    order_id: UUID
    attempt: int
    generation: int
    warehouse_id: str
    version: int
    create_time: datetime
    expire_time: datetime
    update_time: datetime
    lines: tuple[ReservationLine, ...] = ()

    def has_expired(self, now: datetime) -> bool:
        """Returns whether its expire_time passed before it was confirmed.

        The status may still be active: the expiry worker has not processed the reservation yet.
        """
        return self.status is Status.EXPIRED or (
            self.status is Status.ACTIVE and self.expire_time <= now
        )

    @property
    def status(self) -> Status:
        """The status that follows from the units of the lines."""
        return status_of(
            reserved=sum(line.reserved for line in self.lines),
            committed=sum(line.committed for line in self.lines),
            released=sum(line.released for line in self.lines),
            expired=sum(line.expired for line in self.lines),
            quantity=sum(line.quantity for line in self.lines),
        )


class OverdueReservation(NamedTuple):
    """A reservation that is still active after its expire_time, and its order."""

    expire_time: datetime
    id: UUID
    order_id: UUID


class ReturnedUnits(NamedTuple):
    """Units of an order line that returns brought back."""

    restocked: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """Units of an order's line, over all attempts and warehouses: shipped, and brought back by
    returns.
    """

    number: int
    sku: str
    shipped: int = 0
    restocked: int = 0
    damaged: int = 0

    @property
    def returnable(self) -> int:
        """Shipped units that no return has brought back yet."""
        return self.shipped - self.restocked - self.damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReservations:
    """All reservations of one order, over its attempts and all warehouses.

    Attempts up to `closed_attempt` are closed. `returned` has the units that returns brought back,
    by line number.
    """

    order_id: UUID
    closed_attempt: int = 0
    version: int = 0
    reservations: tuple[Reservation, ...] = ()
    returned: Mapping[int, ReturnedUnits] = field(default_factory=dict)

    def of_attempt(self, attempt: int) -> tuple[Reservation, ...]:
        """Returns the attempt's reservations of its last generation, one for each warehouse."""
        last = max((r.generation for r in self.reservations if r.attempt == attempt), default=0)
        return tuple(r for r in self.reservations if r.attempt == attempt and r.generation == last)

    @property
    def lines(self) -> Mapping[int, OrderLine]:
        """The order's lines that have or had a reservation, by number."""
        lines: dict[int, OrderLine] = {}
        for part in (line for reservation in self.reservations for line in reservation.lines):
            returned = self.returned.get(part.number, ReturnedUnits())
            line = lines.get(part.number) or OrderLine(
                number=part.number,
                sku=part.sku,
                restocked=returned.restocked,
                damaged=returned.damaged,
            )
            lines[part.number] = replace(line, shipped=line.shipped + part.shipped)
        return lines


# Units in the ledger for one source, by order, line number and kind of movement. Order and line
# number are None for a receipt or a count.
PostedUnits = Mapping[tuple[UUID | None, int | None, MovementKind], int]


@dataclass(frozen=True, slots=True)
class OrderStock:
    """The record that a decider works on.

    It has the stock levels that the set has locked, and the reservations of the order that is the
    target; None where the target is not an order, or has none. `posted` has the units in the ledger
    by source, for the requests, returns and shipments that the set's commands name.
    """

    levels: Mapping[Place, StockLevel]
    order_reservations: OrderReservations | None = None
    posted: Mapping[UUID, PostedUnits] = field(default_factory=dict)

    @property
    def existing_reservations(self) -> OrderReservations:
        """The order's reservations, which must exist."""
        assert self.order_reservations, "the order has reservations"
        return self.order_reservations


@dataclass(frozen=True, slots=True)
class Availability:
    """One SKU over all warehouses: requested units, and units that a checkout can reserve."""

    sku: str
    requested: int
    sellable: int
