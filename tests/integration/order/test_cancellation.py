"""Cancelling, expiring and retrying orders, over a real channel and a real PostgreSQL."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.events.v1.order_events_pb2 import OrderItemsCancelled, OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.shipping.v1 import shipping_pb2
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, NotFound, Refused
from chassis.write.database import Database
from order_svc import tables
from order_svc.app import Operations
from order_svc.decisions.deciders import decide
from order_svc.decisions.transitions import Decided
from order_svc.lifecycle import Status
from order_svc.model.commands import CommitRefused
from order_svc.model.records import Order
from order_svc.store import orders as store
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import (
    WORK,
    committed,
    delivery,
    not_paid,
    paid,
    parcel_ended,
    shipped_and_delivered,
    shipped_fulfilment,
    working,
)
from tests.integration.order.requests import Orders, Returns, overdue, pounds
from tests.integration.order.returns import wanted
from tests.integration.order.test_events import deliver, place
from tests.support import measured


def cancel(order: Order, **fields: Any) -> api.CancelOrderRequest:
    return api.CancelOrderRequest(
        **({"request_id": str(uuid4()), "order_id": str(order.id)} | fields)
    )


def cancel_items(order: Order, units: dict[int, int], **fields: Any) -> api.CancelOrderItemsRequest:
    lines = [
        api.CancelledLine(line_number=number, quantity=quantity)
        for number, quantity in units.items()
    ]
    return api.CancelOrderItemsRequest(
        **({"request_id": str(uuid4()), "order_id": str(order.id), "lines": lines} | fields)
    )


def retry(order: Order, **fields: Any) -> api.RetryOrderRequest:
    return api.RetryOrderRequest(
        **({"request_id": str(uuid4()), "order_id": str(order.id)} | fields)
    )


async def now(operations: Operations, order: Order) -> Order:
    [current] = await operations.reading.get_orders([order.id])
    return current


async def published(
    engine: AsyncEngine, order: Order
) -> list[OrderStatusChanged | OrderItemsCancelled]:
    """Returns the order's events, in their order."""
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in (OrderStatusChanged, OrderItemsCancelled)}
    of = (
        select(tables.outbox.c.type, tables.outbox.c.payload)
        .where(tables.outbox.c.aggregate == order.id)
        .order_by(tables.outbox.c.id)
    )
    async with engine.connect() as connection:
        return [kinds[name].FromString(payload) for name, payload in await connection.execute(of)]


async def failed(orders: Orders, operations: Operations, warehouse: FakeWarehouse) -> Order:
    """Returns a paid order whose stock is no longer available."""
    order = await place(orders, operations, "london")
    warehouse.answers[order.id] = CommitRefused("RESERVATION_EXPIRED")
    await deliver(operations, [delivery(paid(order))])
    del warehouse.answers[order.id]
    return await now(operations, order)


async def test_cancelled_order_releases_its_stock_with_its_reason(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """The order is cancelled with the caller's reason, and its stock released. A repeat of the
    request answers the same order, and calls no peer.
    """
    order = await place(orders, operations, "london")
    request = cancel(order, reason="FRAUD")
    answer = (await ask(orders.CancelOrder, request)).order
    assert (answer.status, answer.status_reason, answer.version) == (
        order_pb2.ORDER_STATUS_CANCELLED,
        "FRAUD",
        2,
    )
    assert warehouse.asked_to_release == [[(order.id, 1)]]
    assert (await ask(orders.CancelOrder, request)).order == answer
    assert len(warehouse.asked_to_release) == 1
    with pytest.raises(Refused) as refused:
        await ask(orders.CancelOrder, cancel(order))
    assert refused.value.reason == "ORDER_ALREADY_CANCELLED"


async def test_change_of_an_unknown_order_is_not_found(
    orders: Orders, operations: Operations
) -> None:
    """Each of the three methods answers ORDER_NOT_FOUND."""
    order = await place(orders, operations, "london")
    unknown = {"order_id": str(uuid4())}
    for call in (
        ask(orders.CancelOrder, cancel(order, **unknown)),
        ask(orders.CancelOrderItems, cancel_items(order, {1: 1}, **unknown)),
        ask(orders.RetryOrder, retry(order, **unknown)),
    ):
        with pytest.raises(NotFound):
            await call


async def test_cancelled_units_share_the_sequence_of_statuses(
    orders: Orders, operations: Operations, engine: AsyncEngine, warehouse: FakeWarehouse
) -> None:
    """Each version comes once: placed, units cancelled, confirmed, and the last units as a change
    of status. The amounts are the current cost of the order.
    """
    order = await place(orders, operations, "london", "paris")  # 1 × 10 and 2 × 10
    answer = (
        await ask(orders.CancelOrderItems, cancel_items(order, {2: 1}, reason="TOO_MANY"))
    ).order
    assert (answer.total_amount, answer.cancelled_amount) == (pounds(20), pounds(10))
    assert [
        (line.cancelled_quantity, [a.quantity for a in line.allocations]) for line in answer.items
    ] == [(0, [1]), (1, [1])]
    await deliver(operations, [delivery(paid(await now(operations, order)))])
    await ask(orders.CancelOrderItems, cancel_items(order, {1: 1}))
    last = (await ask(orders.CancelOrderItems, cancel_items(order, {2: 1}))).order
    assert (last.status, last.status_reason) == (
        order_pb2.ORDER_STATUS_CANCELLED,
        "CUSTOMER_REQUEST",
    )
    events = await published(engine, order)
    assert [event.order_version for event in events] == [1, 2, 3, 4, 5]
    assert [type(event) for event in events] == [
        OrderStatusChanged,
        OrderItemsCancelled,
        OrderStatusChanged,
        OrderItemsCancelled,
        OrderStatusChanged,
    ]
    assert [event.total_amount.units for event in events] == [30, 20, 20, 10, 0]
    assert [[a.quantity for line in event.items for a in line.allocations] for event in events] == [
        [1, 2],
        [1, 1],
        [1, 1],
        [1],
        [],
    ]
    rows = (
        await ask(
            orders.ListOrderTransitions, api.ListOrderTransitionsRequest(order_id=str(order.id))
        )
    ).transitions
    assert [
        (row.order_version, row.reason) for row in rows if row.old_status == row.new_status
    ] == [
        (2, "TOO_MANY"),
        (4, "CUSTOMER_REQUEST"),
    ]
    assert warehouse.asked_to_release == [[(order.id, 1)]]


async def test_repeated_item_cancellation_cancels_no_more_units(
    orders: Orders, operations: Operations
) -> None:
    """The same request twice cancels one unit; another request with the same body cancels one
    more.
    """
    order = await place(orders, operations, "london", "paris", "oslo")
    request = cancel_items(order, {3: 1})
    taken = [
        (await ask(orders.CancelOrderItems, again)).order.items[2].cancelled_quantity
        for again in (request, request, cancel_items(order, {3: 1}))
    ]
    assert taken == [1, 1, 2]
    with pytest.raises(Refused) as refused:
        await ask(orders.CancelOrderItems, cancel_items(order, {3: 2}))
    assert refused.value.reason == "ITEMS_NOT_CANCELLABLE"
    assert [violation.subject for violation in refused.value.violations] == ["line 3"]


async def test_refused_cancellation_advises_return_and_cut(
    orders: Orders, returns: Returns, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """London's parcel is delivered. Paris's label made the order shipped, and was then withdrawn.

    CancelOrder is refused with the advice to return London's units and to cancel those of Paris.
    Both succeed, and the order is delivered once the work in Paris is cancelled.
    """
    warehouse.allocated_warehouses = ("london", "paris")
    order = await place(orders, operations, "london", "paris")
    created, arrived = shipped_and_delivered(order, "london")
    label, _ = shipped_and_delivered(order, "paris")
    await deliver(operations, [delivery(paid(order))])
    await deliver(
        operations, [delivery(event) for event in shipped_fulfilment(order, "london", {1: 1})]
    )
    await deliver(operations, [delivery(event) for event in (created, arrived, label)])
    assert (await now(operations, order)).status is Status.SHIPPED
    void = parcel_ended(label.shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED)
    void.shipment.withdraw_version = 6
    await deliver(operations, [delivery(void)])
    with pytest.raises(Refused) as refused:
        await ask(orders.CancelOrder, cancel(order))
    advised = ("CreateReturn", "CancelOrderItems")
    assert refused.value.reason == "ORDER_NOT_CANCELLABLE"
    assert all(method in refused.value.message for method in advised)
    assert "CancelShipment" not in refused.value.message
    await ask(returns.CreateReturn, wanted(order, {1: 1}))
    cut = (await ask(orders.CancelOrderItems, cancel_items(order, {2: 2}))).order
    assert (cut.status, cut.cancelled_amount) == (order_pb2.ORDER_STATUS_SHIPPED, pounds(20))
    ended = working(order, "paris", [WORK.FULFILLMENT_STATUS_CANCELLED])
    await deliver(operations, [delivery(event) for event in ended])
    assert (await now(operations, order)).status is Status.DELIVERED


async def test_retried_order_reserves_and_is_paid_again(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """Attempt 2 reserves its own stock, waits for its own payment, and does not count the first
    attempt's.
    """
    order = await failed(orders, operations, warehouse)
    assert order.status is Status.FAILED
    request = retry(order, expected_version=order.version)
    again = (await ask(orders.RetryOrder, request)).order
    assert (again.status, again.attempt, again.payment_status) == (
        order_pb2.ORDER_STATUS_PENDING,
        2,
        order_pb2.PAYMENT_STATUS_PENDING,
    )
    assert (await ask(orders.RetryOrder, request)).order == again
    await deliver(operations, [delivery(paid(order))])
    assert (await now(operations, order)).status is Status.PENDING
    await deliver(operations, [delivery(paid(await now(operations, order)))])
    assert (await now(operations, order)).status is Status.CONFIRMED


async def test_a_late_repeat_of_a_retry_reserves_nothing(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """Attempt 2 has failed too when the request that began it comes again. The answer is a success
    that reserves no stock, which may be sold out by then.
    """
    order = await failed(orders, operations, warehouse)
    request = retry(order)
    await ask(orders.RetryOrder, request)
    warehouse.answers[order.id] = CommitRefused("RESERVATION_EXPIRED")
    await deliver(operations, [delivery(paid(await now(operations, order)))])
    reserved, warehouse.refuses = len(warehouse.reserved), Refused("INSUFFICIENT_STOCK")
    again = (await ask(orders.RetryOrder, request)).order
    assert (again.status, again.attempt) == (order_pb2.ORDER_STATUS_FAILED, 2)
    warehouse.refuses = None
    assert (await ask(orders.RetryOrder, request)).order == again
    assert len(warehouse.reserved) == reserved


async def test_retry_without_stock_leaves_order_failed(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """The warehouse's refusal reaches the caller. A retry of an order that has not failed is
    refused before any stock is reserved.
    """
    order = await failed(orders, operations, warehouse)
    warehouse.refuses = Refused("INSUFFICIENT_STOCK")
    with pytest.raises(Refused) as refused:
        await ask(orders.RetryOrder, retry(order))
    assert refused.value.reason == "INSUFFICIENT_STOCK"
    assert (await now(operations, order)).status is Status.FAILED
    warehouse.refuses, reserved = None, len(warehouse.reserved)
    living = await place(orders, operations, "london")
    with pytest.raises(Refused) as refused:
        await ask(orders.RetryOrder, retry(living))
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert len(warehouse.reserved) == reserved + 1


async def test_unpaid_orders_expire_and_release_stock_in_one_call(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, engine: AsyncEngine
) -> None:
    """The worker expires exactly the orders whose time to pay is over; a second run finds none."""
    several = [await place(orders, operations, "london") for _ in range(3)]
    await overdue(engine, *several[:2])
    assert await operations.cancellation.expire_orders() == 2
    assert [(await now(operations, order)).reason for order in several] == [
        "PAYMENT_EXPIRED",
        "PAYMENT_EXPIRED",
        "ORDER_PLACED",
    ]
    assert [sorted(released) for released in warehouse.asked_to_release] == [
        sorted((order.id, 1) for order in several[:2])
    ]
    assert await operations.cancellation.expire_orders() == 0


async def test_replicas_expire_each_order_once(
    orders: Orders,
    operations: Operations,
    warehouse: FakeWarehouse,
    engine: AsyncEngine,
    database: Database,
) -> None:
    """Four replicas expire twelve orders at once. Each order has one history row and one event, and
    no replica fails on another's order.
    """
    several = [await place(orders, operations, "london") for _ in range(12)]
    await overdue(engine, *several)
    replicas = [Operations(database, warehouse) for _ in range(4)]
    await asyncio.gather(*(replica.cancellation.expire_orders() for replica in replicas))
    for order in several:
        assert [event.order_version for event in await published(engine, order)] == [1, 2]
        assert (await now(operations, order)).status is Status.CANCELLED


async def test_order_expired_by_two_replicas_is_counted_once(
    orders: Orders,
    operations: Operations,
    warehouse: FakeWarehouse,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two replicas choose the same order before either has written. One of them ends it, counts it
    and releases its stock.
    """
    order = await place(orders, operations, "london")
    await overdue(engine, order)
    async with engine.connect() as connection:
        chosen = await store.find_expired(connection, None, 10)
    assert [id for _, id in chosen] == [order.id]

    async def as_chosen(*_: object) -> list[tuple[datetime, UUID]]:
        return chosen

    monkeypatch.setattr(store, "find_expired", as_chosen)
    before = measured("orders_expired_total")
    assert [await operations.cancellation.expire_orders() for _ in range(2)] == [1, 0]
    assert measured("orders_expired_total") == before + 1
    assert warehouse.asked_to_release[:1] == [[(order.id, 1)]]
    assert not any(warehouse.asked_to_release[1:])


async def test_expiry_continues_after_orders_that_fail(
    orders: Orders, operations: Operations, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orders that cannot be written come before three others, in batches of two. The others end
    in the same run, which then raises the error.
    """
    several = [await place(orders, operations, "london") for _ in range(5)]
    for order in several:
        await overdue(engine, order)
    broken = {order.id for order in several[:2]}

    def failing(order: Order | None, command: Envelope[Any], now: datetime) -> Decided:
        if command.target in broken:
            raise RuntimeError("never")
        return decide(order, command, now)

    monkeypatch.setattr("order_svc.app.decide", failing)
    monkeypatch.setattr("order_svc.operations.cancellation.EXPIRY_BATCH", 2)
    with pytest.raises(Defect):
        await Operations(
            operations.reading.database, operations.creation.warehouse
        ).cancellation.expire_orders()
    assert [(await now(operations, order)).status for order in several] == [Status.PENDING] * 2 + [
        Status.CANCELLED
    ] * 3


async def test_failed_payments_release_stock_in_one_call(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """One call releases the stock of all orders that a batch ends; repeats of the events call no
    peer.
    """
    several = [await place(orders, operations, "london") for _ in range(3)]
    deliveries = [delivery(not_paid(order)) for order in several]
    await deliver(operations, deliveries)
    await deliver(operations, deliveries)
    assert [sorted(released) for released in warehouse.asked_to_release] == [
        sorted((order.id, 1) for order in several)
    ]


async def test_pending_stock_commits_are_counted(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse
) -> None:
    """The gauge counts orders that wait for their commit; the counter counts commits by
    outcome.
    """
    before = {
        answer: measured("order_stock_commits_total", answer=answer)
        for answer in ("confirmed", "pending", "refused")
    }
    order = await place(orders, operations, "london")
    warehouse.away = True
    await deliver(operations, [delivery(paid(order))])
    warehouse.away = False
    await operations.payments.count_commit_pending()
    assert measured("orders_commit_pending") == 1
    await deliver(operations, [delivery(committed(order, "london"))])
    await operations.payments.count_commit_pending()
    assert REGISTRY.get_sample_value("orders_commit_pending") == 0
    await failed(orders, operations, warehouse)
    after = {answer: measured("order_stock_commits_total", answer=answer) for answer in before}
    assert {answer: after[answer] - before[answer] for answer in before} == {
        "confirmed": 0,
        "pending": 1,
        "refused": 1,
    }
