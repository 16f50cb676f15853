"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged
from ordermesh.shipping.events.v1.shipping_events_pb2 import (
    DeliveryConfirmed,
    ShipmentCreated,
    ShipmentStatusChanged,
)

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler, run_handler
from chassis.values.decision import Outcome
from chassis.write.writer import Writer
from fulfillment_svc.model.records import Fulfillment, OrderFulfillments
from fulfillment_svc.operations.orders import OrderOperations
from fulfillment_svc.wire import events_in


class Consumers:
    """The handlers of the events of orders and shipments."""

    def __init__(self, orders: OrderOperations, writer: Writer[OrderFulfillments]) -> None:
        self.orders, self.writer = orders, writer

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        """The handler of each event."""
        return {
            OrderStatusChanged: self.order_status_changed,
            OrderItemsCancelled: self.order_items_cancelled,
            ShipmentCreated: self.shipment_created,
            ShipmentStatusChanged: self.shipment_status_changed,
            DeliveryConfirmed: self.delivery_confirmed,
        }

    async def order_status_changed(
        self,
        deliveries: Sequence[Delivery[OrderStatusChanged]],
    ) -> Sequence[Outcome[tuple[Fulfillment, ...]]]:
        events = [events_in.order_status_changed(d.message, d) for d in deliveries]
        return await self.orders.apply_order_events(events)

    async def order_items_cancelled(
        self,
        deliveries: Sequence[Delivery[OrderItemsCancelled]],
    ) -> Sequence[Outcome[tuple[Fulfillment, ...]]]:
        events = [events_in.order_items_cancelled(d.message, d) for d in deliveries]
        return await self.orders.apply_order_events(events)

    async def shipment_created(
        self,
        deliveries: Sequence[Delivery[ShipmentCreated]],
    ) -> Sequence[Outcome[OrderFulfillments]]:
        commands = [events_in.ship(d.message.shipment, d) for d in deliveries]
        return await self.writer.write(commands)

    async def shipment_status_changed(
        self,
        deliveries: Sequence[Delivery[ShipmentStatusChanged]],
    ) -> Sequence[Outcome[Any]]:
        commands = [events_in.withdrawal_answer(d.message.shipment, d) for d in deliveries]
        return await run_handler(commands, self.writer.write)

    async def delivery_confirmed(
        self,
        deliveries: Sequence[Delivery[DeliveryConfirmed]],
    ) -> Sequence[Outcome[OrderFulfillments]]:
        commands = [events_in.complete(d.message.shipment, d) for d in deliveries]
        return await self.writer.write(commands)
