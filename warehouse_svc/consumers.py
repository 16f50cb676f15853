"""Events in: wire -> write, for the events that arrived together."""

from collections.abc import Mapping, Sequence
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

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler, run_handler
from chassis.values.decision import Outcome
from chassis.write.writer import Writer
from warehouse_svc.model.records import OrderStock
from warehouse_svc.wire import events_in


class Consumers:
    """The events of other services that the warehouse service consumes."""

    def __init__(self, writer: Writer[OrderStock]) -> None:
        self.writer = writer

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            OrderStatusChanged: self.order_status_changed,
            OrderItemsCancelled: self.order_items_cancelled,
            ReturnStatusChanged: self.return_status_changed,
            FulfillmentStatusChanged: self.fulfillment_changed,
            FulfillmentLinesChanged: self.fulfillment_changed,
        }

    async def order_status_changed(
        self, deliveries: Sequence[Delivery[OrderStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await run_handler(
            [events_in.order_status_changed(d.message, d) for d in deliveries],
            self.writer.write,
        )

    async def order_items_cancelled(
        self, deliveries: Sequence[Delivery[OrderItemsCancelled]]
    ) -> Sequence[Outcome[Any]]:
        return await self.writer.write(
            [events_in.order_items_cancelled(d.message, d) for d in deliveries]
        )

    async def return_status_changed(
        self, deliveries: Sequence[Delivery[ReturnStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await run_handler(
            [events_in.return_status_changed(d.message, d) for d in deliveries],
            self.writer.write,
        )

    async def fulfillment_changed(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged | FulfillmentLinesChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await run_handler(
            [events_in.fulfillment_changed(d.message, d) for d in deliveries],
            self.writer.write,
        )
