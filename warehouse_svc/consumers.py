"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged, FulfillmentStatusChanged
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged, ReturnStatusChanged

from chassis.decision import Done, Outcome
from chassis.idempotency import Keyed
from chassis.inbox import Delivery, Handler
from warehouse_svc import wire
from warehouse_svc.model import StockCommand
from warehouse_svc.operations import Operations

M = TypeVar("M", bound=Message)


class Consumers:
    """What the warehouse service hears of the others."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            OrderStatusChanged: self.order_status_changed,
            OrderItemsCancelled: self.order_items_cancelled,
            ReturnStatusChanged: self.return_status_changed,
            FulfillmentStatusChanged: self.fulfillment_changed,
            FulfillmentLinesChanged: self.fulfillment_changed,
        }

    async def order_status_changed(self, deliveries: Sequence[Delivery[OrderStatusChanged]]) -> Sequence[Outcome[Any]]:
        return await self.handled(deliveries, wire.order_changed)

    async def order_items_cancelled(self, deliveries: Sequence[Delivery[OrderItemsCancelled]]) -> Sequence[Outcome[Any]]:
        return await self.handled(deliveries, wire.items_cancelled)

    async def return_status_changed(self, deliveries: Sequence[Delivery[ReturnStatusChanged]]) -> Sequence[Outcome[Any]]:
        return await self.handled(deliveries, wire.return_changed)

    async def fulfillment_changed(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged | FulfillmentLinesChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await self.handled(deliveries, wire.work_changed)

    async def handled(self, deliveries: Sequence[Delivery[M]], read: Callable[[M, Keyed], StockCommand | None]) -> Sequence[Outcome[Any]]:
        """An outcome for each delivery; those that ask nothing of stock are done as they come."""
        commands = [read(d.message, Keyed(d.key, d.digest)) for d in deliveries]
        outcomes = iter(await self.operations.write([command for command in commands if command]))
        return [next(outcomes) if command else Done(None) for command in commands]
