"""Shipments and commands for the tests of this folder and its neighbours: one of each, with what
a test wants otherwise.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shipping_svc.lifecycle import LABELLED, REPORTABLE, Reason, Status
from shipping_svc.model.commands import (
    AskForShipment,
    Cancel,
    Close,
    GiveUp,
    KeepLabel,
    KeepRecall,
    RecordReport,
    Withdraw,
)
from shipping_svc.model.records import Label, Parcel, Recalled, Report, Shipment, Wanted

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SHIPMENT, ORDER, FULFILLMENT = UUID(int=1), UUID(int=2), UUID(int=3)
PARCELS = (Parcel(1200, 300, 200, 100), Parcel(50, 10, 10, 10))
# versions that a way there has made; 3 elsewhere
WAY = {Status.PENDING: 1, Status.CREATED: 2, Status.FAILED: 2, Status.VOIDED: 4}
LABEL = Label("SBX0000000001", b"%PDF-1.4 ...", "application/pdf")


def shipment(status: Status | str = Status.PENDING, **more: Any) -> Shipment:
    """A shipment in `status`, as its way there would have left it."""
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
        version=WAY.get(status, 3),
        create_time=NOON,
        update_time=NOON,
        report_time=NOON if status in REPORTABLE else None,
        deliver_time=NOON if status is Status.DELIVERED else None,
        recall_time=NOON if status is Status.VOIDED else None,
        parcels=PARCELS,
    )
    return replace(there, **more)


def wanted(**more: Any) -> Wanted:
    """What `shipment()` was asked for as."""
    return replace(Wanted(ORDER, 1, FULFILLMENT, "W1", PARCELS), **more)


def ask(target: UUID = SHIPMENT, key: str = "ask:1", **more: Any) -> AskForShipment:
    """The ask for `shipment()`, or for what else is wanted."""
    return AskForShipment(
        key, b"", target, "fulfillment", "e1", wanted=wanted(**more), carrier="sandbox"
    )


def keep_label(**more: Any) -> KeepLabel:
    """The carrier has sold LABEL, by the first purchase."""
    return replace(
        KeepLabel("label:1", b"", SHIPMENT, "shipping", "c1", label=LABEL, purchase=0), **more
    )


def give_up(
    reason: Reason = Reason.CARRIER_REFUSED, carrier_code: str | None = "NO_SUCH_PLACE", **more: Any
) -> GiveUp:
    """The carrier refuses the first purchase."""
    return replace(
        GiveUp(
            "label:1",
            b"",
            SHIPMENT,
            "shipping",
            "c1",
            reason=reason,
            carrier_code=carrier_code,
            purchase=0,
        ),
        **more,
    )


def report(
    status: Status | str, minute: int = 0, carrier_event_id: str = "", **more: Any
) -> RecordReport:
    """The carrier reports `status`, so many minutes after noon; its id is made of both unless
    given.
    """
    status = Status(status)
    told = Report(
        carrier_event_id or f"{status}@{minute}",
        status,
        NOON + timedelta(minutes=minute),
        "Dover hub",
    )
    return replace(
        RecordReport(
            f"report:{told.carrier_event_id}",
            b"",
            SHIPMENT,
            "carrier",
            told.carrier_event_id,
            report=told,
        ),
        **more,
    )


def cancel(**more: Any) -> Cancel:
    """Somebody wants `shipment()` back."""
    return replace(Cancel("cancel:1", b"", SHIPMENT, "staff", "q1", expected_version=None), **more)


def close(**more: Any) -> Close:
    """The order of `shipment()` is dead."""
    return replace(Close("o:1", b"", SHIPMENT, "order", "e9", reason=Reason.ORDER_CLOSED), **more)


def withdraw(**more: Any) -> Withdraw:
    """The fulfilment of `shipment()` wants its parcels back."""
    return replace(Withdraw("w:1", b"", SHIPMENT, "fulfillment", "e8", version=8), **more)


def keep_recall(answer: Recalled = Recalled.VOIDED, **more: Any) -> KeepRecall:
    """The carrier answers the recall."""
    return replace(
        KeepRecall(
            "recall:1",
            b"",
            SHIPMENT,
            "carrier",
            "r1",
            answer=answer,
            purchase=0,
            tracking_number=None,
        ),
        **more,
    )
