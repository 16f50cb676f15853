"""Shipments get their labels through crashes, outages and cancelled calls."""

import asyncio
from contextlib import suppress
from uuid import UUID

import pytest
from ordermesh.shipping.v1 import shipping_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Done
from chassis.values.errors import Deferred, NotFound
from chassis.write.database import Database
from shipping_svc.app import Operations
from shipping_svc.operations.carrier_calls import Timeouts
from tests.integration.shipping.creations import key_of
from tests.integration.shipping.peers import AWAY, CountingCarrier, Crash, KnownOrders
from tests.integration.shipping.requests import (
    Shipping,
    create,
    fulfillment_ready,
    published_types,
    rows,
    the_one,
)
from tests.support import Eventually


async def counted(engine: AsyncEngine) -> dict[str, int]:
    """Returns the number of shipments of each status."""
    return dict(
        map(
            tuple,
            await rows(engine, "select status::text, count(*) from shipments group by status"),
        )
    )


async def test_crash_before_the_sale_is_repaired_by_the_sweeper(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process is killed after it stored the shipment, which stays pending. The sweeper buys its
    label, under the key that the killed process would have used.
    """
    carrier.failure = Crash()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(create())])
    carrier.failure = None
    pending = await the_one(shipping)
    assert (pending.status, pending.version) == (shipping_pb2.SHIPMENT_STATUS_PENDING, 1)
    assert not pending.HasField("tracking_number")
    await until_created(shipping, operations, eventually)
    assert carrier.calls == {key_of(pending): 2}
    assert await published_types(engine) == ["ShipmentCreated"]
    assert await rows(engine, "select * from label_tries") == []


async def until_created(shipping: Shipping, operations: Operations, eventually: Eventually) -> None:
    async def created() -> bool:
        await operations.labels.buy_pending_labels()
        return (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_CREATED

    await eventually(created)


async def test_crash_after_the_sale_buys_no_second_label(
    shipping: Shipping,
    operations: Operations,
    engine: AsyncEngine,
    carrier: CountingCarrier,
    eventually: Eventually,
) -> None:
    """The process is killed between the carrier's sale and its storage: the next try uses the same
    key, and gets the label that was sold.
    """
    carrier.after_sale = Crash()
    with suppress(Crash):
        await operations.creation.create_shipments([fulfillment_ready(create())])
    carrier.after_sale = None
    pending = await the_one(shipping)
    assert pending.status == shipping_pb2.SHIPMENT_STATUS_PENDING
    await until_created(shipping, operations, eventually)
    assert carrier.calls == {key_of(pending): 2}
    assert [count for (count,) in await rows(engine, "select count(*) from labels")] == [1]
    assert await published_types(engine) == ["ShipmentCreated"]


@pytest.mark.parametrize("peer", ["orders", "carrier"])
async def test_shipment_waits_while_peer_is_unavailable(
    peer: str,
    shipping: Shipping,
    operations: Operations,
    orders: KnownOrders,
    carrier: CountingCarrier,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """With the order service or the carrier unreachable, the call gets DEPENDENCY_UNAVAILABLE, the
    event is done, and the sweeper finishes later.
    """
    stub = orders if peer == "orders" else carrier
    stub.failure = AWAY
    request = create()
    with pytest.raises(Deferred) as deferred:
        await ask(shipping.CreateShipment, request)
    assert deferred.value.reason == "DEPENDENCY_UNAVAILABLE"
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments([fulfillment_ready(request)])
    ] == [Done]
    assert (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_PENDING
    stub.failure = None
    await until_created(shipping, operations, eventually)
    assert await published_types(engine) == ["ShipmentCreated"]
    assert len(set(carrier.calls)) == 1


async def test_repeated_call_buys_the_label_at_once(
    shipping: Shipping, carrier: CountingCarrier
) -> None:
    """A repeat with the same request_id buys the label without the sweeper."""
    request = create()
    carrier.failure = AWAY
    with pytest.raises(Deferred):
        await ask(shipping.CreateShipment, request)
    carrier.failure = None
    assert (
        await ask(shipping.CreateShipment, request)
    ).shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED


async def test_shipment_of_unknown_order_waits(
    shipping: Shipping, operations: Operations, orders: KnownOrders, eventually: Eventually
) -> None:
    """The caller gets ORDER_NOT_FOUND, and the shipment stays pending: a peer whose data are behind
    must not end shipments.
    """
    orders.failure = NotFound("ORDER_NOT_FOUND", "no such order", order_id="x")
    with pytest.raises(NotFound) as unknown:
        await ask(shipping.CreateShipment, create())
    assert unknown.value.reason == "ORDER_NOT_FOUND"
    assert (await the_one(shipping)).status == shipping_pb2.SHIPMENT_STATUS_PENDING
    orders.failure = None
    await until_created(shipping, operations, eventually)


async def test_hanging_carrier_blocks_no_caller(
    database: Database, orders: KnownOrders, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """A set with slow sales ends at its time limit: sales that came in time are stored, and the
    sweeper makes the others.
    """
    operations = Operations(
        database=database,
        orders=orders,
        carrier=carrier,
        timeouts=Timeouts(label_timeout_s=2.0, labels_at_once_max=4),
    )
    requests = [create() for _ in range(6)]
    orders.addresses = {
        UUID(request.order_id): {"postal_code": "SANDBOX-SLOW"} for request in requests[:2]
    }
    async with asyncio.timeout(20):
        outcomes = await operations.creation.create_shipments(
            [fulfillment_ready(request) for request in requests]
        )
    assert [type(outcome) for outcome in outcomes] == [Done] * 6
    assert await counted(engine) == {"pending": 2, "created": 4}


async def test_defect_of_one_sale_leaves_other_shipments(
    operations: Operations, orders: KnownOrders, carrier: CountingCarrier, engine: AsyncEngine
) -> None:
    """An adapter's bug concerns one shipment of a set. The others get their labels, and the event
    is done, because the sweeper tries again.
    """
    requests = [create() for _ in range(3)]
    orders.addresses[UUID(requests[1].order_id)] = {"postal_code": "BUG"}
    carrier.bugs["BUG"] = KeyError("a bug")
    assert [
        type(outcome)
        for outcome in await operations.creation.create_shipments(
            [fulfillment_ready(r) for r in requests]
        )
    ] == [Done] * 3
    assert await counted(engine) == {"pending": 1, "created": 2}


async def test_concurrent_sweepers_buy_each_label_once(
    database: Database,
    orders: KnownOrders,
    carrier: CountingCarrier,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """Three replicas sweep after an outage: each shipment gets one label and one event, and the
    carrier gets one call for each.
    """
    carrier.failure = AWAY
    await operations.creation.create_shipments([fulfillment_ready(create()) for _ in range(120)])
    carrier.failure = None
    carrier.calls.clear()
    async with engine.begin() as connection:
        await connection.execute(
            text("update label_tries set try_time = try_time - interval '1 hour'")
        )
    replicas = [
        Operations(database=database, orders=orders, carrier=carrier, timeouts=Timeouts(retry_s=60))
        for _ in range(3)
    ]
    await asyncio.gather(*(replica.labels.buy_pending_labels() for replica in replicas))
    assert await rows(engine, "select * from label_tries") == []
    assert await published_types(engine) == ["ShipmentCreated"] * 120
    assert set(carrier.calls.values()) == {1}


async def test_sweeper_finishes_after_a_cancelled_call(
    shipping: Shipping,
    operations: Operations,
    orders: KnownOrders,
    carrier: CountingCarrier,
    engine: AsyncEngine,
    eventually: Eventually,
) -> None:
    """The caller cancels during the sale: the shipment stays pending, and gets its label later."""
    request = create()
    orders.addresses[UUID(request.order_id)] = {"postal_code": "SANDBOX-SLOW"}
    call = asyncio.create_task(ask(shipping.CreateShipment, request))
    await eventually(lambda: carrier.calls)
    call.cancel()
    await asyncio.wait([call])
    orders.addresses.clear()
    await until_created(shipping, operations, eventually)
    assert await published_types(engine) == ["ShipmentCreated"]
