"""The end of a watch of an order, over the running server."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest
from ordermesh.order.v1 import order_pb2
from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceStub,
    add_OrderServiceServicer_to_server,
)

from chassis.rpc.client import ask
from chassis.values.convert import resume_token
from chassis.write.database import Database
from order_svc.app import Operations
from order_svc.lifecycle import ReturnStatus, Status
from order_svc.model.records import Order
from order_svc.rpc import OrderService
from tests.integration.order.conftest import FakeWarehouse
from tests.integration.order.events import (
    WORK,
    delivery,
    paid,
    shipped_and_delivered,
    shipped_fulfilment,
    working,
)
from tests.integration.order.requests import Orders, Returns
from tests.integration.order.test_cancellation import cancel, failed, now
from tests.integration.order.test_events import deliver, place
from tests.integration.order.test_return_events import recalled, refund, taken_in
from tests.support import cancelled_at_end, channel_of

HEARTBEAT = "heartbeat"
CANCELLED = "CANCELLED"


class Watch:
    """An open watch. It shortens each update to its kind, or to a transition's new status."""

    def __init__(self, orders: Orders, order: Order, after: int | None = None) -> None:
        token = "" if after is None else resume_token(order.id, after)
        self._call = orders.WatchOrder(
            api.WatchOrderRequest(order_id=str(order.id), resume_token=token), timeout=30
        )

    async def next(self) -> str | None:
        """Returns the next update; None where the watch has ended with OK. Raises gRPC's error."""
        response = await self._call.read()
        if not isinstance(response, api.WatchOrderResponse):
            assert await self._call.code() is grpc.StatusCode.OK
            return None
        kind = response.WhichOneof("update")
        assert kind
        status = order_pb2.OrderStatus.Name(response.transition.new_status)
        return status.removeprefix("ORDER_STATUS_") if kind == "transition" else kind

    async def next_but_heartbeats(self) -> str | None:
        while (update := await self.next()) == HEARTBEAT:
            continue
        return update

    async def rest(self) -> list[str]:
        """Returns the updates until the watch ends, without heartbeats."""
        rest = []
        while (update := await self.next_but_heartbeats()) is not None:
            rest.append(update)
        return rest

    def close(self) -> None:
        self._call.cancel()


@pytest.fixture
async def slow_replica(
    database: Database, warehouse: FakeWarehouse
) -> AsyncIterator[tuple[Operations, Orders]]:
    """A second replica with heartbeats ten minutes apart, so that only its poll for changes ends a
    watch.
    """
    operations = Operations(database, warehouse, heartbeat_s=600)
    register = partial(
        add_OrderServiceServicer_to_server,
        OrderService(operations.creation, operations.cancellation, operations.reading),
    )
    async with cancelled_at_end(operations.reading.watches.run()), channel_of(register) as channel:
        yield operations, OrderServiceStub(channel)


async def test_watch_of_a_pending_order_ends_once_cancelled(
    slow_replica: tuple[Operations, Orders],
) -> None:
    """The watch sends the snapshot and the cancellation, and then ends with OK, because the order
    has no open work.
    """
    operations, orders = slow_replica
    order = await place(orders, operations, "london")
    watch = Watch(orders, order)
    assert await watch.next() == "snapshot"
    await ask(orders.CancelOrder, cancel(order))
    async with asyncio.timeout(20):
        assert await watch.rest() == [CANCELLED]


async def test_watch_with_a_recall_ends_when_it_closes(
    slow_replica: tuple[Operations, Orders],
    orders: Orders,
    operations: Operations,
    returns: Returns,
) -> None:
    """An order is cancelled after it shipped. The watch sends heartbeats while the recall is open,
    and ends when it is closed.
    """
    order = await place(orders, operations, "london")
    created, _ = shipped_and_delivered(order, "london")
    await deliver(
        operations,
        [
            delivery(event)
            for event in (paid(order), created, *shipped_fulfilment(order, "london", {1: 1}))
        ],
    )
    watch, late = Watch(orders, order), Watch(slow_replica[1], order)
    assert [await watch.next(), await late.next()] == ["snapshot", "snapshot"]
    await ask(orders.CancelOrder, cancel(order))
    assert [await watch.next_but_heartbeats(), await late.next()] == [CANCELLED, CANCELLED]
    await deliver(operations, [delivery(refund(order, order.total))])
    order = await now(operations, order)
    assert [status for status, _ in recalled(order)] == [ReturnStatus.APPROVED]
    assert [await watch.next() for _ in range(3)] == [HEARTBEAT] * 3
    order = await taken_in(returns, operations, order)
    assert [status for status, _ in recalled(order)] == [ReturnStatus.CLOSED]
    async with asyncio.timeout(20):
        assert await watch.rest() == []
        assert await late.next() is None


async def test_watch_waits_for_the_money_of_an_order(
    orders: Orders, operations: Operations
) -> None:
    """A watch of a cancelled order continues until its money is refunded and its stock is back."""
    order = await place(orders, operations, "london")
    await deliver(operations, [delivery(paid(order))])
    await ask(orders.CancelOrder, cancel(order))
    watch = Watch(orders, order)
    assert [await watch.next() for _ in range(3)] == ["snapshot", HEARTBEAT, HEARTBEAT]
    await deliver(operations, [delivery(refund(order, order.total))])
    # Its stock is committed, and its work is expected.
    assert [await watch.next() for _ in range(2)] == [HEARTBEAT] * 2
    [stopped] = working(order, "london", [WORK.FULFILLMENT_STATUS_CANCELLED])
    await deliver(operations, [delivery(stopped)])
    async with asyncio.timeout(20):
        assert await watch.rest() == []


async def test_watch_of_a_closed_order_sends_it_and_ends(
    orders: Orders, operations: Operations
) -> None:
    """Without a token the watch sends the order once; with a resume_token it sends the transitions
    after it, or none.
    """
    order = await place(orders, operations, "london")
    await ask(orders.CancelOrder, cancel(order))
    async with asyncio.timeout(20):
        assert await Watch(orders, order).rest() == ["snapshot"]
        assert await Watch(orders, order, after=1).rest() == [CANCELLED]
        assert await Watch(orders, order, after=2).rest() == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.DELIVERED])
async def test_watch_of_failed_or_delivered_order_stays_open(
    orders: Orders, operations: Operations, warehouse: FakeWarehouse, status: Status
) -> None:
    """A failed order can be retried, and a delivered one can be returned."""
    if status is Status.FAILED:
        order = await failed(orders, operations, warehouse)
    else:
        order = await place(orders, operations, "london")
        await deliver(
            operations,
            [delivery(event) for event in (paid(order), *shipped_and_delivered(order, "london"))],
        )
        order = await now(operations, order)
    assert order.status is status
    watch = Watch(orders, order)
    assert [await watch.next() for _ in range(3)] == ["snapshot", HEARTBEAT, HEARTBEAT]
    watch.close()
