"""An order service in this process: its real server and its real PostgreSQL. A stand-in replaces
the warehouse.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import cycle
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceStub,
    add_OrderServiceServicer_to_server,
)
from ordermesh.order.v1.return_service_pb2_grpc import (
    ReturnServiceStub,
    add_ReturnServiceServicer_to_server,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.errors import Deferred, Failure
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from order_svc import tables
from order_svc.app import Operations
from order_svc.model.commands import CommitResult, Committed
from order_svc.model.records import Allocation, Allocations
from order_svc.peers import RequestedUnits, Warehouse
from order_svc.rpc import OrderService, ReturnService
from order_svc.wire.events_out import outgoing_event
from tests.integration.order.requests import Orders, Returns
from tests.support import channel_of


@dataclass(kw_only=True)
class FakeWarehouse(Warehouse):
    """Has stock of every SKU, line by line from its warehouses in turn, and stores reservations by
    request.

    A test can set it to refuse, or to be unreachable.
    """

    allocated_warehouses: tuple[str, ...] = ("london",)
    refuses: Failure | None = None
    away: bool = False
    answers: dict[UUID, CommitResult] = field(default_factory=dict)
    reserved: dict[UUID, tuple[UUID, Allocations]] = field(default_factory=dict)
    ttls: list[timedelta] = field(default_factory=list)
    asked_to_commit: list[list[tuple[UUID, int]]] = field(default_factory=list)
    asked_to_release: list[list[tuple[UUID, int]]] = field(default_factory=list)

    async def reserve(
        self,
        request_id: UUID,
        order_id: UUID,
        attempt: int,
        wanted: Sequence[RequestedUnits],
        ttl: timedelta,
    ) -> tuple[UUID, Allocations]:
        self.ttls.append(ttl)
        if self.refuses:
            raise self.refuses
        if self.away:
            raise Deferred("DEPENDENCY_UNAVAILABLE")
        if request_id not in self.reserved:
            held = [(warehouse_id, uuid4()) for warehouse_id in self.allocated_warehouses]
            at = {
                number: (
                    Allocation(
                        warehouse_id=warehouse_id, reservation_id=reservation_id, quantity=quantity
                    ),
                )
                for (warehouse_id, reservation_id), (number, _, quantity) in zip(
                    cycle(held), wanted, strict=False
                )
            }
            self.reserved[request_id] = order_id, at
        return self.reserved[request_id]

    async def commit(
        self, request_id: UUID, attempts: Sequence[tuple[UUID, int]]
    ) -> dict[UUID, CommitResult]:
        self.asked_to_commit.append(list(attempts))
        if self.away:
            return {}
        held = {order_id: Committed(at) for order_id, at in self.reserved.values()}
        return {order_id: self.answers.get(order_id, held[order_id]) for order_id, _ in attempts}

    async def release(self, request_id: UUID, attempts: Sequence[tuple[UUID, int]]) -> set[UUID]:
        self.asked_to_release.append(list(attempts))
        if self.away:
            raise Deferred("DEPENDENCY_UNAVAILABLE")
        return set()


@pytest.fixture
def warehouse() -> FakeWarehouse:
    return FakeWarehouse()


@pytest.fixture
async def engine(migrated_database: Callable[[str], str]) -> AsyncIterator[AsyncEngine]:
    engine = connect(migrated_database("order_svc"))
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    return Database(engine, tables.idempotency_keys, Outbox(tables.outbox, encode=outgoing_event))


@pytest.fixture
async def operations(database: Database, warehouse: FakeWarehouse) -> Operations:
    return Operations(database, warehouse, heartbeat_s=0.2)


@pytest.fixture
async def orders(operations: Operations) -> AsyncIterator[Orders]:
    """A client of the running server."""
    async with channel_of(
        partial(
            add_OrderServiceServicer_to_server,
            OrderService(operations.creation, operations.cancellation, operations.reading),
        )
    ) as channel:
        yield OrderServiceStub(channel)


@pytest.fixture
async def returns(operations: Operations) -> AsyncIterator[Returns]:
    """A client of the running server."""
    async with channel_of(
        partial(
            add_ReturnServiceServicer_to_server,
            ReturnService(operations.returns),
        )
    ) as channel:
        yield ReturnServiceStub(channel)
