"""Events in: wire -> operation or write, for all events that a pull returned."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged
from ordermesh.shipping.events.v1.shipping_events_pb2 import (
    DeliveryConfirmed,
    ShipmentCreated,
    ShipmentStatusChanged,
)

from chassis.consume.dispatch import Handler, handler
from chassis.write.writer import Writer
from fulfillment_svc.model.records import OrderFulfillments
from fulfillment_svc.operations.orders import OrderOperations
from fulfillment_svc.wire import events_in


def handlers(
    orders: OrderOperations, writer: Writer[OrderFulfillments]
) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handler of each event that the fulfilment service consumes."""
    apply, write = orders.apply_order_events, writer.write
    return {
        OrderStatusChanged: handler(events_in.order_status_changed, apply),
        OrderItemsCancelled: handler(events_in.order_items_cancelled, apply),
        ShipmentCreated: handler(events_in.shipment_created, write),
        ShipmentStatusChanged: handler(events_in.shipment_status_changed, write),
        DeliveryConfirmed: handler(events_in.delivery_confirmed, write),
    }
