"""What one decision moves: balances, units of reservations, rows of the ledger and facts, that
change together or not at all.

Nothing is decided here: whoever books has decided. A Books lives as long as one decision, and
nobody else sees it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused
from warehouse_svc.lifecycle import EFFECTS, UNITS, MovementKind, Reason, Status, allowed
from warehouse_svc.model import (
    BALANCE_MAX,
    Back,
    Booked,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    FollowWork,
    Holding,
    KeepUnits,
    Movement,
    OrderLine,
    Place,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    Reservation,
    ReservationChanged,
    ReservationLine,
    ReserveStock,
    StockChanged,
    StockLevel,
    View,
    WantedLine,
    level_id,
)

Decided = Decision[View, Movement]

# Of these the world hears what they made of the reservation. (Of what is reserved its caller knows,
# of what is shipped the carrier.)
TOLD = frozenset(
    {MovementKind.CONFIRM, MovementKind.RELEASE, MovementKind.EXPIRE, MovementKind.UNCOMMIT}
)


# Why a reservation changes, by the command that moves its units.
REASONS: Mapping[type, Reason] = {
    ReserveStock: Reason.STOCK_RESERVED,
    RenewReservations: Reason.RESERVATION_RENEWED,
    ConfirmReservations: Reason.STOCK_CONFIRMED,
    ReleaseReservations: Reason.STOCK_RELEASED,
    ExpireReservations: Reason.TIME_EXPIRED,
    EndAttempt: Reason.ATTEMPT_ENDED,
    KeepUnits: Reason.UNITS_CANCELLED,
    FollowWork: Reason.WORK_REPORTED,
    ReplaceSpoiled: Reason.SPOILED_UNITS_REPLACED,
}


class Books:
    """Opened on a decision's view; `decision` closes it.

    Ids, actor, cause, claimed actor and note come from the context.
    """

    def __init__(self, view: View, command: object, context: Context) -> None:
        self._view, self._command, self._context = view, command, context
        self._stock = dict(view.stock)
        self._reservations = {r.id: r for r in view.holding.reservations} if view.holding else {}
        self._lines: dict[UUID, dict[int, ReservationLine]] = {}
        self._back = dict(view.holding.back) if view.holding else {}
        self._booked = dict(view.booked)
        self._touched: defaultdict[UUID, set[MovementKind]] = defaultdict(set)
        self._movements: list[Movement] = []
        self._facts: list[object] = []

    def level(self, place: Place) -> StockLevel:
        """The stock level as the books have it; where there is none yet, an empty one."""
        return self._stock.get(place) or StockLevel(
            id=level_id(place),
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
        """What can still be promised, by warehouse and SKU."""
        units: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (warehouse_id, sku), level in self._stock.items():
            if level.sellable:
                units[warehouse_id][sku] = level.sellable
        return dict(units)

    def move(self, place: Place, kind: MovementKind, quantity: int, source_id: UUID) -> None:
        """Moves units that belong to no order. An adjustment's quantity may be below zero."""
        self._book(place, kind, quantity, source_id, None, None, abs(quantity))

    def move_units(
        self, reservation: Reservation, number: int, kind: MovementKind, quantity: int
    ) -> None:
        """Moves units of a reservation's line. Refused STOCK_BELOW_RESERVED where the line has
        fewer.
        """
        lines = self._open(reservation)
        line = lines[number]
        if quantity > line.units(UNITS[kind][0]):
            raise Refused(
                "STOCK_BELOW_RESERVED",
                f"Line {number} of reservation {reservation.id} has {line.units(UNITS[kind][0])}"
                f" {UNITS[kind][0]} units, not {quantity}.",
                sku=line.sku,
                line_number=str(number),
            )
        lines[number] = line.moved(kind, quantity)
        self._book_units(reservation, lines[number], kind, quantity)

    def move_all(self, reservation: Reservation, kind: MovementKind) -> None:
        """Moves all that the kind of movement can take from the reservation."""
        for line in self.current(reservation).lines:
            if units := line.units(UNITS[kind][0]):
                self.move_units(reservation, line.number, kind, units)

    def add_units(self, reservation: Reservation, number: int, quantity: int) -> None:
        """Commits more units of a line than it had: those of the same warehouse, which the
        caller has seen to be sellable.
        """
        lines = self._open(reservation)
        lines[number] = lines[number].enlarged(quantity)
        self._book_units(reservation, lines[number], MovementKind.RESERVE, quantity)
        self.move_units(reservation, number, MovementKind.CONFIRM, quantity)

    def bring_back(
        self, line: OrderLine, place: Place, kind: MovementKind, quantity: int, source_id: UUID
    ) -> None:
        """Books units of an order's line that have come back by a return, and are good (restock)
        or not (mark damaged).
        """
        assert self._view.holding, "what comes back was held"
        order_id, back = self._view.holding.order_id, self._back.get(line.number, Back())
        restocked, damaged = (quantity, 0) if kind is MovementKind.RESTOCK else (0, quantity)
        self._back[line.number] = Back(back.restocked + restocked, back.damaged + damaged)
        self._book_for(source_id, order_id, line.number, place, kind, quantity)

    def move_off(
        self,
        reservation: Reservation,
        line: ReservationLine,
        kind: MovementKind,
        quantity: int,
        source_id: UUID,
    ) -> None:
        """Books units of an order's line that none of its reservations holds."""
        place = (reservation.warehouse_id, line.sku)
        self._book_for(source_id, reservation.order_id, line.number, place, kind, quantity)

    def booked(self, source_id: UUID, number: int, kind: MovementKind) -> int:
        """How many units of the order's line the ledger has for the source."""
        of_source: Booked = self._booked.get(source_id, {})
        return of_source.get(
            (self._view.holding.order_id if self._view.holding else None, number, kind), 0
        )

    def order_lines(self) -> Mapping[int, OrderLine]:
        """The order's lines as the books have them, by number."""
        return replace(self._view.holding, back=self._back).lines if self._view.holding else {}

    def reserve(
        self,
        attempt: int,
        generation: int,
        warehouse_id: str,
        lines: Sequence[WantedLine],
        expire_time: datetime,
    ) -> Reservation:
        """Sets units aside in a new reservation for the order that is the command's target."""
        new = Reservation(
            id=self._context.new_id(len(self._touched)),
            order_id=self._context.target,
            attempt=attempt,
            generation=generation,
            warehouse_id=warehouse_id,
            status=Status.ACTIVE,
            version=0,
            create_time=self._context.time,
            expire_time=expire_time,
            update_time=self._context.time,
        )
        self._lines[new.id] = {
            line.number: ReservationLine(
                number=line.number, sku=line.sku, quantity=line.quantity, reserved=line.quantity
            )
            for line in lines
        }
        self._reservations[new.id] = new
        for line in self._lines[new.id].values():
            self._book_units(new, line, MovementKind.RESERVE, line.quantity)
        return new

    def current(self, reservation: Reservation) -> Reservation:
        """The reservation as the books have it."""
        lines = self._lines.get(reservation.id)
        return (
            replace(self._reservations[reservation.id], lines=tuple(lines.values()))
            if lines
            else self._reservations[reservation.id]
        )

    def decision(self, order_id: UUID | None = None, closed_attempt: int = 0) -> Decided:
        """Closes the books over an order's holding, or over stock alone. Where nothing moved,
        nothing is decided.
        """
        old = self._view.holding or (Holding(order_id) if order_id else None)
        closed = max(closed_attempt, old.closed_attempt) if old else 0
        if not self._movements and (old is None or closed == old.closed_attempt):
            return Decision(self._view)
        holding = None
        if old:
            reservations = tuple(self._closed(r) for r in self._reservations.values())
            holding = Holding(
                order_id=old.order_id,
                closed_attempt=closed,
                version=old.version + 1,
                reservations=reservations,
                back=self._back,
            )
            self._tell(old, holding)
        return Decision(View(self._stock, holding, self._booked), self._movements, self._facts)

    def _open(self, reservation: Reservation) -> dict[int, ReservationLine]:
        return self._lines.setdefault(
            reservation.id, {line.number: line for line in reservation.lines}
        )

    def _closed(self, reservation: Reservation) -> Reservation:
        if reservation.id not in self._touched:
            return reservation
        version = reservation.version + 1
        after = replace(self.current(reservation), version=version, update_time=self._context.time)
        after = replace(after, status=after.status_of_units)
        if not allowed(reservation.status, after.status):
            raise AssertionError(
                f"a reservation cannot go from {reservation.status} to {after.status}"
            )
        return after

    def _tell(self, old: Holding, new: Holding) -> None:
        before = {r.id: r.status for r in old.reservations}
        for reservation in new.reservations:
            if self._touched[reservation.id] & TOLD:
                changed = ReservationChanged(
                    reservation=reservation,
                    old_status=before.get(reservation.id),
                    standing=new.of(reservation.attempt),
                    holding_version=new.version,
                    time=self._context.time,
                    reason=REASONS[type(self._command)],
                    actor=self._context.actor,
                    cause=self._context.cause,
                    claimed_actor=self._context.claimed_actor,
                )
                self._facts.append(changed)

    def _book_for(
        self,
        source_id: UUID,
        order_id: UUID,
        number: int,
        place: Place,
        kind: MovementKind,
        quantity: int,
    ) -> None:
        cumulative = self.booked(source_id, number, kind) + quantity
        self._booked[source_id] = {
            **self._booked.get(source_id, {}),
            (order_id, number, kind): cumulative,
        }
        self._book(place, kind, quantity, source_id, order_id, number, cumulative)

    def _book_units(
        self, reservation: Reservation, line: ReservationLine, kind: MovementKind, quantity: int
    ) -> None:
        self._touched[reservation.id].add(kind)
        place = (reservation.warehouse_id, line.sku)
        self._book(
            place,
            kind,
            quantity,
            reservation.id,
            reservation.order_id,
            line.number,
            line.cumulative(kind),
        )

    def _book(
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
            id=old.id,
            warehouse_id=old.warehouse_id,
            sku=old.sku,
            available=old.available + n * effect.available,
            reserved=old.reserved + n * effect.reserved,
            committed=old.committed + n * effect.committed,
            damaged=old.damaged + n * effect.damaged,
            version=old.version + 1,
            update_time=self._context.time,
        )
        _within_bounds(new)
        movement = Movement(
            id=self._context.new_id(len(self._movements)),
            level_id=old.id,
            warehouse_id=old.warehouse_id,
            sku=old.sku,
            kind=kind,
            quantity=abs(n),
            available=n * effect.available,
            reserved=n * effect.reserved,
            committed=n * effect.committed,
            damaged=n * effect.damaged,
            outside=n * effect.outside,
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
        self._stock[place] = new
        self._movements.append(movement)
        self._facts.append(StockChanged(new, movement))


def _within_bounds(level: StockLevel) -> None:
    balances = (level.available, level.reserved, level.committed, level.damaged)
    if min(*balances, level.sellable) < 0:
        text = (
            f"{level.warehouse_id} has fewer units of {level.sku} than that, or has reserved them."
        )
        raise Refused("STOCK_BELOW_RESERVED", text, sku=level.sku, warehouse_id=level.warehouse_id)
    if max(balances) > BALANCE_MAX:
        text = f"{level.warehouse_id} cannot count more than {BALANCE_MAX} units of {level.sku}."
        raise Refused("QUANTITY_OUT_OF_RANGE", text, sku=level.sku, warehouse_id=level.warehouse_id)
