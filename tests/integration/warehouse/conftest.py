"""A warehouse service in this process: its real server and its real PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import (
    InventoryServiceStub,
    add_InventoryServiceServicer_to_server,
)
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import (
    ReservationServiceStub,
    add_ReservationServiceServicer_to_server,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import connect as channel_to
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from tests.servers import quick_server
from warehouse_svc import tables
from warehouse_svc.app import Operations
from warehouse_svc.rpc import InventoryService, ReservationService
from warehouse_svc.wire import events_out

if TYPE_CHECKING:  # only the stubs have these names
    from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceAsyncStub


@dataclass
class Clients:
    """A client of each of the running server's services."""

    inventory: "InventoryServiceAsyncStub"
    reservations: "ReservationServiceAsyncStub"


@pytest.fixture
async def engine(migrated_database: Callable[[str], str]) -> AsyncIterator[AsyncEngine]:
    engine = connect(migrated_database("warehouse_svc"))
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    return Database(
        engine, tables.idempotency_keys, Outbox(tables.outbox, encode=events_out.outgoing_event)
    )


@pytest.fixture
def operations(database: Database) -> Operations:
    return Operations(database)


@asynccontextmanager
async def serving(operations: Operations, calls_max: int = 256) -> AsyncIterator[Clients]:
    """A client of a running server of its own, as one replica has it."""
    register = [
        partial(
            add_InventoryServiceServicer_to_server,
            InventoryService(operations.stock),
        ),
        partial(
            add_ReservationServiceServicer_to_server,
            ReservationService(operations.reservations),
        ),
    ]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(quick_server(register, calls_max=calls_max))
        channel = await stack.enter_async_context(channel_to(f"127.0.0.1:{server.port}"))
        yield Clients(InventoryServiceStub(channel), ReservationServiceStub(channel))


@pytest.fixture
async def clients(operations: Operations) -> AsyncIterator[Clients]:
    async with serving(operations) as clients:
        yield clients
