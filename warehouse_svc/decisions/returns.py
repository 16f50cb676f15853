"""What returns bring back: units that passed inspection and units that failed. Targets, by
return and order line.
"""

from uuid import UUID

from chassis.values.envelope import Context
from chassis.values.errors import Deferred, InvalidField, NotFound, Refused, Violation
from warehouse_svc.decisions.books import Books, Decided
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model import BookReturn, Holding, View


def book(view: View, command: BookReturn, context: Context) -> Decided:
    """All lines or none. Whatever else is told of a return, in whichever warehouse, each unit of it
    is booked once.

    Deferred EVENT_AHEAD where more come back than have left so far, but more may yet be heard to
    have left; else refused.
    """
    if view.holding is None or not view.holding.reservations:
        raise NotFound(
            "RESERVATION_NOT_FOUND",
            f"Nothing was ever held for order {context.target}.",
            order_id=str(context.target),
        )
    refuse_strange(view, command, context)
    books = Books(view, command, context)
    for kind, targets in (
        (MovementKind.RESTOCK, command.restocked),
        (MovementKind.MARK_DAMAGED, command.damaged),
    ):
        for number, target in targets.items():
            units = target - books.booked(command.source, number, kind)
            if units <= 0:
                continue
            line = books.order_lines().get(number)
            if line is None or units > line.away:
                raise exceeding(view.holding, command.source, number, line.shipped if line else 0)
            books.bring_back(line, (command.warehouse_id, line.sku), kind, units, command.source)
    return books.decision()


def exceeding(holding: Holding, source: UUID, number: int, shipped: int) -> Deferred | Refused:
    """Why more units cannot come back: their leaving has not been heard of yet, or there are no
    more.
    """
    text = (
        f"Return {source} brings more units of line {number} of order {holding.order_id} than the"
        f" {shipped} that have left."
    )
    if may_leave(holding, number):
        return Deferred("EVENT_AHEAD", text, line_number=str(number), shipped=str(shipped))
    return Refused("RETURN_EXCEEDS_SHIPPED", text, line_number=str(number), shipped=str(shipped))


def may_leave(holding: Holding, number: int) -> bool:
    """Whether units of the order's line can still be heard to have left: those committed, and
    those that may yet be.
    """
    for reservation in holding.reservations:
        for line in (line for line in reservation.lines if line.number == number):
            replaceable = line.expired if reservation in holding.of(reservation.attempt) else 0
            if line.committed or (
                reservation.attempt > holding.closed_attempt and line.reserved + replaceable
            ):
                return True
    return False


def refuse_strange(view: View, command: BookReturn, context: Context) -> None:
    """Invalid where nobody says in which warehouse the goods are; and where the source has
    booked units of another order, or a receipt.
    """
    if not command.warehouse_id:
        raise invalid("warehouse_id", "is needed where units were inspected")
    if any(order_id != context.target for order_id, _, _ in view.booked.get(command.source, {})):
        raise invalid("source_id", "names what is not a return of this order")


def invalid(field: str, text: str) -> InvalidField:
    return InvalidField("VALIDATION_FAILED", f"{field} {text}", violations=[Violation(field, text)])
