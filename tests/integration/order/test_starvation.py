"""A large load delays no event and no call: events that are always deferred, a backlog, a rebuild
of the stream.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1.order_service_pb2 import GetOrderRequest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from sqlalchemy import func, insert, select, text, true
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler
from chassis.consume.inbox import PARK_AT, SET_MAX, Inbox
from chassis.consume.parked_events import BATCH, REST
from chassis.publish import relay as relaying
from chassis.publish import stream_rebuild
from chassis.publish.relay import Relay
from chassis.rpc.client import ask
from chassis.values.decision import Outcome
from chassis.write.outbox import shard_of
from order_svc import consumers, tables
from order_svc.app import Operations
from order_svc.lifecycle import Status
from tests.integration.order.events import committed, paid, shipped_and_delivered, working
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import place
from tests.sample.inbox import all_acknowledged, publish, publish_many
from tests.support import Eventually, cancelled_at_end, measured

PARKED = 7_300
# The number of events that come from the stream. The others are copies of parked rows, by SQL.
STREAMED = 1_000
AGAIN = 5_000  # for each of four streams
HANDLED = 4_000  # over all these streams, until the test ends
LOST = 2_000
CONSUMER, STREAM = "order-payments", "PAYMENTS"


class Counting:
    """The order service's handler of payments; it records the order of each event in turn."""

    def __init__(self, operations: Operations) -> None:
        self._handlers = consumers.handlers(operations.payments, operations.writer)
        self.orders = list[str]()

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        outcomes = await self._handlers[PaymentConfirmed](deliveries)
        self.orders += [delivery.message.order_id for delivery in deliveries]
        return outcomes


async def _deferred(engine: AsyncEngine) -> int:
    t = tables.failed_events.c
    async with engine.connect() as connection:
        query = select(func.count()).where(t.state == "deferred")
        return int((await connection.execute(query)).scalar_one())


async def _park_more(engine: AsyncEngine, number: int) -> None:
    """Inserts this number of parked rows, under other event ids."""
    t = tables.failed_events
    columns = [func.gen_random_uuid() if c is t.c.event_id else c for c in t.c]
    again = func.generate_series(1, number // STREAMED + 1).table_valued()
    copies = select(*columns).where(t.c.state == "deferred").join(again, true()).limit(number)
    async with engine.begin() as connection:
        await connection.execute(insert(t).from_select(list(t.c), copies))


async def test_events_of_unknown_orders_delay_no_payment(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    broker: Broker,
    eventually: Eventually,
) -> None:
    """1,000 payments of unknown orders come before a genuine one, which waits only for their few
    deliveries. They are parked then: the stream has no pending message.

    With 7,300 parked, the next event is handled within ten batches.
    """
    first, second = [await place(orders, operations, "london") for _ in range(2)]
    unknown_payments = [paid(first) for _ in range(STREAMED)]
    for event in unknown_payments:
        event.order_id = str(uuid4())
    counting = Counting(operations)
    inbox = Inbox(
        broker, engine, tables.failed_events, service="order", handlers={PaymentConfirmed: counting}
    )
    operations.reading.database.on_change.append(inbox.parking.changed)
    await publish_many(broker, [(event, uuid4()) for event in unknown_payments])
    await publish(broker, paid(first))
    async with cancelled_at_end(inbox.run()):

        async def confirmed(order: Any) -> bool:
            [now] = await operations.reading.get_orders([order.id])
            return now.status is Status.CONFIRMED

        await eventually(lambda: confirmed(first), timeout_s=300)
        tries_of_parked = PARK_AT * STREAMED // REST
        assert counting.orders.index(str(first.id)) <= PARK_AT * STREAMED + tries_of_parked

        async def all_parked() -> bool:
            settled = await all_acknowledged(broker, CONSUMER, STREAM)
            return settled and await _deferred(engine) == STREAMED

        await eventually(all_parked, timeout_s=300)
        await _park_more(engine, PARKED - STREAMED)
        mark = len(counting.orders)
        await eventually(lambda: len(counting.orders) > mark, timeout_s=60)
        mark = len(counting.orders)
        await publish(broker, paid(second))
        await eventually(lambda: confirmed(second), timeout_s=300)
        between = counting.orders.index(str(second.id)) - mark
        assert between <= 10 * BATCH
        assert await _deferred(engine) == PARKED


class Events:
    """The order service's handlers, which count the events that they get."""

    def __init__(self, operations: Operations) -> None:
        self._handlers, self.begun = consumers.handlers(operations.payments, operations.writer), 0

    def of(self, kind: type[Message]) -> Handler[Any]:
        async def handle(deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
            self.begun += len(deliveries)
            return await self._handlers[kind](deliveries)

        return handle


async def test_call_does_not_wait_for_the_backlog(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    broker: Broker,
    eventually: Eventually,
) -> None:
    """20,000 events of four streams come again. While a GetOrder is served, only a few of their
    sets begin. The test ends before the last of them.
    """
    order = await place(orders, operations, "london")
    [work] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    created, _ = shipped_and_delivered(order, "london")
    events: list[Message] = [paid(order), work, created, committed(order, "london")]
    ids = [uuid4() for _ in range(100)]
    repeats = [(event, ids[n % len(ids)]) for n in range(AGAIN) for event in events]
    await publish_many(broker, repeats)
    counted = Events(operations)
    handlers = {type(event): counted.of(type(event)) for event in events}
    inbox = Inbox(broker, engine, tables.failed_events, service="order", handlers=handlers)
    request = GetOrderRequest(order_id=str(order.id))
    during: list[int] = []
    async with cancelled_at_end(inbox.run()):
        await eventually(lambda: counted.begun, timeout_s=60)
        while counted.begun < HANDLED:
            before = counted.begun
            await ask(orders.GetOrder, request)
            during.append(counted.begun - before)
    assert len(during) >= 40
    assert max(during) <= 10 * SET_MAX


async def _published(engine: AsyncEngine, number: int) -> None:
    """Inserts this number of events, each of another aggregate, marked as published."""
    values = "insert into outbox (shard, aggregate, event_id, sequence, subject, type, payload, "
    values += "stream_seq) values (:shard, :id, :id, 1, 'orders.sample', 'x', '', :place)"
    ids = [uuid4() for _ in range(number)]
    rows = [{"shard": shard_of(id), "id": id, "place": n} for n, id in enumerate(ids, 1)]
    async with engine.begin() as connection:
        await connection.execute(text(values), rows)


async def test_call_does_not_wait_for_a_rebuild(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    broker: Broker,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream has lost 2,000 events. The process that publishes them again answers GetOrder
    between their batches, also without a rate limit.
    """
    monkeypatch.setattr(stream_rebuild, "LOST_RATE", float("inf"))
    monkeypatch.setattr(stream_rebuild, "PLACES_RATE", float("inf"))
    monkeypatch.setattr(relaying, "POLL_S", 0.05)
    order = await place(orders, operations, "london")
    await _published(engine, LOST)
    relay = Relay(
        operations.reading.database,
        broker,
        positions=tables.stream_positions,
        stream="ORDERS",
        source="order",
    )

    def published() -> float:
        return measured("outbox_published_total", stream="ORDERS")

    request, start = GetOrderRequest(order_id=str(order.id)), published()
    during: list[float] = []
    async with cancelled_at_end(relay.run()):
        await eventually(lambda: published() > start, timeout_s=60)
        while published() < start + LOST + 1:
            before = published()
            await ask(orders.GetOrder, request)
            during.append(published() - before)
    assert len(during) >= 40
    assert max(during) <= LOST / 4
