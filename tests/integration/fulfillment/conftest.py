"""The fulfilment service on a database of its own, with peers whose answers a test sets."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from uuid import UUID

import pytest
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import (
    FulfillmentServiceStub,
    add_FulfillmentServiceServicer_to_server,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc import client
from chassis.rpc.circuit_breaker import Breaker
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.model.inspection import InspectionPolicy
from fulfillment_svc.peers import Shipping, Warehouse
from fulfillment_svc.rpc import FulfillmentService
from fulfillment_svc.wire import events_out
from tests.integration.fulfillment.peers import (
    FakeShipping,
    FakeWarehouse,
    Peer,
    shipping,
    warehouse,
)
from tests.integration.fulfillment.requests import Fulfillments
from tests.support import channel_of

# Orders of a thousand pounds or more are inspected; all others are not.
INSPECTION = InspectionPolicy(order_values={"GBP": 1000_00})


@pytest.fixture
def fulfillment_url(migrated_database: Callable[[str], str]) -> str:
    """The URL of a database with the service's tables, this test's alone."""
    return migrated_database("fulfillment_svc")


@pytest.fixture
async def engine(fulfillment_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the service's database."""
    engine = connect(fulfillment_url, name="fulfillment")
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """The database of the fulfilment service."""
    return Database(
        engine, tables.idempotency_keys, Outbox(tables.outbox, encode=events_out.outgoing_event)
    )


@pytest.fixture
def stock() -> FakeWarehouse:
    """The warehouse's stand-in, whose answers a test sets."""
    return FakeWarehouse()  # type: ignore[abstract]  # other methods answer UNIMPLEMENTED


@pytest.fixture
def carriage() -> FakeShipping:
    """Shipping's stand-in, whose answers a test sets."""
    return FakeShipping()  # type: ignore[abstract]  # other methods answer UNIMPLEMENTED


@pytest.fixture
async def warehouse_peer(stock: FakeWarehouse) -> AsyncIterator[Peer]:
    """The address of the warehouse, with its server running."""
    async with warehouse(stock) as peer:
        yield peer


@pytest.fixture
async def shipping_peer(carriage: FakeShipping) -> AsyncIterator[Peer]:
    """The address of shipping, with its server running."""
    async with shipping(carriage) as peer:
        yield peer


@pytest.fixture
async def operations(
    database: Database, warehouse_peer: Peer, shipping_peer: Peer
) -> AsyncIterator[Operations]:
    """The service's operations, with real channels to these peers."""
    to_warehouse = client.connect(warehouse_peer.address, breaker=Breaker("warehouse", open_s=0.2))
    async with to_warehouse, client.connect(shipping_peer.address) as to_shipping:
        yield Operations(
            database=database,
            warehouse=Warehouse(to_warehouse),
            shipping=Shipping(to_shipping),
            inspection=INSPECTION,
            commit_batch=2,
        )


@pytest.fixture
def order_id() -> UUID:
    """The id of an order."""
    return UUID("01957000-0000-7000-8000-00000000000a")


@pytest.fixture
async def fulfillments(operations: Operations) -> AsyncIterator[Fulfillments]:
    """A client of the running server."""
    async with channel_of(
        partial(
            add_FulfillmentServiceServicer_to_server,
            FulfillmentService(operations.staff, operations.inspections, operations.reading),
        )
    ) as channel:
        yield FulfillmentServiceStub(channel)
