"""Shipments and commands for the tests of this folder and its neighbours: one of each, with the
fields that a test states.
"""

from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

from chassis.values.envelope import Envelope
from shipping_svc.lifecycle import LABELLED, REPORTABLE, Reason, Status
from shipping_svc.model.commands import (
    CancelShipment,
    CloseShipment,
    CreateShipment,
    FailLabel,
    RecordLabel,
    RecordRecallAnswer,
    RecordReport,
    WithdrawShipment,
)
from shipping_svc.model.records import (
    Label,
    Parcel,
    RecallAnswer,
    Report,
    Row,
    Shipment,
    ShipmentRequest,
    Transition,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
SHIPMENT, ORDER, FULFILLMENT = UUID(int=1), UUID(int=2), UUID(int=3)
PARCELS = (
    Parcel(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100),
    Parcel(weight_grams=50, length_mm=10, width_mm=10, height_mm=10),
)
NEW_PARCELS = (Parcel(weight_grams=900, length_mm=300, width_mm=200, height_mm=100),)
# the version of a shipment in this status; 3 in the others
VERSIONS = {Status.PENDING: 1, Status.CREATED: 2, Status.FAILED: 2, Status.VOIDED: 4}
LABEL = Label("SBX0000000001", b"%PDF-1.4 ...", "application/pdf")

# The fields of an envelope beside its command.
PARTS = {field.name for field in fields_of(Envelope)} - {"command"}

C = TypeVar("C")
numbers = count(1)


def shipment(status: Status | str = Status.PENDING, **more: Any) -> Shipment:
    """Returns a shipment in `status`, with the data of its way there."""
    status = Status(status)
    there = Shipment(
        id=SHIPMENT,
        order_id=ORDER,
        attempt=1,
        fulfillment_id=FULFILLMENT,
        warehouse_id="W1",
        status=status,
        reason="FULFILLMENT_READY",
        carrier="sandbox",
        carrier_code=None,
        tracking_number=LABEL.tracking_number if status in LABELLED else None,
        version=VERSIONS.get(status, 3),
        create_time=NOON,
        update_time=NOON,
        report_time=NOON if status in REPORTABLE else None,
        recall_time=NOON if status is Status.VOIDED else None,
        parcels=PARCELS,
    )
    return replace(there, **more)


def shipment_request(**more: Any) -> ShipmentRequest:
    """Returns the request that created `shipment()`."""
    return replace(
        ShipmentRequest(
            order_id=ORDER,
            attempt=1,
            fulfillment_id=FULFILLMENT,
            warehouse_id="W1",
            parcels=PARCELS,
        ),
        **more,
    )


def envelope(kind: type[C], **fields: Any) -> Envelope[C]:
    """Returns a command of this kind about `shipment()` in an envelope. `fields` are fields of
    either.
    """
    key = f"test:{next(numbers)}"
    parts: dict[str, Any] = {
        "key": key,
        "request_hash": b"",
        "target": SHIPMENT,
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


def create_shipment(target: UUID = SHIPMENT, **more: Any) -> Envelope[CreateShipment]:
    """Returns the command that creates `shipment()`, or another one."""
    fields = {"target": target, "actor": "fulfillment", "cause": "e1"}
    return envelope(CreateShipment, **fields, request=shipment_request(**more), carrier="sandbox")


def record_label(**more: Any) -> Envelope[RecordLabel]:
    """The carrier has sold LABEL, by the first purchase."""
    usual = {"actor": "shipping", "cause": "c1", "label": LABEL, "purchase": 0}
    return envelope(RecordLabel, **(usual | more))


def fail_label(
    reason: Reason = Reason.CARRIER_REFUSED, carrier_code: str | None = "NO_SUCH_PLACE", **more: Any
) -> Envelope[FailLabel]:
    """The carrier refuses the first purchase."""
    usual = {"actor": "shipping", "cause": "c1", "purchase": 0}
    return envelope(FailLabel, reason=reason, carrier_code=carrier_code, **(usual | more))


def report(
    status: Status | str, minute: int = 0, carrier_event_id: str = "", **more: Any
) -> Envelope[RecordReport]:
    """The carrier reports `status`, so many minutes after noon; the report's id is made of both
    unless stated.
    """
    status = Status(status)
    carrier_report = Report(
        carrier_event_id=carrier_event_id or f"{status}@{minute}",
        status=status,
        occur_time=NOON + timedelta(minutes=minute),
        location="Dover hub",
    )
    fields = {"actor": "carrier", "cause": carrier_report.carrier_event_id}
    return envelope(RecordReport, report=carrier_report, **(fields | more))


def cancel_shipment(**more: Any) -> Envelope[CancelShipment]:
    """Staff recall `shipment()`."""
    usual = {"actor": "staff", "cause": "q1", "expected_version": None}
    return envelope(CancelShipment, **(usual | more))


def close_shipment() -> Envelope[CloseShipment]:
    """The order of `shipment()` is closed."""
    return envelope(CloseShipment, actor="order", cause="e9", reason=Reason.ORDER_CLOSED)


def withdraw_shipment(**more: Any) -> Envelope[WithdrawShipment]:
    """The fulfilment of `shipment()` withdraws its parcels."""
    usual = {"actor": "fulfillment", "cause": "e8", "version": 8}
    return envelope(WithdrawShipment, **(usual | more))


def record_recall_answer(
    answer: RecallAnswer = RecallAnswer.VOIDED,
) -> Envelope[RecordRecallAnswer]:
    """The carrier answers the recall."""
    fields = {"actor": "carrier", "cause": "r1"}
    return envelope(RecordRecallAnswer, **fields, answer=answer, purchase=0, tracking_number=None)


def as_transition(row: Row) -> Transition:
    """Returns the row as one of the shipment's history."""
    assert isinstance(row, Transition)
    return row
