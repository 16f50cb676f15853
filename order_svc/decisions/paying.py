"""What becomes of an order by its money: paid, not paid, given back."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused
from chassis.money import Money
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


def confirm(order: Order, command: ConfirmPayment, now: datetime) -> Decided:
    """Paid: confirmed, or failed where its stock is gone for good. For a dead order it is noted;
    payment gives the money back.
    """
    if order.status is Status.CANCELLED and (
        command.captured.minor > order.captured or order.payment is PaymentStatus.CANCELLED
    ):
        captured = max(order.captured, command.captured.minor)
        order = replace(order, captured=captured)
        return late(
            replace(order, payment=payment_of(order)), Reason.PAYMENT_CONFIRMED, command, now
        )
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
        return steps(
            replace(paid, stock=StockStatus.RELEASED),
            (Status.FAILED,),
            command.stock.reason,
            command,
            now,
        )
    # a pending order has parts when its commit was heard of
    committed = isinstance(command.stock, Committed) or bool(order.parts)
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    stock = StockStatus.COMMITTED if committed else StockStatus.OWED
    return steps(
        replace(paid, parts=serving(paid), stock=stock),
        (Status.CONFIRMED,),
        Reason.PAYMENT_CONFIRMED,
        command,
        now,
    )


def fail(order: Order, command: FailPayment, now: datetime) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = emptied(replace(order, payment=PaymentStatus.FAILED, expire_time=None))
    return steps(failed, (Status.CANCELLED,), Reason.PAYMENT_FAILED, command, now)


def note_refund(order: Order, command: NoteRefund, now: datetime) -> Decided:
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
        order = replace(order, captured=captured, refunded=refunded, update_time=now)
        order = replace(order, payment=payment_of(order))
    decided: Decided = Decision(order)
    if command.return_id and command.failure_code:
        decided = returning.refund_failed(
            order, command.return_id, command.failure_code, command, now
        )
    elif command.return_id:
        decided = returning.refunded(order, command.return_id, command.amount, command, now)
    return then(
        decided,
        steps(decided.record, refunding(decided.record), Reason.REFUND_COMPLETED, command, now),
    )


def refunding(order: Order) -> tuple[Status, ...]:
    """The step to refunded, of a delivered order whose money all went back."""
    whole = order.captured > 0 and order.refunded >= order.captured
    return (Status.REFUNDED,) if whole and order.status is Status.DELIVERED else ()


def _paid(order: Order) -> PaymentStatus:
    return payment_of(order) if order.captured else PaymentStatus.COMPLETED
