"""A step and what is told of it; units that leave the picklist; and what may not be done."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused, Stale, illegal
from fulfillment_svc.lifecycle import MOVES, TRIGGERS, Status, Trigger, WithdrawReason
from fulfillment_svc.model import (
    Command,
    Fulfillment,
    Job,
    Line,
    LinesChanged,
    Request,
    StatusChanged,
    Transition,
)

Decided = Decision[Job, Transition]
DecidedOne = Decision[Fulfillment, Transition]
Step = tuple[Status, str]  # the status, and the reason why


def walk(fulfillment: Fulfillment, path: Sequence[Step], command: Command, now: datetime, note: str = "") -> DecidedOne:
    """Along the path: for each step a version, a row of history, and a fact with the fulfilment as of that step.

    A fulfilment of version 0 is not there yet: its first step is its creation.
    """
    history, facts = [], []
    for status, reason in path:
        old = fulfillment.status if fulfillment.version else None
        fulfillment = replace(fulfillment, status=status, version=fulfillment.version + 1, update_time=now)
        history.append(Transition(fulfillment.id, fulfillment.version, old, status, reason, note, command.actor, command.cause, now))
        facts.append(StatusChanged(fulfillment, old, reason))
    return Decision(fulfillment, history, facts)


def lessened(
    fulfillment: Fulfillment,
    lines: tuple[Line, ...],
    reason: str,
    command: Command,
    now: datetime,
    *,
    path: Sequence[Step] = (),
    note: str = "",
) -> DecidedOne:
    """With fewer units on its picklist: told as a change of its own, and then along the path. With none left it is cancelled."""
    if not any(line.quantity for line in lines):
        return walk(replace(fulfillment, lines=lines, packages=()), [(Status.CANCELLED, "NO_UNITS_LEFT")], command, now, note)
    told = replace(fulfillment, lines=lines, version=fulfillment.version + 1, update_time=now)
    walked = walk(told, path, command, now, note)
    return Decision(walked.record, walked.history, (LinesChanged(told, reason), *walked.facts))


def cancelled(fulfillment: Fulfillment, reason: str, command: Command, now: datetime, note: str = "") -> DecidedOne:
    """Ended, its units back on the shelf."""
    emptied = replace(fulfillment, packages=(), lines=tuple(line.cut_to(0) for line in fulfillment.lines))
    return walk(emptied, [(Status.CANCELLED, reason)], command, now, note)


def stopped(fulfillment: Fulfillment, why: WithdrawReason, command: Command, now: datetime, note: str = "") -> DecidedOne:
    """Ended; one that is ready, once shipping has said that nothing of it leaves."""
    if fulfillment.status is Status.READY:
        return withdrawn(fulfillment, why, command, now, note=note)
    return cancelled(fulfillment, why, command, now, note)


def withdrawn(
    fulfillment: Fulfillment, why: WithdrawReason, command: Command, now: datetime, *, told_as: str = "WITHDRAWN", note: str = ""
) -> DecidedOne:
    """Wanted back from the way out. It may have a label, and the carrier may have its parcels: so its units stay where they are until
    shipping says which. Shipping is asked once; later only the reason can grow.
    """
    asked = fulfillment.withdraw_reason
    if asked and (asked is why or why is not WithdrawReason.WORK_CANCELLED):
        return Decision(fulfillment)
    after = replace(fulfillment, withdraw_reason=why, version=fulfillment.version + 1, update_time=now)
    row = Transition(after.id, after.version, after.status, after.status, why, note, command.actor, command.cause, now)
    return Decision(after, (row,), () if asked else (LinesChanged(after, told_as),))


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
