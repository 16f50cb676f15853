"""The formats of stored idempotency keys stay: databases of running systems hold such keys."""

from functools import partial
from typing import Any
from uuid import UUID, uuid5

from google.protobuf.message import Message
from ordermesh.order.v1 import return_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.request_context import request_context
from order_svc import tables
from order_svc.app import Operations
from tests.integration.keys import Row, stored_keys
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import committed, delivery, paid, shipped_and_delivered, working
from tests.integration.order.requests import Orders, Returns, create_order, overdue
from tests.integration.order.returns import (
    about,
    delivered,
    inspection,
    made,
    money,
    receipt,
    wanted,
)
from tests.integration.order.test_cancellation import cancel, cancel_items, failed, retry
from tests.integration.order.test_events import PATH, deliver, place

stored = partial(stored_keys, tables.idempotency_keys)


def row(request: Message, target: UUID) -> Row:
    """Returns the row of a request about the order `target`."""
    of = request_context(request)
    return of.key, of.request_hash, target


async def test_requests_about_orders_are_stored_under_their_keys(
    orders: Orders,
    operations: Operations,
    warehouse: FakeWarehouse,
    engine: AsyncEngine,
) -> None:
    """A key is the method and the request_id; the order stores that of its checkout."""
    create = create_order()
    placed = (await ask(orders.CreateOrder, create)).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    again = await failed(orders, operations, warehouse)
    requests: dict[str, Any] = {
        "CreateOrder": create,
        "CancelOrderItems": cancel_items(
            await place(orders, operations, "london", "paris"), {2: 1}
        ),
        "CancelOrder": cancel(order),
        "RetryOrder": retry(again),
    }
    for method, request in requests.items():
        await getattr(orders, method)(request, timeout=30)
        key = f"/ordermesh.order.v1.OrderService/{method}:{request.request_id}"
        target = UUID(request.order_id) if request is not create else order.id
        assert await stored(engine, key) == {(key, request_context(request).request_hash, target)}
    assert order.checkout_key == request_context(create).key
    assert requests["RetryOrder"].order_id == str(again.id)


async def test_requests_about_returns_are_stored_under_their_keys(
    orders: Orders,
    returns: Returns,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """Their target is the order, and a return's id is derived from the key of its request."""
    order = await delivered(orders, operations)
    create, without_goods = wanted(order, {1: 1}), money(order, {2: (1, "NONE")})
    order_return, other, unwanted = [
        (await ask(returns.CreateReturn, request)).order_return
        for request in (create, without_goods, wanted(order, {1: 1}))
    ]
    for made_of, each in ((create, order_return), (without_goods, other)):
        assert each.return_id == str(uuid5(order.id, request_context(made_of).key))
    third = await made(returns, order, {2: 1})
    requests: dict[str, Any] = {
        "ApproveReturn": api.ApproveReturnRequest(**about(order_return)),
        "MarkReturnInTransit": api.MarkReturnInTransitRequest(**about(order_return)),
        "ReceiveReturn": receipt(order_return, {1: 1}),
        "InspectReturn": inspection(order_return, {1: (1, 0, 0)}),
        "RejectReturn": api.RejectReturnRequest(**about(unwanted)),
        "CancelReturn": api.CancelReturnRequest(**about(third)),
    }
    for method, request in requests.items():
        await getattr(returns, method)(request, timeout=30)
    rows = await stored(engine, "/ordermesh.order.v1.ReturnService/")
    assert {row(request, order.id) for request in requests.values()} < rows
    created = {each for each in rows if "/CreateReturn:" in each[0]}
    assert {row(create, order.id), row(without_goods, order.id)} < created
    assert {target for _, _, target in created} == {order.id}
    assert len(rows) == len(requests) + len(created) == 10


async def test_events_are_stored_under_their_keys(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The row has the consumer's key of the event, its request hash, and the order as the
    target.
    """
    order = await place(orders, operations, "london")
    deliveries = [
        delivery(event)
        for event in (
            paid(order),
            committed(order, "london"),
            *working(order, "london", PATH),
            *shipped_and_delivered(order, "london"),
        )
    ]
    await deliver(operations, deliveries)
    expected = {(each.key, each.request_hash, order.id) for each in deliveries}
    assert await stored(engine, "order-test:") == expected


async def test_expiry_is_stored_under_a_key_of_each_run(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
) -> None:
    """The worker makes a key for each order and run, which is the cause too. Its hash is empty."""
    order = await place(orders, operations, "london")
    await overdue(engine, order)
    assert await operations.cancellation.expire_orders() == 1
    [(key, request_hash, target)] = await stored(engine, "order.expiry:")
    assert UUID(key.removeprefix("order.expiry:")).version == 7
    assert (request_hash, target) == (b"", order.id)
    query = select(tables.history.c.cause).where(tables.history.c.reason == "PAYMENT_EXPIRED")
    async with engine.connect() as connection:
        assert (await connection.execute(query)).scalar_one() == key
