"""What the order makes of all its fulfilments. Each decision sees the whole job, so that it is
right in whatever order the news comes.

While stock is owed its fulfilments wait for it: units that the order lost meanwhile are cut when
the stock is settled, for only then it is known which units there are. What was never committed is
not told as cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from fulfillment_svc.decisions.leaving import emptied_label, left_after_void, released
from fulfillment_svc.decisions.steps import (
    Decided,
    DecidedOne,
    cancelled,
    found,
    lessened,
    lines_changed,
    next_version,
    stopped,
    walk,
    withdrawn,
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
from fulfillment_svc.model import (
    Cut,
    End,
    Fulfillment,
    Job,
    Line,
    LinesChanged,
    OfOrder,
    Picklist,
    Plan,
    Release,
    Settle,
    StatusChanged,
    Work,
    staying,
)


def plan(job: Job, command: Plan, context: Context) -> Decided:
    """A fulfilment for each picklist; of a dead attempt, only the trace that its units were to
    be here.
    """
    if command.attempt <= job.closed_attempt:
        return unworked(bury(job, command, command.picklists, context), command)
    told = job.keeping(command.kept) if command.kept else job
    placed = place(told, command, command.picklists, command.stock_committed, context)
    return trim(placed, command, context)


def settle(job: Job, command: Settle, context: Context) -> Decided:
    """Picking can begin where the stock lies. Who waited for it elsewhere has nothing to do, and
    nothing to give back.

    What moves to another warehouse takes the rule of its inspection along.
    """
    if command.attempt <= job.closed_attempt:
        return unworked(bury(job, command, command.picklists, context), command)
    its = job.of(command.attempt)
    if not any(map(owed, its)):
        return Decision(job)
    rule = next((each.inspection_rule for each in its if each.inspection_rule), None)
    picklists = [replace(each, inspection_rule=rule) for each in command.picklists]
    done = place(job, command, picklists, True, context)
    here = {picklist.warehouse_id for picklist in command.picklists}
    idle = [
        each
        for each in done.record.of(command.attempt)
        if owed(each) and each.work.warehouse_id not in here
    ]
    path = [(Status.CANCELLED, Reason.STOCK_COMMITTED_ELSEWHERE)]
    gone = each_of(done.record, idle, lambda its: walk(replace(its, lines=()), path, context))
    return trim(after(done, gone), command, context)


def place(
    job: Job,
    command: OfOrder,
    picklists: Iterable[Picklist],
    stock_committed: bool,
    context: Context,
) -> Decided:
    """A fulfilment where there is none; one that was owed its stock has it. Any other stands,
    above all a cancelled one.
    """

    def placed(fulfillment: Fulfillment | None, picklist: Picklist) -> DecidedOne:
        if fulfillment is None:
            new = replace(
                _new(picklist, command, context),
                lines=picklist.lines,
                stock_committed=stock_committed,
                inspection_rule=picklist.inspection_rule,
            )
            confirmed = (Status.PENDING, Reason.ORDER_CONFIRMED)
            built = (Status.PLANNING, Reason.PICKLIST_BUILT)
            return walk(new, [confirmed, built], context)
        if not stock_committed or not owed(fulfillment):
            return Decision(fulfillment)
        # No status changes, so nothing is told. The lines are what was committed here: an expired
        # reservation is made anew, and may differ.
        settled = replace(
            fulfillment,
            stock_committed=True,
            lines=picklist.lines,
            inspection_rule=inspected(fulfillment, picklist),
        )
        return Decision(next_version(settled, context))

    return each_picklist(job, command, picklists, placed)


def inspected(fulfillment: Fulfillment, picklist: Picklist) -> InspectionRule | None:
    """The rule for what was committed here: the picklist's too, where there is more than was
    planned, for that was planned elsewhere.
    """
    planned = {line.line_number: line.quantity for line in fulfillment.lines}
    more = any(line.quantity > planned.get(line.line_number, 0) for line in picklist.lines)
    return fulfillment.inspection_rule or (picklist.inspection_rule if more else None)


def cut(job: Job, command: Cut, context: Context) -> Decided:
    """Units that the order lost leave the picklists; for what is not planned yet it is
    remembered. Older news than known is skipped.
    """
    told = job.keeping(command.kept)
    return Decision(job) if told is job else trim(Decision(told), command, context)


def end(job: Job, command: End, context: Context) -> Decided:
    """Nothing that has not left goes on, and nothing of the attempt begins any more. What is
    ready waits for shipping: it may have left.
    """
    closed = replace(job, closed_attempt=max(job.closed_attempt, command.attempt))
    stopping = [each for each in job.of(command.attempt) if Status.CANCELLED in MOVES[each.status]]
    why = WithdrawReason.ORDER_CANCELLED
    stops = each_of(closed, stopping, lambda its: stopped(its, why, context))
    unplanned = [
        picklist
        for picklist in command.picklists
        if not job.at(picklist.warehouse_id, command.attempt)
    ]
    ended = after(stops, bury(stops.record, command, unplanned, context))
    if not ended.facts and job.closed_attempt < command.attempt:
        ended = after(ended, repeated(ended.record, command, context))
    return unworked(ended, command)


def repeated(job: Job, command: OfOrder, context: Context) -> Decided:
    """All of the attempt was given up before its stock was known, as it could be by the version
    before this one: that it is dead is told all the same, by the first of its works.
    """
    its = job.of(command.attempt)
    if not its or any(each.stock_committed for each in its):
        return Decision(job)
    told = next_version(its[0], context)
    return Decision(job.having(told), (), (lines_changed(told, Reason.UNITS_CUT, context),))


def unworked(done: Decided, command: OfOrder) -> Decided:
    """What is told of a dead attempt, with the remark that nobody ever worked on it, where its
    stock was never known to be committed.

    It may have been, in a warehouse of which nobody here has heard: then this alone brings it back
    to the shelf. It stays true, for in a dead attempt no work begins.
    """
    if any(each.stock_committed for each in done.record.of(command.attempt)):
        return done
    facts = [
        replace(fact, unworked=True)
        for fact in done.facts
        if isinstance(fact, StatusChanged | LinesChanged)
    ]
    return Decision(done.record, done.history, facts)


def bury(job: Job, command: OfOrder, picklists: Iterable[Picklist], context: Context) -> Decided:
    """Of what was planned for a dead attempt, a cancelled fulfilment tells the units: the warehouse
    has them back by it.

    One that was made before it was known how many there are takes the rest over now.
    """

    def buried(fulfillment: Fulfillment | None, picklist: Picklist) -> DecidedOne:
        if fulfillment is None:
            new = replace(_new(picklist, command, context), lines=picklist.lines)
            return cancelled(new, Reason.ORDER_CANCELLED, context)
        if (
            fulfillment.status is not Status.CANCELLED
            or fulfillment.stock_committed
            or not fulfillment.lines
        ):
            return Decision(fulfillment)
        lines = _together(fulfillment.lines, picklist.lines)
        if lines == fulfillment.lines:
            return Decision(fulfillment)
        grown = next_version(replace(fulfillment, lines=lines), context)
        return Decision(grown, (), (lines_changed(grown, Reason.UNITS_CUT, context),))

    return each_picklist(job, command, picklists, buried)


def owed(fulfillment: Fulfillment) -> bool:
    """Whether it waits for its stock to be committed."""
    return fulfillment.status is Status.PLANNING and not fulfillment.stock_committed


def trim(done: Decided, command: OfOrder, context: Context) -> Decided:
    """What was done, and then without the units that the order has lost. A cut that meets a
    shipment comes too late; of what is ready nothing leaves the picklist before shipping has
    said that the parcels are still here.
    """
    job = done.record

    def trimmed(fulfillment: Fulfillment) -> DecidedOne:
        lines = kept_lines(job, fulfillment)
        if lines == fulfillment.lines:
            return Decision(fulfillment)
        if fulfillment.status is Status.READY:
            return withdrawn(fulfillment, WithdrawReason.UNITS_CUT, context)
        return unpacked(fulfillment, lines, context)

    return after(
        done,
        each_of(
            job,
            [each for each in job.of(command.attempt) if Status.CANCELLED in MOVES[each.status]],
            trimmed,
        ),
    )


def kept_lines(job: Job, fulfillment: Fulfillment) -> tuple[Line, ...]:
    """The picklist without the units that the order has lost; as it is, while stock of the
    attempt is owed.
    """
    its = job.of(fulfillment.work.attempt)
    if not job.kept or job.kept.attempt != fulfillment.work.attempt or any(map(owed, its)):
        return fulfillment.lines
    stay, at = staying(job.kept, its), fulfillment.work.warehouse_id
    return tuple(line.cut_to(stay[at, line.line_number]) for line in fulfillment.lines)


def unpacked(fulfillment: Fulfillment, lines: tuple[Line, ...], context: Context) -> DecidedOne:
    """With these lines; what was packed goes back to packing."""
    there = TRIGGERS[Trigger.CUT].get(fulfillment.status)
    opened = replace(fulfillment, packages=()) if there else fulfillment
    why = Reason.UNITS_CUT
    return lessened(opened, lines, why, context, path=[(there, why)] if there else ())


def release(job: Job | None, command: Release, context: Context) -> Decided:
    """Shipping says that a withdrawn fulfilment has not left: it is unpacked, or ends.

    A fact about parcels that have left by a void label comes after that. Raises NotFound
    FULFILLMENT_NOT_FOUND.
    """
    job, fulfillment = found(job, context)
    done: Decided = Decision(job)
    if fulfillment.withdraw_reason and not released(fulfillment, command):
        done = _with(done, fulfillment, _released(job, fulfillment, command, context))
        _, fulfillment = found(done.record, context)
    return _with(done, fulfillment, left_after_void(fulfillment, command, context))


def _released(
    job: Job,
    fulfillment: Fulfillment,
    command: Release,
    context: Context,
) -> DecidedOne:
    assert fulfillment.withdraw_reason, "only what was withdrawn is released"
    here = replace(
        fulfillment,
        withdraw_reason=None,
        shipment_id=None,
        released_version=fulfillment.version + 1,
        void_labels=emptied_label(fulfillment, command),
    )
    if fulfillment.work.attempt <= job.closed_attempt:
        return cancelled(here, Reason.ORDER_CANCELLED, context)
    if fulfillment.withdraw_reason is WithdrawReason.WORK_CANCELLED:
        return cancelled(here, Reason.WORK_CANCELLED, context)
    lines = kept_lines(job, here)
    if lines != here.lines or not any(line.quantity for line in lines):
        return unpacked(here, lines, context)
    there = TRIGGERS[Trigger.CUT][here.status]
    path = [(there, Reason(fulfillment.withdraw_reason))]
    return walk(replace(here, packages=()), path, context)


def each_picklist(
    job: Job,
    command: OfOrder,
    picklists: Iterable[Picklist],
    verb: Callable[[Fulfillment | None, Picklist], DecidedOne],
) -> Decided:
    """The verb on what stands for each picklist."""
    done: Decided = Decision(job)
    for picklist in picklists:
        stands = job.at(picklist.warehouse_id, command.attempt)
        done = _with(done, stands, verb(stands, picklist))
    return done


def each_of(
    job: Job, fulfillments: Iterable[Fulfillment], verb: Callable[[Fulfillment], DecidedOne]
) -> Decided:
    """The verb on each of the fulfilments."""
    done: Decided = Decision(job)
    for each in fulfillments:
        done = _with(done, each, verb(each))
    return done


def after(first: Decided, then: Decided) -> Decided:
    """Both, one after the other."""
    return Decision(then.record, (*first.history, *then.history), (*first.facts, *then.facts))


def _with(done: Decided, before: Fulfillment | None, one: DecidedOne) -> Decided:
    if one.record is before:
        return done
    return after(done, Decision(done.record.having(one.record), one.history, one.facts))


def _new(picklist: Picklist, command: OfOrder, context: Context) -> Fulfillment:
    return Fulfillment(
        id=picklist.id,
        work=Work(context.target, picklist.warehouse_id, command.attempt),
        order_number=command.order_number,
        status=Status.PENDING,
        stock_committed=False,
        inspection_rule=None,
        shipment_id=None,
        version=0,
        create_time=context.time,
        update_time=context.time,
        withdraw_reason=None,
        released_version=0,
        lines=(),
    )


def _together(stands: tuple[Line, ...], planned: tuple[Line, ...]) -> tuple[Line, ...]:
    """The cancelled lines with at least the units that were planned, all of them cut."""
    lines = {line.line_number: line for line in stands}
    for line in planned:
        known = lines.get(line.line_number, replace(line, quantity=0))
        lines[line.line_number] = replace(
            known, cut=known.cut + max(0, line.quantity - known.planned)
        )
    return tuple(lines[number] for number in sorted(lines))
