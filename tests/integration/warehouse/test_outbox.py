"""Keys and sequences of the warehouse's events."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.warehouse.events import CONFIRMED, PENDING, delivery, order_status_changed
from tests.integration.warehouse.stock import reserved, stocked
from tests.integration.warehouse.test_events import consume
from tests.support import numbered
from warehouse_svc.app import Operations
from warehouse_svc.tables import outbox, stock_levels


async def test_events_of_stock_are_ordered_by_level_and_order(
    operations: Operations, engine: AsyncEngine
) -> None:
    """A stock level's id is the key of its changes, and an order's id that of its reservations. An
    order with two warehouses has one sequence.

    Sequences begin at 1 and have no gap.
    """
    await stocked(operations, tea=3, cup=3)
    orders = [await reserved(operations, ("tea", 4)), await reserved(operations, ("cup", 1))]
    confirmed = [order_status_changed(order, PENDING, CONFIRMED) for order in orders]
    await consume(operations, *map(delivery, confirmed))
    found = await numbered(engine, outbox)
    async with engine.connect() as connection:
        levels = set((await connection.execute(select(stock_levels.c.id))).scalars())
    assert set(found) == levels | set(orders)
    for aggregate, events in found.items():
        kind = "ReservationStatusChanged" if aggregate in orders else "StockChanged"
        assert events == [(kind, number) for number in range(1, len(events) + 1)]
    assert len(found[orders[0]]) == 2
