"""An event that shipping refuses stores nothing, and calls neither the carrier nor the order
service.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentLinesChanged
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done
from chassis.values.errors import Failure
from shipping_svc import tables
from shipping_svc.app import Operations
from tests.integration.shipping.creations import fulfillment_event
from tests.integration.shipping.peers import CountingCarrier, KnownOrders
from tests.integration.shipping.requests import create, handlers_of
from tests.refused_events import FORGED, JUMP, REUSED, consume, contents, second_body

Event = Callable[[api.CreateShipmentRequest, int], Delivery[Any]]


def ready(request: api.CreateShipmentRequest, version: int = 2) -> Delivery[Any]:
    """Returns the event that the request's fulfilment is ready."""
    event = fulfillment_event(request, "READY")
    event.message.fulfillment.version = version
    return event


def cancelled(request: api.CreateShipmentRequest, version: int) -> Delivery[Any]:
    """Returns the event that the request's fulfilment is cancelled."""
    event = fulfillment_event(request, "CANCELLED")
    event.message.fulfillment.version = version
    return event


def withdrawn(request: api.CreateShipmentRequest, version: int) -> Delivery[Any]:
    """Returns the event that the request's fulfilment withdraws its parcels."""
    delivery = ready(request, version)
    delivery.message.fulfillment.withdraw_reason = "UNITS_CUT"
    message = FulfillmentLinesChanged(fulfillment=delivery.message.fulfillment, reason="WITHDRAWN")
    return replace(delivery, message=message)


def order_cancelled(request: api.CreateShipmentRequest, version: int) -> Delivery[Any]:
    """Returns the event that the request's order is cancelled."""
    message = OrderStatusChanged(
        order_id=request.order_id,
        attempt=request.attempt,
        new_status=order_pb2.ORDER_STATUS_CANCELLED,
        order_version=version,
    )
    return replace(ready(request), message=message)


@pytest.mark.parametrize("event", [ready, cancelled, withdrawn, order_cancelled])
@pytest.mark.parametrize("reason", [JUMP, REUSED])
async def test_refused_event_stores_nothing_and_calls_no_peer(
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    orders: KnownOrders,
    event: Event,
    reason: str,
) -> None:
    """The forged version is 2^60. The second body comes under the id of the event that cancelled
    another order's fulfilment.
    """
    handlers = handlers_of(operations)
    first, other = create(), create()
    genuine = cancelled(first, 3)
    for each in (ready(first), ready(other), genuine):
        assert isinstance(await consume(handlers, each), Done)
    forged = event(other, FORGED) if reason == JUMP else second_body(event(other, 3), genuine)
    before = await contents(engine, tables.metadata)
    calls = (carrier.calls.copy(), carrier.recalls.copy(), orders.asked, list(orders.asked_for))
    outcome = await consume(handlers, forged)
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    assert await contents(engine, tables.metadata) == before
    assert (carrier.calls, carrier.recalls, orders.asked, orders.asked_for) == calls


@pytest.mark.parametrize("event", [ready, cancelled, withdrawn])
async def test_version_far_above_the_shipments_is_refused(
    operations: Operations, engine: AsyncEngine, carrier: CountingCarrier, event: Event
) -> None:
    """The shipment states version 2 of its fulfilment: an event of version 20,000 voids no label.

    An event of version 10,002 is accepted.
    """
    handlers = handlers_of(operations)
    request = create()
    await consume(handlers, ready(request))
    before = await contents(engine, tables.metadata)
    outcome = await consume(handlers, event(request, 20_000))
    assert isinstance(outcome, Failure)
    assert outcome.reason == JUMP
    assert await contents(engine, tables.metadata) == before
    assert carrier.recalls == {}
    assert isinstance(await consume(handlers, event(request, 10_002)), Done)


async def test_refused_withdrawal_makes_no_shipment(
    operations: Operations, engine: AsyncEngine
) -> None:
    """An event under a used id makes no shipment for a new fulfilment."""
    handlers = handlers_of(operations)
    first = create()
    genuine = cancelled(first, 3)
    for each in (ready(first), genuine):
        await consume(handlers, each)
    new = create(order_id=first.order_id)
    before = await contents(engine, tables.metadata)
    outcome = await consume(handlers, second_body(withdrawn(new, 3), genuine))
    assert isinstance(outcome, Failure)
    assert outcome.reason == REUSED
    assert await contents(engine, tables.metadata) == before
    async with engine.connect() as connection:
        rows = await connection.execute(tables.shipments.select())
        assert [row.fulfillment_id for row in rows] == [UUID(first.fulfillment_id)]
