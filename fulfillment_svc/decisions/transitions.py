"""Transitions and their events; units that leave the picklist; and the refusals."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Refused, Stale, illegal
from fulfillment_svc.lifecycle import MOVES, TRIGGERS, Reason, Status, Trigger, WithdrawReason
from fulfillment_svc.model.commands import Request
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import (
    Fulfillment,
    Line,
    OrderFulfillments,
    Transition,
    VoidLabel,
)

Decided = Decision[OrderFulfillments, Transition]
DecidedOne = Decision[Fulfillment, Transition]
Move = tuple[Status, Reason]  # the status, and the reason why


def next_version(fulfillment: Fulfillment, context: Context) -> Fulfillment:
    """Returns the changed fulfilment with its next version, as of the context's time."""
    return replace(fulfillment, version=fulfillment.version + 1, update_time=context.time)


def advance(
    fulfillment: Fulfillment,
    path: Sequence[Move],
    context: Context,
) -> DecidedOne:
    """Returns the decision that makes the moves of the path: each has a version, a row of history,
    and a domain event with the fulfilment as of that transition.

    A fulfilment of version 0 does not exist yet: its first transition is its creation.
    """
    history, events = list[Transition](), list[StatusChanged]()
    for status, reason in path:
        old = fulfillment.status if fulfillment.version else None
        fulfillment = next_version(replace(fulfillment, status=status), context)
        history.append(transition(fulfillment, old, reason, context))
        changed = StatusChanged(
            fulfillment=fulfillment,
            old=old,
            reason=reason,
            actor=context.actor,
            cause=context.cause,
            claimed_actor=context.claimed_actor,
        )
        events.append(changed)
    return Decision(fulfillment, history, events)


def transition(
    after: Fulfillment,
    old: Status | None,
    reason: Reason,
    context: Context,
) -> Transition:
    """Returns the row of history of a change; `after` is the fulfilment right after it."""
    return Transition(
        fulfillment_id=after.id,
        version=after.version,
        old=old,
        new=after.status,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        time=after.update_time,
        claimed_actor=context.claimed_actor,
        note=context.note,
    )


def append_each(done: Decided, decisions: Iterable[DecidedOne]) -> Decided:
    """Returns the decision, and after it those about single fulfilments of the order."""
    for one in decisions:
        if done.record.find(one.record.id) is not one.record:
            record = done.record.with_fulfillment(one.record)
            done = Decision(record, (*done.history, *one.history), (*done.events, *one.events))
    return done


def lines_changed(
    after: Fulfillment,
    reason: Reason,
    context: Context,
    shipped_after_void: VoidLabel | None = None,
) -> LinesChanged:
    """Returns the domain event of a change of lines; `after` is the fulfilment right after it."""
    return LinesChanged(
        fulfillment=after,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        claimed_actor=context.claimed_actor,
        shipped_after_void=shipped_after_void,
    )


def update_lines(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    context: Context,
) -> DecidedOne:
    """Returns the fulfilment with these lines: a row of history, and no domain event."""
    after = next_version(replace(fulfillment, lines=lines), context)
    return Decision(after, (transition(after, after.status, reason, context),))


def reduce_lines(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    context: Context,
    *,
    path: Sequence[Move] = (),
) -> DecidedOne:
    """Returns the fulfilment with fewer units, a change that is published, and then the path.

    Without units it is cancelled.
    """
    if not any(line.quantity for line in lines):
        return advance(
            replace(fulfillment, lines=lines, packages=()),
            [(Status.CANCELLED, Reason.NO_UNITS_REMAINING)],
            context,
        )
    reduced = next_version(replace(fulfillment, lines=lines), context)
    advanced = advance(reduced, path, context)
    events = (lines_changed(reduced, reason, context), *advanced.events)
    return Decision(advanced.record, advanced.history, events)


def cancel(
    fulfillment: Fulfillment,
    reason: Reason,
    context: Context,
) -> DecidedOne:
    """Returns the cancelled fulfilment, its units back on the shelf."""
    without_units = replace(
        fulfillment, packages=(), lines=tuple(line.cut_to(0) for line in fulfillment.lines)
    )
    return advance(without_units, [(Status.CANCELLED, reason)], context)


def stop(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    context: Context,
) -> DecidedOne:
    """Returns the cancelled fulfilment; the withdrawn one where it is ready."""
    if fulfillment.status is Status.READY:
        return withdraw(fulfillment, why, context)
    return cancel(fulfillment, Reason(why), context)


def withdraw(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    context: Context,
    *,
    event_reason: Reason = Reason.WITHDRAWN,
) -> DecidedOne:
    """Returns the withdrawn fulfilment: its label is to be void.

    The carrier may have its parcels, so its units stay committed until shipping answers. The first
    withdrawal is published; a later one changes only the reason, and only to CANCEL_REQUESTED.
    """
    earlier = fulfillment.withdraw_reason
    if earlier and (earlier is why or why is not WithdrawReason.CANCEL_REQUESTED):
        return Decision(fulfillment)
    after = next_version(replace(fulfillment, withdraw_reason=why), context)
    row = transition(after, after.status, Reason(why), context)
    return Decision(
        after, (row,), () if earlier else (lines_changed(after, event_reason, context),)
    )


def find_target(
    order: OrderFulfillments | None, context: Context
) -> tuple[OrderFulfillments, Fulfillment]:
    """Returns the order's fulfilments, and the one that is the target.

    Raises NotFound FULFILLMENT_NOT_FOUND.
    """
    fulfillment = order.find(context.target) if order else None
    if not order or not fulfillment:
        raise NotFound(
            "FULFILLMENT_NOT_FOUND",
            f"there is no fulfilment {context.target}",
            fulfillment_id=str(context.target),
        )
    return order, fulfillment


def require_version(fulfillment: Fulfillment, request: Request) -> None:
    """Raises Stale where the caller expects another version."""
    if request.expected_version not in (None, fulfillment.version):
        raise Stale(
            "VERSION_MISMATCH",
            f"the fulfilment is at version {fulfillment.version}",
            expected=str(request.expected_version),
            actual=str(fulfillment.version),
        )


def next_status(fulfillment: Fulfillment, trigger: Trigger) -> Status:
    """Returns the status to which the trigger leads.

    Raises Refused ILLEGAL_TRANSITION where it leads to none.
    """
    status = TRIGGERS[trigger].get(fulfillment.status)
    if status is None:
        raise wrong_status(
            fulfillment, f"{trigger.replace('_', ' ')} is for {', '.join(TRIGGERS[trigger])}"
        )
    return status


def require_committed(fulfillment: Fulfillment) -> None:
    """Raises Refused STOCK_NOT_COMMITTED while the commit of its stock is pending."""
    if not fulfillment.stock_committed:
        raise Refused(
            "STOCK_NOT_COMMITTED",
            "the warehouse has not committed the stock yet",
            fulfillment_id=str(fulfillment.id),
        )


def wrong_status(fulfillment: Fulfillment, why: str) -> Refused:
    """Returns the refusal of a command that is for another status."""
    return illegal(
        f"the fulfilment is {fulfillment.status}; {why}",
        fulfillment.status,
        MOVES[fulfillment.status],
    )
