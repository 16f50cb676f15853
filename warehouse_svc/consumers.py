"""Events in: wire -> write, for all events that a pull returned."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)

from chassis.consume.dispatch import Handler, handler
from chassis.write.writer import Writer
from warehouse_svc.model.records import OrderStock
from warehouse_svc.wire import events_in


def handlers(writer: Writer[OrderStock]) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handler of each event that the warehouse service consumes."""
    write = writer.write
    return {
        OrderStatusChanged: handler(events_in.order_status_changed, write),
        OrderItemsCancelled: handler(events_in.order_items_cancelled, write),
        ReturnStatusChanged: handler(events_in.return_status_changed, write),
        FulfillmentStatusChanged: handler(events_in.fulfillment_changed, write),
        FulfillmentLinesChanged: handler(events_in.fulfillment_changed, write),
    }
