"""Returns: units of an order on their way back, each accepted once, and what they are refunded
with.

An order's returns are decided under its lock, one after the other: units of one return are in no
other. The return's own events publish its goods and its money.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Invalid, NotFound, Refused, Stale, Violation, illegal
from order_svc.decisions.steps import Decided, chain, check_version
from order_svc.lifecycle import (
    RETURN_MOVES,
    Disposition,
    FulfillmentState,
    ReturnKind,
    ReturnReason,
    ReturnStatus,
    Status,
)
from order_svc.model.commands import (
    CreateReturn,
    InspectReturn,
    MoveReturn,
    ReceiveReturn,
    RefundWithoutGoods,
    ReturnRequest,
)
from order_svc.model.events import ReturnChanged
from order_svc.model.records import Order, Return, ReturnLine, ReturnStep


def create(order: Order, command: CreateReturn, context: Context) -> Decided:
    """A customer's return: it holds what was announced from now on."""
    if return_of(order, command.return_id):
        return Decision(order)  # an earlier try created it, whose idempotency key was deleted
    check_version(order, command)
    check_returnable(order, command.lines)
    lines = [
        ReturnLine(number, sku_of(order, number), quantity)
        for number, quantity in sorted(command.lines.items())
    ]
    order_return = new_return(
        order, command.return_id, ReturnKind.CUSTOMER, command.reason, lines, context
    )
    return advance_return(
        order, order_return, [(ReturnStatus.REQUESTED, ReturnReason.RETURN_REQUESTED)], context
    )


def refund_without_goods(
    order: Order,
    command: RefundWithoutGoods,
    context: Context,
) -> Decided:
    """A return that is inspected from the start: the caller says what happens to stock."""
    if return_of(order, command.return_id):
        return Decision(order)
    check_version(order, command)
    check_returnable(order, {number: quantity for number, (quantity, _) in command.lines.items()})
    lines = [
        _line_without_goods(number, sku_of(order, number), *wanted)
        for number, wanted in sorted(command.lines.items())
    ]
    order_return = new_return(
        order, command.return_id, ReturnKind.WITHOUT_GOODS, command.reason, lines, context
    )
    order_return = with_refund_amounts(
        order, replace(order_return, warehouse_id=command.warehouse_id)
    )
    return advance_return(
        order,
        order_return,
        _inspection_steps(order_return, ReturnReason.REFUND_WITHOUT_GOODS),
        context,
    )


def move(order: Order, command: MoveReturn, context: Context) -> Decided:
    """The return takes one step that concerns all its units."""
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
            lines.get(number) or ReturnLine(number, sku_of(order, number), 0), received=received
        )
    order_return = replace(
        order_return,
        warehouse_id=command.warehouse_id,
        lines=tuple(lines[number] for number in sorted(lines)),
    )
    return advance_return(
        order, order_return, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context
    )


def inspect(order: Order, command: InspectReturn, context: Context) -> Decided:
    """Units that arrived were inspected: each is accepted once. With the last of them the return
    is inspected.
    """
    order_return = checked_return(order, command, ReturnStatus.INSPECTED)
    findings = [(order_return.line(number), found) for number, found in command.lines.items()]
    check_units(
        (
            (
                number,
                order_return.line(number).inspected + found.passed + found.failed,
                order_return.line(number).received,
            )
            for number, found in command.lines.items()
        ),
        "INSPECTION_EXCEEDS_RECEIPT",
        "arrived",
    )
    lines = {line.number: line for line in order_return.lines} | {
        line.number: replace(
            line,
            passed=line.passed + found.passed,
            failed=line.failed + found.failed,
            unrefunded=line.unrefunded + found.unrefunded,
        )
        for line, found in findings
    }
    order_return = with_refund_amounts(
        order, replace(order_return, lines=tuple(lines[number] for number in sorted(lines)))
    )
    if any(line.inspected < line.received for line in order_return.lines):
        return advance_return(
            order, order_return, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context
        )
    return advance_return(
        order, order_return, _inspection_steps(order_return, ReturnReason.RETURN_INSPECTED), context
    )


def refunded(order: Order, return_id: UUID, amount: int, context: Context) -> Decided:
    """The money of a return went back: it is refunded, and with that closed. A repeat, or the
    refund of an unknown return, changes nothing.
    """
    order_return = return_of(order, return_id)
    if order_return is None or order_return.status is not ReturnStatus.INSPECTED:
        return Decision(order)
    path = [
        (ReturnStatus.REFUNDED, ReturnReason.RETURN_REFUNDED),
        (ReturnStatus.CLOSED, ReturnReason.RETURN_CLOSED),
    ]
    return advance_return(order, replace(order_return, refunded=amount), path, context)


def refund_failed(order: Order, return_id: UUID, failure_code: str, context: Context) -> Decided:
    """The money of a return did not go back: closed where nothing is left to refund, else it
    stays inspected, with the reason REFUND_FAILED.
    """
    order_return = return_of(order, return_id)
    if order_return is None or order_return.status is not ReturnStatus.INSPECTED:
        return Decision(order)
    if failure_code == "nothing_refundable":
        return advance_return(
            order, order_return, [(ReturnStatus.CLOSED, ReturnReason.NOTHING_REFUNDABLE)], context
        )
    if order_return.status_reason == ReturnReason.REFUND_FAILED:
        return Decision(order)
    return advance_return(
        order, order_return, [(ReturnStatus.INSPECTED, ReturnReason.REFUND_FAILED)], context
    )


def recall(
    order: Order,
    warehouse_id: str,
    units: Mapping[int, int],
    context: Context,
) -> Decided:
    """Goods that left a warehouse for what was cancelled come back, by an approved return without a
    refund.

    `units`, by line: all that are to come back of what this warehouse sent for the order's attempt,
    those that earlier recalls have announced included. So a repeat makes no second return, and a
    recall that grows makes one of the rest.
    """
    earlier = recalls_from(order, warehouse_id)
    announced: dict[int, int] = {}
    for line in (line for order_return in earlier for line in order_return.lines):
        announced[line.number] = announced.get(line.number, 0) + line.announced
    rest = {
        number: n - announced.get(number, 0)
        for number, n in sorted(units.items())
        if n > announced.get(number, 0)
    }
    if not rest:
        return Decision(order)
    lines = [
        ReturnLine(number, sku_of(order, number), quantity) for number, quantity in rest.items()
    ]
    return_id = recall_id(order, warehouse_id, len(earlier))
    order_return = new_return(order, return_id, ReturnKind.RECALL, "RECALL", lines, context)
    return advance_return(
        order, order_return, [(ReturnStatus.APPROVED, ReturnReason.RECALLED)], context
    )


def cancel_recalls(order: Order, warehouse_id: str, reason: str, context: Context) -> Decided:
    """Cancels the recalls from this warehouse that are not yet in transit."""
    done: Decided = Decision(order)
    for order_return in recalls_from(order, warehouse_id):
        if order_return.status is ReturnStatus.APPROVED:
            path = [(ReturnStatus.CANCELLED, reason)]
            done = chain(done, advance_return(done.record, order_return, path, context))
    return done


def recalls_from(order: Order, warehouse_id: str) -> list[Return]:
    """Returns the recalls from that warehouse in the order's attempt, oldest first."""
    found: list[Return] = []
    while order_return := return_of(order, recall_id(order, warehouse_id, len(found))):
        found.append(order_return)
    return found


def recall_id(order: Order, warehouse_id: str, count: int) -> UUID:
    """Returns the id of an attempt's recall from a warehouse, the first being 0."""
    return uuid5(order.id, f"recall/{order.attempt}/{count}/{warehouse_id}")


# --- what they share


def return_of(order: Order, return_id: UUID) -> Return | None:
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
    if command.expected_version not in (None, order_return.version):
        raise Stale(
            message=f"The return has version {order_return.version}.",
            expected=str(command.expected_version),
            actual=str(order_return.version),
        )
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
    if line is None:
        return 0
    delivered = [
        fulfillment
        for fulfillment in order.fulfillments
        if fulfillment.order_status is Status.DELIVERED
    ]
    if unknown := [
        fulfillment.warehouse_id
        for fulfillment in delivered
        if fulfillment.state not in (FulfillmentState.SHIPPED, FulfillmentState.COMPLETED)
    ]:
        text = f"What the parcel from {', '.join(unknown)} holds is not reported yet. Try again."
        raise Deferred("EVENT_AHEAD", text, order_id=str(order.id))
    warehouses = {fulfillment.warehouse_id for fulfillment in delivered}
    units = sum(
        min(its.quantity, its.shipped or 0)
        for its in line.allocations
        if its.warehouse_id in warehouses
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


def with_refund_amounts(order: Order, order_return: Return) -> Return:
    """Returns the return with its refunds: the cost of all returned units of a line, less the
    refunds of other returns.

    Units leave a line from its first share on. What was published as cancelled stays as it is, so a
    line's refunds and cancellations add up to what its cancelled and refunded units cost.
    """
    if order_return.kind is ReturnKind.RECALL:
        return order_return
    others = [
        other
        for other in order.returns
        if other.id != order_return.id and other.kind is not ReturnKind.RECALL
    ]
    lines = []
    for line in order_return.lines:
        units = line.refundable + sum(other.line(line.number).refundable for other in others)
        ordered = order.line(line.number)
        assert ordered, "a return is of lines of its order"
        taken = min(ordered.cancelled + units, ordered.quantity)
        refunded = sum(other.line(line.number).refund for other in others)
        due = ordered.cost_of(taken) - order.cancelled_amount_of(ordered) - refunded
        lines.append(replace(line, refund=max(line.refund, due)))
    return replace(order_return, lines=tuple(lines))


def new_return(
    order: Order,
    return_id: UUID,
    kind: ReturnKind,
    reason: str,
    lines: Sequence[ReturnLine],
    context: Context,
) -> Return:
    """A return that has no version yet."""
    status = ReturnStatus.REQUESTED  # until its first step
    return Return(
        id=return_id,
        order_id=order.id,
        order_number=order.number,
        currency=order.currency,
        attempt=order.attempt,
        kind=kind,
        status=status,
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
    """Returns the order with the return after these steps: one version, one row of history and one
    event for each.
    """
    history: list[ReturnStep] = []
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
        step = ReturnStep(
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
        history.append(step)
        events.append(ReturnChanged(order_return, step))
    others = tuple(other for other in order.returns if other.id != order_return.id)
    return Decision(
        replace(order, returns=(*others, order_return), update_time=context.time), history, events
    )


def sku_of(order: Order, number: int) -> str:
    line = order.line(number)
    assert line, "its units were counted"
    return line.sku


def _line_without_goods(
    number: int, sku: str, quantity: int, disposition: Disposition
) -> ReturnLine:
    """A line of a refund without goods: announced, received and accepted at once."""
    passed, failed, none = (
        quantity if disposition is one else 0
        for one in (Disposition.RESTOCK, Disposition.DAMAGED, Disposition.NONE)
    )
    return ReturnLine(
        number=number,
        sku=sku,
        announced=quantity,
        received=quantity,
        passed=passed,
        failed=failed,
        written_off=none,
    )


def _inspection_steps(order_return: Return, reason: str) -> list[tuple[ReturnStatus, str]]:
    """Returns the step to inspected; and to closed where there is nothing to refund, because no
    event of a refund will come.
    """
    inspected = (ReturnStatus.INSPECTED, reason)
    if order_return.refund:
        return [inspected]
    recall = order_return.kind is ReturnKind.RECALL
    why = ReturnReason.RETURN_CLOSED if recall else ReturnReason.NOTHING_REFUNDABLE
    return [inspected, (ReturnStatus.CLOSED, why)]
