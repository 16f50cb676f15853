"""What several decisions share: the rules before a decision, a transition of an order with its
domain event, cancelled units, the cancelled order and the allocations.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider
from chassis.values.errors import NotFound, Refused, Stale, illegal
from order_svc.lifecycle import (
    MOVES,
    FulfillmentState,
    Status,
)
from order_svc.model.commands import AttemptReport, Request
from order_svc.model.events import ItemsCancelled, StatusChanged
from order_svc.model.records import (
    LATE_EVENTS_SHOWN,
    Allocation,
    Allocations,
    LateEvent,
    Line,
    Order,
    Row,
    Transition,
    WarehouseFulfillment,
)
from order_svc.model.returns import Return

C = TypeVar("C")
Decided = Decision[Order, Row]
OrderDecider = Decider[Order, Row]


def for_existing_order(decide_existing: Callable[[Order, C, Context], Decided]) -> OrderDecider:
    """Returns the decider of a command about an order that exists. It skips a report about another
    attempt than the order's.

    The decider raises NotFound ORDER_NOT_FOUND where there is no order.
    """

    @wraps(decide_existing)
    def decide(order: Order | None, command: C, context: Context) -> Decided:
        if order is None:
            text = f"There is no order {context.target}."
            raise NotFound("ORDER_NOT_FOUND", text, order_id=str(context.target))
        if isinstance(command, AttemptReport) and command.attempt != order.attempt:
            return Decision(order)
        return decide_existing(order, command, context)

    return decide


def check_version(record: Order | Return, request: Request, name: str = "order") -> None:
    """Raises Stale for a request that expects another version of the order or return."""
    if request.expected_version not in (None, record.version):
        raise Stale(
            message=f"The {name} has version {record.version}.",
            expected=str(request.expected_version),
            actual=str(record.version),
        )


def advance(order: Order, path: tuple[Status, ...], reason: str, context: Context) -> Decided:
    """Makes the transitions of the path: each has one row of history, one version and one event."""
    history, events = [], []
    for new in path:
        # an order with version 0 is being placed: its first transition has no old status
        old = order.status if order.version else None
        if old and new not in MOVES[old]:
            raise illegal(f"An order that is {old} cannot become {new}.", old, MOVES[old])
        order, transition = _changed(order, old, new, reason, context)
        history.append(transition)
        events.append(StatusChanged(order, transition))
    return Decision(order, history, events)


def cancel_units(order: Order, lines: tuple[Line, ...], reason: str, context: Context) -> Decided:
    """Returns the order with these lines, of which units were cancelled: one row of history, one
    version and one event. With its last unit the order is cancelled.

    An order that was delivered before keeps its status, and its shipping is not refunded.
    """
    any_cancelled = any(
        new.cancelled != old.cancelled for old, new in zip(order.lines, lines, strict=True)
    )
    order = replace(order, lines=lines)
    if not any_cancelled:
        return Decision(order)
    if order.without_units and Status.CANCELLED in MOVES[order.status]:
        return cancel_order(order, reason, context)
    order, transition = _changed(order, order.status, order.status, reason, context)
    return Decision(order, [transition], [ItemsCancelled(order, transition)])


def cancel_order(order: Order, reason: str, context: Context) -> Decided:
    """Cancels the order. Its lines stay as they were; `with_recalls` recalls what has shipped."""
    return advance(replace(order, expire_time=None), (Status.CANCELLED,), reason, context)


def chain(first: Decided, second: Decided) -> Decided:
    """Returns both decisions as one; the second was made on the record of the first."""
    return Decision(
        second.record, [*first.history, *second.history], [*first.events, *second.events]
    )


def record_late_event(order: Order, reason: str, context: Context) -> Decided:
    """Stores an event that came after the order had ended. The order's status stays."""
    event = LateEvent(
        order_id=order.id,
        cause=context.cause,
        reason=reason,
        actor=context.actor,
        time=context.time,
    )
    changed = replace(
        order, late_events=(*order.late_events, event)[:LATE_EVENTS_SHOWN], update_time=context.time
    )
    return Decision(changed, [event])


def _changed(
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
    transition = Transition(
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
    return order, transition


# --- where units come from


def allocated(lines: tuple[Line, ...], allocations: Allocations) -> tuple[Line, ...]:
    """Returns the lines with these allocations, as many units as remain of each line.

    Raises Refused RESERVATION_CLOSED where the warehouse serves fewer. Allocations may have units
    that were cancelled meanwhile: these are left out. Units stay in the warehouses of the line's
    earlier allocations; the rest is taken from the first warehouses that serve more. Fulfilment
    cuts its picklists by the same rule.
    """
    placed = []
    for line in lines:
        served_by = sorted(
            allocations.get(line.number, ()), key=lambda allocation: allocation.warehouse_id
        )
        served = sum(allocation.quantity for allocation in served_by)
        if served < line.remaining:
            raise Refused(
                "RESERVATION_CLOSED",
                f"The warehouse serves {served} of {line.remaining} units of line {line.number}.",
            )
        known = {allocation.warehouse_id: allocation.quantity for allocation in line.allocations}
        in_place = [
            min(allocation.quantity, known.get(allocation.warehouse_id, 0))
            for allocation in served_by
        ]
        missing, new = line.remaining - sum(in_place), []
        for allocation, units in zip(served_by, in_place, strict=True):
            added = min(missing, allocation.quantity - units)
            missing -= added
            new.append(replace(allocation, quantity=units + added))
        placed.append(
            replace(
                line, allocations=tuple(allocation for allocation in new if allocation.quantity)
            )
        )
    return tuple(placed)


def reduced_allocations(
    allocations: Sequence[Allocation], units: int, excluded: frozenset[str] = frozenset()
) -> list[Allocation]:
    """Returns the allocations with so many units less, taken from the last one first, and none from
    the `excluded` warehouses.
    """
    reduced = []
    for allocation in reversed(allocations):
        taken = 0 if allocation.warehouse_id in excluded else min(units, allocation.quantity)
        units -= taken
        reduced.append(replace(allocation, quantity=allocation.quantity - taken))
    return reduced[::-1]


def reallocated(line: Line, allocations: Sequence[Allocation]) -> Line:
    """Returns the line with these smaller allocations: the difference is cancelled."""
    units = sum(allocation.quantity for allocation in line.allocations) - sum(
        allocation.quantity for allocation in allocations
    )
    return replace(line, allocations=tuple(allocations), cancelled=line.cancelled + units)


def fulfillments_after_allocation(order: Order) -> tuple[WarehouseFulfillment, ...]:
    """Returns the order's fulfilments after a change of its allocations: first one for each
    warehouse that serves it, then those of other warehouses.

    Of the latter an expected one is cancelled. Fulfilment publishes the end of the others.
    """
    known = {fulfillment.warehouse_id: fulfillment for fulfillment in order.fulfillments}
    warehouse_ids = sorted(
        {
            allocation.warehouse_id
            for line in order.lines
            for allocation in line.allocations
            if allocation.quantity
        }
    )
    allocated_fulfillments = [
        known.pop(warehouse_id)
        if warehouse_id in known
        else WarehouseFulfillment(warehouse_id=warehouse_id, attempt=order.attempt)
        for warehouse_id in warehouse_ids
    ]
    rest = [
        replace(fulfillment, state=FulfillmentState.CANCELLED)
        if fulfillment.state is FulfillmentState.EXPECTED
        else fulfillment
        for fulfillment in known.values()
    ]
    return (*allocated_fulfillments, *rest)
