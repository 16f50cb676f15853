"""Units that returns bring back: those that passed inspection and those that failed.

Quantities are targets, by return and order line.
"""

from uuid import UUID

from chassis.values.envelope import Context
from chassis.values.errors import Deferred, InvalidField, NotFound, Refused, Violation
from warehouse_svc.decisions.posting import Decided, StockPosting
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.commands import PostReturn
from warehouse_svc.model.records import OrderReservations, OrderStock


def post_return(record: OrderStock, command: PostReturn, context: Context) -> Decided:
    """Posts all lines or none.

    Each unit of a return is posted once, also where several requests and events report it in
    several warehouses. Where more units come back than have shipped so far, it raises Deferred
    EVENT_AHEAD if more may still ship, else Refused RETURN_EXCEEDS_SHIPPED.
    """
    if record.order_reservations is None or not record.order_reservations.reservations:
        raise NotFound(
            "RESERVATION_NOT_FOUND",
            f"Order {context.target} has no reservation.",
            order_id=str(context.target),
        )
    check_source(record, command, context)
    posting = StockPosting(record, command, context)
    for kind, targets in (
        (MovementKind.RESTOCK, command.restocked),
        (MovementKind.MARK_DAMAGED, command.damaged),
    ):
        for number, target in targets.items():
            units = target - posting.posted(command.source, number, kind)
            if units <= 0:
                continue
            line = posting.order_lines().get(number)
            if line is None or units > line.returnable:
                raise more_than_shipped(
                    record.order_reservations, command.source, number, line.shipped if line else 0
                )
            posting.post_return(line, (command.warehouse_id, line.sku), kind, units, command.source)
    return posting.decision()


def more_than_shipped(
    order_reservations: OrderReservations, source: UUID, number: int, shipped: int
) -> Deferred | Refused:
    """Returns the failure of a return that brings more units than have shipped so far.

    It is Deferred where more units may still ship, else Refused.
    """
    text = (
        f"Return {source} brings more units of line {number} of order"
        f" {order_reservations.order_id} than the {shipped} that have shipped."
    )
    if may_still_ship(order_reservations, number):
        return Deferred("EVENT_AHEAD", text, line_number=str(number), shipped=str(shipped))
    return Refused("RETURN_EXCEEDS_SHIPPED", text, line_number=str(number), shipped=str(shipped))


def may_still_ship(order_reservations: OrderReservations, number: int) -> bool:
    """Returns whether more units of the order's line may ship.

    It has committed units then, or units that a confirmation can still commit.
    """
    for reservation in order_reservations.reservations:
        for line in (line for line in reservation.lines if line.number == number):
            replaceable = (
                line.expired
                if reservation in order_reservations.of_attempt(reservation.attempt)
                else 0
            )
            if line.committed or (
                reservation.attempt > order_reservations.closed_attempt
                and line.reserved + replaceable
            ):
                return True
    return False


def check_source(record: OrderStock, command: PostReturn, context: Context) -> None:
    """Raises InvalidField where the warehouse is missing, or where the source is not a return of
    this order: it has posted units of another order, or a receipt.
    """
    if not command.warehouse_id:
        raise invalid("warehouse_id", "is required for inspected units")
    if any(order_id != context.target for order_id, _, _ in record.posted.get(command.source, {})):
        raise invalid("source_id", "is not the id of a return of this order")


def invalid(field: str, text: str) -> InvalidField:
    return InvalidField("VALIDATION_FAILED", f"{field} {text}", violations=[Violation(field, text)])
