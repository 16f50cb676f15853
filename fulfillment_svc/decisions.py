"""The verbs: what a fulfilment becomes when something is asked of it, or heard of it. Pure: no I/O, no clock, no ids made."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Deferred, Invalid, NotFound, Refused, Stale, Violation
from fulfillment_svc.lifecycle import MOVES, TRIGGERS, Status, Trigger, before, way
from fulfillment_svc.model import (
    Cancel,
    Command,
    Complete,
    CompletePicking,
    Fulfillment,
    FulfillmentCommand,
    Line,
    Pack,
    Package,
    Plan,
    RecordInspection,
    Request,
    Scan,
    ScanItems,
    Ship,
    StartPacking,
    StartPicking,
    StatusChanged,
    Transition,
    Withdraw,
)

Decided = Decision[Fulfillment, Transition]
Step = tuple[Status, str]  # the status, and the reason why

REASONS = {Status.SHIPPED: "SHIPMENT_CREATED", Status.COMPLETED: "DELIVERY_CONFIRMED"}


def decide(fulfillment: Fulfillment | None, command: FulfillmentCommand, now: datetime) -> Decided:
    """What becomes of the fulfilment (None: there is none). Raises a Failure where the command cannot be done, or not yet."""
    match command:
        case Plan():
            return plan(fulfillment, command, now)
        case Cancel():
            return cancel(fulfillment, command, now)
    if fulfillment is None:
        raise NotFound("FULFILLMENT_NOT_FOUND", f"there is no fulfilment {command.target}", fulfillment_id=str(command.target))
    if isinstance(command, Request):
        expect(fulfillment, command)
    match command:
        case Withdraw():
            return withdraw(fulfillment, command, now)
        case Ship():
            return arrive(fulfillment, Status.SHIPPED, command, now)
        case Complete():
            return arrive(fulfillment, Status.COMPLETED, command, now)
        case StartPicking():
            return start_picking(fulfillment, command, now)
        case ScanItems():
            return scan_items(fulfillment, command, now)
        case CompletePicking():
            return complete_picking(fulfillment, command, now)
        case StartPacking():
            return walk(fulfillment, [(move(fulfillment, Trigger.START_PACKING), "PACKING_STARTED")], command, now)
        case Pack():
            return pack(fulfillment, command, now)
        case RecordInspection():
            return record_inspection(fulfillment, command, now)


def plan(fulfillment: Fulfillment | None, command: Plan, now: datetime) -> Decided:
    """Created and planned at once; one that is owed its stock is settled. Any other stands, above all a cancelled one."""
    if fulfillment is None:
        new = replace(_new(command, now), stock_committed=command.stock_committed, inspection_rule=command.inspection_rule)
        return walk(new, [(Status.PENDING, "ORDER_CONFIRMED"), (Status.PLANNING, "PICKLIST_BUILT")], command, now)
    if command.stock_committed and owed(fulfillment):
        # No status changes, so nothing is told. The lines are what was committed here: an expired reservation is made anew, and may differ.
        settled = replace(fulfillment, stock_committed=True, lines=command.lines, version=fulfillment.version + 1, update_time=now)
        return Decision(settled)
    return Decision(fulfillment)


def withdraw(fulfillment: Fulfillment, command: Withdraw, now: datetime) -> Decided:
    """Ended without units, for another warehouse has them: nothing is to come back, and nothing to be refunded."""
    if not owed(fulfillment):
        return Decision(fulfillment)
    return walk(replace(fulfillment, lines=()), [(Status.CANCELLED, "STOCK_COMMITTED_ELSEWHERE")], command, now)


def owed(fulfillment: Fulfillment) -> bool:
    """Whether it waits for its stock to be committed."""
    return fulfillment.status is Status.PLANNING and not fulfillment.stock_committed


def cancel(fulfillment: Fulfillment | None, command: Cancel, now: datetime) -> Decided:
    """Ended, wherever it stands before shipping. Where there is none yet a tombstone is made, and planning finds it."""
    if fulfillment and Status.CANCELLED not in MOVES[fulfillment.status]:
        return Decision(fulfillment)
    return walk(fulfillment or _new(command, now), [(Status.CANCELLED, "ORDER_CANCELLED")], command, now)


def arrive(fulfillment: Fulfillment, there: Status, command: Ship | Complete, now: datetime) -> Decided:
    """News of the shipment: forward to `there`, through what was not heard yet. It cannot exist before ready, so before that it waits."""
    if before(fulfillment.status, Status.READY):
        raise Deferred("EVENT_AHEAD", f"the fulfilment is {fulfillment.status}: its shipment waits for ready", status=fulfillment.status)
    if not (path := way(fulfillment.status, there)):
        return Decision(fulfillment)
    carried = replace(fulfillment, shipment_id=command.shipment_id)
    return walk(carried, [(status, REASONS[status]) for status in path], command, now)


def start_picking(fulfillment: Fulfillment, command: StartPicking, now: datetime) -> Decided:
    """planning -> picking, once the stock is committed."""
    status = move(fulfillment, Trigger.START_PICKING)
    if not fulfillment.stock_committed:
        raise Refused("STOCK_NOT_COMMITTED", "the warehouse has not committed the stock yet", fulfillment_id=str(fulfillment.id))
    return walk(fulfillment, [(status, "PICKING_STARTED")], command, now)


def scan_items(fulfillment: Fulfillment, command: ScanItems, now: datetime) -> Decided:
    """Counts all scans in, or none. No status changes, so nothing is told."""
    if fulfillment.status is not Status.PICKING:
        raise illegal(fulfillment, "units are scanned while it is picked")
    lines = fulfillment.lines
    for scan in command.scans:
        lines = scanned(lines, scan)
    return Decision(replace(fulfillment, lines=lines, version=fulfillment.version + 1, update_time=now))


def scanned(lines: tuple[Line, ...], scan: Scan) -> tuple[Line, ...]:
    """The lines with the scanned units on them: the lowest line that is open takes them first."""
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
            violations=[Violation(scan.sku, f"{wanted - picked} more can be scanned, not {scan.quantity}", "QUANTITY")],
            sku=scan.sku,
            quantity=str(wanted),
            picked=str(picked),
        )
    return tuple(_filled(lines, scan))


def complete_picking(fulfillment: Fulfillment, command: CompletePicking, now: datetime) -> Decided:
    """picking -> picked, once every line is scanned."""
    status = move(fulfillment, Trigger.COMPLETE_PICKING)
    still_open = [
        Violation(f"line {line.line_number}", f"{line.sku}: {line.picked} of {line.quantity} picked", "LINE_OPEN")
        for line in fulfillment.lines
        if line.open
    ]
    if still_open:
        raise Refused("PICKING_INCOMPLETE", f"{len(still_open)} lines are still open", violations=still_open, lines=str(len(still_open)))
    return walk(fulfillment, [(status, "PICKING_COMPLETED")], command, now)


def pack(fulfillment: Fulfillment, command: Pack, now: datetime) -> Decided:
    """packing -> packed with packages that hold exactly what was picked, and on to ready where nobody inspects them."""
    status = move(fulfillment, Trigger.PACK)
    if wrong := list(_misfits(fulfillment.lines, command.packages)):
        raise Refused("PACKAGES_INCOMPLETE", "the packages do not hold exactly what was picked", violations=wrong, lines=str(len(wrong)))
    numbered = tuple(replace(package, number=number) for number, package in enumerate(command.packages, 1))
    path = [(status, "PACKING_COMPLETED")]
    if not fulfillment.inspection_rule:
        path.append((TRIGGERS[Trigger.MAKE_READY][status], "INSPECTION_NOT_REQUIRED"))
    return walk(replace(fulfillment, packages=numbered), path, command, now)


def record_inspection(fulfillment: Fulfillment, command: RecordInspection, now: datetime) -> Decided:
    """packed -> ready where the packages pass; else back to picking, everything to be scanned and packed again."""
    if not fulfillment.inspection_rule:
        raise Refused("INSPECTION_NOT_REQUIRED", "no rule asks for an inspection of this fulfilment", status=fulfillment.status)
    if command.passed:
        return walk(fulfillment, [(move(fulfillment, Trigger.MAKE_READY), "INSPECTION_PASSED")], command, now, command.note)
    status = move(fulfillment, Trigger.FAIL_INSPECTION)
    emptied = replace(fulfillment, packages=(), lines=tuple(replace(line, picked=0) for line in fulfillment.lines))
    return walk(emptied, [(status, "INSPECTION_FAILED")], command, now, command.note)


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
        raise illegal(fulfillment, f"{trigger.replace('_', ' ')} is for {', '.join(TRIGGERS[trigger])}")
    return there


def illegal(fulfillment: Fulfillment, why: str) -> Refused:
    """The refusal that names where the fulfilment stands, and where it may go."""
    allowed = ",".join(status for status in Status if status in MOVES[fulfillment.status])
    return Refused("ILLEGAL_TRANSITION", f"the fulfilment is {fulfillment.status}; {why}", status=fulfillment.status, allowed=allowed)


def walk(fulfillment: Fulfillment, path: Sequence[Step], command: Command, now: datetime, note: str = "") -> Decided:
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


def _new(command: Plan | Cancel, now: datetime) -> Fulfillment:
    return Fulfillment(
        id=command.target,
        work=command.work,
        order_number=command.order_number,
        status=Status.PENDING,
        stock_committed=False,
        inspection_rule=None,
        shipment_id=None,
        version=0,
        create_time=now,
        update_time=now,
        lines=command.lines,
    )


def _filled(lines: tuple[Line, ...], scan: Scan) -> Iterator[Line]:
    left = scan.quantity
    for line in lines:
        taken = min(left, line.open) if line.sku == scan.sku else 0
        left -= taken
        yield replace(line, picked=line.picked + taken) if taken else line


def _misfits(lines: tuple[Line, ...], packages: tuple[Package, ...]) -> Iterator[Violation]:
    """A violation for each line whose units are not all packed, or too many, or that is not on the picklist."""
    packed: Counter[int] = Counter()
    for package in packages:
        for item in package.items:
            packed[item.line_number] += item.quantity
    picked = {line.line_number: line.picked for line in lines}
    for number in sorted(packed.keys() | picked.keys()):
        if packed[number] != picked.get(number, 0):
            yield Violation(f"line {number}", f"{picked.get(number, 0)} picked, {packed[number]} packed", "LINE_MISFIT")
