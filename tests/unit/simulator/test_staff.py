"""The next step of the staff, by status: the right step, and the same request for the same step."""

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
def test_next_step_follows_from_the_status(
    work: fulfillment_pb2.Fulfillment, step: type | None
) -> None:
    """Each status has its step. A finished fulfilment and one without committed stock have none."""
    found = next_step(work)
    assert (found and type(found)) == step
    if found is not None:
        assert work.status in AT_WORK
        assert found.fulfillment_id == work.fulfillment_id


def test_scan_has_the_units_that_are_not_scanned_yet() -> None:
    """The scan has only units that are not scanned yet."""
    step = next_step(fulfillment("picking", picked=2))
    assert isinstance(step, api.ScanItemRequest)
    assert [(scan.sku, scan.quantity) for scan in step.scans] == [("A", 1)]


def test_parcel_has_every_picked_unit() -> None:
    """The one parcel has every picked unit by its line. Its weight is within the contract's bounds
    for any number of units.
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


def test_cancelled_and_short_units_are_not_packed() -> None:
    """Cancelled and missing units are neither scanned nor packed."""
    cancelled = fulfillment_pb2.PicklistLine(line_number=1, sku="A", quantity=0, cut_quantity=3)
    reduced = fulfillment_pb2.PicklistLine(line_number=4, sku="B", quantity=1, short_quantity=1)
    scan = next_step(fulfillment("picking", picklist=[cancelled, reduced]))
    assert isinstance(scan, api.ScanItemRequest)
    assert [(each.sku, each.quantity) for each in scan.scans] == [("B", 1)]
    reduced.picked_quantity = 1
    assert isinstance(
        next_step(fulfillment("picking", picklist=[cancelled, reduced])), api.CompletePickingRequest
    )
    pack = next_step(fulfillment("packing", picklist=[cancelled, reduced]))
    assert isinstance(pack, api.PackFulfillmentRequest)
    assert [(item.line_number, item.quantity) for item in pack.packages[0].items] == [(4, 1)]


def test_step_on_the_same_version_is_the_same_request() -> None:
    """The same step on the same version is the same request. On another version, such as after a
    failed inspection, it is another one.
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
def test_next_report_follows_from_the_status(here: str, there: str | None) -> None:
    """A carrier reports each step up to the delivery, and reports nothing of a parcel before its
    pickup or after its end.
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
def test_recalled_parcel_is_returned(here: str, there: str | None) -> None:
    """A recalled parcel is not picked up, or is returned from any status."""
    recalled = shipment(here)
    recalled.recall_time.CopyFrom(recalled.update_time)
    report = next_report(recalled)
    assert (report and shipping_pb2.ShipmentStatus.Name(report.status)) == (
        there and f"SHIPMENT_STATUS_{there.upper()}"
    )


def test_repeated_report_is_equal() -> None:
    """For any reporter and time, a repeated report is equal in every field, its time included. The
    carrier has one report of that status.
    """
    report = next_report(shipment("created"))
    assert report is not None
    assert report == next_report(shipment("created"))
    assert report.carrier_event_id == f"{SHIPMENT_ID}:in_transit"
    assert len(report.carrier_event_id) <= 64
    assert report.occur_time == shipment("created").update_time
