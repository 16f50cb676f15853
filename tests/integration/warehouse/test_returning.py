"""Returned and spoiled units: the methods over a real channel and a real PostgreSQL, and the events
beside them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.events.v1.order_events_pb2 import ReturnStatusChanged
from ordermesh.warehouse.v1 import inventory_service_pb2 as api
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from ordermesh.warehouse.v1 import warehouse_pb2
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Failure, Invalid, NotFound, Refused
from tests.integration.warehouse.conftest import Clients, serving
from tests.integration.warehouse.events import delivery, inspected
from tests.integration.warehouse.requests import as_stored, attempt, count, receive
from tests.unit.warehouse import world
from warehouse_svc import consumers
from warehouse_svc.app import Operations
from warehouse_svc.tables import idempotency_keys, movements, outbox

Post = Callable[..., Awaitable[warehouse_pb2.StockLevel]]


async def sold(operations: Operations, units: int = 3, stock: int = 5) -> UUID:
    """Returns an order of this number of units of tea in London, committed."""
    command = world.reserve(("tea", units), order=uuid4())
    await operations.stock.receive_stock(world.receive("london", request=uuid4().int, tea=stock))
    await operations.reservations.reserve_stock(command)
    await operations.writer.write([world.confirm(command.target)])
    return command.target


async def sent(operations: Operations, units: int = 3) -> UUID:
    """Returns an order of this number of units of tea that have left London, where none is left."""
    order_id = await sold(operations, units, units)
    await operations.writer.write([world.ship("london", {1: units}, order_id)])
    return order_id


async def restock(
    clients: Clients, order_id: UUID, source: UUID, units: int, at: str = "london", **more: str
) -> warehouse_pb2.StockLevel:
    request = api.RestockItemRequest(
        request_id=more.get("request_id", str(uuid4())),
        warehouse_id=at,
        source_id=str(source),
        order_id=str(order_id),
        line_number=1,
        restocked_quantity=units,
    )
    return (await ask(clients.inventory.RestockItem, request)).stock_level


async def mark_damaged(
    clients: Clients, order_id: UUID, source: UUID, units: int, at: str = "london", **more: str
) -> warehouse_pb2.StockLevel:
    request = api.MarkDamagedRequest(
        request_id=more.get("request_id", str(uuid4())),
        warehouse_id=at,
        source_id=str(source),
        order_id=str(order_id),
        line_number=1,
        damaged_quantity=units,
    )
    return (await ask(clients.inventory.MarkDamaged, request)).stock_level


async def balances(engine: AsyncEngine, at: str = "london") -> tuple[int, int, int, int]:
    stored = await as_stored(engine)
    stored.check()
    return stored.balances(at, "tea")


async def refusal(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as refused:
        await call
    return refused.value


@pytest.mark.parametrize(
    ("post", "expected"), [(restock, (2, 0, 0, 0)), (mark_damaged, (0, 0, 0, 2))]
)
async def test_repeated_return_is_posted_once(
    clients: Clients,
    engine: AsyncEngine,
    operations: Operations,
    post: Post,
    expected: tuple[int, int, int, int],
) -> None:
    """Twice under one request_id, twice under two, and in two steps: each unit is posted once, and
    each answer is the level as it stands.
    """
    order_id, source, request_id = await sent(operations), uuid4(), str(uuid4())
    for units, key, now in (
        (1, request_id, 1),
        (1, request_id, 1),
        (1, str(uuid4()), 1),
        (2, str(uuid4()), 2),
        (1, request_id, 2),
    ):
        level = await post(clients, order_id, source, units, request_id=key)
        assert level.available + level.damaged == now
    assert await balances(engine) == expected
    assert isinstance(
        await refusal(post(clients, order_id, source, 2, request_id=request_id)), Invalid
    )


@pytest.mark.parametrize(
    ("post", "expected"), [(restock, (2, 0, 0, 0)), (mark_damaged, (0, 0, 0, 2))]
)
async def test_concurrent_calls_post_once(
    clients: Clients,
    engine: AsyncEngine,
    operations: Operations,
    post: Post,
    expected: tuple[int, int, int, int],
) -> None:
    """Many calls for one line of one return come at once, over two replicas and each under a
    request_id of its own.
    """
    order_id, source = await sent(operations), uuid4()
    async with serving(operations) as others:
        await asyncio.gather(*(post(each, order_id, source, 2) for each in (clients, others) * 8))
    assert await balances(engine) == expected
    assert await count(engine, movements) == [5]


async def test_call_and_event_post_once(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """In either order, and at once, the event posts the units that the call has not posted, with
    both dispositions together.
    """
    consume = consumers.handlers(operations.writer)[ReturnStatusChanged]
    for order in ("call, event", "event, call", "at once"):
        order_id, source = await sent(operations), uuid4()
        before = await balances(engine)
        event: Delivery[Any] = delivery(inspected(order_id, source, "london", {1: (2, 1)}))
        match order:
            case "call, event":
                await restock(clients, order_id, source, 1)
                await consume([event, event])
            case "event, call":
                await consume([event])
                await restock(clients, order_id, source, 2)
                await mark_damaged(clients, order_id, source, 1)
            case _:
                calls = [
                    restock(clients, order_id, source, 2),
                    mark_damaged(clients, order_id, source, 1),
                ]
                another: Delivery[Any] = delivery(event.message)
                await asyncio.gather(*calls, consume([event]), consume([another]))
        assert await balances(engine) == (before[0] + 2, 0, 0, before[3] + 1)


async def test_goods_come_back_to_another_warehouse(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The warehouse never had any; a repeat with another warehouse moves nothing, and answers no
    level where there is none.
    """
    order_id, other, source = await sent(operations), await sent(operations), uuid4()
    levels = await asyncio.gather(
        restock(clients, order_id, source, 2, "leeds"), restock(clients, other, uuid4(), 1, "leeds")
    )
    assert sorted((level.warehouse_id, level.version) for level in levels) == [
        ("leeds", 1),
        ("leeds", 2),
    ]
    assert await balances(engine, "leeds") == (3, 0, 0, 0)
    assert (await restock(clients, order_id, source, 2, "london")).available == 0
    assert not (await restock(clients, order_id, source, 2, "york")).warehouse_id
    assert await balances(engine, "leeds") == (3, 0, 0, 0)


async def test_returned_units_never_exceed_shipped_ones(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """For any number of returns, also concurrent ones: refused calls store nothing."""
    order_id = await sent(operations)
    known, posted = await count(engine, idempotency_keys, movements)
    outcomes = await asyncio.gather(
        *(restock(clients, order_id, uuid4(), 2) for _ in range(6)), return_exceptions=True
    )
    refused = [o for o in outcomes if isinstance(o, Refused)]
    assert {(o.reason, o.metadata["shipped"]) for o in refused} == {("RETURN_EXCEEDS_SHIPPED", "3")}
    assert len(refused) == 5
    assert await balances(engine) == (2, 0, 0, 0)
    assert await count(engine, idempotency_keys, movements) == [known + 1, posted + 1]


async def test_return_before_its_shipment_waits(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """The call and the event are deferred, and neither leaves a key. After the event of the
    shipment, both are done.
    """
    order_id, source = await sold(operations), uuid4()
    event: Delivery[Any] = delivery(inspected(order_id, source, "london", {1: (3, 0)}))
    before = await count(engine, idempotency_keys, movements, outbox)
    early = await refusal(restock(clients, order_id, source, 3))
    [outcome] = await consumers.handlers(operations.writer)[ReturnStatusChanged]([event])
    assert isinstance(early, Deferred)
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "EVENT_AHEAD"
    assert await count(engine, idempotency_keys, movements, outbox) == before
    await operations.writer.write([world.ship("london", {1: 3}, order_id)])
    await consumers.handlers(operations.writer)[ReturnStatusChanged]([event])
    assert (await restock(clients, order_id, source, 3)).available == 5


async def test_unknown_return_is_refused(clients: Clients, operations: Operations) -> None:
    """Refused: an order without reservations, another order's return, and a field out of its
    bounds.
    """
    order_id, other, source = await sent(operations), await sent(operations), uuid4()
    await restock(clients, order_id, source, 1)
    assert isinstance(await refusal(restock(clients, uuid4(), uuid4(), 1)), NotFound)
    for strange, field in (
        (restock(clients, other, source, 1), "source_id"),
        (restock(clients, other, uuid4(), 0), "restocked_quantity"),
    ):
        refused = await refusal(strange)
        assert isinstance(refused, Invalid)
        assert [v.subject for v in refused.violations] == [field]


# --- spoiled units


def spoiled(
    order_id: UUID, units: int, short: int = 0, **more: str
) -> reserving.ReplaceSpoiledUnitsRequest:
    line = reserving.SpoiledLine(line_number=1, spoiled_quantity=units, short_quantity=short)
    return reserving.ReplaceSpoiledUnitsRequest(
        request_id=more.get("request_id", str(uuid4())),
        order_attempt=attempt(str(order_id)),
        warehouse_id="london",
        lines=[line],
    )


async def test_spoiled_units_are_replaced_once(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """Twice, at once, and under several request_ids: available units replace them, and each answer
    has the number to pick.
    """
    order_id = await sold(operations, units=3, stock=4)
    request = spoiled(order_id, 2)
    requests = [request, request, *(spoiled(order_id, 2) for _ in range(6))]
    answers = await asyncio.gather(
        *(ask(clients.reservations.ReplaceSpoiledUnits, each) for each in requests)
    )
    for answer in answers:
        [line] = answer.reservation.lines
        assert (line.quantity, line.committed, line.written_off, line.spoiled) == (4, 2, 2, 2)
    assert await balances(engine) == (0, 0, 2, 2)


async def test_replacement_during_checkouts_reserves_units_once(
    clients: Clients, engine: AsyncEngine, operations: Operations
) -> None:
    """Either the replacement or the checkout gets the last units; no unit is reserved twice."""
    order_id = await sold(operations, units=3, stock=6)
    checkouts = [
        operations.writer.write([world.reserve(("tea", 1), order=uuid4())]) for _ in range(6)
    ]
    await asyncio.gather(
        ask(clients.reservations.ReplaceSpoiledUnits, spoiled(order_id, 3)), *checkouts
    )
    available, reserved, committed, damaged = await balances(engine)
    assert (available + committed, damaged, available) == (3, 3, reserved)


async def test_impossible_spoiled_units_are_refused(
    clients: Clients, operations: Operations, engine: AsyncEngine
) -> None:
    """More units than the order has, or units of an order without reservations, are refused."""
    order_id = await sold(operations)
    posted = await count(engine, movements)
    calls = [
        ask(clients.reservations.ReplaceSpoiledUnits, request)
        for request in (spoiled(order_id, 4), spoiled(uuid4(), 1))
    ]
    refused = [await refusal(call) for call in calls]
    assert [(type(o), o.reason) for o in refused] == [
        (Refused, "STOCK_BELOW_RESERVED"),
        (NotFound, "RESERVATION_NOT_FOUND"),
    ]
    assert await count(engine, movements) == posted


async def test_receipt_id_is_refused_as_source_of_a_return(
    clients: Clients, operations: Operations
) -> None:
    """The id of a receipt's request is refused as a return."""
    order_id, request = await sent(operations), receive(tea=1)
    await ask(clients.inventory.ReceiveStock, request)
    assert isinstance(
        await refusal(restock(clients, order_id, UUID(request.request_id), 1)), Invalid
    )
