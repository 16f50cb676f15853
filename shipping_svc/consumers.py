"""Events in: wire -> operation, for all events that a pull returned."""

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
from chassis.consume.dispatch import Handler, handler, run_handler
from chassis.values.decision import Outcome
from chassis.values.errors import Failure
from shipping_svc.operations.closing import ClosingOperations
from shipping_svc.operations.creation import CreationOperations
from shipping_svc.operations.recalls import RecallOperations
from shipping_svc.wire import events_in

E = TypeVar("E", FulfillmentStatusChanged, FulfillmentLinesChanged)
Outcomes = Sequence[Outcome[Any]]


class Consumers:
    """The handlers of the events that the shipping service consumes."""

    def __init__(
        self, creation: CreationOperations, recalls: RecallOperations, closing: ClosingOperations
    ) -> None:
        self.creation, self.recalls, self.closing = creation, recalls, closing

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            FulfillmentStatusChanged: self.fulfillment_status_changed,
            FulfillmentLinesChanged: self.fulfillment_lines_changed,
            OrderStatusChanged: handler(events_in.close_order, self.closing.close_orders),
        }

    async def fulfillment_status_changed(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await self._of_existing_orders(
            deliveries,
            lambda event: event.new_status in events_in.HANDLED_STATUSES,
            self._handle_status,
        )

    async def _handle_status(
        self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]
    ) -> Sequence[Outcome[Any]]:
        cancelled = [events_in.close_fulfillment(d.message, d) for d in deliveries]
        ready = [events_in.ready_fulfillment(d.message, d) for d in deliveries]
        closed = await run_handler(cancelled, self.closing.close_fulfillments)
        created = await run_handler(ready, self.creation.create_shipments)
        return [
            closing if isinstance(closing, Failure) else creation
            for closing, creation in zip(closed, created, strict=True)
        ]

    async def fulfillment_lines_changed(
        self, deliveries: Sequence[Delivery[FulfillmentLinesChanged]]
    ) -> Sequence[Outcome[Any]]:
        return await self._of_existing_orders(
            deliveries,
            lambda event: event.fulfillment.HasField("withdraw_reason"),
            handler(events_in.withdrawn_fulfillment, self.recalls.withdraw_shipments),
        )

    async def _of_existing_orders(
        self,
        deliveries: Sequence[Delivery[E]],
        is_relevant: Callable[[E], bool],
        handle: Callable[[Sequence[Delivery[E]]], Awaitable[Outcomes]],
    ) -> Outcomes:
        """Handles the events. A relevant one fails where its order does not exist."""
        refused = await self.creation.find_missing_orders(
            {_order_id(d) for d in deliveries if is_relevant(d.message)}
        )
        outcomes = iter(await handle([d for d in deliveries if _order_id(d) not in refused]))
        return [refused.get(_order_id(d)) or next(outcomes) for d in deliveries]


def _order_id(delivery: Delivery[E]) -> UUID:
    return UUID(delivery.message.fulfillment.order_id)
