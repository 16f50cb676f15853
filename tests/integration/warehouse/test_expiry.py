"""The expiry of reservations: repeats, confirmations and the expiry worker."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Refused
from chassis.write.database import Database
from tests.integration.warehouse.conftest import Clients
from tests.integration.warehouse.requests import as_stored, confirm, count, receive, reserve
from tests.integration.warehouse.reserving import ACTIVE, CONFIRMED, refusal
from warehouse_svc.app import Operations
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.decisions.posting import Decided
from warehouse_svc.model.records import OrderStock
from warehouse_svc.operations.reservations import EXPIRY_BATCH
from warehouse_svc.store.reservations import clock
from warehouse_svc.tables import movements, outbox, reservations


async def let_time_pass(engine: AsyncEngine) -> None:
    """Sets the expiry of all reservations to the past."""
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = clock_timestamp() - interval '1 second'")
        )


async def test_repeated_request_replaces_its_expired_reservation(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """A repeat replaces it under the first order, before or after the worker's expiry. Concurrent
    repeats make one reservation, again and again.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=2))
    request = reserve(("tea", 2))
    first = await ask(clients.reservations.ReserveStock, request)
    for generation, worker in ((2, True), (3, False)):
        await let_time_pass(engine)
        if worker:
            assert await operations.reservations.expire_reservations() == 1
        request.order_id = str(uuid4())
        answers = await asyncio.gather(
            *(ask(clients.reservations.ReserveStock, request) for _ in range(5))
        )
        assert all(answer == answers[0] for answer in answers)
        assert answers[0].order_id == first.order_id
        [new] = answers[0].reservations
        assert (new.status, new.generation, new.lines[0].reserved) == (ACTIVE, generation, 2)
    assert [
        line.reserved
        for line in (await ask(clients.reservations.ConfirmReservation, confirm(first.order_id)))
        .reservations[0]
        .lines
    ] == [0]
    (await as_stored(engine)).check()


async def test_late_repeat_extends_the_reservation(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The first call fails before its order is placed, and the repeat comes 25 of 35 minutes later.
    An order that is placed now can be paid for 30 minutes, and its stock is reserved for longer.

    Concurrent repeats extend the reservation once; it stays the same, and no event is published.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    request = reserve(("tea", 2), ttl=Duration(seconds=35 * 60))
    [first] = (await ask(clients.reservations.ReserveStock, request)).reservations
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = expire_time - interval '25 minutes'")
        )
    before = await count(engine, movements, outbox)
    answers = await asyncio.gather(
        *(ask(clients.reservations.ReserveStock, request) for _ in range(5))
    )
    assert all(answer == answers[0] for answer in answers)
    [again] = answers[0].reservations
    async with engine.connect() as connection:
        now = await clock(connection)
    assert again.expire_time.ToDatetime(now.tzinfo) - now > timedelta(minutes=30)
    assert (again.reservation_id, again.generation, again.version) == (
        first.reservation_id,
        1,
        first.version + 1,
    )
    assert (
        await ask(
            clients.reservations.GetReservation,
            api.GetReservationRequest(reservation_id=first.reservation_id),
        )
    ).reservation == again
    assert await count(engine, movements, outbox) == before
    (await as_stored(engine)).check()


async def test_expiry_continues_after_orders_that_fail(
    clients: Clients, engine: AsyncEngine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orders that cannot be written come before three others, in batches of two. The others
    expire in the same run, which then raises the error.
    """
    await ask(clients.inventory.ReceiveStock, receive(tea=9))
    order_ids = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).order_id
        for _ in range(5)
    ]
    async with engine.begin() as connection:
        await connection.execute(
            text("update reservations set expire_time = create_time - interval '1 hour'")
        )

    def failing(record: OrderStock | None, command: Envelope[Any], now: datetime) -> Decided:
        if str(command.target) in order_ids[:2]:
            raise RuntimeError("never")
        return decide(record, command, now)

    monkeypatch.setattr("warehouse_svc.app.decide", failing)
    monkeypatch.setattr("warehouse_svc.operations.reservations.EXPIRY_BATCH", 2)
    with pytest.raises(Defect):
        await Operations(database).reservations.expire_reservations()
    async with engine.connect() as connection:
        rows = await connection.execute(select(reservations.c.order_id, reservations.c.status))
    assert {str(id): status for id, status in rows} == dict.fromkeys(
        order_ids[:2], "active"
    ) | dict.fromkeys(order_ids[2:], "expired")


async def test_expiry_continues_after_a_full_batch(
    clients: Clients, engine: AsyncEngine, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full batch of reservations, of half as many orders, does not end the expiry."""
    await ask(clients.inventory.ReceiveStock, receive("london", tea=3))
    await ask(clients.inventory.ReceiveStock, receive("york", cup=3))
    for _ in range(3):
        await ask(clients.reservations.ReserveStock, reserve(("tea", 1), ("cup", 1)))
    await let_time_pass(engine)
    monkeypatch.setattr("warehouse_svc.operations.reservations.EXPIRY_BATCH", 2)
    assert await operations.reservations.expire_reservations() == 3
    async with engine.connect() as connection:
        assert Counter((await connection.execute(select(reservations.c.status))).scalars()) == {
            "expired": 6
        }


async def test_expired_reservation_of_sold_units_is_not_replaced(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The repeat is answered with the missing units."""
    await ask(clients.inventory.ReceiveStock, receive(tea=2))
    request = reserve(("tea", 2))
    await ask(clients.reservations.ReserveStock, request)
    await let_time_pass(engine)
    await operations.reservations.expire_reservations()
    await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))
    refused = await refusal(ask(clients.reservations.ReserveStock, request))
    assert (refused.reason, refused.metadata["sellable_1"]) == ("INSUFFICIENT_STOCK", "1")


async def test_confirmation_after_expiry_uses_another_warehouse(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """Before the worker expires the order, it confirms as usual. Afterwards it confirms from
    another warehouse, and is refused once the units are sold.
    """
    await ask(clients.inventory.ReceiveStock, receive("london", tea=3))
    early, late, never = [
        (await ask(clients.reservations.ReserveStock, reserve(("tea", 1)))).order_id
        for _ in range(3)
    ]
    await let_time_pass(engine)
    await ask(clients.reservations.ConfirmReservation, confirm(early))
    assert await operations.reservations.expire_reservations() == 2
    await ask(clients.reservations.ReserveStock, reserve(("tea", 2)))
    await ask(clients.inventory.ReceiveStock, receive("york", tea=1))
    [new] = (await ask(clients.reservations.ConfirmReservation, confirm(late))).reservations
    assert (new.warehouse_id, new.status, new.generation) == ("york", CONFIRMED, 2)
    refused = await refusal(ask(clients.reservations.ConfirmReservation, confirm(never)))
    assert (type(refused), refused.reason) == (Refused, "RESERVATION_EXPIRED")
    assert [(v.subject, v.description) for v in refused.violations] == [
        ("tea", "requested 1, sellable 0")
    ]
    (await as_stored(engine)).check()


async def test_expiry_in_batches_by_several_replicas(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """More orders than a batch holds, three concurrent workers: each reservation expires once, and
    its units are free.
    """
    many = EXPIRY_BATCH + 20
    await ask(clients.inventory.ReceiveStock, receive(tea=2 * many))
    await asyncio.gather(
        *(
            ask(clients.reservations.ReserveStock, reserve(("tea", 1), ("tea", 1)))
            for _ in range(many)
        )
    )
    assert await operations.reservations.expire_reservations() == 0
    await let_time_pass(engine)
    await asyncio.gather(*(operations.reservations.expire_reservations() for _ in range(3)))
    while await operations.reservations.expire_reservations():
        pass  # orders that one worker was writing were left out by the others
    async with engine.connect() as connection:
        expired = list((await connection.execute(select(reservations.c.status))).scalars())
    assert Counter(expired) == {"expired": many}
    world = await as_stored(engine)
    assert world.balances("london", "tea") == (2 * many, 0, 0, 0)
    world.check()
