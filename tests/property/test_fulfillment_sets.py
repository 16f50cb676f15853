"""A set of fulfilment's commands equals its commands one by one, on PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings

from chassis.values.envelope import Envelope
from fulfillment_svc import tables
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import InspectionRule
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    CloseAttempt,
    Complete,
    CompletePicking,
    ConfirmWithdrawal,
    Cut,
    OrderCommand,
    Pack,
    Picklist,
    Plan,
    RecordCommit,
    RecordInspection,
    RecordSpoiled,
    Scan,
    ScanItems,
    Ship,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.records import (
    Allocation,
    Fulfillment,
    Line,
    Package,
    PackedItem,
    RemainingUnits,
    ReplacedLine,
)
from fulfillment_svc.store.workspace import lock_order_fulfillments, save_order_fulfillments
from fulfillment_svc.wire.events_out import outgoing_event
from tests.property.set_histories import (
    Commands,
    History,
    Records,
    Step,
    histories,
    openings,
    steps,
    write_history,
)
from tests.property.sets import BothWays, RecordKind, both_ways, examples
from tests.unit.fulfillment.samples import LINES

ORDERS = [UUID(int=201), UUID(int=202)]
PLACES: list[Mapping[str, tuple[Line, ...]]] = [
    {"DOVER": LINES},
    {"DOVER": LINES},
    {"DOVER": LINES[:2], "YORK": LINES[2:]},
    {"YORK": LINES},
]
OPENING = ["plan", "plan", "plan", "start picking"]
ORDER_KINDS = ["plan", "commit", "cut", "close"]
# The work of a life as often as all other commands together.
WORK = ["start picking", "scan", "complete picking", "start packing", "pack", "inspect"]
KINDS = [
    *ORDER_KINDS,
    *WORK,
    *WORK,
    "spoiled",
    "replaced",
    "cancel",
    "ship",
    "gone",
    "complete",
    "confirm",
]


@pytest.fixture
async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
    async with both_ways(migrated_database, "fulfillment_svc", tables, outgoing_event) as both:
        yield both


def of_order(step: Step, number: int) -> OrderCommand:
    """Returns a command about one attempt of an order; its picklists propose new ids."""
    places = PLACES[step.second % len(PLACES)]
    rule = InspectionRule.SKU if step.first > 2 else None
    version, attempt = step.second + 1, 1 + step.second // 5
    fields: dict[str, Any] = {"attempt": attempt, "order_number": "OM-1", "version": version}
    remaining = RemainingUnits(
        attempt,
        version,
        tuple(
            Allocation(at, line.line_number, max(1, line.quantity - step.first % 3))
            for at, lines in sorted(places.items())
            for line in lines[step.first // 4 :]
        ),
    )
    if step.kind == "cut":
        return Cut(**fields, remaining=remaining)
    fields["picklists"] = tuple(
        Picklist(
            id=UUID(int=(number << 8) + index),
            warehouse_id=at,
            lines=lines,
            inspection_rule=rule,
        )
        for index, (at, lines) in enumerate(sorted(places.items()))
    )
    if step.kind == "close":
        return CloseAttempt(**fields)
    if step.kind == "commit":
        return RecordCommit(**fields)
    committed = step.first % 2 == 0
    return Plan(**fields, stock_committed=committed, remaining=None if committed else remaining)


def of_staff(step: Step, fulfillment: Fulfillment) -> Any:
    """Returns a request about a fulfilment; one in six expects the version that was read."""
    lines = fulfillment.lines
    some = lines[: 1 + step.second % 3] if step.second > 3 else lines
    expected: dict[str, Any] = {
        "expected_version": fulfillment.version if step.second == 5 else None
    }
    match step.kind:
        case "start picking":
            return StartPicking(**expected)
        case "scan":
            scans = tuple(Scan(line.sku, line.quantity) for line in some if line.quantity)
            return ScanItems(scans=scans, **expected)
        case "complete picking":
            short = frozenset(line.line_number for line in some) if step.second > 2 else frozenset()
            return CompletePicking(short_line_numbers=short, **expected)
        case "start packing":
            return StartPacking(**expected)
        case "pack":
            return Pack(packages=(_package(lines),), **expected)
        case "inspect":
            return RecordInspection(passed=step.second % 3 > 0, **expected)
        case "spoiled":
            return RecordSpoiled(spoiled={lines[0].line_number: 1} if lines else {}, **expected)
        case "replaced":
            return RecordInspection(passed=False, replaced_lines=_replaced(lines), **expected)
    return CancelFulfillment(**expected)


def _package(lines: tuple[Line, ...]) -> Package:
    """Returns one package with all units of the lines."""
    items = (PackedItem(line.line_number, line.quantity) for line in lines if line.quantity)
    return Package(weight_grams=900, length_mm=300, width_mm=200, height_mm=100, items=tuple(items))


def _replaced(lines: tuple[Line, ...]) -> tuple[ReplacedLine, ...]:
    """Returns the warehouse's answer: it has replaced no spoiled unit."""
    return tuple(
        ReplacedLine(
            line_number=line.line_number,
            units=line.planned,
            committed=max(0, line.quantity - line.unposted_spoiled),
            spoiled=line.spoiled + line.unposted_spoiled,
        )
        for line in lines
    )


def of_shipment(step: Step, fulfillment: Fulfillment) -> Any:
    """Returns a command from an event of the fulfilment's shipment."""
    parts: dict[str, Any] = {
        "shipment_id": uuid5(fulfillment.id, str(fulfillment.withdrawn_version)),
        "fulfillment_version": fulfillment.version,
    }
    if step.kind == "confirm":
        void = step.second > 1
        return ConfirmWithdrawal(**parts, label_void=void, shipped=step.second > 3)
    if step.kind == "complete":
        return Complete(**parts)
    return Ship(**parts, shipped=step.kind == "gone")


def make(step: Step, number: int, records: Records) -> Envelope[Any] | None:
    """Returns the command of a step."""
    key = f"{step.kind}:{number}"
    if step.kind in ORDER_KINDS:
        target, command = ORDERS[step.first % 2], of_order(step, number)
        actor = "order"
    else:
        fulfillment = step.choose([f for id in sorted(records) for f in records[id].fulfillments])
        if fulfillment is None:
            return None
        by_shipment = step.kind in ("ship", "gone", "complete", "confirm")
        actor = "shipping" if by_shipment else "staff"
        target = fulfillment.id
        command = (of_shipment if by_shipment else of_staff)(step, fulfillment)
    return Envelope(
        key=key, request_hash=b"", target=target, actor=actor, cause=key, command=command
    )


def renew(envelope: Envelope[Any], number: int) -> Envelope[Any]:
    """Returns the repeat: picklists propose new ids."""
    command = envelope.command
    if not isinstance(command, Plan | RecordCommit | CloseAttempt):
        return envelope
    picklists = tuple(
        replace(each, id=UUID(int=(number << 8) + index))
        for index, each in enumerate(command.picklists)
    )
    return envelope.with_command(replace(command, picklists=picklists))


FULFILLMENTS = Commands(
    kind=RecordKind(load=lock_order_fulfillments, decide=decide, save=save_order_fulfillments),
    make=make,
    id_of=lambda order: order.order_id,
    renew=renew,
)


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(openings(OPENING), steps(KINDS)))
async def test_a_set_of_fulfilments_equals_its_commands(both: BothWays, history: History) -> None:
    """Plans, commits, cuts and cancellations of orders, the staff's work, inspections and events of
    shipments, several of one order in a set: outcomes, rows and events are those of the same
    commands one by one.
    """
    await write_history(both, FULFILLMENTS, history)
