"""The inspection of returned units, and what they are refunded with."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from order_svc.decisions.returns import (
    advance_return,
    check_returnable,
    check_units,
    checked_return,
    new_return,
    return_of,
)
from order_svc.decisions.transitions import Decided, check_version
from order_svc.lifecycle import Disposition, ReturnKind, ReturnReason, ReturnStatus
from order_svc.model.commands import InspectReturn, RefundWithoutGoods
from order_svc.model.records import Order
from order_svc.model.returns import Return, ReturnLine


def inspect(order: Order, command: InspectReturn, context: Context) -> Decided:
    """Units that arrived were inspected: each gets one result. With the last of them the return is
    inspected.
    """
    order_return = checked_return(order, command, ReturnStatus.INSPECTED)
    findings = [(order_return.line(number), found) for number, found in command.lines.items()]
    check_units(
        (
            (
                number,
                order_return.line(number).inspected + found.passed + found.failed,
                order_return.line(number).received,
            )
            for number, found in command.lines.items()
        ),
        "INSPECTION_EXCEEDS_RECEIPT",
        "arrived",
    )
    lines = {line.number: line for line in order_return.lines} | {
        line.number: replace(
            line,
            passed=line.passed + found.passed,
            failed=line.failed + found.failed,
            unrefunded=line.unrefunded + found.unrefunded,
        )
        for line, found in findings
    }
    order_return = with_refund_amounts(
        order, replace(order_return, lines=tuple(lines[number] for number in sorted(lines)))
    )
    if any(line.inspected < line.received for line in order_return.lines):
        return advance_return(
            order, order_return, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context
        )
    return advance_return(
        order, order_return, _inspection_steps(order_return, ReturnReason.RETURN_INSPECTED), context
    )


def refund_without_goods(
    order: Order,
    command: RefundWithoutGoods,
    context: Context,
) -> Decided:
    """A return that is inspected from the start: the caller says what happens to stock."""
    if return_of(order, command.return_id):
        return Decision(order)
    check_version(order, command)
    check_returnable(order, {number: quantity for number, (quantity, _) in command.lines.items()})
    lines = [
        _line_without_goods(number, order.line(number).sku, *wanted)
        for number, wanted in sorted(command.lines.items())
    ]
    order_return = new_return(
        order, command.return_id, ReturnKind.WITHOUT_GOODS, command.reason, lines, context
    )
    order_return = with_refund_amounts(
        order, replace(order_return, warehouse_id=command.warehouse_id)
    )
    return advance_return(
        order,
        order_return,
        _inspection_steps(order_return, ReturnReason.REFUND_WITHOUT_GOODS),
        context,
    )


def with_refund_amounts(order: Order, order_return: Return) -> Return:
    """Returns the return with its refunds: the cost of all returned units of a line, less the
    refunds of other returns.

    Units leave a line from its first share on. What was published as cancelled stays as it is, so a
    line's refunds and cancellations add up to what its cancelled and refunded units cost.
    """
    if order_return.kind is ReturnKind.RECALL:
        return order_return
    others = [
        other
        for other in order.returns
        if other.id != order_return.id and other.kind is not ReturnKind.RECALL
    ]
    lines = []
    for line in order_return.lines:
        units = line.refundable + sum(other.line(line.number).refundable for other in others)
        ordered = order.line(line.number)
        taken = min(ordered.cancelled + units, ordered.quantity)
        refunded = sum(other.line(line.number).refund for other in others)
        due = ordered.cost_of(taken) - order.cancelled_amount_of(ordered) - refunded
        lines.append(replace(line, refund=max(line.refund, due)))
    return replace(order_return, lines=tuple(lines))


def _line_without_goods(
    number: int, sku: str, quantity: int, disposition: Disposition
) -> ReturnLine:
    """A line of a refund without goods: announced, received and with a result at once."""
    passed, failed, none = (
        quantity if disposition is one else 0
        for one in (Disposition.RESTOCK, Disposition.DAMAGED, Disposition.NONE)
    )
    return ReturnLine(
        number=number,
        sku=sku,
        announced=quantity,
        received=quantity,
        passed=passed,
        failed=failed,
        written_off=none,
    )


def _inspection_steps(order_return: Return, reason: str) -> list[tuple[ReturnStatus, str]]:
    """Returns the transition to inspected; and to closed where there is nothing to refund, because
    no event of a refund will come.
    """
    inspected = (ReturnStatus.INSPECTED, reason)
    if order_return.refund:
        return [inspected]
    recall = order_return.kind is ReturnKind.RECALL
    why = ReturnReason.RETURN_CLOSED if recall else ReturnReason.NOTHING_REFUNDABLE
    return [inspected, (ReturnStatus.CLOSED, why)]
