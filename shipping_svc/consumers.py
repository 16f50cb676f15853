"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged

from chassis.decision import Done, Outcome
from chassis.errors import Failure
from chassis.idempotency import Keyed
from chassis.inbox import Delivery, Handler
from shipping_svc import wire
from shipping_svc.model import Ask, BuryFulfillment, BuryOrder
from shipping_svc.operations import Operations

C = TypeVar("C", Ask, BuryFulfillment, BuryOrder)
M = TypeVar("M", bound=Message)


class Consumers:
    """What the shipping service hears of the others."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {FulfillmentStatusChanged: self.fulfillment_status_changed, OrderStatusChanged: self.order_status_changed}

    async def fulfillment_status_changed(self, deliveries: Sequence[Delivery[FulfillmentStatusChanged]]) -> Sequence[Outcome[Any]]:
        gone = await handled(deliveries, wire.bury_fulfillment, self.operations.bury_fulfillments)
        shipped = await handled(deliveries, wire.ready, self.operations.ship)
        return [one if isinstance(one, Failure) else other for one, other in zip(gone, shipped, strict=True)]

    async def order_status_changed(self, deliveries: Sequence[Delivery[OrderStatusChanged]]) -> Sequence[Outcome[Any]]:
        return await handled(deliveries, wire.bury, self.operations.bury_orders)


async def handled(
    deliveries: Sequence[Delivery[M]],
    read: Callable[[M, Keyed, str], C | None],
    operation: Callable[[Sequence[C]], Awaitable[Sequence[Outcome[Any]]]],
) -> Sequence[Outcome[Any]]:
    """An outcome for each delivery; those that mean nothing here are done as they come."""
    commands = [read(d.message, Keyed(d.key, d.digest), str(d.event_id)) for d in deliveries]
    meant = [command for command in commands if command]
    outcomes = iter(await operation(meant) if meant else ())
    return [next(outcomes) if command else Done(None) for command in commands]
