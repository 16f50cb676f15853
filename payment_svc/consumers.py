"""Events in: wire -> operation, for all that has arrived at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from uuid_utils.compat import uuid7

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler, run_handler
from chassis.values.decision import Outcome
from payment_svc.model.records import Account
from payment_svc.operations.writing import AccountWriter
from payment_svc.wire import events_in


class Consumers:
    """The events that the payment service consumes."""

    def __init__(self, writer: AccountWriter) -> None:
        self.writer = writer

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            OrderStatusChanged: self.order_changed,
            OrderItemsCancelled: self.order_changed,
            ReturnStatusChanged: self.return_status_changed,
        }

    async def order_changed(
        self,
        deliveries: Sequence[Delivery[events_in.OrderEvent]],
    ) -> Sequence[Outcome[Account]]:
        """Applies the orders of events.

        An order of total zero is paid by its event, and the money of a closed one goes back.
        """
        envelopes = [events_in.apply_order_version(d.message, d, uuid7()) for d in deliveries]
        return await self.writer.write(envelopes)

    async def return_status_changed(
        self,
        deliveries: Sequence[Delivery[ReturnStatusChanged]],
    ) -> Sequence[Outcome[Any]]:
        """Refunds what accepted returns are worth."""
        envelopes = [events_in.refund_return(d.message, d) for d in deliveries]
        return await run_handler(envelopes, self.writer.write)
