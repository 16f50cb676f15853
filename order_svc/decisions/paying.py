"""Decisions on the payments and refunds of an order."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused
from chassis.values.money import Money
from order_svc.decisions import returning
from order_svc.decisions.steps import (
    Decided,
    advance,
    allocated,
    allocated_warehouses,
    chain,
    record_late_event,
)
from order_svc.lifecycle import Commit, PaymentOutcome, PaymentStatus, Reason, Status
from order_svc.model.commands import (
    ApplyRefund,
    Committed,
    ConfirmPayment,
    FailPayment,
    Unavailable,
)
from order_svc.model.records import Order


def accepts(order: Order, captured: Money) -> bool:
    """Whether this amount pays the order: its total or more, up to what it cost when placed."""
    return (
        captured.currency == order.currency and order.total <= captured.minor <= order.placed_total
    )


def confirm(order: Order, command: ConfirmPayment, context: Context) -> Decided:
    """Confirms a paid order, or fails it where the warehouse refuses its stock for good.

    The payment of a cancelled order is a late event; the payment service refunds the money.
    """
    if order.status is Status.CANCELLED and (
        command.captured.minor > order.captured or order.payment is PaymentStatus.CANCELLED
    ):
        captured = max(order.captured, command.captured.minor)
        return record_late_event(
            replace(order, captured=captured), Reason.PAYMENT_CONFIRMED, context
        )
    if order.status is not Status.PENDING:
        return Decision(order)  # an earlier event has confirmed it
    # Units may have been cancelled while the payment was on its way: what is too much, payment
    # gives back.
    if not accepts(order, command.captured):
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            f"The order costs {order.money(order.total)}, and {command.captured} was captured.",
            expected=str(order.money(order.total)),
        )
    paid = replace(
        order,
        captured=max(order.captured, command.captured.minor),
        payment_outcome=PaymentOutcome.NOT_REQUIRED
        if command.not_required
        else PaymentOutcome.CAPTURED,
        expire_time=None,
    )
    if isinstance(command.stock, Unavailable):
        refused = replace(paid, commit=Commit.REFUSED)
        return advance(refused, (Status.FAILED,), command.stock.reason, context)
    # a pending order has fulfilments where an event of its commit came before the payment
    committed = isinstance(command.stock, Committed) or bool(order.fulfillments)
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    commit = Commit.COMMITTED if committed else Commit.PENDING
    confirmed = replace(paid, fulfillments=allocated_warehouses(paid), commit=commit)
    return advance(confirmed, (Status.CONFIRMED,), Reason.PAYMENT_CONFIRMED, context)


def fail(order: Order, command: FailPayment, context: Context) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = replace(order, payment_outcome=PaymentOutcome.DECLINED, expire_time=None)
    return advance(failed, (Status.CANCELLED,), Reason.PAYMENT_FAILED, context)


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
    decided: Decided = Decision(order)
    if command.return_id and command.failure_code:
        decided = returning.refund_failed(order, command.return_id, command.failure_code, context)
    elif command.return_id:
        decided = returning.refunded(order, command.return_id, command.amount, context)
    return chain(decided, with_refunded_status(decided.record, context))


def with_refunded_status(order: Order, context: Context) -> Decided:
    """Returns the order, refunded if it is delivered and all its money went back."""
    whole = order.captured > 0 and order.refunded >= order.captured
    path = (Status.REFUNDED,) if whole and order.status is Status.DELIVERED else ()
    return advance(order, path, Reason.REFUND_COMPLETED, context)
