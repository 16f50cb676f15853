"""Decisions about all fulfilments of an order. Each decision sees every fulfilment of the order, so
that the result does not depend on the order in which events arrive.

While a commit is pending, the attempt's fulfilments wait for it. Units that the order lost
meanwhile are cut when the commit is recorded, because only then the committed units are known.
Units that were never committed are not published as cut.
"""

from collections.abc import Iterable
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from fulfillment_svc.decisions.shipping import (
    add_void_label,
    is_withdrawn,
    record_shipped_after_void,
)
from fulfillment_svc.decisions.transitions import (
    Decided,
    DecidedOne,
    advance,
    append_each,
    cancel,
    find_target,
    lines_changed,
    next_version,
    reduce_lines,
    stop,
    withdraw,
)
from fulfillment_svc.lifecycle import (
    MOVES,
    TRIGGERS,
    InspectionRule,
    Reason,
    Status,
    Trigger,
    WithdrawReason,
)
from fulfillment_svc.model.commands import (
    CloseAttempt,
    ConfirmWithdrawal,
    Cut,
    OrderCommand,
    Picklist,
    Plan,
)
from fulfillment_svc.model.events import DomainEvent
from fulfillment_svc.model.records import (
    Fulfillment,
    FulfillmentKey,
    Line,
    OrderFulfillments,
    remaining_by_line,
)


def plan(order: OrderFulfillments, command: Plan, context: Context) -> Decided:
    """Creates a fulfilment for each picklist. For a closed attempt it creates them cancelled: their
    events name the units that the warehouse frees.
    """
    if command.attempt <= order.closed_attempt:
        return mark_never_started(
            cancel_picklists(Decision(order), command, command.picklists, context), command
        )
    updated = order.with_remaining(command.remaining) if command.remaining else order
    placed = assign_picklists(updated, command, command.picklists, command.stock_committed, context)
    return apply_cuts(placed, command, context)


def assign_picklists(
    order: OrderFulfillments,
    command: OrderCommand,
    picklists: Iterable[Picklist],
    stock_committed: bool,
    context: Context,
) -> Decided:
    """Creates a fulfilment for each picklist without one, and records the commit on one whose
    commit is pending. Any other fulfilment stays as it is, a cancelled one too.
    """

    def placed(picklist: Picklist) -> DecidedOne:
        fulfillment = order.in_warehouse(picklist.warehouse_id, command.attempt)
        if fulfillment is None:
            new = replace(
                _new(picklist, command, context),
                lines=picklist.lines,
                stock_committed=stock_committed,
                inspection_rule=picklist.inspection_rule,
            )
            confirmed = (Status.PENDING, Reason.ORDER_CONFIRMED)
            built = (Status.PLANNING, Reason.PICKLIST_BUILT)
            return advance(new, [confirmed, built], context)
        if not stock_committed or not is_commit_pending(fulfillment):
            return Decision(fulfillment)
        # No status changes, so no event is published. The lines are the units that were committed
        # here: the replacement of an expired reservation may differ from it.
        committed = replace(
            fulfillment,
            stock_committed=True,
            lines=picklist.lines,
            inspection_rule=inspection_rule_for(fulfillment, picklist),
        )
        return Decision(next_version(committed, context))

    return append_each(Decision(order), map(placed, picklists))


def inspection_rule_for(fulfillment: Fulfillment, picklist: Picklist) -> InspectionRule | None:
    """The rule of the fulfilment. Where more units are committed here than were planned, another
    warehouse was to pick them: then the rule of the given picklist counts too.
    """
    planned = {line.line_number: line.quantity for line in fulfillment.lines}
    more = any(line.quantity > planned.get(line.line_number, 0) for line in picklist.lines)
    return fulfillment.inspection_rule or (picklist.inspection_rule if more else None)


def cut(order: OrderFulfillments, command: Cut, context: Context) -> Decided:
    """Cuts the units that the order lost from the picklists, and stores the remaining units for
    fulfilments that are still to be created. An older order version is skipped.
    """
    updated = order.with_remaining(command.remaining)
    return Decision(order) if updated is order else apply_cuts(Decision(updated), command, context)


def close_attempt(order: OrderFulfillments, command: CloseAttempt, context: Context) -> Decided:
    """Cancels every fulfilment of the attempt that has not shipped, and keeps new ones from
    starting. A ready fulfilment is withdrawn: the carrier may have its parcels.
    """
    closed = replace(order, closed_attempt=max(order.closed_attempt, command.attempt))
    stopping = [
        each for each in order.of_attempt(command.attempt) if Status.CANCELLED in MOVES[each.status]
    ]
    why = WithdrawReason.ORDER_CANCELLED
    stops = append_each(Decision(closed), [stop(each, why, context) for each in stopping])
    unplanned = [
        picklist
        for picklist in command.picklists
        if not order.in_warehouse(picklist.warehouse_id, command.attempt)
    ]
    return mark_never_started(cancel_picklists(stops, command, unplanned, context), command)


def mark_never_started(done: Decided, command: OrderCommand) -> Decided:
    """Marks the events of a closed attempt `never_started` where no commit of stock is recorded.

    The stock may be committed in a warehouse without a fulfilment: the warehouse service frees
    those units only by this mark. It stays true, because no work starts in a closed attempt.
    """
    if any(each.stock_committed for each in done.record.of_attempt(command.attempt)):
        return done
    events = [
        replace(event, never_started=True)
        for event in done.events
        if isinstance(event, DomainEvent)
    ]
    return Decision(done.record, done.history, events)


def cancel_picklists(
    done: Decided, command: OrderCommand, picklists: Iterable[Picklist], context: Context
) -> Decided:
    """Returns the decision, and after it a cancelled fulfilment for each picklist of a closed
    attempt. Its event names the units that the warehouse frees.

    A cancelled fulfilment that was created with fewer units than the picklist gets the others too.
    """

    def cancel_one(picklist: Picklist) -> DecidedOne:
        fulfillment = done.record.in_warehouse(picklist.warehouse_id, command.attempt)
        if fulfillment is None:
            new = replace(_new(picklist, command, context), lines=picklist.lines)
            return cancel(new, Reason.ORDER_CANCELLED, context)
        if (
            fulfillment.status is not Status.CANCELLED
            or fulfillment.stock_committed
            or not fulfillment.lines
        ):
            return Decision(fulfillment)
        lines = _merge_cancelled(fulfillment.lines, picklist.lines)
        if lines == fulfillment.lines:
            return Decision(fulfillment)
        grown = next_version(replace(fulfillment, lines=lines), context)
        return Decision(grown, (), (lines_changed(grown, Reason.UNITS_CUT, context),))

    return append_each(done, map(cancel_one, picklists))


def is_commit_pending(fulfillment: Fulfillment) -> bool:
    """Whether the warehouse has not yet answered that it committed the stock."""
    return fulfillment.status is Status.PLANNING and not fulfillment.stock_committed


def apply_cuts(done: Decided, command: OrderCommand, context: Context) -> Decided:
    """The decision, and after it the cut of the units that the order lost. A shipped fulfilment is
    not cut. A ready one is withdrawn, and cut when shipping confirms that its parcels do not leave.
    """
    order = done.record

    def cut_units(fulfillment: Fulfillment) -> DecidedOne:
        lines = remaining_lines(order, fulfillment)
        if lines == fulfillment.lines:
            return Decision(fulfillment)
        if fulfillment.status is Status.READY:
            return withdraw(fulfillment, WithdrawReason.UNITS_CUT, context)
        return unpacked(fulfillment, lines, context)

    uncut = [
        each for each in order.of_attempt(command.attempt) if Status.CANCELLED in MOVES[each.status]
    ]
    return append_each(done, map(cut_units, uncut))


def remaining_lines(order: OrderFulfillments, fulfillment: Fulfillment) -> tuple[Line, ...]:
    """The picklist without the units that the order has lost; unchanged while a commit of the
    attempt is pending.
    """
    fulfillments = order.of_attempt(fulfillment.key.attempt)
    if (
        not order.remaining
        or order.remaining.attempt != fulfillment.key.attempt
        or any(map(is_commit_pending, fulfillments))
    ):
        return fulfillment.lines
    remaining = remaining_by_line(order.remaining, fulfillments)
    warehouse_id = fulfillment.key.warehouse_id
    return tuple(
        line.cut_to(remaining[warehouse_id, line.line_number]) for line in fulfillment.lines
    )


def unpacked(fulfillment: Fulfillment, lines: tuple[Line, ...], context: Context) -> DecidedOne:
    """The fulfilment with these lines; a packed or ready one goes back to packing."""
    status = TRIGGERS[Trigger.CUT].get(fulfillment.status)
    opened = replace(fulfillment, packages=()) if status else fulfillment
    why = Reason.UNITS_CUT
    return reduce_lines(opened, lines, why, context, path=[(status, why)] if status else ())


def confirm_withdrawal(
    order: OrderFulfillments | None, command: ConfirmWithdrawal, context: Context
) -> Decided:
    """Shipping confirms that a withdrawn fulfilment does not ship: it is unpacked or cancelled.

    Where its parcels shipped with the void label all the same, an event about them follows.
    Raises NotFound FULFILLMENT_NOT_FOUND.
    """
    order, fulfillment = find_target(order, context)
    done: Decided = Decision(order)
    if fulfillment.withdraw_reason and not is_withdrawn(fulfillment, command):
        done = append_each(done, [_confirmed(order, fulfillment, command, context)])
        _, fulfillment = find_target(done.record, context)
    return append_each(done, [record_shipped_after_void(fulfillment, command, context)])


def _confirmed(
    order: OrderFulfillments,
    fulfillment: Fulfillment,
    command: ConfirmWithdrawal,
    context: Context,
) -> DecidedOne:
    assert fulfillment.withdraw_reason, "only a withdrawn fulfilment has a withdrawal to confirm"
    released = replace(
        fulfillment,
        withdraw_reason=None,
        shipment_id=None,
        withdrawn_version=fulfillment.version + 1,
        void_labels=add_void_label(fulfillment, command),
    )
    if fulfillment.key.attempt <= order.closed_attempt:
        return cancel(released, Reason.ORDER_CANCELLED, context)
    if fulfillment.withdraw_reason is WithdrawReason.CANCEL_REQUESTED:
        return cancel(released, Reason.CANCEL_REQUESTED, context)
    lines = remaining_lines(order, released)
    if lines != released.lines or not any(line.quantity for line in lines):
        return unpacked(released, lines, context)
    status = TRIGGERS[Trigger.CUT][released.status]
    path = [(status, Reason(fulfillment.withdraw_reason))]
    return advance(replace(released, packages=()), path, context)


def _new(picklist: Picklist, command: OrderCommand, context: Context) -> Fulfillment:
    return Fulfillment(
        id=picklist.id,
        key=FulfillmentKey(context.target, picklist.warehouse_id, command.attempt),
        order_number=command.order_number,
        status=Status.PENDING,
        stock_committed=False,
        inspection_rule=None,
        shipment_id=None,
        version=0,
        create_time=context.time,
        update_time=context.time,
        withdraw_reason=None,
        withdrawn_version=0,
        lines=(),
    )


def _merge_cancelled(existing: tuple[Line, ...], planned: tuple[Line, ...]) -> tuple[Line, ...]:
    """The existing lines with at least the planned units, all of them cut."""
    lines = {line.line_number: line for line in existing}
    for line in planned:
        known = lines.get(line.line_number, replace(line, quantity=0))
        lines[line.line_number] = replace(
            known, cut=known.cut + max(0, line.quantity - known.planned)
        )
    return tuple(lines[number] for number in sorted(lines))
