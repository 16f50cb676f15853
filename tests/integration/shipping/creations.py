"""Events, calls and queries for the tests of creations."""

from datetime import UTC, datetime
from uuid import uuid4

from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.consume.delivery import Delivery
from tests.sample.contract_events import fulfillment


def key_of(shipment: shipping_pb2.Shipment) -> str:
    return f"shipment:{shipment.shipment_id}:label"


def fulfillment_event(
    request: api.CreateShipmentRequest, status: str
) -> Delivery[FulfillmentStatusChanged]:
    """Returns the event that the request's fulfilment has this status."""
    event_id = uuid4()
    fulfilled = fulfillment(fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{status}"))
    fulfilled.order_id, fulfilled.fulfillment_id = request.order_id, request.fulfillment_id
    message = FulfillmentStatusChanged(fulfillment=fulfilled, new_status=fulfilled.status)
    return Delivery(
        event_id=event_id,
        key=f"shipping-test:{event_id}",
        request_hash=event_id.bytes,
        message=message,
        time=datetime.now(UTC),
    )
