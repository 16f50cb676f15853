"""The verbs: what an order becomes when something is asked of it or told to it. Pure: no I/O, no clock, no ids made."""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta

from chassis.decision import Decision
from chassis.errors import Deferred, Invalid, NotFound, Refused, Violation
from order_svc.lifecycle import MOVES, PaymentStatus, Progress, ReturnProgress, Status, StockStatus, Work, progress_of, status_of, way
from order_svc.model import (
    Allocations,
    Checkout,
    Command,
    Committed,
    ConfirmPayment,
    FailPayment,
    Line,
    NoteFulfillment,
    NoteReservation,
    NoteShipment,
    Order,
    OrderCommand,
    Part,
    PlaceOrder,
    StatusChanged,
    Transition,
    Unavailable,
    number_of,
    priced,
)

PAYMENT_WINDOW = timedelta(minutes=30)
TOTAL_MAX = 10**15  # minor units; sums of it stay far from the end of a bigint
Decided = Decision[Order, Transition]


def decide(order: Order | None, command: OrderCommand, now: datetime) -> Decided:
    """What becomes of the order; raises a Failure where nothing may. The same record back: the command is skipped."""
    if isinstance(command, PlaceOrder):
        return place(order, command, now)
    if order is None:
        raise NotFound("ORDER_NOT_FOUND", f"There is no order {command.target}.", order_id=str(command.target))
    if command.attempt != order.attempt:
        return Decision(order)  # of an earlier life of the order
    match command:
        case ConfirmPayment():
            return confirm(order, command, now)
        case FailPayment():
            return fail_payment(order, command, now)
        case NoteFulfillment():
            return note_fulfillment(order, command, now)
        case NoteShipment():
            return note_shipment(order, command, now)
        case NoteReservation():
            return note_reservation(order, command, now)


def check(checkout: Checkout) -> None:
    """Refuses what no price can be made of, before any stock is reserved for it: Invalid VALIDATION_FAILED, each bad field by name."""
    violations = [
        Violation(f"items[{index}].discount_amount", "must be at most unit_price × quantity")
        for index, line in enumerate(checkout.lines)
        if line.discount > line.unit_price * line.quantity
    ]
    cost = sum(line.unit_price * line.quantity - line.discount for line in checkout.lines)
    if not violations and checkout.discount > cost:
        violations.append(Violation("discount_amount", "must be at most what the lines cost after their own discounts"))
    if cost + sum(line.tax for line in checkout.lines) + checkout.tax + checkout.shipping > TOTAL_MAX:
        violations.append(Violation("items", f"must add up to at most {TOTAL_MAX} minor units"))
    if violations:
        raise Invalid("VALIDATION_FAILED", "The amounts do not add up.", violations=violations)


def place(order: Order | None, command: PlaceOrder, now: datetime) -> Decided:
    if order:
        return Decision(order)  # placed by an earlier try whose claim is gone by now
    checkout = command.checkout
    lines = allocated(priced(checkout), command.allocations)
    order = Order(
        id=command.target,
        number=number_of(command.target),
        checkout=command.key,
        customer_id=checkout.customer_id,
        external_reference=checkout.external_reference,
        status=Status.PENDING,
        reason="ORDER_PLACED",
        attempt=1,
        version=0,
        payment=PaymentStatus.PENDING,
        progress=Progress.UNFULFILLED,
        stock=StockStatus.RESERVED,
        returns=ReturnProgress.NONE,
        currency=checkout.currency,
        shipping=checkout.shipping,
        refunded=0,
        create_time=now,
        update_time=now,
        expire_time=now + PAYMENT_WINDOW,
        lines=lines,
        recipient=checkout.recipient,
    )
    return steps(order, (Status.PENDING,), "ORDER_PLACED", command, now)


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


def fail_payment(order: Order, command: FailPayment, now: datetime) -> Decided:
    if order.status is not Status.PENDING:
        return Decision(order)
    failed = replace(order, payment=PaymentStatus.FAILED, stock=StockStatus.RELEASED, expire_time=None)
    return steps(failed, (Status.CANCELLED,), "PAYMENT_FAILED", command, now)


def note_fulfillment(order: Order, command: NoteFulfillment, now: datetime) -> Decided:
    if command.work is None or not MOVES[order.status]:
        return Decision(order)
    part = part_of(order, command.warehouse_id)
    if command.version <= part.version:
        return Decision(order)
    heard = replace(part, fulfillment_id=command.fulfillment_id, version=command.version, work=command.work)
    return follow(order, heard, f"FULFILLMENT_{command.work.upper()}", command, now)


def note_shipment(order: Order, command: NoteShipment, now: datetime) -> Decided:
    if not MOVES[order.status]:
        return Decision(order)
    part = part_of(order, command.warehouse_id)
    heard = replace(
        part,
        shipment_id=command.shipment_id,
        tracking_number=command.tracking_number or part.tracking_number,
        deliver_time=part.deliver_time or command.deliver_time,
    )
    reason = "DELIVERY_CONFIRMED" if command.deliver_time else "SHIPMENT_CREATED"
    return follow(order, heard, reason, command, now)


def note_reservation(order: Order, command: NoteReservation, now: datetime) -> Decided:
    """Settles an owed commit: the warehouse has committed after all, or says no for good.

    Of a pending order it is only remembered: the answer that should have told it may be lost by the time that the payment is confirmed.
    """
    if order.status is not Status.PENDING and order.stock is not StockStatus.OWED:
        return Decision(order)
    if command.refused and order.stock is StockStatus.OWED:
        return steps(replace(order, stock=StockStatus.RELEASED), (Status.CANCELLED,), "STOCK_UNAVAILABLE", command, now)
    if not command.allocations:
        return Decision(order)  # nothing is committed yet
    lines = allocated(order.lines, command.allocations)
    heard = {part.warehouse_id: part for part in order.parts}
    serving = tuple(heard.pop(at) if at in heard else Part(at, order.attempt) for at in warehouses(lines))
    stock = order.stock if order.status is Status.PENDING else StockStatus.COMMITTED
    return Decision(replace(order, lines=lines, parts=(*serving, *map(withdrawn, heard.values())), stock=stock, update_time=now))


def withdrawn(part: Part) -> Part:
    """The part of a warehouse that serves the order no more. Its work, if there is any, is cancelled, and says so itself."""
    return replace(part, work=Work.CANCELLED) if part.work is Work.EXPECTED else part


def warehouses(lines: tuple[Line, ...]) -> list[str]:
    """The warehouses that serve the lines, sorted."""
    return sorted({allocation.warehouse_id for line in lines for allocation in line.allocations})


def part_of(order: Order, warehouse_id: str) -> Part:
    """The order's part in that warehouse. Deferred where there is none yet: the event is ahead of the payment's."""
    if order.status is Status.PENDING:
        raise Deferred("PAYMENT_OUTSTANDING", "The order is not paid yet: this event waits for the payment's.", order_id=str(order.id))
    for part in order.parts:
        if part.warehouse_id == warehouse_id:
            return part
    raise Deferred("EVENT_AHEAD", f"The order knows of no work in {warehouse_id} yet.", order_id=str(order.id))


def follow(order: Order, heard: Part, reason: str, command: Command, now: datetime) -> Decided:
    """The order with what was heard of one part of it: it walks every step on the way to what all its parts make of it."""
    parts = tuple(heard if part.warehouse_id == heard.warehouse_id else part for part in order.parts)
    if parts == order.parts:
        return Decision(order)
    standings = [part.standing for part in parts]
    there = status_of(standings) or order.status
    stock = StockStatus.DEDUCTED if there in (Status.SHIPPED, Status.DELIVERED) else order.stock
    followed = replace(order, parts=parts, progress=progress_of(standings), stock=stock, update_time=now)
    return steps(followed, way(order.status, there), reason, command, now)


def steps(order: Order, path: tuple[Status, ...], reason: str, command: Command, now: datetime) -> Decided:
    """One row of history, one version and one fact for each step of the path."""
    history, facts = [], []
    for new in path:
        old = order.status if order.version else None
        if old and new not in MOVES[old]:
            raise Refused(
                "ILLEGAL_TRANSITION", f"An order that is {old} cannot become {new}.", status=old, allowed=", ".join(sorted(MOVES[old]))
            )
        order = replace(order, status=new, reason=reason, version=order.version + 1, update_time=now)
        step = Transition(order.id, order.version, order.attempt, old, new, reason, command.actor, command.cause, now)
        history.append(step)
        facts.append(StatusChanged(order, step))
    return Decision(order, history, facts)


def allocated(lines: tuple[Line, ...], allocations: Allocations) -> tuple[Line, ...]:
    """The lines, with where their units come from. Refused where the warehouse's answer is not what was asked for."""
    served: dict[int, int] = defaultdict(int)
    for number, several in allocations.items():
        served[number] = sum(allocation.quantity for allocation in several)
    for line in lines:
        if served[line.number] != line.quantity - line.cancelled:
            raise Refused(
                "RESERVATION_CLOSED", f"The warehouse serves {served[line.number]} of {line.quantity} units of line {line.number}."
            )
    return tuple(replace(line, allocations=tuple(allocations[line.number])) for line in lines)
