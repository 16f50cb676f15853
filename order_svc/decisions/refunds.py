"""Refunds of an order and of its returns."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused
from order_svc.decisions.returns import advance_return, return_of
from order_svc.decisions.transitions import Decided, advance, chain
from order_svc.lifecycle import Reason, ReturnReason, ReturnStatus, Status
from order_svc.model.commands import ApplyRefund
from order_svc.model.records import Order


def apply_refund(order: Order, command: ApplyRefund, context: Context) -> Decided:
    """Stores how much was refunded so far, and moves the return that the refund was for."""
    if {command.captured.currency, command.refunded.currency} != {order.currency}:
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            f"The order's currency is {order.currency}.",
            expected=str(order.money(order.captured)),
        )
    captured, refunded = (
        max(order.captured, command.captured.minor),
        max(order.refunded, command.refunded.minor),
    )
    if (captured, refunded) != (order.captured, order.refunded):
        order = replace(order, captured=captured, refunded=refunded, update_time=context.time)
    decided = with_refunded_return(order, command, context)
    return chain(decided, with_refunded_status(decided.record, context))


def with_refunded_return(order: Order, command: ApplyRefund, context: Context) -> Decided:
    """Returns the order with the return that the refund was for: refunded and closed where the
    money went back, and closed where nothing is left to refund. Else it stays inspected, with the
    reason REFUND_FAILED.

    A repeat, or the refund of an unknown return, changes nothing.
    """
    order_return = return_of(order, command.return_id)
    if order_return is None or order_return.status is not ReturnStatus.INSPECTED:
        return Decision(order)
    path = [
        (ReturnStatus.REFUNDED, ReturnReason.RETURN_REFUNDED),
        (ReturnStatus.CLOSED, ReturnReason.RETURN_CLOSED),
    ]
    if not command.failure_code:
        order_return = replace(order_return, refunded=command.amount)
    elif command.failure_code == "nothing_refundable":
        path = [(ReturnStatus.CLOSED, ReturnReason.NOTHING_REFUNDABLE)]
    elif order_return.status_reason == ReturnReason.REFUND_FAILED:
        return Decision(order)
    else:
        path = [(ReturnStatus.INSPECTED, ReturnReason.REFUND_FAILED)]
    return advance_return(order, order_return, path, context)


def with_refunded_status(order: Order, context: Context) -> Decided:
    """Returns the order, refunded if it is delivered and all its money went back."""
    whole = order.captured > 0 and order.refunded >= order.captured
    path = (Status.REFUNDED,) if whole and order.status is Status.DELIVERED else ()
    return advance(order, path, Reason.REFUND_COMPLETED, context)
