"""Protobuf to model and back, and facts to events. Pure."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged, FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.convert import given, invalid, moment, names, resume_token, timestamp, timestamp_or_none
from chassis.idempotency import Keyed
from chassis.outgoing import OutgoingEvent
from shipping_svc.lifecycle import Status
from shipping_svc.model import (
    Ask,
    BuryFulfillment,
    BuryOrder,
    Cancel,
    Created,
    Delivered,
    Fact,
    Label,
    Parcel,
    Recipient,
    Report,
    Shipment,
    ShipmentFilter,
    StatusChanged,
    TrackingEvent,
    Wanted,
)

STATUS = names(Status, "SHIPMENT_STATUS", shipping_pb2.ShipmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
DEATHS = {order_pb2.ORDER_STATUS_CANCELLED: "cancelled", order_pb2.ORDER_STATUS_FAILED: "failed"}

# --- requests


def ask(request: api.CreateShipmentRequest, of: Keyed) -> Ask:
    parcels = _parcels(request.parcels)
    about = (UUID(request.order_id), request.attempt, UUID(request.fulfillment_id), request.warehouse_id)
    wanted = Wanted(*about, parcels, request.fulfillment_version)
    return Ask(of.key, of.digest, "shipping", request.request_id, wanted)


def shipment_filter(request: api.ListShipmentsRequest) -> ShipmentFilter:
    order_id = given(request, "order_id")
    return ShipmentFilter(
        order_id=UUID(order_id) if order_id else None,
        carrier=given(request, "carrier"),
        tracking_number=given(request, "tracking_number"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
    )


def cancel(request: api.CancelShipmentRequest, of: Keyed) -> Cancel:
    target, expected = UUID(request.shipment_id), given(request, "expected_version")
    return Cancel(of.key, of.digest, target, "staff", request.request_id, expected_version=expected)


def report(request: api.RecordTrackingEventRequest) -> Report:
    occur_time = moment(request.occur_time, "occur_time")
    return Report(request.carrier_event_id, STATUS_OF[request.status], occur_time, request.location)


# --- events and answers of others

# The statuses of a fulfilment that shipping acts on.
FOLLOWED = frozenset({fulfillment_pb2.FULFILLMENT_STATUS_READY, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED})


def ready(event: FulfillmentStatusChanged, of: Keyed, cause: str) -> Ask | None:
    """What is to be shipped; None where the fulfilment is not ready: then there is nothing to do."""
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_READY:
        return None
    its = event.fulfillment
    if not its.packages:
        raise invalid("fulfillment.packages", "must not be empty when the fulfilment is ready")
    about = (UUID(its.order_id), its.attempt, UUID(its.fulfillment_id), its.warehouse_id)
    wanted = Wanted(*about, _parcels(its.packages), its.version)
    return Ask(of.key, of.digest, "fulfillment", cause, wanted)


def withdrawn(event: FulfillmentLinesChanged, of: Keyed, cause: str) -> Ask | None:
    """What is not to be shipped as it stands; None where nothing is withdrawn."""
    its = event.fulfillment
    if not its.HasField("withdraw_reason"):
        return None
    about = (UUID(its.order_id), its.attempt, UUID(its.fulfillment_id), its.warehouse_id)
    return Ask(of.key, of.digest, "fulfillment", cause, Wanted(*about, _parcels(its.packages), its.version))


def bury_fulfillment(event: FulfillmentStatusChanged, of: Keyed, cause: str) -> BuryFulfillment | None:
    """The fulfilment's death; None where it lives."""
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED:
        return None
    its = event.fulfillment
    return BuryFulfillment(of.key, of.digest, UUID(its.fulfillment_id), "fulfillment", cause, version=its.version)


def bury(event: OrderStatusChanged, of: Keyed, cause: str) -> BuryOrder | None:
    """The order's death; None where it lives."""
    status = DEATHS.get(event.new_status)
    if status is None:
        return None
    target = UUID(event.order_id)
    return BuryOrder(of.key, of.digest, target, "order", cause, attempt=event.attempt, status=status, version=event.order_version)


def recipient(its: order_pb2.Recipient) -> Recipient:
    lines = tuple(its.address_lines)
    return Recipient(its.name, lines, its.locality, its.administrative_area, its.postal_code, its.country_code, its.phone)


# --- answers and events of ours


def shipment(its: Shipment) -> shipping_pb2.Shipment:
    return shipping_pb2.Shipment(
        shipment_id=str(its.id),
        order_id=str(its.order_id),
        attempt=its.attempt,
        fulfillment_id=str(its.fulfillment_id),
        warehouse_id=its.warehouse_id,
        status=STATUS[its.status],
        status_reason=its.reason,
        carrier=its.carrier,
        carrier_code=its.carrier_code,
        tracking_number=its.tracking_number,
        parcels=[
            shipping_pb2.Parcel(weight_grams=p.weight_grams, length_mm=p.length_mm, width_mm=p.width_mm, height_mm=p.height_mm)
            for p in its.parcels
        ],
        version=its.version,
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
        deliver_time=timestamp_or_none(its.deliver_time),
        recall_time=timestamp_or_none(its.recall_time),
        fulfillment_version=its.fulfillment_version,
        withdraw_version=its.withdraw_version,
        contradict_time=timestamp_or_none(its.contradict_time),
    )


def tracking_event(its: TrackingEvent, carrier: str) -> shipping_pb2.TrackingEvent:
    return shipping_pb2.TrackingEvent(
        shipment_id=str(its.shipment_id),
        carrier=carrier,
        carrier_event_id=its.report.carrier_event_id,
        status=STATUS[its.report.status],
        occur_time=timestamp(its.report.occur_time),
        location=its.report.location,
        record_time=timestamp(its.record_time),
    )


def label(its: Label) -> api.GetLabelResponse:
    return api.GetLabelResponse(content=its.content, content_type=its.content_type)


def watched(shipment_id: UUID, update: Shipment | datetime, version: int) -> api.WatchShipmentResponse:
    """What a watch sends: the shipment, or (a time) a heartbeat; `version` is what was sent of it last."""
    response = api.WatchShipmentResponse(resume_token=resume_token(shipment_id, version))
    match update:
        case Shipment():
            response.shipment.CopyFrom(shipment(update))
        case datetime():
            response.heartbeat.server_time.FromDatetime(update)
    return response


def event(fact: Fact) -> OutgoingEvent:
    """The event that tells of a fact, with the shipment as it stood after it."""
    its = fact.shipment
    return OutgoingEvent(aggregate=its.id, order_id=its.order_id, message=_message(fact))


def _message(fact: Fact) -> Message:
    its = fact.shipment
    message, when = shipment(its), timestamp(its.update_time)
    match fact:
        case Created():
            return shipping_events_pb2.ShipmentCreated(shipment=message, occur_time=when)
        case StatusChanged():
            return shipping_events_pb2.ShipmentStatusChanged(
                shipment=message, old_status=STATUS[fact.old], new_status=STATUS[its.status], occur_time=when
            )
        case Delivered():
            return shipping_events_pb2.DeliveryConfirmed(shipment=message, deliver_time=message.deliver_time, occur_time=when)


def _parcels(messages: Iterable[shipping_pb2.Parcel | fulfillment_pb2.Package]) -> tuple[Parcel, ...]:
    return tuple(Parcel(m.weight_grams, m.length_mm, m.width_mm, m.height_mm) for m in messages)
