"""An event that the warehouse refuses stores nothing. The warehouse calls no peer, and stores no
version of another service's record.
"""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.values.decision import Done
from chassis.values.errors import Failure
from tests.integration.warehouse.events import (
    CANCELLED,
    PENDING,
    WORK,
    delivery,
    fulfillment_status_changed,
    inspected,
    items_cancelled,
    lines_changed,
    order_status_changed,
)
from tests.integration.warehouse.stock import reserved, stocked
from tests.refused_events import REUSED, consume, contents, second_body
from tests.unit.warehouse.world import confirm
from warehouse_svc import consumers, tables
from warehouse_svc.app import Operations


def event(name: str, order_id: UUID) -> Delivery[Any]:
    """Returns an event about the order that moves units of it, by name."""
    shipped = WORK.FULFILLMENT_STATUS_SHIPPED
    events = {
        "order cancelled": order_status_changed(order_id, PENDING, CANCELLED),
        "items cancelled": items_cancelled(order_id, {1: 0}, [], PENDING),
        "return inspected": inspected(order_id, uuid4(), "london", {1: (1, 0)}),
        "units shipped": fulfillment_status_changed(order_id, "london", shipped, {1: 2}),
        "units cut": lines_changed(order_id, "london", {1: (1, 1, 0, 0)}),
    }
    return delivery(events[name])


@pytest.mark.parametrize(
    "name",
    ["order cancelled", "items cancelled", "return inspected", "units shipped", "units cut"],
)
async def test_refused_event_stores_nothing(
    operations: Operations, engine: AsyncEngine, name: str
) -> None:
    """The second body comes under the id of the event that cancelled another order."""
    handlers = consumers.handlers(operations.writer)
    await stocked(operations, tea=9)
    first, other = [await reserved(operations, ("tea", 2)) for _ in range(2)]
    await operations.writer.write([confirm(order=other)])
    genuine = event("order cancelled", first)
    assert isinstance(await consume(handlers, genuine), Done)
    before = await contents(engine, tables.metadata)
    outcome = await consume(handlers, second_body(event(name, other), genuine))
    assert isinstance(outcome, Failure)
    assert outcome.reason == REUSED
    assert await contents(engine, tables.metadata) == before
