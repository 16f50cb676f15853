"""Events that wait for what never comes hold up no other event: payments of orders that the
order service does not have.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4, uuid5

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1.order_service_pb2 import GetOrderRequest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import stream
from chassis.client import ask
from chassis.decision import Outcome
from chassis.delivery import Delivery
from chassis.handling import Handler
from chassis.inbox import PARK_AT, SET_MAX, Inbox
from chassis.parking import BATCH, REST
from chassis.stream import Broker
from order_svc import tables
from order_svc.consumers import Consumers
from order_svc.lifecycle import Status
from order_svc.operations import Operations
from tests.integration.order.events import committed, paid, shipped_and_delivered, working
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import place
from tests.sample.inbox import all_acknowledged, publish
from tests.support import Eventually, cancelled_at_end

HOPELESS = 7_300
AGAIN = 5_000  # of each of four streams
AT_ONCE = 100
CONSUMER, STREAM = "order-payments", "PAYMENTS"


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """The world outside publishes here."""
    broker = await stream.connect(nats_url, name="test")
    await broker.ensure_streams()
    yield broker
    await broker.close()


class Counting:
    """The order service's handler of payments; notes for each event in turn which order it is
    about.
    """

    def __init__(self, operations: Operations) -> None:
        self._handlers, self.orders = Consumers(operations), list[str]()

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        outcomes = await self._handlers.payment_confirmed(deliveries)
        self.orders += [delivery.message.order_id for delivery in deliveries]
        return outcomes


async def _publish_all(broker: Broker, events: Sequence[Message]) -> None:
    for start in range(0, len(events), AT_ONCE):
        await asyncio.gather(*(publish(broker, event) for event in events[start : start + AT_ONCE]))


async def _deferred(engine: AsyncEngine) -> int:
    t = tables.failed_events.c
    async with engine.connect() as connection:
        query = select(func.count()).where(t.state == "deferred")
        return int((await connection.execute(query)).scalar_one())


async def test_hopeless_events_starve_no_payment(
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    broker: Broker,
    eventually: Eventually,
) -> None:
    """7,300 payments of unknown orders: a genuine one behind them waits for their few deliveries,
    not for their time.

    They are parked then: the stream has nothing in hand, and what comes next is handled among a
    batch or two of their tries.
    """
    first, second = [await place(orders, operations, "london") for _ in range(2)]
    hopeless = [paid(first) for _ in range(HOPELESS)]
    for event in hopeless:
        event.order_id = str(uuid4())
    handling = Counting(operations)
    inbox = Inbox(
        broker, engine, tables.failed_events, service="order", handlers={PaymentConfirmed: handling}
    )
    operations.database.on_change = inbox.changed
    await _publish_all(broker, hopeless)
    await publish(broker, paid(first))
    async with cancelled_at_end(inbox.run()):

        async def confirmed(order: Any) -> bool:
            [now] = await operations.get_orders([order.id])
            return now.status is Status.CONFIRMED

        await eventually(lambda: confirmed(first), timeout_s=300)
        tries_of_parked = PARK_AT * HOPELESS // REST
        assert handling.orders.index(str(first.id)) <= PARK_AT * HOPELESS + tries_of_parked

        async def all_parked() -> bool:
            settled = await all_acknowledged(broker, CONSUMER, STREAM)
            return settled and await _deferred(engine) == HOPELESS

        await eventually(all_parked, timeout_s=300)
        mark = len(handling.orders)
        await publish(broker, paid(second))
        await eventually(lambda: confirmed(second), timeout_s=300)
        between = handling.orders.index(str(second.id)) - mark
        assert between <= 10 * BATCH
        assert await _deferred(engine) == HOPELESS


class Events:
    """The order service's handlers, which count the events that they are given."""

    def __init__(self, operations: Operations) -> None:
        self._handlers, self.begun = Consumers(operations).handlers, 0

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
    """20,000 events of four streams come again: while a GetOrder is served a few sets of them
    are begun, and no more.
    """
    order = await place(orders, operations, "london")
    [work] = working(order, "london", [fulfillment_pb2.FULFILLMENT_STATUS_PICKING])
    created, _ = shipped_and_delivered(order, "london")
    events: list[Message] = [paid(order), work, created, committed(order, "london")]
    for event in events:
        for _ in range(AGAIN // AT_ONCE):
            same = (uuid5(order.id, f"{type(event)} {number}") for number in range(AT_ONCE))
            await asyncio.gather(
                *(publish(broker, event, id, Nats_Msg_Id=str(uuid4())) for id in same)
            )
    counted = Events(operations)
    handlers = {type(event): counted.of(type(event)) for event in events}
    inbox = Inbox(broker, engine, tables.failed_events, service="order", handlers=handlers)

    async def settled() -> bool:
        return all(
            [await all_acknowledged(broker, name, of) for name, of in inbox.consumers.items()]
        )

    request = GetOrderRequest(order_id=str(order.id))
    during: list[int] = []
    async with cancelled_at_end(inbox.run()):
        await eventually(lambda: counted.begun, timeout_s=60)
        while not await settled():
            before = counted.begun
            await ask(orders.GetOrder, request)
            during.append(counted.begun - before)
    assert counted.begun >= len(events) * AGAIN
    assert len(during) >= 40
    assert max(during) <= 10 * SET_MAX
