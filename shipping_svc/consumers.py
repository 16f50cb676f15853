"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler, carry_out
from chassis.values.decision import Outcome
from chassis.values.errors import Failure
from shipping_svc import wire
from shipping_svc.operations import Operations

E = TypeVar("E", FulfillmentStatusChanged, FulfillmentLinesChanged)
Outcomes = Sequence[Outcome[Any]]


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

    async def fulfillment_status_changed(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await self._of_known_orders(
            deliveries, lambda event: event.new_status in wire.FOLLOWED, self._follow
        )

    async def _follow(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        dead = [wire.bury_fulfillment(d.message, d) for d in deliveries]
        ready = [wire.ready(d.message, d) for d in deliveries]
        gone = await carry_out(dead, self.operations.bury_fulfillments)
        shipped = await carry_out(ready, self.operations.ship)
        return [
            one if isinstance(one, Failure) else other
            for one, other in zip(gone, shipped, strict=True)
        ]

    async def fulfillment_lines_changed(
        self, deliveries: Sequence[Delivery[FulfillmentLinesChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await self._of_known_orders(
            deliveries, lambda event: event.fulfillment.HasField("withdraw_reason"), self._withdraw
        )

    async def _withdraw(
        self, deliveries: Sequence[Delivery[FulfillmentLinesChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await carry_out(
            [wire.withdrawn(d.message, d) for d in deliveries],
            self.operations.withdraw,
        )

    async def _of_known_orders(
        self,
        deliveries: Sequence[Delivery[E]],
        stored: Callable[[E], bool],
        handle: Callable[[Sequence[Delivery[E]]], Awaitable[Outcomes]],
    ) -> Outcomes:
        """Handles the events. One that would be `stored`, about an order that the order service
        does not have, fails.
        """
        refused = await self.operations.unknown_orders(
            {_order_id(d) for d in deliveries if stored(d.message)}
        )
        outcomes = iter(await handle([d for d in deliveries if _order_id(d) not in refused]))
        return [refused.get(_order_id(d)) or next(outcomes) for d in deliveries]

    async def order_status_changed(
        self, deliveries: Sequence[Delivery[OrderStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await carry_out(
            [wire.bury(d.message, d) for d in deliveries],
            self.operations.bury_orders,
        )


def _order_id(delivery: Delivery[E]) -> UUID:
    return UUID(delivery.message.fulfillment.order_id)
