"""An event that the payment service refuses stores nothing, and calls neither the order service nor
the processor.
"""

from dataclasses import replace
from typing import Any

import pytest
from ordermesh.order.v1 import order_pb2
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done
from chassis.values.errors import Failure
from payment_svc import consumers, tables
from tests.integration.payment.world import (
    World,
    create_payment,
    delivery,
    items_cancelled,
    pounds,
    return_changed,
    status_changed,
)
from tests.refused_events import FORGED, JUMP, REUSED, consume, contents, second_body


def event(name: str, order: order_pb2.Order, version: int) -> Delivery[Any]:
    """Returns an event of the order that refunds money, by name."""
    changed_order = order_pb2.Order()
    changed_order.CopyFrom(order)
    changed_order.version = version
    if name == "return":
        return delivery(return_changed(changed_order, pounds(10)))
    if name == "cut":
        changed_order.total_amount.CopyFrom(pounds(30))
        return delivery(items_cancelled(changed_order))
    changed_order.status = order_pb2.ORDER_STATUS_CANCELLED
    return delivery(status_changed(changed_order))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("death", JUMP), ("cut", JUMP), ("death", REUSED), ("cut", REUSED), ("return", REUSED)],
)
async def test_refused_event_makes_no_write_and_no_call(
    world: World, engine: AsyncEngine, name: str, reason: str
) -> None:
    """The order is paid. The forged version is 2^60. The second body comes under the id of another
    order's event.
    """
    handlers = consumers.handlers(world.operations.writer)
    first = world.orders.place(pounds(50))
    genuine = replace(delivery(status_changed(first)), request_hash=b"first")
    assert isinstance(await consume(handlers, genuine), Done)
    other = await world.order(pounds(50))
    await world.pay(create_payment(other))
    forged = event(name, other, FORGED if reason == JUMP else 2)
    if reason == REUSED:
        forged = second_body(forged, genuine)
    before = await contents(engine, tables.metadata)
    asked = world.orders.calls, await world.ledger.calls()
    outcome = await consume(handlers, forged)
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    await world.operations.settlement.settle_due()
    assert await contents(engine, tables.metadata) == before
    assert (world.orders.calls, await world.ledger.calls()) == asked
