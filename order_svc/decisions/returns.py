"""Returns: units of an order on their way back.

An order's returns are decided under its lock, one after the other: units of one return are in no
other. The return's own events publish its goods and its money.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Invalid, NotFound, Refused, Violation, illegal
from order_svc.decisions.transitions import Decided, check_version
from order_svc.lifecycle import (
    RETURN_MOVES,
    SHIPPED_STATES,
    ReturnKind,
    ReturnReason,
    ReturnStatus,
    Status,
)
from order_svc.model.commands import CreateReturn, MoveReturn, ReceiveReturn, ReturnRequest
from order_svc.model.events import ReturnChanged
from order_svc.model.records import Order
from order_svc.model.returns import Return, ReturnLine, ReturnTransition


def create(order: Order, command: CreateReturn, context: Context) -> Decided:
    """A customer's return: it holds what was announced from now on."""
    if return_of(order, command.return_id):
        return Decision(order)  # an earlier try created it, whose idempotency key was deleted
    check_version(order, command)
    check_returnable(order, command.lines)
    lines = [
        ReturnLine(number=number, sku=order.line(number).sku, announced=quantity)
        for number, quantity in sorted(command.lines.items())
    ]
    order_return = new_return(
        order, command.return_id, ReturnKind.CUSTOMER, command.reason, lines, context
    )
    return advance_return(
        order, order_return, [(ReturnStatus.REQUESTED, ReturnReason.RETURN_REQUESTED)], context
    )


def move(order: Order, command: MoveReturn, context: Context) -> Decided:
    """The return makes one transition that concerns all its units."""
    order_return = checked_return(order, command, command.to)
    return advance_return(order, order_return, [(command.to, command.reason)], context)


def receive(order: Order, command: ReceiveReturn, context: Context) -> Decided:
    """More units have arrived: at most those that the customer can have sent, announced or not."""
    order_return = checked_return(order, command, ReturnStatus.RECEIVED)
    if order_return.warehouse_id not in (None, command.warehouse_id):
        rule = Violation(
            "warehouse_id",
            f"must be {order_return.warehouse_id}: a return arrives at one warehouse",
        )
        raise Invalid(
            "VALIDATION_FAILED", "The return has begun to arrive elsewhere.", violations=[rule]
        )
    arrived = {
        number: order_return.line(number).received + quantity
        for number, quantity in command.lines.items()
    }
    check_units(
        (
            (number, n, receivable_units(order, order_return, number))
            for number, n in arrived.items()
        ),
        "RETURN_EXCEEDS_DELIVERED",
        "can have been sent",
    )
    lines = {line.number: line for line in order_return.lines}
    for number, received in arrived.items():
        lines[number] = replace(
            lines.get(number) or ReturnLine(number=number, sku=order.line(number).sku, announced=0),
            received=received,
        )
    order_return = replace(
        order_return,
        warehouse_id=command.warehouse_id,
        lines=tuple(lines[number] for number in sorted(lines)),
    )
    return advance_return(
        order, order_return, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context
    )


def return_of(order: Order, return_id: UUID | None) -> Return | None:
    return next(
        (order_return for order_return in order.returns if order_return.id == return_id), None
    )


def checked_return(order: Order, command: ReturnRequest, to: ReturnStatus) -> Return:
    """Returns the return that the command names.

    Raises NotFound, Stale for another version than expected, or Refused for a move that its status
    does not allow.
    """
    order_return = return_of(order, command.return_id)
    if order_return is None:
        raise NotFound(
            "RETURN_NOT_FOUND",
            f"There is no return {command.return_id}.",
            return_id=str(command.return_id),
        )
    check_version(order_return, command, "return")
    if to not in RETURN_MOVES[order_return.status]:
        raise illegal(
            f"A return that is {order_return.status} cannot become {to}.",
            order_return.status,
            RETURN_MOVES[order_return.status],
        )
    return order_return


def check_returnable(order: Order, units: Mapping[int, int]) -> None:
    """Refuses units that the customer does not have, or that are in another return.

    What counts is what the delivered parcels held, not the order's status: another parcel may still
    travel. The parcels of a cancelled order come back by its recalls.
    """
    if order.status is Status.CANCELLED:
        text = (
            "The order is cancelled: goods that had left come back by its recalls, which"
            " ListReturns shows."
        )
        raise Refused("ORDER_NOT_RETURNABLE", text, status=order.status)
    if not any(fulfillment.order_status is Status.DELIVERED for fulfillment in order.fulfillments):
        text = (
            f"The order is {order.status}, and nothing of it was delivered: cancel it, or units"
            " of it."
        )
        raise Refused("ORDER_NOT_RETURNABLE", text, status=order.status)
    check_units(
        ((number, n, returnable_units(order, number)) for number, n in units.items()),
        "RETURN_EXCEEDS_DELIVERED",
        "can be returned",
    )


def returnable_units(order: Order, number: int, excluding: UUID | None = None) -> int:
    """Units of the line that the customer has and no return holds, the one named left out.

    A delivery can be known before the fulfilment's report of what its parcel holds: units that the
    picker did not find are not in it. Deferred EVENT_AHEAD until that report.
    """
    line = order.line(number)
    if not line.quantity:
        return 0
    delivered = [
        fulfillment
        for fulfillment in order.fulfillments
        if fulfillment.order_status is Status.DELIVERED
    ]
    if unknown := [
        fulfillment.warehouse_id
        for fulfillment in delivered
        if fulfillment.state not in SHIPPED_STATES
    ]:
        text = f"What the parcel from {', '.join(unknown)} holds is not reported yet. Try again."
        raise Deferred("EVENT_AHEAD", text, order_id=str(order.id))
    warehouses = {fulfillment.warehouse_id for fulfillment in delivered}
    units = sum(
        min(allocation.quantity, allocation.shipped or 0)
        for allocation in line.allocations
        if allocation.warehouse_id in warehouses
    )
    holding = (
        order_return
        for order_return in order.returns
        if order_return.kind is not ReturnKind.RECALL and order_return.id != excluding
    )
    return max(
        0, min(units, line.remaining) - sum(order_return.held(number) for order_return in holding)
    )


def receivable_units(order: Order, order_return: Return, number: int) -> int:
    """Returns how many units of the line can arrive in this return: of a recall all that shipped,
    of a customer's return all that the customer has.
    """
    return (
        order_return.line(number).announced
        if order_return.kind is ReturnKind.RECALL
        else returnable_units(order, number, excluding=order_return.id)
    )


def check_units(counts: Iterable[tuple[int, int, int]], reason: str, can: str) -> None:
    """Refuses lines (number, units, how many there can be) of which there are more than that,
    each by its number.
    """
    violations = [
        Violation(f"line {number}", f"{n} units, and {limit} {can}", "UNITS")
        for number, n, limit in counts
        if n > limit
    ]
    if violations:
        raise Refused(reason, "There are fewer units of these lines.", violations=violations)


def new_return(
    order: Order,
    return_id: UUID,
    kind: ReturnKind,
    reason: str,
    lines: Sequence[ReturnLine],
    context: Context,
) -> Return:
    """A return that has no version yet."""
    return Return(
        id=return_id,
        order_id=order.id,
        order_number=order.number,
        currency=order.currency,
        attempt=order.attempt,
        kind=kind,
        status=ReturnStatus.REQUESTED,  # until its first transition
        status_reason="",
        reason=reason,
        warehouse_id=None,
        refunded=0,
        version=0,
        create_time=context.time,
        update_time=context.time,
        lines=tuple(lines),
    )


def advance_return(
    order: Order,
    order_return: Return,
    path: Sequence[tuple[ReturnStatus, str]],
    context: Context,
) -> Decided:
    """Returns the order with the return after these transitions: one version, one row of history
    and one event for each.
    """
    history: list[ReturnTransition] = []
    events = []
    for status, reason in path:
        old = order_return.status if order_return.version else None
        order_return = replace(
            order_return,
            status=status,
            status_reason=reason,
            version=order_return.version + 1,
            update_time=context.time,
        )
        transition = ReturnTransition(
            return_id=order_return.id,
            version=order_return.version,
            old=old,
            new=status,
            reason=reason,
            actor=context.actor,
            cause=context.cause,
            time=context.time,
            claimed_actor=context.claimed_actor,
            note=context.note,
        )
        history.append(transition)
        events.append(ReturnChanged(order_return, transition))
    others = tuple(other for other in order.returns if other.id != order_return.id)
    return Decision(
        replace(order, returns=(*others, order_return), update_time=context.time), history, events
    )
