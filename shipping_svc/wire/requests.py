"""Requests of callers, as commands in envelopes and as filters."""

from collections.abc import Iterable
from uuid import UUID

from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.values.convert import (
    optional_field,
    parse_time,
)
from chassis.values.envelope import Envelope
from chassis.values.request_context import RequestContext
from shipping_svc.model.commands import CancelShipment
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    Parcel,
    Report,
    ShipmentRequest,
)
from shipping_svc.wire.enums import STATUS_OF


def create_shipment(
    request: api.CreateShipmentRequest, context: RequestContext
) -> Envelope[ShipmentRequest]:
    """Returns the request in an envelope.

    Its target is the fulfilment; an operation then proposes the id of a shipment.
    """
    shipment_request = ShipmentRequest(
        order_id=UUID(request.order_id),
        attempt=request.attempt,
        fulfillment_id=UUID(request.fulfillment_id),
        warehouse_id=request.warehouse_id,
        parcels=parcels(request.parcels),
        fulfillment_version=request.fulfillment_version,
    )
    return Envelope.of_request(
        context,
        shipment_request,
        target=shipment_request.fulfillment_id,
        actor="shipping",
        cause=request.request_id,
    )


def shipment_filter(request: api.ListShipmentsRequest) -> ShipmentFilter:
    order_id = optional_field(request, "order_id")
    return ShipmentFilter(
        order_id=UUID(order_id) if order_id else None,
        carrier=optional_field(request, "carrier"),
        tracking_number=optional_field(request, "tracking_number"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def cancel_shipment(
    request: api.CancelShipmentRequest, context: RequestContext
) -> Envelope[CancelShipment]:
    return Envelope.of_request(
        context,
        CancelShipment(expected_version=optional_field(request, "expected_version")),
        target=UUID(request.shipment_id),
        actor="staff",
        cause=request.request_id,
    )


def report(request: api.RecordTrackingEventRequest) -> Report:
    occur_time = parse_time(request.occur_time, "occur_time")
    return Report(
        carrier_event_id=request.carrier_event_id,
        status=STATUS_OF[request.status],
        occur_time=occur_time,
        location=request.location,
    )


def parcels(
    messages: Iterable[shipping_pb2.Parcel | fulfillment_pb2.Package],
) -> tuple[Parcel, ...]:
    return tuple(
        Parcel(
            weight_grams=m.weight_grams,
            length_mm=m.length_mm,
            width_mm=m.width_mm,
            height_mm=m.height_mm,
        )
        for m in messages
    )
