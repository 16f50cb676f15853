"""Inspections: whether packages may leave, and the units that are found spoiled."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused, Violation
from fulfillment_svc.decisions.transitions import (
    DecidedOne,
    advance,
    lines_changed,
    next_status,
    next_version,
    reduce_lines,
    update_lines,
    withdraw,
    wrong_status,
)
from fulfillment_svc.lifecycle import MOVES, Reason, Status, Trigger, WithdrawReason
from fulfillment_svc.model.commands import RecordInspection, RecordSpoiled
from fulfillment_svc.model.records import Fulfillment, Line


def record_spoiled(
    fulfillment: Fulfillment, command: RecordSpoiled, context: Context
) -> DecidedOne:
    """Stores units that an inspector found damaged. No status changes, so no event is published."""
    require_inspectable(fulfillment, command.spoiled)
    found = command.spoiled
    lines = tuple(
        line.with_found_spoiled(found[line.line_number]) if line.line_number in found else line
        for line in fulfillment.lines
    )
    if lines == fulfillment.lines:
        return Decision(fulfillment)
    return update_lines(fulfillment, lines, Reason.SPOILED_UNITS_FOUND, context)


def record_inspection(
    fulfillment: Fulfillment,
    command: RecordInspection,
    context: Context,
) -> DecidedOne:
    """packed -> ready where the packages pass; else back to picking, everything to be scanned and
    packed again.

    Raises Deferred while the warehouse has not posted spoiled units: the next inspection asks it
    again.
    """
    if command.replaced_lines:
        return apply_replacements(fulfillment, command, context)
    require_inspectable(fulfillment)
    if any(line.unposted_spoiled for line in fulfillment.lines):
        raise Deferred(
            "CONTENTION",
            "another inspection is being written: try again",
            status=fulfillment.status,
        )
    if command.passed:
        path = [(next_status(fulfillment, Trigger.MAKE_READY), Reason.INSPECTION_PASSED)]
        return advance(fulfillment, path, context)
    status = next_status(fulfillment, Trigger.FAIL_INSPECTION)
    unpacked = replace(fulfillment, packages=(), lines=_unscanned(fulfillment.lines))
    return advance(unpacked, [(status, Reason.INSPECTION_FAILED)], context)


def require_inspectable(
    fulfillment: Fulfillment, found: Mapping[int, int] = MappingProxyType({})
) -> None:
    """Raises Refused where there is nothing to inspect, or a line has not so many units that
    could be spoiled.
    """
    if not fulfillment.inspection_rule:
        raise Refused(
            "INSPECTION_NOT_REQUIRED",
            "no rule asks for an inspection of this fulfilment",
            status=fulfillment.status,
        )
    next_status(fulfillment, Trigger.MAKE_READY)
    units = {line.line_number: line.quantity for line in fulfillment.lines}
    wrong = [
        Violation(
            f"line {number}", f"{units.get(number, 0)} units, and {spoiled} spoiled", "QUANTITY"
        )
        for number, spoiled in sorted(found.items())
        if spoiled > units.get(number, 0)
    ]
    if wrong:
        raise Refused(
            "QUANTITY_EXCEEDS_PICKLIST",
            f"{len(wrong)} lines have not so many units",
            violations=wrong,
            lines=str(len(wrong)),
        )


def apply_replacements(
    fulfillment: Fulfillment, command: RecordInspection, context: Context
) -> DecidedOne:
    """packed -> picking without the spoiled units, as the warehouse posted them.

    The warehouse posted them before this write. So the answer is applied in every status that the
    fulfilment may have by now: units were cut, the order was cancelled, or the packages passed.
    """
    answers = {each.line_number: each for each in command.replaced_lines}
    lines = tuple(
        line.with_replacements(answers[line.line_number]) if line.line_number in answers else line
        for line in fulfillment.lines
    )
    why = Reason.INSPECTION_FAILED
    if lines == fulfillment.lines:
        return Decision(fulfillment)  # an earlier write applied the same answer
    match fulfillment.status:
        case Status.PACKED:
            without_packages, path = (
                replace(fulfillment, packages=()),
                [(next_status(fulfillment, Trigger.FAIL_INSPECTION), why)],
            )
            return reduce_lines(without_packages, _unscanned(lines), why, context, path=path)
        case Status.READY if fulfillment.withdraw_reason:
            changed = update_lines(fulfillment, lines, why, context)
            return replace(changed, events=(lines_changed(changed.record, why, context),))
        case Status.READY:
            less, because = replace(fulfillment, lines=lines), WithdrawReason.INSPECTION_FAILED
            return withdraw(less, because, context, event_reason=why)
        case Status.CANCELLED:
            after = next_version(replace(fulfillment, lines=lines), context)
            return Decision(after, (), (lines_changed(after, why, context),))
        case _ if Status.CANCELLED in MOVES[fulfillment.status]:
            return reduce_lines(fulfillment, lines, why, context)
    raise wrong_status(fulfillment, "its packages have left")


def _unscanned(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    return tuple(replace(line, picked=0) for line in lines)
