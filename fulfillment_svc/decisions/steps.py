"""A step and what is told of it; units that leave the picklist; and what may not be done."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused, Stale, illegal
from fulfillment_svc.lifecycle import MOVES, TRIGGERS, Reason, Status, Trigger, WithdrawReason
from fulfillment_svc.model import (
    Command,
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


def walk(
    fulfillment: Fulfillment,
    path: Sequence[Step],
    command: Command,
    now: datetime,
) -> DecidedOne:
    """Along the path: for each step a version, a row of history, and a fact with the fulfilment as of that step.

    A fulfilment of version 0 is not there yet: its first step is its creation.
    """
    history, facts = list[Transition](), list[StatusChanged]()
    for status, reason in path:
        old = fulfillment.status if fulfillment.version else None
        fulfillment = replace(fulfillment, status=status, version=fulfillment.version + 1, update_time=now)
        history.append(transition(fulfillment, old, reason, command))
        changed = StatusChanged(
            fulfillment=fulfillment,
            old=old,
            reason=reason,
            actor=command.actor,
            cause=command.cause,
            claimed_actor=command.claimed_actor,
        )
        facts.append(changed)
    return Decision(fulfillment, history, facts)


def transition(
    after: Fulfillment,
    old: Status | None,
    reason: Reason,
    command: Command,
) -> Transition:
    """The row of history of a change by this command; `after` is the fulfilment right after it."""
    return Transition(
        fulfillment_id=after.id,
        version=after.version,
        old=old,
        new=after.status,
        reason=reason,
        actor=command.actor,
        cause=command.cause,
        time=after.update_time,
        claimed_actor=command.claimed_actor,
        note=command.note,
    )


def lines_changed(
    after: Fulfillment,
    reason: Reason,
    command: Command,
    left: VoidLabel | None = None,
) -> LinesChanged:
    """The fact of a change of lines by this command."""
    return LinesChanged(
        fulfillment=after,
        reason=reason,
        actor=command.actor,
        cause=command.cause,
        claimed_actor=command.claimed_actor,
        left=left,
    )


def noted(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    command: Command,
    now: datetime,
) -> DecidedOne:
    """With these lines, in the same status: a row of history, and no fact."""
    version = fulfillment.version + 1
    after = replace(fulfillment, lines=lines, version=version, update_time=now)
    return Decision(after, (transition(after, after.status, reason, command),))


def lessened(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: Reason,
    command: Command,
    now: datetime,
    *,
    path: Sequence[Step] = (),
) -> DecidedOne:
    """With fewer units on its picklist: told as a change of its own, and then along the path. With none left it is cancelled."""
    if not any(line.quantity for line in lines):
        return walk(
            replace(fulfillment, lines=lines, packages=()),
            [(Status.CANCELLED, Reason.NO_UNITS_LEFT)],
            command,
            now,
        )
    told = replace(fulfillment, lines=lines, version=fulfillment.version + 1, update_time=now)
    walked = walk(told, path, command, now)
    facts = (lines_changed(told, reason, command), *walked.facts)
    return Decision(walked.record, walked.history, facts)


def cancelled(
    fulfillment: Fulfillment,
    reason: Reason,
    command: Command,
    now: datetime,
) -> DecidedOne:
    """Ended, its units back on the shelf."""
    emptied = replace(fulfillment, packages=(), lines=tuple(line.cut_to(0) for line in fulfillment.lines))
    return walk(emptied, [(Status.CANCELLED, reason)], command, now)


def stopped(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    command: Command,
    now: datetime,
) -> DecidedOne:
    """Ended; one that is ready, once shipping has said that nothing of it leaves."""
    if fulfillment.status is Status.READY:
        return withdrawn(fulfillment, why, command, now)
    return cancelled(fulfillment, Reason(why), command, now)


def withdrawn(
    fulfillment: Fulfillment,
    why: WithdrawReason,
    command: Command,
    now: datetime,
    *,
    told_as: Reason = Reason.WITHDRAWN,
) -> DecidedOne:
    """Wanted back from the way out. It may have a label, and the carrier may have its parcels: so its units stay where they are until
    shipping says which. Shipping is asked once; later only the reason can grow.
    """
    asked = fulfillment.withdraw_reason
    if asked and (asked is why or why is not WithdrawReason.WORK_CANCELLED):
        return Decision(fulfillment)
    after = replace(fulfillment, withdraw_reason=why, version=fulfillment.version + 1, update_time=now)
    row = transition(after, after.status, Reason(why), command)
    return Decision(after, (row,), () if asked else (lines_changed(after, told_as, command),))


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
    """Where the trigger leads from here. Raises Refused ILLEGAL_TRANSITION where it leads nowhere."""
    there = TRIGGERS[trigger].get(fulfillment.status)
    if there is None:
        raise wrong_status(fulfillment, f"{trigger.replace('_', ' ')} is for {', '.join(TRIGGERS[trigger])}")
    return there


def committed(fulfillment: Fulfillment) -> None:
    """Raises Refused STOCK_NOT_COMMITTED where it is not known yet which units it works on."""
    if not fulfillment.stock_committed:
        raise Refused("STOCK_NOT_COMMITTED", "the warehouse has not committed the stock yet", fulfillment_id=str(fulfillment.id))


def wrong_status(fulfillment: Fulfillment, why: str) -> Refused:
    """The refusal of what is done in another status."""
    return illegal(f"the fulfilment is {fulfillment.status}; {why}", fulfillment.status, MOVES[fulfillment.status])
