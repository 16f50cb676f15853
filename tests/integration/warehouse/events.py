"""What the other services tell that concerns stock, as their events. No tests here."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID, uuid4

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2

from chassis.inbox import Delivery

PENDING, CONFIRMED = order_pb2.ORDER_STATUS_PENDING, order_pb2.ORDER_STATUS_CONFIRMED
PROCESSING, CANCELLED = order_pb2.ORDER_STATUS_PROCESSING, order_pb2.ORDER_STATUS_CANCELLED
FAILED = order_pb2.ORDER_STATUS_FAILED
WORK = fulfillment_pb2.FulfillmentStatus
OrderStatus: TypeAlias = "order_pb2.OrderStatus.ValueType"
Work: TypeAlias = "fulfillment_pb2.FulfillmentStatus.ValueType"


def delivery(message: Message) -> Delivery[Message]:
    """The message as the warehouse's consumer gets it; the same message is another event each time."""
    event_id = uuid4()
    digest = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
    return Delivery(event_id, f"warehouse-test:{event_id}", digest, message, datetime.now(UTC))


def order_moved(order_id: UUID, old: OrderStatus, new: OrderStatus, attempt: int = 1) -> OrderStatusChanged:
    return OrderStatusChanged(order_id=str(order_id), attempt=attempt, old_status=old, new_status=new)


def work_moved(order_id: UUID, warehouse_id: str, status: Work, units: Mapping[int, int], attempt: int = 1) -> FulfillmentStatusChanged:
    """A fulfilment of these units by line, all of them picked."""
    return FulfillmentStatusChanged(
        fulfillment=fulfillment_pb2.Fulfillment(
            fulfillment_id=str(uuid4()),
            order_id=str(order_id),
            attempt=attempt,
            warehouse_id=warehouse_id,
            status=status,
            picklist=[fulfillment_pb2.PicklistLine(line_number=n, quantity=units[n], picked_quantity=units[n]) for n in units],
        ),
        new_status=status,
    )
