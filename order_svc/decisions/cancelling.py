"""An order, or units of it, are not wanted any more; a failed one is tried again."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused, Violation, illegal
from order_svc.decisions.placing import PAYMENT_WINDOW
from order_svc.decisions.steps import (
    Decided,
    allocated,
    end,
    expected,
    fewer,
    has_left,
    reallocated,
    steps,
    take,
)
from order_svc.lifecycle import MOVES, PaymentStatus, Progress, Reason, Status, StockStatus
from order_svc.model import CancelItems, CancelOrder, ExpireOrder, Order, Part, RetryOrder

# Statuses in which no unit, or not every unit, is with a carrier. See `cuttable`.
CUTTABLE = frozenset({Status.PENDING, Status.CONFIRMED, Status.PROCESSING})


def cancel(order: Order, command: CancelOrder, context: Context) -> Decided:
    """The whole order, unless any of it was delivered. What has left is recalled."""
    expected(order, command)
    alive(order)
    if not cancellable(order):
        raise not_cancellable(order, instead(order), **recallable(order))
    return end(order, command.reason, context)


def cancel_items(order: Order, command: CancelItems, context: Context) -> Decided:
    """Some units that are not with a carrier, all lines or none; those that were sourced last
    first.
    """
    expected(order, command)
    alive(order)
    if not cuttable(order):
        raise not_cancellable(order, instead(order), **recallable(order))
    gone = frozenset(part.warehouse_id for part in order.parts if has_left(part))
    here = {
        line.number: sum(a.quantity for a in line.allocations if a.warehouse_id not in gone)
        for line in order.lines
    }
    violations = [
        Violation(f"line {number}", f"asked {units}, left {here.get(number, 0)}", "UNITS")
        for number, units in command.units.items()
        if units > here.get(number, 0)
    ]
    if violations:
        raise Refused(
            "ITEMS_NOT_CANCELLABLE",
            "Fewer units of these lines can be cancelled.",
            violations=violations,
        )
    lines = tuple(
        reallocated(line, fewer(line.allocations, command.units[line.number], gone))
        if line.number in command.units
        else line
        for line in order.lines
    )
    return take(order, lines, command.reason, context)


def expire(order: Order, command: ExpireOrder, context: Context) -> Decided:
    """The time to pay is over, by the clock of this very write."""
    if order.expire_time is None:
        return Decision(order)  # it was paid, or has ended, in that instant
    if context.time < order.expire_time:
        raise Deferred("CONTENTION", "The order's time is not over: it was tried again.")
    return end(order, Reason.PAYMENT_EXPIRED, context)


def retry(order: Order, command: RetryOrder, context: Context) -> Decided:
    """A failed order is pending again, with what was reserved for its next attempt. Money and
    work of the one before are its own.
    """
    check_retry(order, command)
    if command.attempt != order.attempt + 1 or command.allocations is None:
        raise Deferred("CONTENTION", "The order has changed meanwhile.")
    again = replace(
        order,
        attempt=command.attempt,
        payment=PaymentStatus.PENDING,
        progress=Progress.UNFULFILLED,
        stock=StockStatus.RESERVED,
        captured=0,
        refunded=0,
        expire_time=context.time + PAYMENT_WINDOW,
        lines=allocated(order.lines, command.allocations),
        parts=(),
    )
    return steps(again, (Status.PENDING,), Reason.ORDER_RETRIED, context)


def check_retry(order: Order, command: RetryOrder) -> None:
    """Refuses to try an order again that has not failed, before any stock is reserved for it."""
    expected(order, command)
    if order.status is not Status.FAILED:
        raise illegal(
            f"An order that is {order.status} is not tried again.",
            order.status,
            MOVES[order.status],
        )


def alive(order: Order) -> None:
    if order.status is Status.CANCELLED:
        raise Refused(
            "ORDER_ALREADY_CANCELLED",
            "The order was cancelled before.",
            status=order.status,
            cancel_reason=order.reason,
        )


def cancellable(order: Order) -> bool:
    """Whether the order may become cancelled and none of its parcels is delivered."""
    delivered = any(part.standing is Status.DELIVERED for part in order.parts)
    return Status.CANCELLED in MOVES[order.status] and not delivered


def cuttable(order: Order) -> bool:
    """Whether the order may have units that are not with a carrier.

    An order stays shipped when a label is withdrawn: the units of that parcel are packed anew.
    """
    if order.status is Status.SHIPPED:
        return any(waits(part) for part in order.parts)
    return order.status in CUTTABLE


def waits(part: Part) -> bool:
    """Whether its units are still to leave the warehouse."""
    return part.standing is not None and not has_left(part)


def instead(order: Order) -> str:
    """What to do in place of a cancellation, for each of the order's parcels: a sentence each."""
    if not order.parts:
        return "It holds no stock and no money: try it again with RetryOrder, or leave it."
    standings = [part.standing for part in order.parts]
    advice = []
    if Status.DELIVERED in standings:
        advice.append("Return the delivered units with CreateReturn.")
    if Status.SHIPPED in standings:
        advice.append("Recall the parcels that are on their way with CancelShipment.")
    if cuttable(order) and any(waits(part) for part in order.parts):
        advice.append("Cancel the units that have not left with CancelOrderItems.")
    if cancellable(order):
        advice.append("Cancel the whole order with CancelOrder.")
    return " ".join(advice)


def recallable(order: Order) -> dict[str, str]:
    """The shipments that are on their way, for programs."""
    ids = [
        str(part.shipment_id)
        for part in order.parts
        if part.standing is Status.SHIPPED and part.shipment_id
    ]
    return {"shipment_ids": ", ".join(ids)} if ids else {}


def not_cancellable(order: Order, instead: str, **metadata: str) -> Refused:
    text = f"The order is {order.status}. {instead}"
    return Refused("ORDER_NOT_CANCELLABLE", text, violations=(), status=order.status, **metadata)
