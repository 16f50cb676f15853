"""What the staff do next, by what they see: the right step at each status, the same words for
the same step.
"""

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2

from simulator.staff import AT_WORK, REPORTS, next_report, next_step
from tests.unit.simulator.samples import SHIPMENT_ID, fulfillment, shipment


@pytest.mark.parametrize(
    ("work", "step"),
    [
        (fulfillment("pending"), None),
        (fulfillment("planning", stock_committed=False), None),
        (fulfillment("planning"), api.StartPickingRequest),
        (fulfillment("picking"), api.ScanItemRequest),
        (fulfillment("picking", picked=2), api.ScanItemRequest),
        (fulfillment("picking", picked=3), api.CompletePickingRequest),
        (fulfillment("picked", picked=3), api.StartPackingRequest),
        (fulfillment("packing", picked=3), api.PackFulfillmentRequest),
        (fulfillment("packed", picked=3, inspection_required=True), api.RecordInspectionRequest),
        (fulfillment("packed", picked=3), None),
        (fulfillment("ready"), None),
        (fulfillment("shipped"), None),
        (fulfillment("completed"), None),
        (fulfillment("cancelled"), None),
    ],
)
def test_the_next_step(work: fulfillment_pb2.Fulfillment, step: type | None) -> None:
    """Each status has its step; where there is nothing to do, or the stock is not committed,
    there is none.
    """
    found = next_step(work)
    assert (found and type(found)) == step
    if found is not None:
        assert work.status in AT_WORK
        assert found.fulfillment_id == work.fulfillment_id


def test_the_scan_takes_what_is_left_on_the_shelf() -> None:
    """Only units that are not scanned yet are scanned."""
    step = next_step(fulfillment("picking", picked=2))
    assert isinstance(step, api.ScanItemRequest)
    assert [(scan.sku, scan.quantity) for scan in step.scans] == [("A", 1)]


def test_the_parcel_holds_what_was_picked() -> None:
    """One parcel, with every picked unit by its line, and a weight within the contract's bounds
    however many there are.
    """
    step = next_step(fulfillment("packing", picked=3))
    assert isinstance(step, api.PackFulfillmentRequest)
    [parcel] = step.packages
    assert [(item.line_number, item.quantity) for item in parcel.items] == [(1, 3), (4, 2)]
    assert parcel.weight_grams == 150 + 5 * 50
    line = fulfillment_pb2.PicklistLine(
        line_number=1, sku="A", quantity=1_000_000, picked_quantity=1_000_000
    )
    heavy = next_step(fulfillment("packing", picklist=[line]))
    assert isinstance(heavy, api.PackFulfillmentRequest)
    assert heavy.packages[0].weight_grams == 1_000_000


def test_a_line_of_which_nothing_stays_is_left_alone() -> None:
    """Units that were cancelled or not found are neither scanned nor packed."""
    gone = fulfillment_pb2.PicklistLine(line_number=1, sku="A", quantity=0, cut_quantity=3)
    left = fulfillment_pb2.PicklistLine(line_number=4, sku="B", quantity=1, short_quantity=1)
    scan = next_step(fulfillment("picking", picklist=[gone, left]))
    assert isinstance(scan, api.ScanItemRequest)
    assert [(each.sku, each.quantity) for each in scan.scans] == [("B", 1)]
    left.picked_quantity = 1
    assert isinstance(
        next_step(fulfillment("picking", picklist=[gone, left])), api.CompletePickingRequest
    )
    pack = next_step(fulfillment("packing", picklist=[gone, left]))
    assert isinstance(pack, api.PackFulfillmentRequest)
    assert [(item.line_number, item.quantity) for item in pack.packages[0].items] == [(4, 1)]


def test_a_step_is_named_by_what_it_is_taken_on() -> None:
    """The same step on the same version is the same request; on another version, after a failed
    inspection say, it is another one.
    """
    steps = [next_step(fulfillment("picking", version=version)) for version in (7, 7, 12)]
    first, repeat, later = steps
    assert first == repeat
    assert first is not None
    assert later is not None
    assert first.request_id != later.request_id


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("pending", None),
        ("created", "in_transit"),
        ("in_transit", "out_for_delivery"),
        ("out_for_delivery", "delivered"),
        ("delivery_failed", "delivered"),
        ("delivered", None),
        ("lost", None),
        ("returned_to_sender", None),
        ("failed", None),
    ],
)
def test_the_next_report(here: str, there: str | None) -> None:
    """A carrier reports step by step up to the delivery, and nothing of a parcel that it does
    not have, or has no more.
    """
    report = next_report(shipment(here))
    assert (report and shipping_pb2.ShipmentStatus.Name(report.status)) == (
        there and f"SHIPMENT_STATUS_{there.upper()}"
    )
    assert (report is not None) == (shipment(here).status in REPORTS)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("created", None),
        ("in_transit", "returned_to_sender"),
        ("out_for_delivery", "returned_to_sender"),
        ("delivery_failed", "returned_to_sender"),
        ("voided", None),
        ("returned_to_sender", None),
    ],
)
def test_what_is_wanted_back_is_brought_back(here: str, there: str | None) -> None:
    """A recalled parcel is not fetched, or comes back from wherever it is."""
    recalled = shipment(here)
    recalled.recall_time.CopyFrom(recalled.update_time)
    report = next_report(recalled)
    assert (report and shipping_pb2.ShipmentStatus.Name(report.status)) == (
        there and f"SHIPMENT_STATUS_{there.upper()}"
    )


def test_the_same_report_says_the_same() -> None:
    """Whoever reports it, and whenever: a repeat is equal in every field, its time included; and
    it is the carrier's one report of that.
    """
    report = next_report(shipment("created"))
    assert report is not None
    assert report == next_report(shipment("created"))
    assert report.carrier_event_id == f"{SHIPMENT_ID}:in_transit"
    assert len(report.carrier_event_id) <= 64
    assert report.occur_time == shipment("created").update_time
