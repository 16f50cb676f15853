"""A payment service in this process: its real server, PostgreSQL and sandbox. A stand-in replaces
the order service.
"""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc import client
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from payment_svc import tables
from payment_svc.app import Operations
from payment_svc.peers import Orders
from payment_svc.providers.sandbox import NAME, Sandbox
from payment_svc.providers.sandbox_ledger import Ledger
from payment_svc.wire import events_out
from tests.integration.payment.world import (
    FakeOrders,
    LedgerReader,
    Payments,
    World,
    order_service,
    payment_service,
)

WEBHOOK_KEY = bytes(range(32))
Replica = Callable[..., Operations]


@pytest.fixture
def payment_url(migrated_database: Callable[[str], str]) -> str:
    """The URL of a migrated database, this test's alone."""
    return migrated_database("payment_svc")


@pytest.fixture
async def engine(payment_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(payment_url, name="payment")
    yield engine
    await engine.dispose()


@pytest.fixture
async def memory(payment_url: str) -> AsyncIterator[AsyncEngine]:
    """The sandbox processor's own connections."""
    engine = connect(payment_url, name="sandbox", pool_size=20)
    yield engine
    await engine.dispose()


@pytest.fixture
def sandbox(memory: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The processor, with short times: where it does not answer, the call times out at once."""
    for name, value in (("PENDING_FOR", timedelta(seconds=0.05)), ("SLOW_S", 0.2), ("HANG_S", 0.0)):
        monkeypatch.setattr(f"payment_svc.providers.sandbox.{name}", value)
    return Sandbox(Ledger(memory), WEBHOOK_KEY)


@pytest.fixture
def orders() -> FakeOrders:
    """The order service's stand-in, whose answers a test sets."""
    return FakeOrders()  # type: ignore[abstract]  # other methods answer UNIMPLEMENTED


@pytest.fixture
async def replica(
    engine: AsyncEngine, sandbox: Sandbox, orders: FakeOrders
) -> AsyncIterator[Replica]:
    """Makes the operations of a replica; the arguments replace its usual parts."""
    async with order_service(orders) as address, client.connect(address) as channel:

        def make(processor: Any = sandbox, **settings: Any) -> Operations:
            database = Database(
                engine,
                tables.idempotency_keys,
                Outbox(tables.outbox, encode=events_out.outgoing_event),
            )
            timing = {"answer_timeout_s": 30.0, "settle_after_s": 30.0} | settings
            return Operations(
                database, Orders(channel), {NAME: processor}, processor=NAME, **timing
            )

        yield make


@pytest.fixture
def operations(replica: Replica) -> Operations:
    return replica()


@pytest.fixture
def ledger(engine: AsyncEngine) -> LedgerReader:
    return LedgerReader(engine)


@pytest.fixture
def world(operations: Operations, orders: FakeOrders, ledger: LedgerReader) -> World:
    return World(operations, orders, ledger)


@pytest.fixture
async def payments(operations: Operations) -> AsyncIterator[Payments]:
    """A client of the running server."""
    async with payment_service(operations) as stub:
        yield stub
