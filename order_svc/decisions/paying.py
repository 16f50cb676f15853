"""What becomes of an order by its money: paid, not paid, given back."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused
from chassis.values.money import Money
from order_svc.decisions import returning
from order_svc.decisions.steps import (
    Decided,
    allocated,
    emptied,
    late,
    payment_of,
    serving,
    steps,
    then,
)
from order_svc.lifecycle import PaymentStatus, Reason, Status, StockStatus
from order_svc.model import Committed, ConfirmPayment, FailPayment, NoteRefund, Order, Unavailable


def accepts(order: Order, captured: Money) -> bool:
    """Whether this amount pays the order: its total or more, up to what it cost when placed."""
    return (
        captured.currency == order.currency and order.total <= captured.minor <= order.placed_total
    )


def confirm(order: Order, command: ConfirmPayment, context: Context) -> Decided:
    """Paid: confirmed, or failed where its stock is gone for good. For a dead order it is noted;
    payment gives the money back.
    """
    if order.status is Status.CANCELLED and (
        command.captured.minor > order.captured or order.payment is PaymentStatus.CANCELLED
    ):
        captured = max(order.captured, command.captured.minor)
        order = replace(order, captured=captured)
        order = replace(order, payment=payment_of(order))
        return late(order, Reason.PAYMENT_CONFIRMED, context)
    if order.status is not Status.PENDING:
        return Decision(order)  # heard before
    # Units may have been cancelled while the payment was on its way: what is too much, payment
    # gives back.
    if not accepts(order, command.captured):
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            f"The order costs {order.money(order.total)}, and {command.captured} was captured.",
            expected=str(order.money(order.total)),
        )
    paid = replace(order, captured=max(order.captured, command.captured.minor), expire_time=None)
    paid = replace(
        paid, payment=PaymentStatus.NOT_REQUIRED if command.not_required else _paid(paid)
    )
    if isinstance(command.stock, Unavailable):
        released = replace(paid, stock=StockStatus.RELEASED)
        return steps(released, (Status.FAILED,), command.stock.reason, context)
    # a pending order has parts when its commit was heard of
    committed = isinstance(command.stock, Committed) or bool(order.parts)
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    stock = StockStatus.COMMITTED if committed else StockStatus.OWED
    confirmed = replace(paid, parts=serving(paid), stock=stock)
    return steps(confirmed, (Status.CONFIRMED,), Reason.PAYMENT_CONFIRMED, context)


def fail(order: Order, command: FailPayment, context: Context) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = emptied(replace(order, payment=PaymentStatus.FAILED, expire_time=None))
    return steps(failed, (Status.CANCELLED,), Reason.PAYMENT_FAILED, context)


def note_refund(order: Order, command: NoteRefund, context: Context) -> Decided:
    """Money went back, or did not: the order knows how much did so far, and the return that it
    was for goes on.
    """
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
        order = replace(order, payment=payment_of(order))
    decided: Decided = Decision(order)
    if command.return_id and command.failure_code:
        decided = returning.refund_failed(order, command.return_id, command.failure_code, context)
    elif command.return_id:
        decided = returning.refunded(order, command.return_id, command.amount, context)
    return then(decided, refunding(decided.record, context))


def refunding(order: Order, context: Context) -> Decided:
    """The order; it is refunded if it is delivered and all its money went back."""
    whole = order.captured > 0 and order.refunded >= order.captured
    path = (Status.REFUNDED,) if whole and order.status is Status.DELIVERED else ()
    return steps(order, path, Reason.REFUND_COMPLETED, context)


def _paid(order: Order) -> PaymentStatus:
    return payment_of(order) if order.captured else PaymentStatus.COMPLETED
