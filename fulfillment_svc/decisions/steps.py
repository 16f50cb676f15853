"""A step and what is told of it; units that leave the picklist; and what may not be done."""

from collections.abc import Sequence
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Refused, Stale, illegal
from fulfillment_svc.lifecycle import MOVES, TRIGGERS, Reason, Status, Trigger, WithdrawReason
from fulfillment_svc.model import (
    Fulfillment,
    Job,
    Line,
    LinesChanged,
    Request,
    StatusChanged,
    Transition,
    VoidLabel,
)

Decided = Decision[Job, Transition]
DecidedOne = Decision[Fulfillment, Transition]
Step = tuple[Status, Reason]  # the status, and the reason why


def next_version(fulfillment: Fulfillment, context: Context) -> Fulfillment:
    """The changed fulfilment with its next version, as of the context's time."""
    return replace(fulfillment, version=fulfillment.version + 1, update_time=context.time)


def walk(
    fulfillment: Fulfillment,
    path: Sequence[Step],
    context: Context,
) -> DecidedOne:
    """Along the path: for each step a version, a row of history, and a fact with the fulfilment as
    of that step.

    A fulfilment of version 0 is not there yet: its first step is its creation.
    """
    history, facts = list[Transition](), list[StatusChanged]()
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
        facts.append(changed)
    return Decision(fulfillment, history, facts)


def transition(
    after: Fulfillment,
    old: Status | None,
    reason: Reason,
    context: Context,
) -> Transition:
    """The row of history of a change; `after` is the fulfilment right after it."""
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


def lines_changed(
    after: Fulfillment,
    reason: Reason,
    context: Context,
    left: VoidLabel | None = None,
) -> LinesChanged:
    """The fact of a change of lines; `after` is the fulfilment right after it."""
    return LinesChanged(
        fulfillment=after,
        reason=reason,
        actor=context.actor,
        cause=context.cause,
        claimed_actor=context.claimed_actor,
        left=left,
    )


def noted(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    context: Context,
) -> DecidedOne:
    """With these lines, in the same status: a row of history, and no fact."""
    after = next_version(replace(fulfillment, lines=lines), context)
    return Decision(after, (transition(after, after.status, reason, context),))


def lessened(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    context: Context,
    *,
    path: Sequence[Step] = (),
) -> DecidedOne:
    """With fewer units on its picklist: told as a change of its own, and then along the path.
    With none left it is cancelled.
    """
    if not any(line.quantity for line in lines):
        return walk(
            replace(fulfillment, lines=lines, packages=()),
            [(Status.CANCELLED, Reason.NO_UNITS_LEFT)],
            context,
        )
    told = next_version(replace(fulfillment, lines=lines), context)
    walked = walk(told, path, context)
    facts = (lines_changed(told, reason, context), *walked.facts)
    return Decision(walked.record, walked.history, facts)


def cancelled(
    fulfillment: Fulfillment,
    reason: Reason,
    context: Context,
) -> DecidedOne:
    """Ended, its units back on the shelf."""
    emptied = replace(
        fulfillment, packages=(), lines=tuple(line.cut_to(0) for line in fulfillment.lines)
    )
    return walk(emptied, [(Status.CANCELLED, reason)], context)


def stopped(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    context: Context,
) -> DecidedOne:
    """Ended; one that is ready, once shipping has said that nothing of it leaves."""
    if fulfillment.status is Status.READY:
        return withdrawn(fulfillment, why, context)
    return cancelled(fulfillment, Reason(why), context)


def withdrawn(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    context: Context,
    *,
    told_as: Reason = Reason.WITHDRAWN,
) -> DecidedOne:
    """Wanted back from the way out. It may have a label, and the carrier may have its parcels:
    so its units stay where they are until shipping says which. Shipping is asked once; later
    only the reason can grow.
    """
    asked = fulfillment.withdraw_reason
    if asked and (asked is why or why is not WithdrawReason.WORK_CANCELLED):
        return Decision(fulfillment)
    after = next_version(replace(fulfillment, withdraw_reason=why), context)
    row = transition(after, after.status, Reason(why), context)
    return Decision(after, (row,), () if asked else (lines_changed(after, told_as, context),))


def found(job: Job | None, context: Context) -> tuple[Job, Fulfillment]:
    """The job, and the fulfilment that is the target. Raises NotFound FULFILLMENT_NOT_FOUND."""
    fulfillment = job.find(context.target) if job else None
    if not job or not fulfillment:
        raise NotFound(
            "FULFILLMENT_NOT_FOUND",
            f"there is no fulfilment {context.target}",
            fulfillment_id=str(context.target),
        )
    return job, fulfillment


def expect(fulfillment: Fulfillment, request: Request) -> None:
    """Raises Stale where the caller has decided on another version."""
    if request.expected_version not in (None, fulfillment.version):
        raise Stale(
            "VERSION_MISMATCH",
            f"the fulfilment is at version {fulfillment.version}",
            expected=str(request.expected_version),
            actual=str(fulfillment.version),
        )


def move(fulfillment: Fulfillment, trigger: Trigger) -> Status:
    """Where the trigger leads from here. Raises Refused ILLEGAL_TRANSITION where it leads
    nowhere.
    """
    there = TRIGGERS[trigger].get(fulfillment.status)
    if there is None:
        raise wrong_status(
            fulfillment, f"{trigger.replace('_', ' ')} is for {', '.join(TRIGGERS[trigger])}"
        )
    return there


def committed(fulfillment: Fulfillment) -> None:
    """Raises Refused STOCK_NOT_COMMITTED where it is not known yet which units it works on."""
    if not fulfillment.stock_committed:
        raise Refused(
            "STOCK_NOT_COMMITTED",
            "the warehouse has not committed the stock yet",
            fulfillment_id=str(fulfillment.id),
        )


def wrong_status(fulfillment: Fulfillment, why: str) -> Refused:
    """The refusal of what is done in another status."""
    return illegal(
        f"the fulfilment is {fulfillment.status}; {why}",
        fulfillment.status,
        MOVES[fulfillment.status],
    )
