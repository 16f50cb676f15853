"""Creations of shipments, and newer requests, by tables: each request in each status."""

from typing import Any

import pytest

from chassis.values.errors import Exists, Refused
from shipping_svc.decisions.deciders import decide
from shipping_svc.lifecycle import Status
from shipping_svc.model.records import RecallOpened, Transition
from tests.unit.shipping.samples import (
    FULFILLMENT,
    LATER,
    NEW_PARCELS,
    NOON,
    PARCELS,
    SHIPMENT,
    changed,
    create_shipment,
    shipment,
    shipment_request,
)


def test_first_request_stores_pending_shipment() -> None:
    """The first request creates a pending shipment with a row of history, and no event."""
    decided = decide(None, create_shipment(), NOON)
    assert decided.record == shipment("pending")
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=1,
            old=None,
            new=Status.PENDING,
            reason="FULFILLMENT_READY",
            actor="fulfillment",
            cause="e1",
            time=NOON,
        )
    ]
    assert not decided.events


@pytest.mark.parametrize("status", Status)
def test_second_request_returns_shipment(status: Status) -> None:
    """The second of call and event changes nothing, in every status of the shipment."""
    there = shipment(status)
    decided = decide(there, create_shipment(target=FULFILLMENT), LATER)
    assert decided.record is there
    assert not decided.history
    assert not decided.events


def test_second_request_with_other_parcels_changes_none() -> None:
    """The label is bought for the parcels of the first request."""
    assert (
        decide(shipment("pending"), create_shipment(parcels=PARCELS[:1]), LATER).record.parcels
        == PARCELS
    )


@pytest.mark.parametrize("status", Status)
def test_newer_parcels_replace_those_without_label(status: Status) -> None:
    """A newer request replaces the parcels that wait for a label: a new version without an event,
    and a new purchase. A label that may have been sold for the old parcels is recalled.
    """
    there = shipment(status, fulfillment_version=7)
    decided = decide(there, create_shipment(fulfillment_version=10, parcels=NEW_PARCELS), LATER)
    if status is not Status.PENDING:
        assert decided.record is there
        return
    record = decided.record
    assert (record.parcels, record.fulfillment_version, record.version, record.purchase) == (
        NEW_PARCELS,
        10,
        2,
        1,
    )
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.PENDING,
            reason="REPACKED",
            actor="fulfillment",
            cause="e1",
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER),
    ]
    assert not decided.events


@pytest.mark.parametrize("version", [0, 6, 7])
def test_older_request_repacks_nothing(version: int) -> None:
    """Requests arrive in any order: only a greater version of the fulfilment is newer, and an
    unknown one is older than any.
    """
    there = shipment("pending", fulfillment_version=7)
    assert (
        decide(
            there, create_shipment(fulfillment_version=version, parcels=NEW_PARCELS), LATER
        ).record
        is there
    )


def test_same_parcels_of_a_newer_version_change_nothing() -> None:
    """Only their version is stored."""
    decided = decide(
        shipment("pending", fulfillment_version=7), create_shipment(fulfillment_version=10), LATER
    )
    assert decided.record == shipment("pending", fulfillment_version=10)
    assert not decided.history


@pytest.mark.parametrize(
    "other", [{"order_id": FULFILLMENT}, {"attempt": 2}, {"warehouse_id": "W2"}]
)
def test_request_for_other_orders_fulfilment_is_refused(other: dict[str, Any]) -> None:
    """A fulfilment belongs to one order, attempt and warehouse: a request that names it with
    another one is refused.
    """
    with pytest.raises(Exists) as refused:
        decide(shipment("created"), create_shipment(**other), LATER)
    assert (refused.value.reason, refused.value.metadata) == (
        "SHIPMENT_ALREADY_EXISTS",
        {"shipment_id": str(SHIPMENT)},
    )


def test_withdrawn_shipment_has_a_successor() -> None:
    """Only a withdrawn shipment that does not leave has a successor, for parcels that were ready
    afterwards.
    """
    for here in Status:
        record = shipment(here, withdraw_version=8)
        for version, later in ((7, False), (8, False), (9, True)):
            assert record.is_followed_by(shipment_request(fulfillment_version=version)) == (
                later and here in (Status.FAILED, Status.VOIDED)
            )
        assert not shipment(here).is_followed_by(shipment_request(fulfillment_version=9))


@pytest.mark.parametrize(("version", "refused"), [(10_009, False), (10_010, True), (2**60, True)])
def test_successor_is_compared_with_its_predecessor(version: int, refused: bool) -> None:
    """The shipment after a withdrawn one may state a version up to 10,000 above the last one."""
    again = changed(create_shipment(fulfillment_version=version), stored_version=9)
    if not refused:
        assert decide(None, again, NOON).record.fulfillment_version == version
        return
    with pytest.raises(Refused) as caught:
        decide(None, again, NOON)
    assert (caught.value.reason, caught.value.metadata["stored"]) == ("VERSION_JUMP", "9")
