"""Units are scanned off the shelves, and the picklist is closed."""

from collections.abc import Iterator
from dataclasses import replace

from chassis.values.envelope import Context
from chassis.values.errors import Invalid, Refused, Violation
from chassis.values.versions import JUMP_MAX
from fulfillment_svc.decisions.transitions import (
    DecidedOne,
    advance,
    lines_changed,
    next_status,
    reduce_lines,
    require_committed,
    update_lines,
    wrong_status,
)
from fulfillment_svc.lifecycle import Reason, Status, Trigger
from fulfillment_svc.model.commands import CompletePicking, Scan, ScanItems, StartPicking
from fulfillment_svc.model.records import Fulfillment, Line

# One in this many versions is published: consumers refuse a version that is more than JUMP_MAX
# above the one that they have stored.
PUBLISHED_EACH = JUMP_MAX // 2


def start_picking(fulfillment: Fulfillment, command: StartPicking, context: Context) -> DecidedOne:
    """planning -> picking, once the stock is committed."""
    status = next_status(fulfillment, Trigger.START_PICKING)
    require_committed(fulfillment)
    return advance(fulfillment, [(status, Reason.PICKING_STARTED)], context)


def scan_items(fulfillment: Fulfillment, command: ScanItems, context: Context) -> DecidedOne:
    """Counts all scans, or none. The status stays the same, so only a version that is a multiple of
    PUBLISHED_EACH is published.
    """
    if fulfillment.status is not Status.PICKING:
        raise wrong_status(fulfillment, "units are scanned while it is picked")
    lines = fulfillment.lines
    for scan in command.scans:
        lines = scanned(lines, scan)
    counted = update_lines(fulfillment, lines, Reason.UNITS_SCANNED, context)
    if counted.record.version % PUBLISHED_EACH:
        return counted
    return replace(counted, events=(lines_changed(counted.record, Reason.UNITS_SCANNED, context),))


def scanned(lines: tuple[Line, ...], scan: Scan) -> tuple[Line, ...]:
    """The lines with the scanned units; the open line with the lowest number takes them first."""
    asking = [line for line in lines if line.sku == scan.sku]
    if not asking:
        raise Invalid(
            "SKU_NOT_ON_PICKLIST",
            f"{scan.sku} is not on the picklist",
            violations=[Violation("scans", f"{scan.sku} is not on the picklist")],
            sku=scan.sku,
        )
    if scan.quantity > sum(line.open for line in asking):
        wanted, picked = sum(line.quantity for line in asking), sum(line.picked for line in asking)
        raise Refused(
            "QUANTITY_EXCEEDS_PICKLIST",
            f"{scan.sku}: {wanted} asked for, {picked} picked, and {scan.quantity} more scanned",
            violations=[
                Violation(
                    scan.sku,
                    f"{wanted - picked} more can be scanned, not {scan.quantity}",
                    "QUANTITY",
                )
            ],
            sku=scan.sku,
            quantity=str(wanted),
            picked=str(picked),
        )
    return tuple(_filled(lines, scan))


def complete_picking(
    fulfillment: Fulfillment,
    command: CompletePicking,
    context: Context,
) -> DecidedOne:
    """picking -> picked, once every line is scanned or closed short; cancelled where no unit was
    found.
    """
    status = next_status(fulfillment, Trigger.COMPLETE_PICKING)
    short = command.short_line_numbers
    if strange := sorted(short - {line.line_number for line in fulfillment.lines}):
        violations = [
            Violation("short_line_numbers", f"must be on the picklist: {number} is not")
            for number in strange
        ]
        raise Invalid(
            "VALIDATION_FAILED",
            f"{len(strange)} of the short lines are not on the picklist",
            violations=violations,
        )
    lines = tuple(
        line.closed_short() if line.line_number in short else line for line in fulfillment.lines
    )
    still_open = [
        Violation(
            f"line {line.line_number}",
            f"{line.sku}: {line.picked} of {line.quantity} picked",
            "LINE_OPEN",
        )
        for line in lines
        if line.open
    ]
    if still_open:
        raise Refused(
            "PICKING_INCOMPLETE",
            f"{len(still_open)} lines are still open",
            violations=still_open,
            lines=str(len(still_open)),
        )
    path = [(status, Reason.PICKING_COMPLETED)]
    if lines == fulfillment.lines:
        return advance(fulfillment, path, context)
    return reduce_lines(fulfillment, lines, Reason.SHORT_PICK, context, path=path)


def _filled(lines: tuple[Line, ...], scan: Scan) -> Iterator[Line]:
    remaining = scan.quantity
    for line in lines:
        taken = min(remaining, line.open) if line.sku == scan.sku else 0
        remaining -= taken
        yield replace(line, picked=line.picked + taken) if taken else line
