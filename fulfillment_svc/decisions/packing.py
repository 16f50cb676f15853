"""Packages, and whether they may leave."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, Refused, Violation
from fulfillment_svc.decisions.steps import (
    DecidedOne,
    lessened,
    lines_changed,
    move,
    next_version,
    noted,
    walk,
    withdrawn,
    wrong_status,
)
from fulfillment_svc.lifecycle import MOVES, Reason, Status, Trigger, WithdrawReason
from fulfillment_svc.model import (
    Fulfillment,
    Line,
    NoteSpoiled,
    Pack,
    Package,
    RecordInspection,
    StartPacking,
)


def start_packing(
    fulfillment: Fulfillment,
    command: StartPacking,
    context: Context,
) -> DecidedOne:
    """picked -> packing."""
    path = [(move(fulfillment, Trigger.START_PACKING), Reason.PACKING_STARTED)]
    return walk(fulfillment, path, context)


def pack(fulfillment: Fulfillment, command: Pack, context: Context) -> DecidedOne:
    """packing -> packed with packages that hold exactly what was picked, and on to ready where
    nobody inspects them.
    """
    status = move(fulfillment, Trigger.PACK)
    if wrong := list(_misfits(fulfillment.lines, command.packages)):
        raise Refused(
            "PACKAGES_INCOMPLETE",
            "the packages do not hold exactly what was picked",
            violations=wrong,
            lines=str(len(wrong)),
        )
    numbered = tuple(
        replace(package, number=number) for number, package in enumerate(command.packages, 1)
    )
    path = [(status, Reason.PACKING_COMPLETED)]
    if not fulfillment.inspection_rule:
        path.append((Status.READY, Reason.INSPECTION_NOT_REQUIRED))
    return walk(replace(fulfillment, packages=numbered), path, context)


def note_spoiled(fulfillment: Fulfillment, command: NoteSpoiled, context: Context) -> DecidedOne:
    """Units that are found damaged. No status changes, so nothing is told."""
    inspectable(fulfillment, command.spoiled)
    found = command.spoiled
    lines = tuple(
        line.with_found(found[line.line_number]) if line.line_number in found else line
        for line in fulfillment.lines
    )
    if lines == fulfillment.lines:
        return Decision(fulfillment)
    return noted(fulfillment, lines, Reason.SPOILED_UNITS_FOUND, context)


def record_inspection(
    fulfillment: Fulfillment,
    command: RecordInspection,
    context: Context,
) -> DecidedOne:
    """packed -> ready where the packages pass; else back to picking, everything to be scanned and
    packed again.

    Deferred as long as units that were found damaged are not booked: whoever comes next has to have
    them booked.
    """
    if command.rebooked:
        return spoil(fulfillment, command, context)
    inspectable(fulfillment)
    if any(line.unbooked for line in fulfillment.lines):
        raise Deferred(
            "CONTENTION",
            "another inspection is being written: try again",
            status=fulfillment.status,
        )
    if command.passed:
        path = [(move(fulfillment, Trigger.MAKE_READY), Reason.INSPECTION_PASSED)]
        return walk(fulfillment, path, context)
    status = move(fulfillment, Trigger.FAIL_INSPECTION)
    emptied = replace(fulfillment, packages=(), lines=_unscanned(fulfillment.lines))
    return walk(emptied, [(status, Reason.INSPECTION_FAILED)], context)


def inspectable(fulfillment: Fulfillment, found: Mapping[int, int] = MappingProxyType({})) -> None:
    """Raises Refused where there is nothing to inspect, or a line has not so many units that
    could be spoiled.
    """
    if not fulfillment.inspection_rule:
        raise Refused(
            "INSPECTION_NOT_REQUIRED",
            "no rule asks for an inspection of this fulfilment",
            status=fulfillment.status,
        )
    move(fulfillment, Trigger.MAKE_READY)
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


def spoil(fulfillment: Fulfillment, command: RecordInspection, context: Context) -> DecidedOne:
    """packed -> picking without the spoiled units, as the warehouse has booked them.

    It was asked before this write, and what is booked there is a fact: so it is taken in wherever
    the fulfilment stands by now (units were cut, the order died, what was found is no longer wanted
    and the rest has passed), and what was on the bench goes on with what there is.
    """
    answers = {each.line_number: each for each in command.rebooked}
    lines = tuple(
        line.rebooked(answers[line.line_number]) if line.line_number in answers else line
        for line in fulfillment.lines
    )
    why = Reason.INSPECTION_FAILED
    if lines == fulfillment.lines:
        return Decision(fulfillment)  # what stands was written with the same answer
    match fulfillment.status:
        case Status.PACKED:
            emptied, path = (
                replace(fulfillment, packages=()),
                [(move(fulfillment, Trigger.FAIL_INSPECTION), why)],
            )
            return lessened(emptied, _unscanned(lines), why, context, path=path)
        case Status.READY if fulfillment.withdraw_reason:
            changed = noted(fulfillment, lines, why, context)
            return replace(changed, facts=(lines_changed(changed.record, why, context),))
        case Status.READY:
            less, because = replace(fulfillment, lines=lines), WithdrawReason.INSPECTION_FAILED
            return withdrawn(less, because, context, told_as=why)
        case Status.CANCELLED:
            told = next_version(replace(fulfillment, lines=lines), context)
            return Decision(told, (), (lines_changed(told, why, context),))
        case _ if Status.CANCELLED in MOVES[fulfillment.status]:
            return lessened(fulfillment, lines, why, context)
    raise wrong_status(fulfillment, "its packages have left")


def _unscanned(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    return tuple(replace(line, picked=0) for line in lines)


def _misfits(lines: tuple[Line, ...], packages: tuple[Package, ...]) -> Iterator[Violation]:
    """A violation for each line whose units are not all packed, or too many, or that is not on
    the picklist.
    """
    packed: Counter[int] = Counter()
    for package in packages:
        for item in package.items:
            packed[item.line_number] += item.quantity
    picked = {line.line_number: line.picked for line in lines}
    for number in sorted(packed.keys() | picked.keys()):
        if packed[number] != picked.get(number, 0):
            yield Violation(
                f"line {number}",
                f"{picked.get(number, 0)} picked, {packed[number]} packed",
                "LINE_MISFIT",
            )
