"""Fulfilments and commands for tests. No tests here."""

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import UUID, uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Envelope
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import FORWARD, InspectionRule, Status, WithdrawReason
from fulfillment_svc.model.commands import (
    CloseAttempt,
    ConfirmWithdrawal,
    Cut,
    OrderCommand,
    Pack,
    Picklist,
    Plan,
    RecordCommit,
    Scan,
    ScanItems,
)
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import (
    Allocation,
    Fulfillment,
    FulfillmentKey,
    Line,
    OrderFulfillments,
    Package,
    PackedItem,
    RemainingUnits,
    Transition,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = UUID("01957000-0000-7000-8000-000000000001")
SHIPMENT = UUID("01957000-0000-7000-8000-000000000002")
KEY = FulfillmentKey(UUID("01957000-0000-7000-8000-000000000003"), "DOVER", 1)


def picking_line(number: int, sku: str, quantity: int, **counts: int) -> Line:
    """Returns a line of a picklist. `counts` are its other fields."""
    return Line(line_number=number, sku=sku, quantity=quantity, **counts)


LINES = (
    picking_line(1, "mug", 2),
    picking_line(2, "Lamp, blue", 1),
    picking_line(4, "mug", 3),
)

# The fields of an envelope beside its command.
PARTS = {field.name for field in fields_of(Envelope)} - {"command"}

C = TypeVar("C")
N = TypeVar("N", bound=OrderCommand)
numbers = count(1)


def envelope(kind: type[C], **fields: Any) -> Envelope[C]:
    """Returns a command of this kind in an envelope with its own key. `fields` are fields of
    either.
    """
    key = f"test:{next(numbers)}"
    parts: dict[str, Any] = {
        "key": key,
        "request_hash": b"",
        "target": ID,
        "actor": "tester",
        "cause": key,
    }
    parts |= {name: value for name, value in fields.items() if name in PARTS}
    command = kind(**{name: value for name, value in fields.items() if name not in PARTS})
    return Envelope(**parts, command=command)


def changed(old: Envelope[C], **fields: Any) -> Envelope[C]:
    """Returns the envelope with these fields of its command changed."""
    command: Any = old.command
    return old.with_command(replace(command, **fields))


def of_order(kind: type[N], **fields: Any) -> Envelope[N]:
    """Returns a command about the order's first attempt."""
    usual = {"target": KEY.order_id, "attempt": 1, "order_number": "OM-1"}
    return envelope(kind, **(usual | fields))


def picklists(
    places: Mapping[str, tuple[Line, ...]] | tuple[Line, ...] = LINES,
    rule: InspectionRule | None = None,
) -> tuple[Picklist, ...]:
    """Returns the picklists of the warehouses of `places`, or of DOVER. Each warehouse has its own
    id.
    """
    if isinstance(places, tuple):
        places = {KEY.warehouse_id: places}
    return tuple(
        Picklist(id=id_at(at), warehouse_id=at, lines=lines, inspection_rule=rule)
        for at, lines in places.items()
    )


def id_at(warehouse_id: str) -> UUID:
    """Returns the id of the warehouse's fulfilment."""
    return ID if warehouse_id == KEY.warehouse_id else uuid5(ID, warehouse_id)


def plan(
    places: Mapping[str, tuple[Line, ...]] | tuple[Line, ...] = LINES,
    *,
    committed: bool = True,
    rule: InspectionRule | None = None,
) -> Envelope[Plan]:
    """Returns the command of a confirmed order."""
    return of_order(Plan, picklists=picklists(places, rule), stock_committed=committed)


def record_commit(
    places: Mapping[str, tuple[Line, ...]] | tuple[Line, ...] = LINES,
) -> Envelope[RecordCommit]:
    """Returns the command that ends the pending commit."""
    return of_order(RecordCommit, picklists=picklists(places))


def close_attempt(
    places: Mapping[str, tuple[Line, ...]] | tuple[Line, ...] = LINES,
) -> Envelope[CloseAttempt]:
    """Returns the command of a cancelled order."""
    return of_order(CloseAttempt, picklists=picklists(places))


def cut(
    *units: int,
    version: int = 3,
    at: str = KEY.warehouse_id,
    lines: tuple[Line, ...] = LINES,
) -> Envelope[Cut]:
    """Returns the command with the remaining units of the lines."""
    remaining = (
        Allocation(at, line.line_number, quantity)
        for line, quantity in zip(lines, units, strict=True)
        if quantity
    )
    return of_order(Cut, remaining=RemainingUnits(1, version, tuple(remaining)), version=version)


def order_fulfillments(*fulfillments: Fulfillment, **fields: Any) -> OrderFulfillments:
    """Returns the order's record with these fulfilments."""
    return OrderFulfillments(order_id=KEY.order_id, fulfillments=fulfillments, **fields)


def fulfillment_in(
    status: Status, lines: tuple[Line, ...] = LINES, *, rule: InspectionRule | None = None
) -> Fulfillment:
    """Returns a fulfilment in this status, with its counts, packages and shipment."""
    rank = FORWARD.index(status) if status in FORWARD else 0
    if rank >= FORWARD.index(Status.PICKED):
        lines = tuple(replace(line, picked=line.quantity) for line in lines)
    if status is Status.CANCELLED:
        lines = tuple(line.cut_to(0) for line in lines)
    return Fulfillment(
        id=ID,
        key=KEY,
        order_number="OM-1",
        status=status,
        stock_committed=True,
        inspection_rule=rule,
        shipment_id=SHIPMENT if rank >= FORWARD.index(Status.SHIPPED) else None,
        version=rank + 1,
        create_time=NOW,
        update_time=NOW,
        withdraw_reason=None,
        withdrawn_version=0,
        lines=lines,
        packages=(parcel(lines),) if rank >= FORWARD.index(Status.PACKED) else (),
    )


def parcel(lines: tuple[Line, ...]) -> Package:
    """Returns one package with all units."""
    return Package(
        weight_grams=1200,
        length_mm=300,
        width_mm=200,
        height_mm=100,
        items=tuple(PackedItem(line.line_number, line.quantity) for line in lines),
    )


def scan_all(lines: tuple[Line, ...]) -> Envelope[ScanItems]:
    """Returns scans of every unit of the lines."""
    scans = tuple(Scan(line.sku, line.open) for line in lines if line.open)
    return envelope(ScanItems, scans=scans)


def pack_all(lines: tuple[Line, ...]) -> Envelope[Pack]:
    """Returns the command that packs all units into one package."""
    return envelope(Pack, packages=(parcel(lines),))


def decide_one(
    here: Fulfillment,
    asked: Envelope[Any],
    time: datetime,
) -> Decision[Fulfillment, Transition]:
    """Returns the decision about the only fulfilment of its order."""
    decision = decide(order_fulfillments(here), asked, time)
    fulfillment = decision.record.find(here.id)
    assert fulfillment
    return Decision(fulfillment, decision.history, decision.events)


def done(
    here: OrderFulfillments | Fulfillment | None,
    commands: Sequence[Envelope[Any]],
) -> tuple[Fulfillment, list[Decision[OrderFulfillments, Transition]]]:
    """Returns the fulfilment in DOVER after these commands in order, and each decision."""
    record = order_fulfillments(here) if isinstance(here, Fulfillment) else here
    decisions = []
    for each in commands:
        decisions.append(decide(record, each, NOW))
        record = decisions[-1].record
    assert record
    fulfillment = record.in_warehouse(KEY.warehouse_id, 1)
    assert fulfillment
    return fulfillment, decisions


def units(order: OrderFulfillments) -> dict[str, list[tuple[int, int]]]:
    """Returns for each warehouse the units to pick and the cut units of each line."""
    return {
        each.key.warehouse_id: [(line.quantity, line.cut) for line in each.lines]
        for each in order.fulfillments
    }


def published(*decisions: Any) -> list[tuple[str, int, str]]:
    """Returns for every domain event its kind, the fulfilment's version, and the reason."""
    events = [event for decision in decisions for event in decision.events]
    return [
        (
            "status" if isinstance(event, StatusChanged) else "lines",
            event.fulfillment.version,
            event.reason,
        )
        for event in events
        if isinstance(event, StatusChanged | LinesChanged)
    ]


def is_withdrawn(
    here: Fulfillment,
    record: Fulfillment,
    decision: Decision[OrderFulfillments, Transition],
    why: WithdrawReason,
) -> bool:
    """Whether the record is unchanged except for one request to shipping whether its parcels
    leave.
    """
    asked = replace(here, withdraw_reason=why, version=here.version + 1, update_time=NOW)
    return record == asked and published(decision) == [("lines", here.version + 1, "WITHDRAWN")]


def withdrawal_confirmed(*, label_void: bool) -> Envelope[ConfirmWithdrawal]:
    """Shipping confirms that no withdrawn parcel leaves."""
    return envelope(
        ConfirmWithdrawal, shipment_id=SHIPMENT, fulfillment_version=7, label_void=label_void
    )
