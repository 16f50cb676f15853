"""A shipping service in this process: its real server and its real PostgreSQL. Stand-ins replace
the order service and the carrier.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from ordermesh.shipping.v1.shipping_service_pb2_grpc import (
    ShippingServiceStub,
    add_ShippingServiceServicer_to_server,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import stream
from chassis.process import Supervisor
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from devstack.ports import free_ports
from shipping_svc import tables
from shipping_svc.app import Operations
from shipping_svc.operations.carrier_calls import Timeouts
from shipping_svc.providers import sandbox
from shipping_svc.store.reports import is_reported
from shipping_svc.wire import events_out
from tests.integration.shipping.peers import CountingCarrier, KnownOrders
from tests.integration.shipping.requests import Shipping, service_of
from tests.integration.shipping.world import World
from tests.streams import ensure_streams
from tests.support import channel_of

TIMEOUTS = Timeouts(label_timeout_s=8, retry_s=0.1, heartbeat_s=0.2)


@pytest.fixture
def shipping_url(migrated_database: Callable[[str], str]) -> str:
    """The URL of a migrated database, this test's alone."""
    return migrated_database("shipping_svc")


@pytest.fixture
async def engine(shipping_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(shipping_url, name="shipping")
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    return Database(
        engine, tables.idempotency_keys, Outbox(tables.outbox, encode=events_out.outgoing_event)
    )


@pytest.fixture
def orders() -> KnownOrders:
    """The order service's stand-in: it has a recipient for every order, unless a test changes
    it.
    """
    return KnownOrders()


@pytest.fixture
def carrier(database: Database) -> CountingCarrier:
    """The sandbox carrier, which records sales and recalls."""

    async def reported(tracking_number: str) -> bool:
        async with database.read() as connection:
            return await is_reported(connection, sandbox.NAME, tracking_number)

    return CountingCarrier(reported)


@pytest.fixture
async def operations(
    database: Database, orders: KnownOrders, carrier: CountingCarrier
) -> AsyncIterator[Operations]:
    operations = Operations(database=database, orders=orders, carrier=carrier, timeouts=TIMEOUTS)
    async with Supervisor() as tasks:
        tasks.start("watches", operations.reading.watches.run())
        yield operations


@pytest.fixture
async def shipping(operations: Operations) -> AsyncIterator[Shipping]:
    """A client of the running server."""
    async with channel_of(
        partial(add_ShippingServiceServicer_to_server, service_of(operations))
    ) as channel:
        yield ShippingServiceStub(channel)


@pytest.fixture
async def world(nats_url: str) -> AsyncIterator[World]:
    broker = await stream.connect(nats_url, name="test")
    await ensure_streams(broker)
    [port] = free_ports(1)
    world = World(broker, f"127.0.0.1:{port}")
    await world.open_orders()
    yield world
    await world.close_orders()
    await broker.close()
