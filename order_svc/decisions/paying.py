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
    payment_of,
    record_late_event,
    without_units,
)
from order_svc.lifecycle import PaymentStatus, Reason, Status, StockStatus
from order_svc.model import ApplyRefund, Committed, ConfirmPayment, FailPayment, Order, Unavailable


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
        order = replace(order, captured=captured)
        order = replace(order, payment=payment_of(order))
        return record_late_event(order, Reason.PAYMENT_CONFIRMED, context)
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
    paid = replace(order, captured=max(order.captured, command.captured.minor), expire_time=None)
    paid = replace(
        paid, payment=PaymentStatus.NOT_REQUIRED if command.not_required else _paid(paid)
    )
    if isinstance(command.stock, Unavailable):
        released = replace(paid, stock=StockStatus.RELEASED)
        return advance(released, (Status.FAILED,), command.stock.reason, context)
    # a pending order has fulfilments where an event of its commit came before the payment
    committed = isinstance(command.stock, Committed) or bool(order.fulfillments)
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    stock = StockStatus.COMMITTED if committed else StockStatus.COMMIT_PENDING
    confirmed = replace(paid, fulfillments=allocated_warehouses(paid), stock=stock)
    return advance(confirmed, (Status.CONFIRMED,), Reason.PAYMENT_CONFIRMED, context)


def fail(order: Order, command: FailPayment, context: Context) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = without_units(replace(order, payment=PaymentStatus.FAILED, expire_time=None))
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
        order = replace(order, payment=payment_of(order))
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


def _paid(order: Order) -> PaymentStatus:
    return payment_of(order) if order.captured else PaymentStatus.COMPLETED
