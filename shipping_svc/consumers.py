"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged, FulfillmentStatusChanged
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged

from chassis.decision import Outcome
from chassis.delivery import Delivery
from chassis.errors import Failure
from chassis.handling import Handler, carry_out
from shipping_svc import wire
from shipping_svc.operations import Operations


class Consumers:
    """What the shipping service hears of the others."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            FulfillmentStatusChanged: self.fulfillment_status_changed,
            FulfillmentLinesChanged: self.fulfillment_lines_changed,
            OrderStatusChanged: self.order_status_changed,
        }

    async def fulfillment_status_changed(self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]) -> Sequence[Outcome[Any]]:
        """Nothing is stored of an order that the order service does not have: such an event fails, whoever told it."""
        concerned = {_order_id(d) for d in deliveries if d.message.new_status in wire.FOLLOWED}
        refused = await self.operations.unknown_orders(concerned)
        outcomes = iter(await self._follow([d for d in deliveries if _order_id(d) not in refused]))
        return [refused.get(_order_id(d)) or next(outcomes) for d in deliveries]

    async def _follow(self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]) -> Sequence[Outcome[Any]]:
        dead = [wire.bury_fulfillment(d.message, d.keyed, d.cause) for d in deliveries]
        ready = [wire.ready(d.message, d.keyed, d.cause) for d in deliveries]
        gone = await carry_out(dead, self.operations.bury_fulfillments)
        shipped = await carry_out(ready, self.operations.ship)
        return [one if isinstance(one, Failure) else other for one, other in zip(gone, shipped, strict=True)]

    async def fulfillment_lines_changed(self, deliveries: Sequence[Delivery[FulfillmentLinesChanged]]) -> Sequence[Outcome[Any]]:
        return await carry_out([wire.withdrawn(d.message, d.keyed, d.cause) for d in deliveries], self.operations.withdraw)

    async def order_status_changed(self, deliveries: Sequence[Delivery[OrderStatusChanged]]) -> Sequence[Outcome[Any]]:
        return await carry_out([wire.bury(d.message, d.keyed, d.cause) for d in deliveries], self.operations.bury_orders)


def _order_id(delivery: Delivery[FulfillmentStatusChanged]) -> UUID:
    return UUID(delivery.message.fulfillment.order_id)
