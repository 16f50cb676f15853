"""Balances, units of reservations, rows of the ledger and domain events, which one decision
changes together or not at all.

The deciders post their results to a StockPosting; each decision has its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused
from warehouse_svc.lifecycle import EFFECTS, UNIT_MOVES, MovementKind, Reason, allowed
from warehouse_svc.model.commands import (
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.events import ReservationChanged, StockChanged
from warehouse_svc.model.records import (
    BALANCE_MAX,
    Movement,
    OrderLine,
    OrderReservations,
    OrderStock,
    Place,
    PostedUnits,
    Reservation,
    ReservationLine,
    ReturnedUnits,
    StockLevel,
    WantedLine,
)

Decided = Decision[OrderStock, Movement]

# The kinds of movement after which the reservation's change is published. The answer of the call
# has the reserved units, and the shipment's events the shipped ones.
PUBLISHED_KINDS = frozenset(
    {MovementKind.CONFIRM, MovementKind.RELEASE, MovementKind.EXPIRE, MovementKind.UNCOMMIT}
)

# Why a reservation changes, by the command that moves its units.
REASONS: Mapping[type, Reason] = {
    ReserveStock: Reason.STOCK_RESERVED,
    RenewReservations: Reason.RESERVATION_RENEWED,
    ConfirmReservations: Reason.STOCK_CONFIRMED,
    ReleaseReservations: Reason.STOCK_RELEASED,
    ExpireReservations: Reason.TIME_EXPIRED,
    CloseAttempt: Reason.ATTEMPT_CLOSED,
    ApplyAllocations: Reason.UNITS_CANCELLED,
    ApplyFulfillment: Reason.FULFILLMENT_CHANGED,
    ReplaceSpoiled: Reason.SPOILED_UNITS_REPLACED,
}


class StockPosting:
    """The changes that one decision makes to its record; `decision` returns them.

    Ids, actor, cause, claimed actor and note come from the context.
    """

    def __init__(self, record: OrderStock, command: object, context: Context) -> None:
        self._record, self._command, self._context = record, command, context
        self._levels = dict(record.levels)
        self._order = record.order_reservations or OrderReservations(order_id=context.target)
        self._reservations = {r.id: r for r in self._order.reservations}
        self._lines: dict[UUID, dict[int, ReservationLine]] = {}
        self._returned = dict(self._order.returned)
        self._posted = dict(record.posted)
        self._moved_kinds: defaultdict[UUID, set[MovementKind]] = defaultdict(set)
        self._movements: list[Movement] = []
        self._events: list[object] = []

    def level(self, place: Place) -> StockLevel:
        """Returns the stock level with the movements so far; an empty one where there is none."""
        return self._levels.get(place) or StockLevel(
            warehouse_id=place[0],
            sku=place[1],
            available=0,
            reserved=0,
            committed=0,
            damaged=0,
            version=0,
            update_time=self._context.time,
        )

    def sellable(self) -> dict[str, dict[str, int]]:
        """Returns the sellable units, by warehouse and SKU."""
        units: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (warehouse_id, sku), level in self._levels.items():
            if level.sellable:
                units[warehouse_id][sku] = level.sellable
        return dict(units)

    def move(self, place: Place, kind: MovementKind, quantity: int, source_id: UUID) -> None:
        """Moves units that belong to no order. An adjustment's quantity may be below zero."""
        units = abs(quantity)
        self._add_posted(source_id, None, None, kind, units)
        self._post(place, kind, quantity, source_id, None, None, units)

    def move_units(
        self, reservation: Reservation, number: int, kind: MovementKind, quantity: int
    ) -> None:
        """Moves units of a reservation's line.

        Raises Refused STOCK_BELOW_RESERVED where the line has fewer.
        """
        lines = self._lines_of(reservation)
        line = lines[number]
        taken = UNIT_MOVES[kind][0]
        if quantity > line.units(taken):
            raise Refused(
                "STOCK_BELOW_RESERVED",
                f"Line {number} of reservation {reservation.id} has {line.units(taken)} {taken}"
                f" units, not {quantity}.",
                sku=line.sku,
                line_number=str(number),
            )
        lines[number] = line.moved(kind, quantity)
        self._post_units(reservation, lines[number], kind, quantity)

    def move_all(self, reservation: Reservation, kind: MovementKind) -> None:
        """Moves all units that this kind of movement can take from the reservation."""
        for line in self.current(reservation).lines:
            if units := line.units(UNIT_MOVES[kind][0]):
                self.move_units(reservation, line.number, kind, units)

    def add_units(self, reservation: Reservation, number: int, quantity: int) -> None:
        """Commits `quantity` more units for a line.

        The caller checks that they are sellable in the same warehouse.
        """
        lines = self._lines_of(reservation)
        lines[number] = lines[number].enlarged(quantity)
        self._post_units(reservation, lines[number], MovementKind.RESERVE, quantity)
        self.move_units(reservation, number, MovementKind.CONFIRM, quantity)

    def post_return(
        self, line: OrderLine, place: Place, kind: MovementKind, quantity: int, source_id: UUID
    ) -> None:
        """Posts units of an order's line that a return brought back.

        `kind` is RESTOCK for sellable units, and MARK_DAMAGED for damaged ones.
        """
        returned = self._returned.get(line.number, ReturnedUnits())
        restocked, damaged = (quantity, 0) if kind is MovementKind.RESTOCK else (0, quantity)
        self._returned[line.number] = ReturnedUnits(
            returned.restocked + restocked, returned.damaged + damaged
        )
        self.move_outside(place, line.number, kind, quantity, source_id)

    def move_outside(
        self, place: Place, number: int, kind: MovementKind, quantity: int, source_id: UUID
    ) -> None:
        """Moves units of an order's line that are outside its reservations."""
        order_id = self._order.order_id
        cumulative = self._add_posted(source_id, order_id, number, kind, quantity)
        self._post(place, kind, quantity, source_id, order_id, number, cumulative)

    def posted(self, source_id: UUID, number: int, kind: MovementKind) -> int:
        """Returns the number of units of the order's line in the ledger for the source."""
        of_source: PostedUnits = self._posted.get(source_id, {})
        return of_source.get((self._order.order_id, number, kind), 0)

    def order_lines(self) -> Mapping[int, OrderLine]:
        """Returns the order's lines with the movements so far, by number."""
        return replace(self._order, returned=self._returned).lines

    def reserve(
        self,
        attempt: int,
        generation: int,
        warehouse_id: str,
        lines: Sequence[WantedLine],
        expire_time: datetime,
    ) -> Reservation:
        """Returns a new reservation of the lines for the order that is the command's target."""
        new = Reservation(
            id=self._context.new_id(len(self._moved_kinds)),
            order_id=self._context.target,
            attempt=attempt,
            generation=generation,
            warehouse_id=warehouse_id,
            version=0,
            create_time=self._context.time,
            expire_time=expire_time,
            update_time=self._context.time,
            lines=tuple(
                ReservationLine(number=each.number, sku=each.sku, reserved=each.quantity)
                for each in lines
            ),
        )
        self._reservations[new.id] = new
        for line in new.lines:
            self._post_units(new, line, MovementKind.RESERVE, line.quantity)
        return new

    def current(self, reservation: Reservation) -> Reservation:
        """Returns the reservation with the movements so far."""
        lines = self._lines.get(reservation.id)
        return (
            replace(self._reservations[reservation.id], lines=tuple(lines.values()))
            if lines
            else self._reservations[reservation.id]
        )

    def decision(self, *, closed_attempt: int = 0) -> Decided:
        """Returns the decision about an order's reservations, or about stock levels alone.

        Without a movement and without a newly closed attempt it leaves the record as it is.
        """
        closed = max(closed_attempt, self._order.closed_attempt)
        if not self._movements and closed == self._order.closed_attempt:
            return Decision(self._record)
        order_reservations = None
        if self._record.order_reservations or self._reservations or closed:
            order_reservations = OrderReservations(
                order_id=self._order.order_id,
                closed_attempt=closed,
                version=self._order.version + 1,
                # in their stored order: those of several commands may have the same millisecond
                reservations=tuple(
                    self._updated(each) for _, each in sorted(self._reservations.items())
                ),
                returned=self._returned,
            )
            self._add_reservation_events(order_reservations)
        return Decision(
            OrderStock(self._levels, order_reservations, self._posted),
            self._movements,
            self._events,
        )

    def _add_posted(
        self,
        source_id: UUID,
        order_id: UUID | None,
        number: int | None,
        kind: MovementKind,
        units: int,
    ) -> int:
        """Adds units to those in the ledger for the source: later commands of the set read them.
        Returns the number of units then.
        """
        of_source = dict(self._posted.get(source_id, {}))
        of_source[order_id, number, kind] = of_source.get((order_id, number, kind), 0) + units
        self._posted[source_id] = of_source
        return of_source[order_id, number, kind]

    def _lines_of(self, reservation: Reservation) -> dict[int, ReservationLine]:
        return self._lines.setdefault(
            reservation.id, {line.number: line for line in reservation.lines}
        )

    def _updated(self, reservation: Reservation) -> Reservation:
        if reservation.id not in self._moved_kinds:
            return reservation
        version = reservation.version + 1
        after = replace(self.current(reservation), version=version, update_time=self._context.time)
        if not allowed(reservation.status, after.status):
            raise AssertionError(
                f"a reservation cannot go from {reservation.status} to {after.status}"
            )
        return after

    def _add_reservation_events(self, new: OrderReservations) -> None:
        before = {r.id: r.status for r in self._order.reservations}
        for reservation in new.reservations:
            if self._moved_kinds[reservation.id] & PUBLISHED_KINDS:
                changed = ReservationChanged(
                    reservation=reservation,
                    old_status=before.get(reservation.id),
                    attempt_reservations=new.of_attempt(reservation.attempt),
                    reservations_version=new.version,
                    time=self._context.time,
                    reason=REASONS[type(self._command)],
                    actor=self._context.actor,
                    cause=self._context.cause,
                    claimed_actor=self._context.claimed_actor,
                )
                self._events.append(changed)

    def _post_units(
        self, reservation: Reservation, line: ReservationLine, kind: MovementKind, quantity: int
    ) -> None:
        self._moved_kinds[reservation.id].add(kind)
        place = (reservation.warehouse_id, line.sku)
        self._post(
            place,
            kind,
            quantity,
            reservation.id,
            reservation.order_id,
            line.number,
            line.cumulative(kind),
        )

    def _post(
        self,
        place: Place,
        kind: MovementKind,
        n: int,
        source_id: UUID,
        order_id: UUID | None,
        number: int | None,
        cumulative: int,
    ) -> None:
        effect, old = EFFECTS[kind], self.level(place)
        new = StockLevel(
            warehouse_id=old.warehouse_id,
            sku=old.sku,
            available=old.available + n * effect.available,
            reserved=old.reserved + n * effect.reserved,
            committed=old.committed + n * effect.committed,
            damaged=old.damaged + n * effect.damaged,
            version=old.version + 1,
            update_time=self._context.time,
        )
        _check_bounds(new)
        movement = Movement(
            id=self._context.new_id(len(self._movements)),
            warehouse_id=old.warehouse_id,
            sku=old.sku,
            kind=kind,
            quantity=abs(n),
            available=n * effect.available,
            source_id=source_id,
            order_id=order_id,
            line_number=number,
            cumulative=cumulative,
            level_version=new.version,
            time=self._context.time,
            actor=self._context.actor,
            claimed_actor=self._context.claimed_actor,
            cause=self._context.cause,
            note=self._context.note,
        )
        self._levels[place] = new
        self._movements.append(movement)
        self._events.append(StockChanged(new, movement))


def _check_bounds(level: StockLevel) -> None:
    balances = (level.available, level.reserved, level.committed, level.damaged)
    if min(*balances, level.sellable) < 0:
        text = f"{level.warehouse_id} has too few units of {level.sku}, or has reserved them."
        raise Refused("STOCK_BELOW_RESERVED", text, sku=level.sku, warehouse_id=level.warehouse_id)
    if max(balances) > BALANCE_MAX:
        text = f"{level.warehouse_id} cannot have more than {BALANCE_MAX} units of {level.sku}."
        raise Refused("QUANTITY_OUT_OF_RANGE", text, sku=level.sku, warehouse_id=level.warehouse_id)
