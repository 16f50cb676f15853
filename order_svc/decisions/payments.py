"""Payments of an order, and the commit of its stock."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused
from chassis.values.money import Money
from order_svc.decisions.transitions import (
    Decided,
    advance,
    allocated,
    cancel_order,
    fulfillments_after_allocation,
    record_late_event,
)
from order_svc.lifecycle import (
    MOVES,
    Commit,
    PaymentOutcome,
    Reason,
    Status,
    StockStatus,
)
from order_svc.model.commands import (
    ApplyReservation,
    CommitRefused,
    Committed,
    ConfirmPayment,
    FailPayment,
)
from order_svc.model.records import Allocations, Line, Order


def accepts(order: Order, captured: Money) -> bool:
    """Whether this amount pays the order: its total or more, up to what it cost when placed."""
    return (
        captured.currency == order.currency and order.total <= captured.minor <= order.placed_total
    )


def confirm(order: Order, command: ConfirmPayment, context: Context) -> Decided:
    """Confirms a paid order, or fails it where the warehouse refuses its stock for good.

    A payment of an order that is already cancelled is a late event, once, even if its refund came
    first. The payment service refunds the money.
    """
    outcome = PaymentOutcome.NOT_REQUIRED if command.not_required else PaymentOutcome.CAPTURED
    captured = max(order.captured, command.captured.minor)
    paid = replace(order, captured=captured, payment_outcome=outcome, expire_time=None)
    if order.status is Status.CANCELLED and order.payment_outcome is not outcome:
        return record_late_event(paid, Reason.PAYMENT_CONFIRMED, context)
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
    if isinstance(command.stock, CommitRefused):
        refused = replace(paid, commit=Commit.REFUSED)
        return advance(refused, (Status.FAILED,), command.stock.reason, context)
    # a pending order has fulfilments where an event of its commit came before the payment
    committed = isinstance(command.stock, Committed) or bool(order.fulfillments)
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    commit = Commit.COMMITTED if committed else Commit.PENDING
    confirmed = replace(paid, fulfillments=fulfillments_after_allocation(paid), commit=commit)
    return advance(confirmed, (Status.CONFIRMED,), Reason.PAYMENT_CONFIRMED, context)


def cancel_unpaid(order: Order, command: FailPayment, context: Context) -> Decided:
    """Cancels a pending order whose payment has finally failed."""
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = replace(order, payment_outcome=PaymentOutcome.DECLINED, expire_time=None)
    return advance(failed, (Status.CANCELLED,), Reason.PAYMENT_FAILED, context)


def apply_reservation(order: Order, command: ApplyReservation, context: Context) -> Decided:
    """Applies the warehouse's answer to a commit: the stock is committed, or refused for good. For
    a cancelled order: its units are back on the shelf.

    A refusal cancels the order, which is confirmed here; `confirm` fails a pending one, which can
    be tried again. A pending order stores the allocations and the fulfilments, and stays pending:
    `confirm` uses them where the answer to its own commit was lost.
    """
    if order.status is Status.CANCELLED and command.freed and order.stock is StockStatus.COMMITTED:
        return Decision(replace(order, commit=Commit.FREED, update_time=context.time))
    if not MOVES[order.status] or (
        order.status is not Status.PENDING and order.stock is not StockStatus.COMMIT_PENDING
    ):
        return Decision(order)
    if command.refused and order.stock is StockStatus.COMMIT_PENDING:
        refused = replace(order, commit=Commit.REFUSED)
        return cancel_order(refused, Reason.STOCK_UNAVAILABLE, context)
    if not command.allocations:
        return Decision(order)  # nothing is committed yet
    placed = replace(order, lines=committed_lines(order, command.allocations))
    return Decision(
        replace(
            placed,
            fulfillments=fulfillments_after_allocation(placed),
            commit=order.commit if order.status is Status.PENDING else Commit.COMMITTED,
            update_time=context.time,
        )
    )


def committed_lines(order: Order, allocations: Allocations) -> tuple[Line, ...]:
    """Returns the lines with the committed allocations.

    Raises Deferred where they have fewer units than the order needs: some were uncommitted since,
    and the event of the commit, or of the cut, is still to come.
    """
    try:
        return allocated(order.lines, allocations)
    except Refused as refused:
        raise Deferred("EVENT_AHEAD", refused.message, order_id=str(order.id)) from refused
