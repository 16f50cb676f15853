"""Domain events, as published events."""

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2

from chassis.values.convert import timestamp
from chassis.values.outgoing_event import OutgoingEvent
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import VoidLabel
from fulfillment_svc.wire.enums import NO_STATUS, STATUS
from fulfillment_svc.wire.responses import fulfillment


def outgoing_event(domain_event: StatusChanged | LinesChanged) -> OutgoingEvent:
    """Returns the message of a domain event, with the fulfilment after the change."""
    record = domain_event.fulfillment
    return OutgoingEvent(
        aggregate=record.id, order_id=record.key.order_id, message=_message(domain_event)
    )


def _message(domain_event: StatusChanged | LinesChanged) -> Message:
    record = domain_event.fulfillment
    if isinstance(domain_event, LinesChanged):
        return fulfillment_events_pb2.FulfillmentLinesChanged(
            fulfillment=fulfillment(record),
            reason=domain_event.reason,
            occur_time=timestamp(record.update_time),
            attempt_never_started=domain_event.never_started,
            shipped_after_void=_shipped_after_void(domain_event.shipped_after_void)
            if domain_event.shipped_after_void
            else None,
            actor=domain_event.actor,
            claimed_actor=domain_event.claimed_actor,
            cause_id=domain_event.cause,
        )
    return fulfillment_events_pb2.FulfillmentStatusChanged(
        fulfillment=fulfillment(record),
        old_status=STATUS[domain_event.old] if domain_event.old else NO_STATUS,
        new_status=STATUS[record.status],
        reason=domain_event.reason,
        occur_time=timestamp(record.update_time),
        attempt_never_started=domain_event.never_started,
        actor=domain_event.actor,
        claimed_actor=domain_event.claimed_actor,
        cause_id=domain_event.cause,
    )


def _shipped_after_void(label: VoidLabel) -> fulfillment_events_pb2.ShippedAfterVoid:
    items = [
        fulfillment_pb2.PackedItem(line_number=number, quantity=quantity)
        for number, quantity in label.units.items()
    ]
    return fulfillment_events_pb2.ShippedAfterVoid(shipment_id=str(label.shipment_id), items=items)
