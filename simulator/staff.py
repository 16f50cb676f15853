"""What pickers, packers, inspectors and carriers do next, by what they see. Pure.

Each step's request_id is made of what stands there and its version: two who take the same step at
once take it once, and a repeat is a repeat.
"""

from typing import Final
from uuid import UUID

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2

from omctl.names import name_of
from simulator.requests import request_id

# The work that waits for somebody in the warehouse, and the parcels that are on their way.
AT_WORK: Final = (
    fulfillment_pb2.FULFILLMENT_STATUS_PLANNING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKING,
    fulfillment_pb2.FULFILLMENT_STATUS_PICKED,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKING,
    fulfillment_pb2.FULFILLMENT_STATUS_PACKED,
)
# What a carrier reports of a parcel that stands there, and where it was.
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

# A parcel of the shop: a box, and what the units in it weigh.
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
    """What is to be done with the goods now; None where nothing is, or not yet (the stock is not
    committed).
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
    """What the carrier reports next; None where the parcel has come to rest, or is not with the
    carrier.

    A parcel that is wanted back is brought back; one that was not fetched yet is not fetched any
    more.
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
        occur_time=shipment.update_time,  # and not "now": the same report twice says the same
        location=location,
    )


def _id(work: fulfillment_pb2.Fulfillment, step: str) -> str:
    return request_id(UUID(work.fulfillment_id), f"{step}@{work.version}")


def _scan(work: fulfillment_pb2.Fulfillment) -> api.ScanItemRequest | api.CompletePickingRequest:
    """Every unit that is still on the shelf; the end of picking where there is none."""
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
    """Everything that was picked, in one box."""
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
