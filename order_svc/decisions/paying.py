"""What becomes of an order by the outcome of its payment."""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused
from order_svc.decisions.steps import Decided, allocated, steps, warehouses
from order_svc.lifecycle import PaymentStatus, Status, StockStatus
from order_svc.model import Committed, ConfirmPayment, FailPayment, Order, Part, Unavailable


def confirm(order: Order, command: ConfirmPayment, now: datetime) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)  # heard before; or dead, and then payment gives the money back
    if command.captured.currency != order.currency or command.captured.minor != order.total:
        raise Refused(
            "PAYMENT_AMOUNT_MISMATCH",
            f"The order costs {order.money(order.total)}, and {command.captured} was captured.",
            expected=str(order.money(order.total)),
        )
    paid = replace(order, payment=PaymentStatus.NOT_REQUIRED if command.not_required else PaymentStatus.COMPLETED, expire_time=None)
    if isinstance(command.stock, Unavailable):
        return steps(replace(paid, stock=StockStatus.RELEASED), (Status.FAILED,), command.stock.reason, command, now)
    committed = isinstance(command.stock, Committed) or bool(order.parts)  # a pending order has parts when its commit was heard of
    if isinstance(command.stock, Committed):
        paid = replace(paid, lines=allocated(paid.lines, command.stock.allocations))
    parts = tuple(Part(at, order.attempt) for at in warehouses(paid.lines))
    stock = StockStatus.COMMITTED if committed else StockStatus.OWED
    return steps(replace(paid, parts=parts, stock=stock), (Status.CONFIRMED,), "PAYMENT_CONFIRMED", command, now)


def fail(order: Order, command: FailPayment, now: datetime) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = replace(order, payment=PaymentStatus.FAILED, stock=StockStatus.RELEASED, expire_time=None)
    return steps(failed, (Status.CANCELLED,), "PAYMENT_FAILED", command, now)
