"""Protobuf to model and back, and facts to events. Pure."""

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
    given,
    invalid,
    moment,
    names,
    resume_token,
    timestamp,
    timestamp_or_none,
)
from chassis.values.envelope import Envelope, EventSource
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import Keyed
from shipping_svc.lifecycle import Status
from shipping_svc.model.commands import BuryFulfillment, BuryOrder, Cancel
from shipping_svc.model.events import Created, Delivered, Fact, StatusChanged
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    Label,
    Parcel,
    Recipient,
    Report,
    Shipment,
    TrackingEvent,
    Transition,
    Wanted,
)

STATUS = names(Status, "SHIPMENT_STATUS", shipping_pb2.ShipmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
DEATHS = {order_pb2.ORDER_STATUS_CANCELLED: "cancelled", order_pb2.ORDER_STATUS_FAILED: "failed"}

# --- requests


def create_shipment(request: api.CreateShipmentRequest, of: Keyed) -> Envelope[Wanted]:
    """The target is the fulfilment, until an operation proposes the id of a shipment."""
    wanted = Wanted(
        order_id=UUID(request.order_id),
        attempt=request.attempt,
        fulfillment_id=UUID(request.fulfillment_id),
        warehouse_id=request.warehouse_id,
        parcels=_parcels(request.parcels),
        fulfillment_version=request.fulfillment_version,
    )
    return Envelope.of_request(
        of,
        wanted,
        target=wanted.fulfillment_id,
        actor="shipping",
        cause=request.request_id,
    )


def shipment_filter(request: api.ListShipmentsRequest) -> ShipmentFilter:
    order_id = given(request, "order_id")
    return ShipmentFilter(
        order_id=UUID(order_id) if order_id else None,
        carrier=given(request, "carrier"),
        tracking_number=given(request, "tracking_number"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


def cancel_shipment(request: api.CancelShipmentRequest, of: Keyed) -> Envelope[Cancel]:
    return Envelope.of_request(
        of,
        Cancel(expected_version=given(request, "expected_version")),
        target=UUID(request.shipment_id),
        actor="staff",
        cause=request.request_id,
    )


def report(request: api.RecordTrackingEventRequest) -> Report:
    occur_time = moment(request.occur_time, "occur_time")
    return Report(
        carrier_event_id=request.carrier_event_id,
        status=STATUS_OF[request.status],
        occur_time=occur_time,
        location=request.location,
    )


# --- events and answers of others

# The statuses of a fulfilment that shipping acts on.
FOLLOWED = frozenset(
    {fulfillment_pb2.FULFILLMENT_STATUS_READY, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED}
)


def ready(event: FulfillmentStatusChanged, of: EventSource) -> Envelope[Wanted] | None:
    """What is to be shipped; None where the fulfilment is not ready.

    Raises Invalid VALIDATION_FAILED where it has no packages.
    """
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_READY:
        return None
    if not event.fulfillment.packages:
        raise invalid("fulfillment.packages", "must not be empty when the fulfilment is ready")
    return _wanted(event.fulfillment, of)


def withdrawn(event: FulfillmentLinesChanged, of: EventSource) -> Envelope[Wanted] | None:
    """What is not to be shipped as it stands; None where nothing is withdrawn."""
    its = event.fulfillment
    return _wanted(its, of) if its.HasField("withdraw_reason") else None


def _wanted(its: fulfillment_pb2.Fulfillment, of: EventSource) -> Envelope[Wanted]:
    """The target is the fulfilment, until an operation proposes the id of a shipment."""
    wanted = Wanted(
        order_id=UUID(its.order_id),
        attempt=its.attempt,
        fulfillment_id=UUID(its.fulfillment_id),
        warehouse_id=its.warehouse_id,
        parcels=_parcels(its.packages),
        fulfillment_version=its.version,
    )
    return Envelope.of_event(of, wanted, target=wanted.fulfillment_id, actor="fulfillment")


def bury_fulfillment(
    event: FulfillmentStatusChanged,
    of: EventSource,
) -> Envelope[BuryFulfillment] | None:
    """None where the fulfilment is not cancelled."""
    if event.new_status != fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED:
        return None
    command = BuryFulfillment(version=event.fulfillment.version)
    target = UUID(event.fulfillment.fulfillment_id)
    return Envelope.of_event(of, command, target=target, actor="fulfillment")


def bury(event: OrderStatusChanged, of: EventSource) -> Envelope[BuryOrder] | None:
    """None where the order is neither cancelled nor failed."""
    status = DEATHS.get(event.new_status)
    if status is None:
        return None
    command = BuryOrder(attempt=event.attempt, status=status, version=event.order_version)
    return Envelope.of_event(of, command, target=UUID(event.order_id), actor="order")


def recipient(its: order_pb2.Recipient) -> Recipient:
    lines = tuple(its.address_lines)
    return Recipient(
        name=its.name,
        address_lines=lines,
        locality=its.locality,
        administrative_area=its.administrative_area,
        postal_code=its.postal_code,
        country_code=its.country_code,
        phone=its.phone,
    )


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
            shipping_pb2.Parcel(
                weight_grams=p.weight_grams,
                length_mm=p.length_mm,
                width_mm=p.width_mm,
                height_mm=p.height_mm,
            )
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
        claimed_actor=its.claimed_actor,
        note=its.note,
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


def label(its: Label) -> api.GetLabelResponse:
    return api.GetLabelResponse(content=its.content, content_type=its.content_type)


def watched(
    shipment_id: UUID, update: Shipment | datetime, version: int
) -> api.WatchShipmentResponse:
    """What a watch sends: the shipment, or (a time) a heartbeat; `version` is what was sent of
    it last.
    """
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
    """The note of the step is left out: it is for the history alone."""
    its, step = fact.shipment, fact.step
    common: dict[str, Any] = {
        "shipment": shipment(its),
        "occur_time": timestamp(its.update_time),
        "reason": step.reason,
        "actor": step.actor,
        "claimed_actor": step.claimed_actor,
        "cause_id": step.cause,
    }
    match fact:
        case Created():
            return shipping_events_pb2.ShipmentCreated(**common)
        case StatusChanged():
            old = STATUS[step.old] if step.old else shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED
            common |= {"old_status": old, "new_status": STATUS[step.new]}
            return shipping_events_pb2.ShipmentStatusChanged(**common)
        case Delivered():
            deliver_time = timestamp_or_none(its.deliver_time)
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
