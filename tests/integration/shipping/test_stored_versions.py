"""An operator corrects the versions that forged events have stored."""

from uuid import UUID

from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.write.database import Database
from shipping_svc import tables
from shipping_svc.app import Operations
from tests.integration.shipping.requests import create, handlers_of, order_closed, rows
from tests.integration.shipping.test_actors import ready, withdrawal
from tests.support import set_stored_version

FORGED = 9_000  # within the jump that a service accepts


async def test_next_shipment_counts_after_set_version(
    operations: Operations, engine: AsyncEngine, database: Database
) -> None:
    """After a forged withdrawal at version 9,000, version 7 of the fulfilment gets no shipment. An
    operator sets the version, and version 9 gets one.
    """
    request, handlers = create(), handlers_of(operations)
    versions = "select fulfillment_version, withdraw_version from shipments order by id"
    await handlers[FulfillmentStatusChanged]([ready(request, 5)])
    await handlers[FulfillmentLinesChanged]([withdrawal(request, FORGED)])
    await handlers[FulfillmentStatusChanged]([ready(request, 7)])
    assert [tuple(row) for row in await rows(engine, versions)] == [(5, FORGED)]
    order_id, fulfillment_id = UUID(request.order_id), UUID(request.fulfillment_id)
    await set_stored_version(database, tables.stored_versions, order_id, 7, fulfillment_id)
    await handlers[FulfillmentStatusChanged]([ready(request, 9)])
    assert [tuple(row) for row in await rows(engine, versions)] == [(7, 7), (9, None)]


async def test_shipment_stays_not_withdrawn_after_set_version(
    operations: Operations, engine: AsyncEngine, database: Database
) -> None:
    """After a forged version 9,000 of a shipment whose fulfilment has withdrawn nothing, a version
    that is set makes no withdrawal, and the true one counts.
    """
    request, handlers = create(), handlers_of(operations)
    await handlers[FulfillmentStatusChanged]([ready(request, FORGED)])
    order_id, fulfillment_id = UUID(request.order_id), UUID(request.fulfillment_id)
    await set_stored_version(database, tables.stored_versions, order_id, 5, fulfillment_id)
    stored = "select fulfillment_version, withdraw_version from shipments"
    assert [tuple(row) for row in await rows(engine, stored)] == [(5, None)]
    await handlers[FulfillmentLinesChanged]([withdrawal(request, 6)])
    assert [tuple(row) for row in await rows(engine, stored)] == [(5, 6)]


async def test_true_order_event_counts_after_set_version(
    operations: Operations, engine: AsyncEngine, database: Database
) -> None:
    """After a forged version 9,000 of a closed order the true version 5 is skipped. An operator
    sets the version, and version 7, which ends the second attempt, counts.
    """
    order_id = create().order_id
    await operations.closing.close_orders([order_closed(order_id, version=FORGED)])
    await operations.closing.close_orders([order_closed(order_id, version=5)])
    stored = "select attempt, version from closed_orders"
    assert [tuple(row) for row in await rows(engine, stored)] == [(1, FORGED)]
    await set_stored_version(database, tables.stored_versions, UUID(order_id), 5)
    await operations.closing.close_orders([order_closed(order_id, attempt=2, version=7)])
    assert [tuple(row) for row in await rows(engine, stored)] == [(2, 7)]
