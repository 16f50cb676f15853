"""Domain events, as published events."""

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2

from chassis.values.convert import timestamp
from chassis.values.outgoing_event import OutgoingEvent
from fulfillment_svc.model.records import LinesChanged, StatusChanged, VoidLabel
from fulfillment_svc.wire.enums import NO_STATUS, STATUS
from fulfillment_svc.wire.responses import fulfillment


def outgoing_event(fact: StatusChanged | LinesChanged) -> OutgoingEvent:
    """The message of a change, with the fulfilment as it was after it."""
    record = fact.fulfillment
    return OutgoingEvent(aggregate=record.id, order_id=record.key.order_id, message=_message(fact))


def _message(fact: StatusChanged | LinesChanged) -> Message:
    record = fact.fulfillment
    if isinstance(fact, LinesChanged):
        return fulfillment_events_pb2.FulfillmentLinesChanged(
            fulfillment=fulfillment(record),
            reason=fact.reason,
            occur_time=timestamp(record.update_time),
            attempt_never_started=fact.never_started,
            left_after_void=_left_after_void(fact.left_after_void)
            if fact.left_after_void
            else None,
            actor=fact.actor,
            claimed_actor=fact.claimed_actor,
            cause_id=fact.cause,
        )
    return fulfillment_events_pb2.FulfillmentStatusChanged(
        fulfillment=fulfillment(record),
        old_status=STATUS[fact.old] if fact.old else NO_STATUS,
        new_status=STATUS[record.status],
        reason=fact.reason,
        occur_time=timestamp(record.update_time),
        attempt_never_started=fact.never_started,
        actor=fact.actor,
        claimed_actor=fact.claimed_actor,
        cause_id=fact.cause,
    )


def _left_after_void(label: VoidLabel) -> fulfillment_events_pb2.LeftAfterVoid:
    items = [
        fulfillment_pb2.PackedItem(line_number=number, quantity=quantity)
        for number, quantity in label.units.items()
    ]
    return fulfillment_events_pb2.LeftAfterVoid(shipment_id=str(label.shipment_id), items=items)
