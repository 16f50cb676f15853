"""Labels and refusals of the carrier, by tables: each answer in each status."""

from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from shipping_svc.decisions.deciders import decide
from shipping_svc.decisions.refusals import refusal
from shipping_svc.lifecycle import Reason, Status
from shipping_svc.model.commands import RecordLabel
from shipping_svc.model.events import Created, StatusChanged
from shipping_svc.model.records import BoughtLabel, RecallOpened, Transition
from tests.unit.shipping.samples import (
    LABEL,
    LATER,
    NEW_PARCELS,
    ORDER,
    SHIPMENT,
    as_transition,
    cancel_shipment,
    create_shipment,
    fail_label,
    record_label,
    shipment,
)


def test_label_creates_the_shipment() -> None:
    """pending -> created with the tracking number, one version, one row of history, the label, and
    one ShipmentCreated.
    """
    decided = decide(shipment("pending"), record_label(), LATER)
    assert decided.record == shipment("created", reason="LABEL_BOUGHT", update_time=LATER)
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.CREATED,
            reason="LABEL_BOUGHT",
            actor="shipping",
            cause="c1",
            time=LATER,
        ),
        BoughtLabel(SHIPMENT, LABEL),
    ]
    assert decided.events == [Created(decided.record, as_transition(decided.history[0]))]


def test_label_of_replaced_parcels_is_recalled() -> None:
    """The parcels were replaced during the sale of a label: that label goes back to the carrier,
    before or after the purchase for the newer parcels.
    """
    waiting = decide(
        shipment("pending", fulfillment_version=7),
        create_shipment(fulfillment_version=10, parcels=NEW_PARCELS),
        LATER,
    ).record
    its_own = replace(LABEL, tracking_number="SBX0000000002")
    created = decide(waiting, record_label(label=its_own, purchase=1), LATER).record
    assert (created.status, created.parcels, created.tracking_number) == (
        Status.CREATED,
        NEW_PARCELS,
        "SBX0000000002",
    )
    for there in (waiting, created):
        decided = decide(there, record_label(), LATER)
        assert decided.record is there
        assert decided.history == [
            RecallOpened(
                shipment_id=SHIPMENT, purchase=0, tracking_number=LABEL.tracking_number, time=LATER
            )
        ]
        assert not decided.events


def test_refused_label_fails_the_shipment() -> None:
    """pending -> failed with the carrier's code, and an event."""
    decided = decide(shipment("pending"), fail_label(), LATER)
    assert decided.record == shipment(
        "failed", reason="CARRIER_REFUSED", carrier_code="NO_SUCH_PLACE", update_time=LATER
    )
    assert [type(row) for row in decided.history] == [Transition]
    assert decided.events == [StatusChanged(decided.record, as_transition(decided.history[0]))]


def test_refusal_of_replaced_parcels_changes_nothing() -> None:
    """Parcels that replaced the refused ones are still to be offered to the carrier."""
    there = shipment("pending", purchase=1)
    assert decide(there, fail_label(purchase=0), LATER).record is there
    assert decide(there, fail_label(purchase=1), LATER).record.status is Status.FAILED


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
@pytest.mark.parametrize("command", [record_label(), fail_label()], ids=["keep_label", "give_up"])
def test_second_settlement_of_a_label_changes_nothing(
    status: Status, command: Envelope[Any]
) -> None:
    """A second settlement of the same label changes nothing; a label that was sold for a failed
    shipment is recalled.
    """
    there = shipment(status)
    decided = decide(there, command, LATER)
    assert decided.record is there
    is_stray = status is Status.FAILED and isinstance(command.command, RecordLabel)
    assert list(decided.history) == (
        [
            RecallOpened(
                shipment_id=SHIPMENT, purchase=0, tracking_number="SBX0000000001", time=LATER
            )
        ]
        if is_stray
        else []
    )
    assert not decided.events


def test_label_with_number_in_use_fails_shipment() -> None:
    """Another live shipment of the carrier has the label's tracking number. The shipment is failed
    with a reason for repeats, without the number, and the label is returned by its purchase.
    Another number of that carrier is accepted.
    """
    before = shipment("pending", tracking_number_holders={LABEL.tracking_number: ORDER})
    decided = decide(before, record_label(), LATER)
    assert (decided.record.status, decided.record.reason) == (
        Status.FAILED,
        "TRACKING_NUMBER_IN_USE",
    )
    assert decided.record.tracking_number is None
    assert (
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER)
        in decided.history
    )
    refused = refusal(decided.record)
    assert refused
    assert (refused.reason, refused.metadata["shipment_id"]) == (
        "TRACKING_NUMBER_IN_USE",
        str(SHIPMENT),
    )
    other = replace(LABEL, tracking_number="SBX9")
    assert decide(before, record_label(label=other), LATER).record.status is Status.CREATED


def test_failed_shipment_has_the_reason_of_its_refusal() -> None:
    """A failed shipment has a refusal with its reason; every other shipment has none."""
    by_carrier = refusal(decide(shipment("pending"), fail_label(), LATER).record)
    assert by_carrier is not None
    assert by_carrier.reason == "CARRIER_REFUSED"
    assert by_carrier.metadata == {
        "carrier": "sandbox",
        "carrier_code": "NO_SUCH_PLACE",
        "shipment_id": str(SHIPMENT),
    }
    by_order = refusal(
        decide(shipment("pending"), fail_label(Reason.ORDER_CLOSED, None), LATER).record
    )
    assert by_order is not None
    assert (by_order.reason, by_order.metadata) == ("ORDER_CLOSED", {"order_id": str(ORDER)})
    by_hand = refusal(decide(shipment("pending"), cancel_shipment(), LATER).record)
    assert by_hand is not None
    assert (by_hand.reason, by_hand.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "failed", "allowed": ""},
    )
    assert [refusal(shipment(status)) for status in set(Status) - {Status.FAILED}] == [None] * (
        len(Status) - 1
    )
