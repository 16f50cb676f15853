"""Records, as messages of responses."""

from datetime import datetime
from uuid import UUID

from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api

from chassis.values.convert import resume_token, timestamp, timestamp_or_none
from shipping_svc.model.records import (
    Label,
    Shipment,
    TrackingEvent,
    Transition,
)
from shipping_svc.wire.enums import STATUS


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


def transition(row: Transition) -> shipping_pb2.ShipmentTransition:
    return shipping_pb2.ShipmentTransition(
        shipment_id=str(row.shipment_id),
        shipment_version=row.version,
        old_status=STATUS[row.old] if row.old else shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED,
        new_status=STATUS[row.new],
        reason=row.reason,
        actor=row.actor,
        cause_id=row.cause,
        occur_time=timestamp(row.time),
        claimed_actor=row.claimed_actor,
        note=row.note,
    )


def label(record: Label) -> api.GetLabelResponse:
    return api.GetLabelResponse(content=record.content, content_type=record.content_type)


def watch_response(
    shipment_id: UUID, update: Shipment | datetime, version: int
) -> api.WatchShipmentResponse:
    """Returns a message of a watch: the shipment, or a heartbeat with the time.

    `version` is the version that was sent last.
    """
    response = api.WatchShipmentResponse(resume_token=resume_token(shipment_id, version))
    match update:
        case Shipment():
            response.shipment.CopyFrom(shipment(update))
        case datetime():
            response.heartbeat.server_time.FromDatetime(update)
    return response
