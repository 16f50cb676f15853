"""An event that the fulfilment service refuses stores nothing and calls no peer."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1 import order_pb2
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done
from chassis.values.errors import Failure
from fulfillment_svc import consumers, tables
from fulfillment_svc.app import Operations
from tests.integration.fulfillment.events import (
    ONE_PLACE,
    TWO_PLACES,
    delivery,
    items_cancelled,
    order_changed,
)
from tests.integration.fulfillment.peers import FakeShipping, FakeWarehouse
from tests.refused_events import FORGED, JUMP, REUSED, consume, contents, second_body

COMMIT_PENDING = order_pb2.STOCK_STATUS_COMMIT_PENDING


def confirmed(order_id: UUID, version: int = 2) -> Delivery[Any]:
    """Returns a confirmed order whose commit is pending in two warehouses."""
    return delivery(order_changed(order_id, TWO_PLACES, stock=COMMIT_PENDING, version=version))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("reason", [JUMP, REUSED])
async def test_refused_event_stores_nothing_and_calls_no_peer(
    operations: Operations,
    engine: AsyncEngine,
    stock: FakeWarehouse,
    carriage: FakeShipping,
    reason: str,
    known: bool,
) -> None:
    """The forged version is 2^60, or 20,000 where a version of the order is `known`.

    The second body comes under the id of another order's event.
    """
    handlers = consumers.handlers(operations.orders, operations.writer)
    first, other = uuid4(), uuid4()
    genuine = confirmed(first)
    assert isinstance(await consume(handlers, genuine), Done)
    if known:
        earlier = delivery(items_cancelled(other, ONE_PLACE, version=3))
        assert isinstance(await consume(handlers, earlier), Done)
    forged = confirmed(other, 20_000 if known else FORGED)
    if reason == REUSED:
        forged = second_body(confirmed(other), genuine)
    before = await contents(engine, tables.metadata)
    outcome = await consume(handlers, forged)
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    assert await contents(engine, tables.metadata) == before
    assert stock.asked == [[str(first)]]
    assert carriage.requests == []
