"""Fulfilments and commands to test with. No tests here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from chassis.decision import Decision
from fulfillment_svc.decisions import decide
from fulfillment_svc.lifecycle import FORWARD, InspectionRule, Status
from fulfillment_svc.model import (
    Command,
    Fulfillment,
    FulfillmentCommand,
    Line,
    Pack,
    Package,
    PackedItem,
    Plan,
    Scan,
    ScanItems,
    Transition,
    Work,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID("01957000-0000-7000-8000-000000000001")
SHIPMENT = UUID("01957000-0000-7000-8000-000000000002")
WORK = Work(UUID("01957000-0000-7000-8000-000000000003"), "DOVER", 1)
LINES = (Line(1, "mug", 2), Line(2, "Lamp, blue", 1), Line(4, "mug", 3))

C = TypeVar("C", bound=Command)
numbers = count(1)


def command(kind: type[C], **fields: Any) -> C:
    """A command of this kind with a key of its own."""
    key = f"test:{next(numbers)}"
    given: dict[str, Any] = {"key": key, "digest": b"", "target": ID, "actor": "tester", "cause": key}
    return kind(**(given | fields))


def plan(lines: tuple[Line, ...] = LINES, *, committed: bool = True, rule: InspectionRule | None = None, **fields: Any) -> Plan:
    """What the confirmed order asks for."""
    given: dict[str, Any] = {"work": WORK, "order_number": "OM-1", "lines": lines, "stock_committed": committed, "inspection_rule": rule}
    return command(Plan, **(given | fields))


def standing(status: Status, lines: tuple[Line, ...] = LINES, *, rule: InspectionRule | None = None) -> Fulfillment:
    """A fulfilment in this status, with the counts, packages and shipment that belong to it."""
    rank = FORWARD.index(status) if status in FORWARD else 0
    if rank >= FORWARD.index(Status.PICKED):
        lines = tuple(replace(line, picked=line.quantity) for line in lines)
    return Fulfillment(
        id=ID,
        work=WORK,
        order_number="OM-1",
        status=status,
        stock_committed=True,
        inspection_rule=rule,
        shipment_id=SHIPMENT if rank >= FORWARD.index(Status.SHIPPED) else None,
        version=rank + 1,
        create_time=NOW,
        update_time=NOW,
        lines=lines,
        packages=(parcel(lines, number=1),) if rank >= FORWARD.index(Status.PACKED) else (),
    )


def parcel(lines: tuple[Line, ...], *, number: int = 0) -> Package:
    """One package with everything in it."""
    return Package(number, 1200, 300, 200, 100, tuple(PackedItem(line.line_number, line.quantity) for line in lines))


def scan_all(lines: tuple[Line, ...]) -> ScanItems:
    """Scans of every unit that the lines ask for."""
    return command(ScanItems, scans=tuple(Scan(line.sku, line.open) for line in lines if line.open))


def pack_all(lines: tuple[Line, ...]) -> Pack:
    """Everything in one package."""
    return command(Pack, packages=(parcel(lines),))


def done(
    fulfillment: Fulfillment | None, commands: Sequence[FulfillmentCommand]
) -> tuple[Fulfillment, list[Decision[Fulfillment, Transition]]]:
    """One command after the other: what has become of the fulfilment, and each decision."""
    decisions = []
    for each in commands:
        decisions.append(decide(fulfillment, each, NOW))
        fulfillment = decisions[-1].record
    return decisions[-1].record, decisions
