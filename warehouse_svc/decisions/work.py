"""What fulfilment reports of committed units: gone, back on the shelf, not found, damaged. Targets,
so that a repeat moves nothing.

A picklist only ever loses units (those that replace spoiled ones never stood beside them), so that
whatever is committed beyond the smallest one heard of is back on the shelf: reports join in any
order, and units that nobody ever put on a picklist come back as well.
"""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, NotFound, Refused, Violation
from warehouse_svc.decisions.books import Books, Decided
from warehouse_svc.decisions.reservations import held
from warehouse_svc.lifecycle import MovementKind, Status
from warehouse_svc.model import (
    FollowWork,
    LeftAfterVoid,
    ReplaceSpoiled,
    Reservation,
    ReservationLine,
    View,
)

LINE_MAX = 1_000_000  # units that a reservation's line may count
UNCOMMITTED = frozenset({Status.ACTIVE, Status.EXPIRED, Status.RELEASED})


def follow(view: View, command: FollowWork, context: Context) -> Decided:
    """Deferred EVENT_AHEAD until the units are committed. Of units that were given up instead
    nothing can have left, and none need come back: the attempt's death frees them, or has done
    so.
    """
    if not command.shipped and withdrawn(view, command):
        return Decision(view)
    reservation = at(view, command, context)
    if reservation.status in UNCOMMITTED:
        failure = uncommitted(view, reservation)
        if isinstance(failure, Deferred) or command.shipped:
            raise failure
        return Decision(view)
    books = Books(view, command, context)
    for told in command.lines:
        reach(books, reservation, told.number, MovementKind.SHORT, told.short)
        reach(books, reservation, told.number, MovementKind.SPOIL_COMMITTED, told.spoiled)
    staying = {told.number: told.quantity for told in command.lines}
    for line in books.current(reservation).lines:
        if (units := min(line.live - staying.get(line.number, 0), line.committed)) > 0:
            books.move_units(reservation, line.number, MovementKind.UNCOMMIT, units)
    for number in staying if command.shipped else ():
        reach(books, reservation, number, MovementKind.SHIP, staying[number])
    if command.left:
        ship_shelf(books, reservation, command.left)
    return books.decision()


def ship_shelf(books: Books, reservation: Reservation, left: LeftAfterVoid) -> None:
    """Books what left by a void label out of the shelf, all of it or none. Refused
    SHELF_SHORTAGE where less of it can be sold.
    """
    short: list[Violation] = []
    for number, units in left.units.items():
        line = line_of(books, reservation, number)
        place = (reservation.warehouse_id, line.sku)
        missing = units - books.booked(left.source, number, MovementKind.SHIP_SHELF)
        if missing > (sellable := books.level(place).sellable):
            short.append(
                Violation(line.sku, f"{missing} left, {sellable} sellable", "SHELF_SHORTAGE")
            )
        elif missing > 0:
            books.move_off(reservation, line, MovementKind.SHIP_SHELF, missing, left.source)
    if short:
        named = ", ".join(f"{each.subject}: {each.description}" for each in short)
        text = (
            f"A parcel left {reservation.warehouse_id} after its label was void: {named}. Receive"
            " or free that stock, then replay."
        )
        raise Refused(
            "SHELF_SHORTAGE",
            text,
            violations=short,
            warehouse_id=reservation.warehouse_id,
            shipment_id=str(left.source),
        )


def replace_spoiled(view: View, command: ReplaceSpoiled, context: Context) -> Decided:
    """Books units as damaged, and commits as many others of the same warehouse as there are;
    none for an attempt that is dead.
    """
    reservation = at(view, command, context)
    if reservation.status in UNCOMMITTED:
        raise uncommitted(view, reservation)
    assert view.holding
    books = Books(view, command, context)
    for told in command.lines:
        reach(books, reservation, told.number, MovementKind.SHORT, told.short)
        spoiled = reach(books, reservation, told.number, MovementKind.SPOIL_COMMITTED, told.spoiled)
        line = line_of(books, reservation, told.number)
        left = books.level((reservation.warehouse_id, line.sku)).sellable
        units = (
            min(spoiled, left, LINE_MAX - line.quantity)
            if command.attempt > view.holding.closed_attempt
            else 0
        )
        if units > 0:
            books.add_units(reservation, told.number, units)
    return books.decision()


# --- what the verbs share


def withdrawn(view: View, command: FollowWork) -> bool:
    """Whether the attempt's units in that warehouse have expired, and all are committed
    elsewhere in their place.
    """
    holding, standing = held(view, command.attempt)
    there = {
        reservation.warehouse_id
        for reservation in holding.reservations
        if reservation.attempt == command.attempt
    }
    here = {reservation.warehouse_id for reservation in standing}
    settled = all(
        reservation.status not in (Status.ACTIVE, Status.EXPIRED) for reservation in standing
    )
    return settled and command.warehouse_id in there - here


def at(view: View, command: FollowWork | ReplaceSpoiled, context: Context) -> Reservation:
    """The attempt's reservation in the warehouse. Raises NotFound RESERVATION_NOT_FOUND where
    there is none.
    """
    for reservation in held(view, command.attempt)[1]:
        if reservation.warehouse_id == command.warehouse_id:
            return reservation
    text = (
        f"Attempt {command.attempt} of order {context.target} has no reservation in"
        f" {command.warehouse_id}."
    )
    raise NotFound("RESERVATION_NOT_FOUND", text, warehouse_id=command.warehouse_id)


def uncommitted(view: View, reservation: Reservation) -> Deferred | Refused:
    """Why units that are not committed cannot move: their commit is still to come, or never
    will.
    """
    assert view.holding
    if reservation.status is Status.RELEASED or reservation.attempt <= view.holding.closed_attempt:
        text = f"Reservation {reservation.id} was given up before it was committed."
        return Refused(
            "RESERVATION_CLOSED",
            text,
            reservation_id=str(reservation.id),
            status=reservation.status,
        )
    text = f"The units of reservation {reservation.id} are not committed yet."
    return Deferred(
        "EVENT_AHEAD", text, reservation_id=str(reservation.id), status=reservation.status
    )


def reach(
    books: Books, reservation: Reservation, number: int, kind: MovementKind, target: int
) -> int:
    """Moves units of a line until `target` have made this movement, and says how many that took.

    Refused STOCK_BELOW_RESERVED where the line has not so many.
    """
    if target == 0:
        return 0
    missing = target - line_of(books, reservation, number).cumulative(kind)
    if missing > 0:
        books.move_units(reservation, number, kind, missing)
    return max(missing, 0)


def line_of(books: Books, reservation: Reservation, number: int) -> ReservationLine:
    """The reservation's line as the books have it. Refused STOCK_BELOW_RESERVED where there is
    none.
    """
    for line in books.current(reservation).lines:
        if line.number == number:
            return line
    text = f"Reservation {reservation.id} has no line {number}."
    raise Refused(
        "STOCK_BELOW_RESERVED", text, reservation_id=str(reservation.id), line_number=str(number)
    )
