"""What fulfilment reports: units that are with the carrier, units that are back on the shelf. Targets, so that a repeat moves nothing."""

from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred, NotFound, Refused
from warehouse_svc.decisions.books import Books, Decided
from warehouse_svc.decisions.reservations import held
from warehouse_svc.lifecycle import UNITS, MovementKind, Status
from warehouse_svc.model import Reservation, ReturnUnits, ShipUnits, View


def ship(view: View, command: ShipUnits, now: datetime) -> Decided:
    """Units have left. Deferred EVENT_AHEAD until they are committed; refused where they were given up."""
    reservation = at(view, command)
    if reservation.status in (Status.ACTIVE, Status.EXPIRED, Status.RELEASED):
        raise uncommitted(view, reservation)
    books = Books(view, command.key, now)
    for number, target in command.shipped.items():
        reach(books, reservation, number, MovementKind.SHIP, target)
    return books.decision()


def take_back(view: View, command: ReturnUnits, now: datetime) -> Decided:
    """Units are back on the shelf. What was never committed needs no report: the attempt's death frees it, or has done so."""
    reservation = at(view, command)
    if reservation.status in (Status.ACTIVE, Status.EXPIRED, Status.RELEASED):
        if isinstance(failure := uncommitted(view, reservation), Deferred):
            raise failure
        return Decision(view)
    books = Books(view, command.key, now)
    for number, target in command.uncommitted.items():
        reach(books, reservation, number, MovementKind.UNCOMMIT, target)
    return books.decision()


def at(view: View, command: ShipUnits | ReturnUnits) -> Reservation:
    """The attempt's reservation in the warehouse. Raises NotFound RESERVATION_NOT_FOUND where there is none."""
    for reservation in held(view, command.attempt)[1]:
        if reservation.warehouse_id == command.warehouse_id:
            return reservation
    text = f"Attempt {command.attempt} of order {command.target} has no reservation in {command.warehouse_id}."
    raise NotFound("RESERVATION_NOT_FOUND", text, warehouse_id=command.warehouse_id)


def uncommitted(view: View, reservation: Reservation) -> Deferred | Refused:
    """Why units that are not committed cannot move: their commit is still to come, or never will."""
    assert view.holding
    if reservation.status is Status.RELEASED or reservation.attempt <= view.holding.closed_attempt:
        text = f"Reservation {reservation.id} was given up before it was committed."
        return Refused("RESERVATION_CLOSED", text, reservation_id=str(reservation.id), status=reservation.status)
    text = f"The units of reservation {reservation.id} are not committed yet."
    return Deferred("EVENT_AHEAD", text, reservation_id=str(reservation.id), status=reservation.status)


def reach(books: Books, reservation: Reservation, number: int, kind: MovementKind, target: int) -> None:
    """Moves units of a line until `target` have made this movement. Refused STOCK_BELOW_RESERVED where the line has not so many."""
    line = next((line for line in reservation.lines if line.number == number), None)
    if line is None:
        text = f"Reservation {reservation.id} has no line {number}."
        raise Refused("STOCK_BELOW_RESERVED", text, reservation_id=str(reservation.id), line_number=str(number))
    if (missing := target - line.units(UNITS[kind][1])) > 0:
        books.move_units(reservation, number, kind, missing)
