"""A thousand buyers for a hundred units: no unit is oversold, and no buyer sees a deadlock."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Refused
from chassis.write.database import Database
from chassis.write.outbox import Outbox
from tests.integration.warehouse.conftest import Clients, serving
from tests.integration.warehouse.requests import (
    as_stored,
    attempt,
    confirm,
    races,
    receive_all,
    reserve,
)
from warehouse_svc import tables
from warehouse_svc.app import Operations
from warehouse_svc.lifecycle import Status
from warehouse_svc.wire import events_out

BUYERS, UNITS = 1_000, 100
# Baskets of two or three SKUs, each also in the other order. Each basket has one unit of tea.
BASKETS = [("tea", "cup"), ("cup", "tea"), ("cup", "jam", "tea"), ("tea", "jam", "cup")]


TIMEOUT_S = 120.0  # for each buyer: the speed of the machine is not under test


async def buy(clients: Clients, basket: tuple[str, ...]) -> str:
    """Reserves, and confirms the reservation; returns the outcome."""
    lines = [(sku, 1) for sku in basket]
    try:
        reserved = await ask(
            clients.reservations.ReserveStock, reserve(*lines), timeout_s=TIMEOUT_S
        )
    except Refused as refused:
        return refused.reason
    request = confirm(reserved.order_id)
    while True:
        # a confirmation has 5 s, for any wait; it is safe to repeat
        with suppress(Deferred):
            await ask(clients.reservations.ConfirmReservation, request)
            return "sold"


@pytest.fixture
async def replicas(engine: AsyncEngine) -> AsyncIterator[tuple[Clients, Clients]]:
    """Two servers that admit every buyer at once, each with connections of its own to the one
    database.
    """
    async with AsyncExitStack() as stack:
        serve = []
        for _ in range(2):
            own = create_async_engine(
                engine.url,
                pool_size=8,
                max_overflow=0,
                pool_timeout=TIMEOUT_S,
                isolation_level="READ COMMITTED",
            )
            stack.push_async_callback(own.dispose)
            operations = Operations(
                Database(
                    own,
                    tables.idempotency_keys,
                    Outbox(tables.outbox, encode=events_out.outgoing_event),
                )
            )
            serve.append(await stack.enter_async_context(serving(operations, calls_max=BUYERS)))
        yield serve[0], serve[1]


async def test_a_thousand_buyers_for_a_hundred_units(
    replicas: tuple[Clients, Clients], engine: AsyncEngine
) -> None:
    """Two replicas, three warehouses, and baskets in both orders: exactly a hundred units are sold
    without a deadlock. No balance is negative, and the ledger's sums are the balances.
    """
    for warehouse, part in (("leeds", 20), ("london", 50), ("york", 30)):
        await ask(
            replicas[0].inventory.ReceiveStock,
            receive_all(warehouse, {"tea": part, "cup": 500, "jam": 500}),
        )
    before = races()
    async with asyncio.TaskGroup() as group:
        buying = [
            group.create_task(buy(replicas[n % 2], BASKETS[n // 2 % len(BASKETS)]))
            for n in range(BUYERS)
        ]
    assert Counter(task.result() for task in buying) == {
        "sold": UNITS,
        "INSUFFICIENT_STOCK": BUYERS - UNITS,
    }
    assert races() == before
    world = await as_stored(engine)
    world.check()
    balances = [world.balances(warehouse, "tea") for warehouse in ("leeds", "london", "york")]
    assert balances == [(0, 0, 20, 0), (0, 0, 50, 0), (0, 0, 30, 0)]
    reservations = [r for each in world.order_reservations.values() for r in each.reservations]
    assert {r.status for r in reservations} == {Status.CONFIRMED}
    assert len(world.order_reservations) == UNITS


async def test_overlapping_batches_in_opposite_order(clients: Clients, engine: AsyncEngine) -> None:
    """Batches that confirm and release the same orders, listed in opposite orders, wait for each
    other and never deadlock.
    """
    await ask(clients.inventory.ReceiveStock, receive_all("london", {"tea": 200, "cup": 200}))
    baskets = [(("tea", 1), ("cup", 1)), (("cup", 1), ("tea", 1))]
    answers = await asyncio.gather(
        *(
            ask(clients.reservations.ReserveStock, reserve(*baskets[n % 2]), timeout_s=TIMEOUT_S)
            for n in range(60)
        )
    )
    orders, before = [answer.order_id for answer in answers], races()
    calls: list[Awaitable[Any]] = []

    async def answered(method: Any, request: Any) -> Any:
        while True:
            # a confirmation has 5 s, as above: with the same request_id it is safe to repeat
            with suppress(Deferred):
                return await ask(method, request, timeout_s=TIMEOUT_S)

    for _ in range(6):
        random.shuffle(orders)
        attempts = [attempt(order_id) for order_id in orders[:40]]
        confirming = api.BatchConfirmReservationsRequest(
            request_id=str(uuid4()), order_attempts=attempts
        )
        releasing = api.BatchReleaseReservationsRequest(
            request_id=str(uuid4()), order_attempts=reversed(attempts)
        )
        calls.append(answered(clients.reservations.BatchConfirmReservations, confirming))
        calls.append(answered(clients.reservations.BatchReleaseReservations, releasing))
    results = [result for response in await asyncio.gather(*calls) for result in response.results]
    assert {result.failure.reason for result in results} <= {"", "RESERVATION_CLOSED"}
    assert races() == before
    (await as_stored(engine)).check()
