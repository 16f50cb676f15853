"""An operator corrects the version of an order that a forged event has stored."""

from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.write.database import Database
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from tests.integration.fulfillment.events import Places, lost
from tests.integration.fulfillment.working import planned, units
from tests.support import set_stored_version

FORGED = 9_000  # within the jump that a service accepts


def mugs(quantity: int) -> Places:
    return {"DOVER": [(1, "mug", quantity)]}


async def test_true_order_event_counts_after_set_version(
    operations: Operations, engine: AsyncEngine, database: Database
) -> None:
    """A forged version 9,000 leaves three of four mugs: the true version 3, with two, is skipped.
    An operator sets the version to 3, and version 4, with one, counts.
    """
    order_id = (await planned(operations, mugs(4))).key.order_id
    await operations.orders.apply_order_events([lost(order_id, mugs(3), version=FORGED)])
    await operations.orders.apply_order_events([lost(order_id, mugs(2), version=3)])
    assert await units(engine) == {"DOVER": (Status.PLANNING, [(3, 1, 0, 0)])}
    await set_stored_version(database, tables.stored_versions, order_id, 3)
    await operations.orders.apply_order_events([lost(order_id, mugs(1), version=4)])
    assert await units(engine) == {"DOVER": (Status.PLANNING, [(1, 3, 0, 0)])}
