"""Returns: units of an order on their way back, each accepted once, and what they are refunded
with.

An order's returns are decided under its lock, one after the other: what one of them holds, no other
can have. Money and goods are told of in the return's own events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Invalid, NotFound, Refused, Stale, Violation, illegal
from order_svc.decisions.steps import Decided, expected, then
from order_svc.lifecycle import (
    RETURN_MOVES,
    Disposition,
    ReturnKind,
    ReturnProgress,
    ReturnReason,
    ReturnStatus,
    Status,
    StockStatus,
    Work,
)
from order_svc.model import (
    CreateReturn,
    InspectReturn,
    MoveReturn,
    OfReturn,
    Order,
    ReceiveReturn,
    RefundWithoutGoods,
    Return,
    ReturnChanged,
    ReturnLine,
    ReturnStep,
)


def create(order: Order, command: CreateReturn, context: Context) -> Decided:
    """A customer's return: it holds what was announced from now on."""
    if return_of(order, command.return_id):
        return Decision(order)  # an earlier try created it, whose idempotency key was deleted
    expected(order, command)
    returnable(order, command.lines)
    lines = [
        ReturnLine(number, sku_of(order, number), quantity)
        for number, quantity in sorted(command.lines.items())
    ]
    rma = new(order, command.return_id, ReturnKind.CUSTOMER, command.reason, lines, context)
    return walk(order, rma, [(ReturnStatus.REQUESTED, ReturnReason.RETURN_REQUESTED)], context)


def refund_without_goods(
    order: Order,
    command: RefundWithoutGoods,
    context: Context,
) -> Decided:
    """A return that is inspected from the start: the caller says what happens to stock."""
    if return_of(order, command.return_id):
        return Decision(order)
    expected(order, command)
    returnable(order, {number: quantity for number, (quantity, _) in command.lines.items()})
    lines = [
        _disposed(number, sku_of(order, number), *wanted)
        for number, wanted in sorted(command.lines.items())
    ]
    rma = new(order, command.return_id, ReturnKind.WITHOUT_GOODS, command.reason, lines, context)
    rma = priced(order, replace(rma, warehouse_id=command.warehouse_id))
    return walk(order, rma, _inspected(rma, ReturnReason.REFUND_WITHOUT_GOODS), context)


def move(order: Order, command: MoveReturn, context: Context) -> Decided:
    """The return takes one step that concerns all its units."""
    rma = asked_of(order, command, command.to)
    return walk(order, rma, [(command.to, command.reason)], context)


def receive(order: Order, command: ReceiveReturn, context: Context) -> Decided:
    """More units have arrived: as many as the customer can have sent, whatever was announced."""
    rma = asked_of(order, command, ReturnStatus.RECEIVED)
    if rma.warehouse_id not in (None, command.warehouse_id):
        rule = Violation(
            "warehouse_id", f"must be {rma.warehouse_id}: a return arrives at one warehouse"
        )
        raise Invalid(
            "VALIDATION_FAILED", "The return has begun to arrive elsewhere.", violations=[rule]
        )
    arrived = {
        number: rma.line(number).received + quantity for number, quantity in command.lines.items()
    }
    exceeding(
        ((number, n, most(order, rma, number)) for number, n in arrived.items()),
        "RETURN_EXCEEDS_DELIVERED",
        "can have been sent",
    )
    lines = {line.number: line for line in rma.lines}
    for number, received in arrived.items():
        lines[number] = replace(
            lines.get(number) or ReturnLine(number, sku_of(order, number), 0), received=received
        )
    rma = replace(
        rma,
        warehouse_id=command.warehouse_id,
        lines=tuple(lines[number] for number in sorted(lines)),
    )
    return walk(order, rma, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context)


def inspect(order: Order, command: InspectReturn, context: Context) -> Decided:
    """Units that arrived were looked at: each is accepted once. The last of them makes the
    return inspected.
    """
    rma = asked_of(order, command, ReturnStatus.INSPECTED)
    looked_at = [(rma.line(number), found) for number, found in command.lines.items()]
    exceeding(
        (
            (
                number,
                rma.line(number).inspected + found.passed + found.failed,
                rma.line(number).received,
            )
            for number, found in command.lines.items()
        ),
        "INSPECTION_EXCEEDS_RECEIPT",
        "arrived",
    )
    lines = {line.number: line for line in rma.lines} | {
        line.number: replace(
            line,
            passed=line.passed + found.passed,
            failed=line.failed + found.failed,
            unrefunded=line.unrefunded + found.unrefunded,
        )
        for line, found in looked_at
    }
    rma = priced(order, replace(rma, lines=tuple(lines[number] for number in sorted(lines))))
    if any(line.inspected < line.received for line in rma.lines):
        return walk(order, rma, [(ReturnStatus.RECEIVED, ReturnReason.RETURN_RECEIVED)], context)
    return walk(order, rma, _inspected(rma, ReturnReason.RETURN_INSPECTED), context)


def refunded(order: Order, return_id: UUID, amount: int, context: Context) -> Decided:
    """The money of a return went back: refunded, and with that closed. Heard again, or of no
    return of ours, it changes nothing.
    """
    rma = return_of(order, return_id)
    if rma is None or rma.status is not ReturnStatus.INSPECTED:
        return Decision(order)
    path = [
        (ReturnStatus.REFUNDED, ReturnReason.RETURN_REFUNDED),
        (ReturnStatus.CLOSED, ReturnReason.RETURN_CLOSED),
    ]
    return walk(order, replace(rma, refunded=amount), path, context)


def refund_failed(order: Order, return_id: UUID, failure_code: str, context: Context) -> Decided:
    """The money of a return did not go back: closed where nothing is left to refund, else it
    stays inspected and says why.
    """
    rma = return_of(order, return_id)
    if rma is None or rma.status is not ReturnStatus.INSPECTED:
        return Decision(order)
    if failure_code == "nothing_refundable":
        return walk(order, rma, [(ReturnStatus.CLOSED, ReturnReason.NOTHING_REFUNDABLE)], context)
    if rma.status_reason == ReturnReason.REFUND_FAILED:
        return Decision(order)
    return walk(order, rma, [(ReturnStatus.INSPECTED, ReturnReason.REFUND_FAILED)], context)


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
    earlier = recalled(order, warehouse_id)
    announced: dict[int, int] = {}
    for line in (line for rma in earlier for line in rma.lines):
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
    rma = new(order, return_id, ReturnKind.RECALL, "RECALL", lines, context)
    return walk(order, rma, [(ReturnStatus.APPROVED, ReturnReason.RECALLED)], context)


def call_off(order: Order, warehouse_id: str, reason: str, context: Context) -> Decided:
    """What this warehouse sent will not come back: recalls that nobody has seen on their way are
    cancelled.
    """
    done: Decided = Decision(order)
    for rma in recalled(order, warehouse_id):
        if rma.status is ReturnStatus.APPROVED:
            path = [(ReturnStatus.CANCELLED, reason)]
            done = then(done, walk(done.record, rma, path, context))
    return done


def recalled(order: Order, warehouse_id: str) -> list[Return]:
    """The recalls from that warehouse in the order's attempt, oldest first, whatever became of
    them.
    """
    found: list[Return] = []
    while rma := return_of(order, recall_id(order, warehouse_id, len(found))):
        found.append(rma)
    return found


def recall_id(order: Order, warehouse_id: str, count: int) -> UUID:
    """The id of an attempt's recall from a warehouse, the first being 0: the same whoever asks."""
    return uuid5(order.id, f"recall/{order.attempt}/{count}/{warehouse_id}")


# --- what they share


def return_of(order: Order, return_id: UUID) -> Return | None:
    return next((rma for rma in order.rmas if rma.id == return_id), None)


def asked_of(order: Order, command: OfReturn, to: ReturnStatus) -> Return:
    """The return that the command names, at the version that it expects, and where it may move
    so.
    """
    rma = return_of(order, command.return_id)
    if rma is None:
        raise NotFound(
            "RETURN_NOT_FOUND",
            f"There is no return {command.return_id}.",
            return_id=str(command.return_id),
        )
    if command.expected_version not in (None, rma.version):
        raise Stale(
            message=f"The return has version {rma.version}.",
            expected=str(command.expected_version),
            actual=str(rma.version),
        )
    if to not in RETURN_MOVES[rma.status]:
        raise illegal(
            f"A return that is {rma.status} cannot become {to}.",
            rma.status,
            RETURN_MOVES[rma.status],
        )
    return rma


def returnable(order: Order, units: Mapping[int, int]) -> None:
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
    if not any(part.standing is Status.DELIVERED for part in order.parts):
        text = (
            f"The order is {order.status}, and nothing of it was delivered: cancel it, or units"
            " of it."
        )
        raise Refused("ORDER_NOT_RETURNABLE", text, status=order.status)
    exceeding(
        ((number, n, left(order, number)) for number, n in units.items()),
        "RETURN_EXCEEDS_DELIVERED",
        "can be returned",
    )


def left(order: Order, number: int, besides: UUID | None = None) -> int:
    """Units of the line that the customer has and no return holds, the one named left out.

    A delivery can be known before the fulfilment's report of what its parcel holds: units that the
    picker did not find are not in it. Deferred EVENT_AHEAD until that report.
    """
    line = order.line(number)
    if line is None:
        return 0
    delivered = [part for part in order.parts if part.standing is Status.DELIVERED]
    if unknown := [
        part.warehouse_id for part in delivered if part.work not in (Work.SHIPPED, Work.COMPLETED)
    ]:
        text = f"What the parcel from {', '.join(unknown)} holds is not reported yet. Try again."
        raise Deferred("EVENT_AHEAD", text, order_id=str(order.id))
    warehouses = {part.warehouse_id for part in delivered}
    units = sum(
        min(its.quantity, its.shipped or 0)
        for its in line.allocations
        if its.warehouse_id in warehouses
    )
    holding = (rma for rma in order.rmas if rma.kind is not ReturnKind.RECALL and rma.id != besides)
    return max(0, min(units, line.staying) - sum(rma.held(number) for rma in holding))


def most(order: Order, rma: Return, number: int) -> int:
    """How many units of the line can arrive in this return: recalled ones as many as left, a
    customer's as many as he has.
    """
    return (
        rma.line(number).announced
        if rma.kind is ReturnKind.RECALL
        else left(order, number, besides=rma.id)
    )


def exceeding(counts: Iterable[tuple[int, int, int]], reason: str, can: str) -> None:
    """Refuses lines (number, units, how many there can be) of which there are more than that,
    each by its number.
    """
    violations = [
        Violation(f"line {number}", f"{n} units, and {most} {can}", "UNITS")
        for number, n, most in counts
        if n > most
    ]
    if violations:
        raise Refused(reason, "There are fewer units of these lines.", violations=violations)


def priced(order: Order, rma: Return) -> Return:
    """The return with what its accepted units are refunded with: what all returned units of a line
    cost, less what is refunded already.

    Units leave a line from its first share on. What was published as cancelled stays as it is, so a
    line's refunds and cancellations add up to what its cancelled and refunded units cost.
    """
    if rma.kind is ReturnKind.RECALL:
        return rma
    others = [
        other for other in order.rmas if other.id != rma.id and other.kind is not ReturnKind.RECALL
    ]
    lines = []
    for line in rma.lines:
        units = line.refundable + sum(other.line(line.number).refundable for other in others)
        ordered = order.line(line.number)
        assert ordered, "a return is of lines of its order"
        gone = min(ordered.cancelled + units, ordered.quantity)
        refunded = sum(other.line(line.number).refund for other in others)
        due = ordered.worth(gone) - order.cancelled_amount_of(ordered) - refunded
        lines.append(replace(line, refund=max(line.refund, due)))
    return replace(rma, lines=tuple(lines))


def new(
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


def walk(
    order: Order,
    rma: Return,
    path: Sequence[tuple[ReturnStatus, str]],
    context: Context,
) -> Decided:
    """The order with the return as it stands after these steps: one version, one row of history
    and one fact for each.
    """
    history: list[ReturnStep] = []
    facts = []
    for status, reason in path:
        old = rma.status if rma.version else None
        rma = replace(
            rma,
            status=status,
            status_reason=reason,
            version=rma.version + 1,
            update_time=context.time,
        )
        step = ReturnStep(
            return_id=rma.id,
            version=rma.version,
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
        facts.append(ReturnChanged(rma, step))
    others = tuple(other for other in order.rmas if other.id != rma.id)
    return Decision(replace(order, rmas=(*others, rma), update_time=context.time), history, facts)


def axes(order: Order) -> Order:
    """The order with what its returns make of its axes: how much came back of all that left, and
    where its stock is.
    """
    if not order.rmas:
        return order
    came = sum(line.passed + line.failed for rma in order.rmas for line in rma.lines)
    recalled = sum(
        line.announced
        for rma in order.rmas
        if rma.kind is ReturnKind.RECALL and rma.status is not ReturnStatus.CANCELLED
        for line in rma.lines
    )
    living = order.status not in (Status.CANCELLED, Status.FAILED)
    went = recalled + (sum(line.quantity - line.cancelled for line in order.lines) if living else 0)
    if any(rma.live for rma in order.rmas):
        progress = ReturnProgress.OPEN
    elif came:
        progress = ReturnProgress.FULL if came >= went else ReturnProgress.PARTIAL
    else:
        progress = ReturnProgress.NONE
    stock = order.stock
    if progress is ReturnProgress.FULL:
        stock = StockStatus.RETURNED
    elif stock is StockStatus.RETURNED:
        stock = StockStatus.DEDUCTED
    return replace(order, returns=progress, stock=stock)


def sku_of(order: Order, number: int) -> str:
    line = order.line(number)
    assert line, "its units were counted"
    return line.sku


def _disposed(number: int, sku: str, quantity: int, disposition: Disposition) -> ReturnLine:
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


def _inspected(rma: Return, reason: str) -> list[tuple[ReturnStatus, str]]:
    """Inspected; and closed with it where there is nothing to refund, for nobody would tell of
    it.
    """
    inspected = (ReturnStatus.INSPECTED, reason)
    if rma.refund:
        return [inspected]
    recall = rma.kind is ReturnKind.RECALL
    why = ReturnReason.RETURN_CLOSED if recall else ReturnReason.NOTHING_REFUNDABLE
    return [inspected, (ReturnStatus.CLOSED, why)]
