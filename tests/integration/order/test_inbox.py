"""What the order service hears, over a real broker: behind the times, again, and in words that it does not know."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from prometheus_client import REGISTRY
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import stream
from chassis.inbox import Inbox
from chassis.stream import Broker
from order_svc import tables
from order_svc.consumers import Consumers
from order_svc.lifecycle import PaymentStatus, Status
from order_svc.model import Order
from order_svc.operations import Operations
from tests.integration.order.events import committed, paid, refunded, shipped_and_delivered, working
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import PATH, place, snapshot
from tests.sample.inbox import all_acknowledged, publish
from tests.support import cancelled_at_end, eventually, measured


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """The world outside publishes here."""
    broker = await stream.connect(nats_url, name="test")
    await broker.ensure_streams()
    yield broker
    await broker.close()


@asynccontextmanager
async def hearing(broker: Broker, engine: AsyncEngine, operations: Operations) -> AsyncIterator[Inbox]:
    """The order service's own inbox runs meanwhile."""
    inbox = Inbox(broker, engine, tables.failed_events, service="order", handlers=Consumers(operations).handlers)
    async with cancelled_at_end(inbox.run()):
        yield inbox


async def heard(broker: Broker, inbox: Inbox, events: Sequence[Message], *, times: int = 1) -> None:
    """Publishes the events, each so often (the broker takes a repeat for another message), and waits until all are acknowledged."""
    for event in events:
        event_id = uuid4()
        for _ in range(times):
            await publish(broker, event, event_id, Nats_Msg_Id=str(uuid4()))

    async def acknowledged() -> bool:
        return all([await all_acknowledged(broker, name, of) for name, of in inbox.consumers.items()])

    await eventually(acknowledged, timeout_s=60)


async def now(operations: Operations, order: Order) -> Order:
    [order] = await operations.get_orders([order.id])
    return order


async def count(engine: AsyncEngine, table: Any) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


def handled(outcome: str) -> float:
    """How many events the order service has handled so, in this process."""
    metrics = [sample for metric in REGISTRY.collect() if metric.name == "inbox_handled" for sample in metric.samples]
    return sum(
        each.value
        for each in metrics
        if each.name == "inbox_handled_total" and each.labels["outcome"] == outcome and each.labels["consumer"].startswith("order-")
    )


async def test_out_of_order_events_skip_backward_moves(orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker) -> None:
    """Delivered, and then everything before it is told: each event is acknowledged and counted as skipped, and nothing changes:
    no status, no version, no row of history, no event of ours. So is an older version of a fulfilment, whatever it says.
    """
    order = await place(orders, operations, "london")
    *behind, ahead = working(order, "london", PATH)
    created, arrived = shipped_and_delivered(order, "london")
    async with hearing(broker, engine, operations) as inbox:
        await heard(broker, inbox, [paid(order)])
        await heard(broker, inbox, [arrived])
        await heard(broker, inbox, [ahead])
        delivered = await now(operations, order)
        assert (delivered.status, delivered.version) == (Status.DELIVERED, 5)
        before, skipped, told = await snapshot(engine), handled("skipped"), await count(engine, tables.outbox)
        late = [paid(order), committed(order, "london"), *behind, created]
        await heard(broker, inbox, late)
    assert await snapshot(engine) == before
    assert handled("skipped") - skipped == len(late)
    assert await count(engine, tables.outbox) == told
    assert await count(engine, tables.failed_events) == 0


async def test_duplicate_events_apply_once(orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker) -> None:
    """Every event of a life three times, past the broker's own window: each has its effect once, and is acknowledged and counted
    each time; the money is refunded once.
    """
    order = await place(orders, operations, "london")
    created, arrived = shipped_and_delivered(order, "london")
    stages: list[list[Message]] = [[paid(order)], [*working(order, "london", PATH), created], [arrived], [refunded(order, 400)]]
    before = handled("done") + handled("repeat")
    async with hearing(broker, engine, operations) as inbox:
        for stage in stages:
            await heard(broker, inbox, stage, times=3)
    there = await now(operations, order)
    assert (there.status, there.version) == (Status.DELIVERED, 5)
    assert (there.payment, there.refunded, there.captured) == (PaymentStatus.PARTIALLY_REFUNDED, 400, order.total)
    told = [row[2:] for row in (await snapshot(engine))["history"]]
    assert [new for _, new in told] == ["pending", "confirmed", "processing", "shipped", "delivered"]
    assert await count(engine, tables.outbox) == 5
    assert await count(engine, tables.failed_events) == 0
    assert handled("done") + handled("repeat") - before == 3 * sum(map(len, stages))


async def test_an_unknown_fulfilment_status_is_counted(orders: Orders, operations: Operations, engine: AsyncEngine, broker: Broker) -> None:
    """A status of a newer fulfilment service is acknowledged, changes nothing, and shows up in the metrics."""
    order = await place(orders, operations, "london")
    name = "order_fulfillment_statuses_unknown_total"
    counted = measured(name)
    [event] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    event.new_status = event.fulfillment.status = 99  # type: ignore[assignment]  # as the wire may have it
    async with hearing(broker, engine, operations) as inbox:
        await heard(broker, inbox, [paid(order)])
        before = await snapshot(engine)
        await heard(broker, inbox, [event])
    assert await snapshot(engine) == before
    assert measured(name) == counted + 1
