"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged, ReturnStatusChanged
from uuid_utils.compat import uuid7

from chassis.decision import Outcome
from chassis.delivery import Delivery
from chassis.handling import Handler, carry_out
from payment_svc import wire
from payment_svc.operations import Operations


class Consumers:
    """What the payment service hears of the others."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            OrderStatusChanged: self.order_changed,
            OrderItemsCancelled: self.order_changed,
            ReturnStatusChanged: self.return_status_changed,
        }

    async def order_changed(self, deliveries: Sequence[Delivery[wire.OrderEvent]]) -> Sequence[Outcome[Any]]:
        commands = [wire.note_order(d.message, d.keyed, d.cause, uuid7()) for d in deliveries]
        return await self.operations.note_orders(commands)

    async def return_status_changed(self, deliveries: Sequence[Delivery[ReturnStatusChanged]]) -> Sequence[Outcome[Any]]:
        return await carry_out([wire.refund_return(d.message, d.keyed, d.cause) for d in deliveries], self.operations.refund_returns)
