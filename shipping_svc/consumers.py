"""Events in: wire -> operation, for all events that a pull returned."""

from collections.abc import Callable, Mapping, Sequence
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


def handlers(
    creation: CreationOperations, recalls: RecallOperations, closing: ClosingOperations
) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handler of each event that the shipping service consumes."""

    async def handle_status(deliveries: Sequence[Delivery[FulfillmentStatusChanged]]) -> Outcomes:
        cancelled = [events_in.close_fulfillment(d.message, d) for d in deliveries]
        ready = [events_in.ready_fulfillment(d.message, d) for d in deliveries]
        closed = await run_handler(cancelled, closing.close_fulfillments)
        created = await run_handler(ready, creation.create_shipments)
        return [
            closed_outcome if isinstance(closed_outcome, Failure) else created_outcome
            for closed_outcome, created_outcome in zip(closed, created, strict=True)
        ]

    return {
        FulfillmentStatusChanged: _of_existing_orders(
            creation,
            lambda event: event.new_status in events_in.HANDLED_STATUSES,
            handle_status,
        ),
        FulfillmentLinesChanged: _of_existing_orders(
            creation,
            lambda event: event.fulfillment.HasField("withdraw_reason"),
            handler(events_in.withdrawn_fulfillment, recalls.withdraw_shipments),
        ),
        OrderStatusChanged: handler(events_in.close_order, closing.close_orders),
    }


def _of_existing_orders(
    creation: CreationOperations, is_relevant: Callable[[E], bool], handle: Handler[E]
) -> Handler[E]:
    """Returns the handler with a check before it: a relevant event fails where its order does not
    exist.
    """

    async def handle_existing(deliveries: Sequence[Delivery[E]]) -> Outcomes:
        refused = await creation.find_missing_orders(
            {_order_id(d) for d in deliveries if is_relevant(d.message)}
        )
        outcomes = iter(await handle([d for d in deliveries if _order_id(d) not in refused]))
        return [refused.get(_order_id(d)) or next(outcomes) for d in deliveries]

    return handle_existing


def _order_id(delivery: Delivery[E]) -> UUID:
    return UUID(delivery.message.fulfillment.order_id)
