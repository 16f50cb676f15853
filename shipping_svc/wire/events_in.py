"""Events and answers of the other services, as commands in envelopes and as records."""

from uuid import UUID

from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2

from chassis.values.convert import (
    invalid_field,
)
from chassis.values.envelope import Envelope, EventSource
from shipping_svc.model.commands import CloseFulfillment, CloseOrder
from shipping_svc.model.records import Recipient, ShipmentRequest
from shipping_svc.wire.enums import CLOSED_STATUSES
from shipping_svc.wire.requests import parcels

# The statuses of a fulfilment that shipping acts on.
HANDLED_STATUSES = frozenset(
    {fulfillment_pb2.FULFILLMENT_STATUS_READY, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED}
)


def ready_fulfillment(
    event: FulfillmentStatusChanged, source: EventSource
) -> Envelope[ShipmentRequest] | None:
    """Returns the request to ship the parcels; None where the fulfilment is not ready.

    Raises Invalid VALIDATION_FAILED where it has no packages.
    """
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_READY:
        return None
    if not event.fulfillment.packages:
        raise invalid_field(
            "fulfillment.packages", "must not be empty when the fulfilment is ready"
        )
    return _shipment_request(event.fulfillment, source)


def withdrawn_fulfillment(
    event: FulfillmentLinesChanged, source: EventSource
) -> Envelope[ShipmentRequest] | None:
    """Returns the request to withdraw the parcels; None where the fulfilment withdraws none."""
    fulfillment = event.fulfillment
    return (
        _shipment_request(fulfillment, source) if fulfillment.HasField("withdraw_reason") else None
    )


def _shipment_request(
    fulfillment: fulfillment_pb2.Fulfillment, source: EventSource
) -> Envelope[ShipmentRequest]:
    """Returns the request in an envelope.

    Its target is the fulfilment; an operation then proposes the id of a shipment.
    """
    shipment_request = ShipmentRequest(
        order_id=UUID(fulfillment.order_id),
        attempt=fulfillment.attempt,
        fulfillment_id=UUID(fulfillment.fulfillment_id),
        warehouse_id=fulfillment.warehouse_id,
        parcels=parcels(fulfillment.packages),
        fulfillment_version=fulfillment.version,
    )
    return Envelope.of_event(
        source, shipment_request, target=shipment_request.fulfillment_id, actor="fulfillment"
    )


def close_fulfillment(
    event: FulfillmentStatusChanged,
    source: EventSource,
) -> Envelope[CloseFulfillment] | None:
    """Returns the command that closes the fulfilment; None where it is not cancelled."""
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED:
        return None
    command = CloseFulfillment(version=event.fulfillment.version)
    target = UUID(event.fulfillment.fulfillment_id)
    return Envelope.of_event(source, command, target=target, actor="fulfillment")


def close_order(event: OrderStatusChanged, source: EventSource) -> Envelope[CloseOrder] | None:
    """Returns the command that closes the order; None where it is open."""
    status = CLOSED_STATUSES.get(event.new_status)
    if status is None:
        return None
    command = CloseOrder(attempt=event.attempt, status=status, version=event.order_version)
    return Envelope.of_event(source, command, target=UUID(event.order_id), actor="order")


def recipient(message: order_pb2.Recipient) -> Recipient:
    lines = tuple(message.address_lines)
    return Recipient(
        name=message.name,
        address_lines=lines,
        locality=message.locality,
        administrative_area=message.administrative_area,
        postal_code=message.postal_code,
        country_code=message.country_code,
        phone=message.phone,
    )
