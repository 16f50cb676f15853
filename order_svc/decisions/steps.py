"""What all decisions share: a step of an order's life with its history and its fact, units that
are cancelled, its end, and its axes.
"""

from collections.abc import Sequence
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Refused, Stale, illegal
from order_svc.lifecycle import MOVES, PaymentStatus, Status, StockStatus, Work, progress_of
from order_svc.model import (
    LATE_SHOWN,
    Allocation,
    Allocations,
    ItemsCancelled,
    LateEvent,
    Line,
    Order,
    Part,
    Request,
    Row,
    StatusChanged,
    Transition,
)

Decided = Decision[Order, Row]


def expected(order: Order, request: Request) -> None:
    """Raises Stale for a request that expects another version of the order."""
    if request.expected_version not in (None, order.version):
        raise Stale(
            message=f"The order has version {order.version}.",
            expected=str(request.expected_version),
            actual=str(order.version),
        )


def steps(order: Order, path: tuple[Status, ...], reason: str, context: Context) -> Decided:
    """One row of history, one version and one fact for each step of the path."""
    history, facts = [], []
    for new in path:
        old = order.status if order.version else None
        if old and new not in MOVES[old]:
            raise illegal(f"An order that is {old} cannot become {new}.", old, MOVES[old])
        order, step = _stepped(order, old, new, reason, context)
        history.append(step)
        facts.append(StatusChanged(order, step))
    return Decision(order, history, facts)


def take(order: Order, lines: tuple[Line, ...], reason: str, context: Context) -> Decided:
    """The order with these lines, of which units were cancelled: one row, one version and one fact.
    Its last unit ends it.

    One that was delivered before stays what it is, and its shipping stays owed.
    """
    taken = any(new.cancelled != old.cancelled for old, new in zip(order.lines, lines, strict=True))
    order = replace(order, lines=lines)
    if not taken:
        return Decision(order)
    if not any(line.staying for line in lines):
        if Status.CANCELLED in MOVES[order.status]:
            return end(order, reason, context)
        order = emptied(order)
    order, step = _stepped(order, order.status, order.status, reason, context)
    return Decision(order, [step], [ItemsCancelled(order, step)])


def end(order: Order, reason: str, context: Context) -> Decided:
    """The order is cancelled. Its lines stay as they were; what had left is seen to by whoever
    recalls it.
    """
    payment = PaymentStatus.CANCELLED if order.payment is PaymentStatus.PENDING else order.payment
    ended = emptied(replace(order, payment=payment, expire_time=None))
    return steps(ended, (Status.CANCELLED,), reason, context)


def then(first: Decided, second: Decided) -> Decided:
    """Both, the second having been decided on the record of the first."""
    return Decision(second.record, [*first.history, *second.history], [*first.facts, *second.facts])


def late(order: Order, reason: str, context: Context) -> Decided:
    """Something was told of an order that has ended: it is noted, and moves nothing."""
    event = LateEvent(
        order_id=order.id,
        cause=context.cause,
        reason=reason,
        actor=context.actor,
        time=context.time,
    )
    noted = replace(order, late=(*order.late, event)[:LATE_SHOWN], update_time=context.time)
    return Decision(noted, [event])


def _stepped(
    order: Order,
    old: Status | None,
    new: Status,
    reason: str,
    context: Context,
) -> tuple[Order, Transition]:
    order = replace(
        order,
        status=new,
        reason=reason,
        version=order.version + 1,
        update_time=context.time,
    )
    step = Transition(
        order_id=order.id,
        version=order.version,
        attempt=order.attempt,
        old=old,
        new=new,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        time=context.time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )
    return order, step


# --- axes


def payment_of(order: Order) -> PaymentStatus:
    """What its money makes of an order; as it was, where none was captured."""
    if not order.captured:
        return order.payment
    if not order.refunded:
        return PaymentStatus.COMPLETED
    return (
        PaymentStatus.REFUNDED
        if order.refunded >= order.captured
        else PaymentStatus.PARTIALLY_REFUNDED
    )


def emptied(order: Order) -> Order:
    """An order of which nothing stays, with what its parts make of its axes: what did not leave a
    warehouse comes back.

    What is committed is back when fulfilment, or the warehouse, says so; what is not is free at
    once.
    """
    left = [part for part in order.parts if has_left(part)]
    stock = order.stock
    if left and stock is not StockStatus.RETURNED:
        stock = StockStatus.DEDUCTED
    elif stock in (StockStatus.RESERVED, StockStatus.OWED) or (
        not left and all(part.work is Work.CANCELLED for part in order.parts)
    ):
        stock = StockStatus.RELEASED
    return replace(
        order,
        stock=stock,
        progress=progress_of(part.standing if part in left else None for part in order.parts),
    )


def has_left(part: Part) -> bool:
    """Whether its goods are with a carrier, or were. A label for work that was cancelled carries
    nothing.
    """
    shipped = part.shipment_id is not None and part.work is not Work.CANCELLED
    return shipped or part.work in (Work.SHIPPED, Work.COMPLETED)


# --- where units come from


def allocated(lines: tuple[Line, ...], allocations: Allocations) -> tuple[Line, ...]:
    """The lines, with where their units come from. Refused where the warehouse serves less than was
    asked for.

    Of units that were cancelled meanwhile it need not have heard: they are left out. What stays is
    where the order knows it, and the rest in the first of the warehouses that have more than it
    knows: fulfilment, which cuts the picklists, goes by the same rule.
    """
    placed = []
    for line in lines:
        several = sorted(
            allocations.get(line.number, ()), key=lambda allocation: allocation.warehouse_id
        )
        served = sum(allocation.quantity for allocation in several)
        if served < line.staying:
            raise Refused(
                "RESERVATION_CLOSED",
                f"The warehouse serves {served} of {line.staying} units of line {line.number}.",
            )
        known = {allocation.warehouse_id: allocation.quantity for allocation in line.allocations}
        stay = [min(its.quantity, known.get(its.warehouse_id, 0)) for its in several]
        left, kept = line.staying - sum(stay), []
        for its, units in zip(several, stay, strict=True):
            found = min(left, its.quantity - units)
            left -= found
            kept.append(replace(its, quantity=units + found))
        placed.append(replace(line, allocations=tuple(its for its in kept if its.quantity)))
    return tuple(placed)


def fewer(
    allocations: Sequence[Allocation], units: int, kept: frozenset[str] = frozenset()
) -> list[Allocation]:
    """The allocations without so many units, those of the last first; of the warehouses that are
    `kept`, none.
    """
    less = []
    for allocation in reversed(allocations):
        taken = 0 if allocation.warehouse_id in kept else min(units, allocation.quantity)
        units -= taken
        less.append(replace(allocation, quantity=allocation.quantity - taken))
    return less[::-1]


def reallocated(line: Line, allocations: Sequence[Allocation]) -> Line:
    """The line with fewer units allocated: the difference is cancelled."""
    units = sum(allocation.quantity for allocation in line.allocations) - sum(
        allocation.quantity for allocation in allocations
    )
    return replace(line, allocations=tuple(allocations), cancelled=line.cancelled + units)


def serving(order: Order) -> tuple[Part, ...]:
    """The order's parts, now that it is known where its units are: one for each warehouse that
    serves it, first. What was heard of another is withdrawn, and not forgotten: it is stored.
    Its work, if there is any, is cancelled, and says so itself.
    """
    heard = {part.warehouse_id: part for part in order.parts}
    at = sorted(
        {its.warehouse_id for line in order.lines for its in line.allocations if its.quantity}
    )
    its = [
        heard.pop(warehouse_id) if warehouse_id in heard else Part(warehouse_id, order.attempt)
        for warehouse_id in at
    ]
    rest = [
        replace(part, work=Work.CANCELLED) if part.work is Work.EXPECTED else part
        for part in heard.values()
    ]
    return (*its, *rest)
