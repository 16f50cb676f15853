"""Domain events, as published events."""

from typing import Any

from google.protobuf.message import Message
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.convert import timestamp, timestamp_or_none
from chassis.values.outgoing_event import OutgoingEvent
from shipping_svc.model.events import Created, Delivered, StatusChanged
from shipping_svc.wire.enums import STATUS
from shipping_svc.wire.responses import shipment


def outgoing_event(domain_event: Created | StatusChanged | Delivered) -> OutgoingEvent:
    """Returns the message of a domain event, with the shipment after the change."""
    record = domain_event.shipment
    return OutgoingEvent(
        aggregate=record.id, order_id=record.order_id, message=_message(domain_event)
    )


def _message(domain_event: Created | StatusChanged | Delivered) -> Message:
    """Returns the message without the note of the transition, which only the history has."""
    record, transition = domain_event.shipment, domain_event.transition
    common: dict[str, Any] = {
        "shipment": shipment(record),
        "occur_time": timestamp(record.update_time),
        "reason": transition.reason,
        "actor": transition.actor,
        "claimed_actor": transition.claimed_actor,
        "cause_id": transition.cause,
    }
    match domain_event:
        case Created():
            return shipping_events_pb2.ShipmentCreated(**common)
        case StatusChanged():
            old = (
                STATUS[transition.old]
                if transition.old
                else shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED
            )
            common |= {"old_status": old, "new_status": STATUS[transition.new]}
            return shipping_events_pb2.ShipmentStatusChanged(**common)
        case Delivered():
            deliver_time = timestamp_or_none(record.deliver_time)
            return shipping_events_pb2.DeliveryConfirmed(**common, deliver_time=deliver_time)
