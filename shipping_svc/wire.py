"""Protobuf to model and back, and domain events to messages. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.values.convert import (
    enum_values,
    invalid_field,
    optional_field,
    parse_time,
    resume_token,
    timestamp,
    timestamp_or_none,
)
from chassis.values.envelope import Envelope, EventSource
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import RequestContext
from shipping_svc.lifecycle import Status
from shipping_svc.model.commands import CancelShipment, CloseFulfillment, CloseOrder
from shipping_svc.model.events import Created, Delivered, DomainEvent, StatusChanged
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    Label,
    Parcel,
    Recipient,
    Report,
    Shipment,
    ShipmentRequest,
    TrackingEvent,
    Transition,
)

STATUS = enum_values(Status, "SHIPMENT_STATUS", shipping_pb2.ShipmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
CLOSED_STATUSES = {
    order_pb2.ORDER_STATUS_CANCELLED: "cancelled",
    order_pb2.ORDER_STATUS_FAILED: "failed",
}

# --- requests


def create_shipment(
    request: api.CreateShipmentRequest, context: RequestContext
) -> Envelope[ShipmentRequest]:
    """The target is the fulfilment, until an operation proposes the id of a shipment."""
    shipment_request = ShipmentRequest(
        order_id=UUID(request.order_id),
        attempt=request.attempt,
        fulfillment_id=UUID(request.fulfillment_id),
        warehouse_id=request.warehouse_id,
        parcels=_parcels(request.parcels),
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


# --- events and answers of others

# The statuses of a fulfilment that shipping acts on.
HANDLED_STATUSES = frozenset(
    {fulfillment_pb2.FULFILLMENT_STATUS_READY, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED}
)


def ready_fulfillment(
    event: FulfillmentStatusChanged, source: EventSource
) -> Envelope[ShipmentRequest] | None:
    """The request to ship the parcels; None where the fulfilment is not ready.

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
    """The request to withdraw the parcels; None where nothing is withdrawn."""
    fulfillment = event.fulfillment
    return (
        _shipment_request(fulfillment, source) if fulfillment.HasField("withdraw_reason") else None
    )


def _shipment_request(
    fulfillment: fulfillment_pb2.Fulfillment, source: EventSource
) -> Envelope[ShipmentRequest]:
    """The target is the fulfilment, until an operation proposes the id of a shipment."""
    shipment_request = ShipmentRequest(
        order_id=UUID(fulfillment.order_id),
        attempt=fulfillment.attempt,
        fulfillment_id=UUID(fulfillment.fulfillment_id),
        warehouse_id=fulfillment.warehouse_id,
        parcels=_parcels(fulfillment.packages),
        fulfillment_version=fulfillment.version,
    )
    return Envelope.of_event(
        source, shipment_request, target=shipment_request.fulfillment_id, actor="fulfillment"
    )


def close_fulfillment(
    event: FulfillmentStatusChanged,
    source: EventSource,
) -> Envelope[CloseFulfillment] | None:
    """The command that closes the fulfilment; None where it is not cancelled."""
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED:
        return None
    command = CloseFulfillment(version=event.fulfillment.version)
    target = UUID(event.fulfillment.fulfillment_id)
    return Envelope.of_event(source, command, target=target, actor="fulfillment")


def close_order(event: OrderStatusChanged, source: EventSource) -> Envelope[CloseOrder] | None:
    """The command that closes the order; None where it is neither cancelled nor failed."""
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


# --- answers and events of ours


def shipment(record: Shipment) -> shipping_pb2.Shipment:
    return shipping_pb2.Shipment(
        shipment_id=str(record.id),
        order_id=str(record.order_id),
        attempt=record.attempt,
        fulfillment_id=str(record.fulfillment_id),
        warehouse_id=record.warehouse_id,
        status=STATUS[record.status],
        status_reason=record.reason,
        carrier=record.carrier,
        carrier_code=record.carrier_code,
        tracking_number=record.tracking_number,
        parcels=[
            shipping_pb2.Parcel(
                weight_grams=p.weight_grams,
                length_mm=p.length_mm,
                width_mm=p.width_mm,
                height_mm=p.height_mm,
            )
            for p in record.parcels
        ],
        version=record.version,
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        deliver_time=timestamp_or_none(record.deliver_time),
        recall_time=timestamp_or_none(record.recall_time),
        fulfillment_version=record.fulfillment_version,
        withdraw_version=record.withdraw_version,
        contradict_time=timestamp_or_none(record.contradict_time),
    )


def tracking_event(record: TrackingEvent, carrier: str) -> shipping_pb2.TrackingEvent:
    return shipping_pb2.TrackingEvent(
        shipment_id=str(record.shipment_id),
        carrier=carrier,
        carrier_event_id=record.report.carrier_event_id,
        status=STATUS[record.report.status],
        occur_time=timestamp(record.report.occur_time),
        location=record.report.location,
        record_time=timestamp(record.record_time),
        claimed_actor=record.claimed_actor,
        note=record.note,
    )


def transition(step: Transition) -> shipping_pb2.ShipmentTransition:
    return shipping_pb2.ShipmentTransition(
        shipment_id=str(step.shipment_id),
        shipment_version=step.version,
        old_status=STATUS[step.old] if step.old else shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED,
        new_status=STATUS[step.new],
        reason=step.reason,
        actor=step.actor,
        cause_id=step.cause,
        occur_time=timestamp(step.time),
        claimed_actor=step.claimed_actor,
        note=step.note,
    )


def label(record: Label) -> api.GetLabelResponse:
    return api.GetLabelResponse(content=record.content, content_type=record.content_type)


def watch_response(
    shipment_id: UUID, update: Shipment | datetime, version: int
) -> api.WatchShipmentResponse:
    """A message of a watch: the shipment, or a heartbeat with the time; `version` is the version
    that was sent last.
    """
    response = api.WatchShipmentResponse(resume_token=resume_token(shipment_id, version))
    match update:
        case Shipment():
            response.shipment.CopyFrom(shipment(update))
        case datetime():
            response.heartbeat.server_time.FromDatetime(update)
    return response


def outgoing_event(domain_event: DomainEvent) -> OutgoingEvent:
    """The message of a domain event, with the shipment as it was after it."""
    record = domain_event.shipment
    return OutgoingEvent(
        aggregate=record.id, order_id=record.order_id, message=_message(domain_event)
    )


def _message(domain_event: DomainEvent) -> Message:
    """The note of the step is left out: it is for the history alone."""
    record, step = domain_event.shipment, domain_event.step
    common: dict[str, Any] = {
        "shipment": shipment(record),
        "occur_time": timestamp(record.update_time),
        "reason": step.reason,
        "actor": step.actor,
        "claimed_actor": step.claimed_actor,
        "cause_id": step.cause,
    }
    match domain_event:
        case Created():
            return shipping_events_pb2.ShipmentCreated(**common)
        case StatusChanged():
            old = STATUS[step.old] if step.old else shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED
            common |= {"old_status": old, "new_status": STATUS[step.new]}
            return shipping_events_pb2.ShipmentStatusChanged(**common)
        case Delivered():
            deliver_time = timestamp_or_none(record.deliver_time)
            return shipping_events_pb2.DeliveryConfirmed(**common, deliver_time=deliver_time)


def _parcels(
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
