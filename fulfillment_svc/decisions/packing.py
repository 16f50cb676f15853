"""Picked units go into packages."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from chassis.values.envelope import Context
from chassis.values.errors import Refused, Violation
from fulfillment_svc.decisions.transitions import DecidedOne, advance, next_status
from fulfillment_svc.lifecycle import Reason, Status, Trigger
from fulfillment_svc.model.commands import Pack, StartPacking
from fulfillment_svc.model.records import Fulfillment, Line, Package


def start_packing(
    fulfillment: Fulfillment,
    command: StartPacking,
    context: Context,
) -> DecidedOne:
    """picked -> packing."""
    path = [(next_status(fulfillment, Trigger.START_PACKING), Reason.PACKING_STARTED)]
    return advance(fulfillment, path, context)


def pack(fulfillment: Fulfillment, command: Pack, context: Context) -> DecidedOne:
    """packing -> packed, in packages with exactly the picked units, and on to ready where no rule
    requires an inspection.
    """
    status = next_status(fulfillment, Trigger.PACK)
    if wrong := list(_mismatches(fulfillment.lines, command.packages)):
        raise Refused(
            "PACKAGES_INCOMPLETE",
            "the packages do not hold exactly what was picked",
            violations=wrong,
            lines=str(len(wrong)),
        )
    path = [(status, Reason.PACKING_COMPLETED)]
    if not fulfillment.inspection_rule:
        path.append((Status.READY, Reason.INSPECTION_NOT_REQUIRED))
    return advance(replace(fulfillment, packages=command.packages), path, context)


def _mismatches(lines: tuple[Line, ...], packages: tuple[Package, ...]) -> Iterator[Violation]:
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
                "LINE_MISMATCH",
            )
