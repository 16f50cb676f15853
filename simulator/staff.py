"""The next step of pickers, packers, inspectors and carriers, from the record. Pure.

Each step's request_id is derived from the record's id and version: two concurrent calls of one step
take effect once.
"""

from typing import Final
from uuid import UUID

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2

from omctl.names import name_of
from simulator.requests import request_id

# Statuses of fulfilments that wait for a step of the staff.
AT_WORK: Final = (
    fulfillment_pb2.FULFILLMENT_STATUS_PLANNING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKED,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKING,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKED,
)
# The carrier's next report for each status of a shipment, and its location.
REPORTS: Final = {
    shipping_pb2.SHIPMENT_STATUS_CREATED: (
        shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT,
        "sorting centre",
    ),
    shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT: (
        shipping_pb2.SHIPMENT_STATUS_OUT_FOR_DELIVERY,
        "local depot",
    ),
    shipping_pb2.SHIPMENT_STATUS_OUT_FOR_DELIVERY: (shipping_pb2.SHIPMENT_STATUS_DELIVERED, ""),
    shipping_pb2.SHIPMENT_STATUS_DELIVERY_FAILED: (shipping_pb2.SHIPMENT_STATUS_DELIVERED, ""),
}

# A parcel: its box, and the weight of each unit.
BOX_MM: Final = (400, 300, 200)
BOX_GRAMS: Final = 150
UNIT_GRAMS: Final = 50
PARCEL_GRAMS_MAX: Final = 1_000_000

Step = (
    api.StartPickingRequest
    | api.ScanItemRequest
    | api.CompletePickingRequest
    | api.StartPackingRequest
    | api.PackFulfillmentRequest
    | api.RecordInspectionRequest
)


def next_step(work: fulfillment_pb2.Fulfillment) -> Step | None:
    """Returns the next step of the staff; None if there is none, or not until the stock is
    committed.
    """
    match work.status:
        case fulfillment_pb2.FULFILLMENT_STATUS_PLANNING if work.stock_committed:
            return api.StartPickingRequest(
                request_id=_id(work, "StartPicking"), fulfillment_id=work.fulfillment_id
            )
        case fulfillment_pb2.FULFILLMENT_STATUS_PICKING:
            return _scan(work)
        case fulfillment_pb2.FULFILLMENT_STATUS_PICKED:
            return api.StartPackingRequest(
                request_id=_id(work, "StartPacking"), fulfillment_id=work.fulfillment_id
            )
        case fulfillment_pb2.FULFILLMENT_STATUS_PACKING:
            return api.PackFulfillmentRequest(
                request_id=_id(work, "PackFulfillment"),
                fulfillment_id=work.fulfillment_id,
                packages=[_parcel(work)],
            )
        case fulfillment_pb2.FULFILLMENT_STATUS_PACKED if work.inspection_required:
            return api.RecordInspectionRequest(
                request_id=_id(work, "RecordInspection"),
                fulfillment_id=work.fulfillment_id,
                passed=True,
            )
    return None


def next_report(
    shipment: shipping_pb2.Shipment,
) -> shipping_service_pb2.RecordTrackingEventRequest | None:
    """Returns the carrier's next report; None if the shipment has ended or the carrier does not
    have the parcel.

    The carrier returns a recalled parcel, and does not pick up one that was recalled before.
    """
    if shipment.status not in REPORTS:
        return None
    status, location = REPORTS[shipment.status]
    if shipment.HasField("recall_time"):
        if shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED:
            return None
        status, location = shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER, "back at the warehouse"
    name = name_of(shipping_pb2.ShipmentStatus, status)
    return shipping_service_pb2.RecordTrackingEventRequest(
        request_id=request_id(UUID(shipment.shipment_id), f"{name}@{shipment.version}"),
        carrier=shipment.carrier,
        tracking_number=shipment.tracking_number,
        carrier_event_id=f"{shipment.shipment_id}:{name}",
        status=status,
        occur_time=shipment.update_time,  # not the current time: a repeat has the same content
        location=location,
    )


def _id(work: fulfillment_pb2.Fulfillment, step: str) -> str:
    return request_id(UUID(work.fulfillment_id), f"{step}@{work.version}")


def _scan(work: fulfillment_pb2.Fulfillment) -> api.ScanItemRequest | api.CompletePickingRequest:
    """Returns a scan of all units not yet picked; the end of picking if there are none."""
    scans = [
        api.Scan(sku=line.sku, quantity=line.quantity - line.picked_quantity)
        for line in work.picklist
        if line.quantity > line.picked_quantity
    ]
    if not scans:
        return api.CompletePickingRequest(
            request_id=_id(work, "CompletePicking"), fulfillment_id=work.fulfillment_id
        )
    return api.ScanItemRequest(
        request_id=_id(work, "ScanItem"), fulfillment_id=work.fulfillment_id, scans=scans
    )


def _parcel(work: fulfillment_pb2.Fulfillment) -> fulfillment_pb2.Package:
    """Returns one package with all picked units."""
    length, width, height = BOX_MM
    items = [
        fulfillment_pb2.PackedItem(line_number=line.line_number, quantity=line.picked_quantity)
        for line in work.picklist
        if line.picked_quantity
    ]
    grams = BOX_GRAMS + UNIT_GRAMS * sum(item.quantity for item in items)
    return fulfillment_pb2.Package(
        weight_grams=min(grams, PARCEL_GRAMS_MAX),
        length_mm=length,
        width_mm=width,
        height_mm=height,
        items=items,
    )
