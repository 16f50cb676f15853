"""Events in: wire -> write, for all events that a pull returned."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from uuid_utils.compat import uuid7

from chassis.consume.dispatch import Handler, handler
from chassis.values.envelope import Envelope, EventSource
from payment_svc.model.commands import ApplyOrderVersion
from payment_svc.operations.writing import AccountWriter
from payment_svc.wire import events_in


def handlers(writer: AccountWriter) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handler of each event that the payment service consumes."""
    write = writer.write
    return {
        OrderStatusChanged: handler(_apply_order_version, write),
        OrderItemsCancelled: handler(_apply_order_version, write),
        ReturnStatusChanged: handler(events_in.refund_return, write),
    }


def _apply_order_version(
    event: events_in.OrderEvent, source: EventSource
) -> Envelope[ApplyOrderVersion]:
    """Returns the command, with a new id for the payment of an order of total zero."""
    return events_in.apply_order_version(event, source, payment_id=uuid7())
