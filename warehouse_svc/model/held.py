"""What is held for orders: reservations, their units, and what has left and come back. No
decisions, no I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from warehouse_svc.lifecycle import COUNTERS, UNITS, Bucket, MovementKind, Reason, Status, status_of


@dataclass(frozen=True, slots=True)
class WantedLine:
    """Units that one order line needs."""

    number: int
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class ReservationLine:
    """Units of one order line in one warehouse: over all buckets `quantity`, which grows when
    spoiled units are replaced.

    `expired` are those of `released` whose time was over; `spoiled` those of `written_off` that
    were found damaged.
    """

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
    spoiled: int = 0

    @property
    def live(self) -> int:
        """Units that the order has here, or had until they left."""
        return self.reserved + self.committed + self.shipped

    def units(self, bucket: Bucket) -> int:
        """How many units are in the bucket."""
        count: int = getattr(self, bucket)
        return count

    def moved(self, kind: MovementKind, quantity: int) -> "ReservationLine":
        """The line after the movement; the caller has seen to it that the units are there."""
        taken, put = UNITS[kind]
        counts: dict[str, Any] = {
            str(taken): self.units(taken) - quantity,
            str(put): self.units(put) + quantity,
        }
        if counter := COUNTERS.get(kind):
            counts[counter] = getattr(self, counter) + quantity
        return replace(self, **counts)

    def enlarged(self, quantity: int) -> "ReservationLine":
        """The line with more units reserved."""
        return replace(self, quantity=self.quantity + quantity, reserved=self.reserved + quantity)

    def cumulative(self, kind: MovementKind) -> int:
        """How many units the kind of movement has moved so far, those that have moved on since
        included.
        """
        if kind is MovementKind.RESERVE:
            return self.quantity
        if kind is MovementKind.CONFIRM:
            return self.quantity - self.reserved - self.released
        if counter := COUNTERS.get(kind):
            count: int = getattr(self, counter)
            return count
        put = UNITS[kind][1]
        return self.units(put) - sum(
            self.cumulative(other) for other in COUNTERS if UNITS[other][1] is put
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one warehouse holds for one attempt of an order. An expired one may be replaced by
    one of the next generation.
    """

    id: UUID
    order_id: UUID
    attempt: int
    generation: int
    warehouse_id: str
    status: Status
    version: int
    create_time: datetime
    expire_time: datetime
    update_time: datetime
    lines: tuple[ReservationLine, ...] = ()

    def lapsed(self, now: datetime) -> bool:
        """Whether it has expired, or would have if the worker had come by."""
        return self.status is Status.EXPIRED or (
            self.status is Status.ACTIVE and self.expire_time <= now
        )

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


class Lapsed(NamedTuple):
    """A reservation that is active past its time, and whose order it is."""

    expire_time: datetime
    id: UUID
    order_id: UUID


class Back(NamedTuple):
    """Units of an order line that came back by returns."""

    restocked: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class OrderLine:
    """What has left of an order's line, over all attempts and warehouses, and what of that came
    back by returns.
    """

    number: int
    sku: str
    shipped: int = 0
    restocked: int = 0
    damaged: int = 0

    @property
    def away(self) -> int:
        """Units that can still come back."""
        return self.shipped - self.restocked - self.damaged


@dataclass(frozen=True, slots=True)
class Holding:
    """All that is held for one order, over its attempts and all warehouses; attempts up to
    `closed_attempt` are dead. And what is `back` of it by returns, by line number.
    """

    order_id: UUID
    closed_attempt: int = 0
    version: int = 0
    reservations: tuple[Reservation, ...] = ()
    back: Mapping[int, Back] = field(default_factory=dict)

    def of(self, attempt: int) -> tuple[Reservation, ...]:
        """The attempt's reservations as they stand: those of its last generation, one for each
        warehouse.
        """
        last = max((r.generation for r in self.reservations if r.attempt == attempt), default=0)
        return tuple(r for r in self.reservations if r.attempt == attempt and r.generation == last)

    @property
    def lines(self) -> Mapping[int, OrderLine]:
        """The order's lines, by number, as far as anything was ever held for them."""
        lines: dict[int, OrderLine] = {}
        for its in (line for reservation in self.reservations for line in reservation.lines):
            back = self.back.get(its.number, Back())
            line = lines.get(its.number) or OrderLine(
                number=its.number, sku=its.sku, restocked=back.restocked, damaged=back.damaged
            )
            lines[its.number] = replace(line, shipped=line.shipped + its.shipped)
        return lines


@dataclass(frozen=True, slots=True)
class ReservationChanged:
    """A reservation has changed, or its confirmation is `refused` for good.

    `standing` is all that the attempt holds. `actor`, `cause` and `claimed_actor` are the
    command's.
    """

    reservation: Reservation
    old_status: Status | None
    standing: tuple[Reservation, ...]
    holding_version: int
    time: datetime
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    refused: str | None = None
