"""The whole warehouse service, over a real broker."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID, uuid4

from google.protobuf.message import Message
from nats.js.api import ConsumerConfig
from ordermesh.warehouse.events.v1.warehouse_events_pb2 import StockChanged
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker, connect
from chassis.values.event_subjects import subject_of
from tests.integration.warehouse.events import (
    CONFIRMED,
    PENDING,
    WORK,
    fulfillment_status_changed,
    inspected,
    items_cancelled,
    lines_changed,
    order_status_changed,
)
from tests.integration.warehouse.requests import as_stored
from tests.integration.warehouse.stock import reserved, stocked
from tests.streams import ensure_streams
from tests.support import Eventually
from tests.unit.warehouse.world import confirm, reserve
from warehouse_svc.app import Operations, running
from warehouse_svc.config import Config
from warehouse_svc.lifecycle import Bucket, Status
from warehouse_svc.tables import outbox

SHIPPED = WORK.FULFILLMENT_STATUS_SHIPPED


@asynccontextmanager
async def broker_at(url: str) -> AsyncIterator[Broker]:
    """A broker with all its streams, as the other services find it."""
    broker = await connect(url, name="test")
    try:
        await ensure_streams(broker)
        yield broker
    finally:
        await broker.close()


async def publish(broker: Broker, stream: str, event: Message) -> None:
    """Publishes an event as the relay of another service does."""
    event_id = str(uuid4())
    headers = {
        "Nats-Msg-Id": event_id,
        "ce-id": event_id,
        "ce-type": event.DESCRIPTOR.full_name,
        "ce-subject": str(uuid4()),
    }
    await broker.publish(subject_of(type(event)), event.SerializeToString(), headers, stream=stream)


async def stock_changes(broker: Broker) -> list[StockChanged]:
    """Returns all events of stock that the warehouse has published, in the stream's order."""
    subject = subject_of(StockChanged)
    subscription = await broker.streams.pull_subscribe(
        subject, stream="WAREHOUSE", config=ConsumerConfig(filter_subject=subject)
    )
    waiting = (await subscription.consumer_info()).num_pending or 0
    return [
        StockChanged.FromString(message.data)
        for message in await subscription.fetch(waiting, timeout=5)
    ]


async def done(assertions: Callable[[], Awaitable[None]]) -> bool:
    await assertions()
    return True


def service_config(engine: AsyncEngine, nats_url: str) -> Config:
    """Returns the settings of a service that expires reservations at once."""
    return Config(
        database_url=SecretStr(engine.url.render_as_string(hide_password=False)),
        nats_url=SecretStr(nats_url),
        listen_address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        expiry_interval_s=0.1,
        drain_delay_s=0,
    )


class ReservedOrders(NamedTuple):
    """The orders whose events the test publishes."""

    sold: UUID
    never: UUID  # never paid: its reservation expires
    picked: UUID
    shrunk: UUID


async def reserve_orders(operations: Operations) -> ReservedOrders:
    """Stocks and reserves the units of each order; one is confirmed."""
    await stocked(operations, tea=1)
    sold = await reserved(operations, ("tea", 2))
    await stocked(operations, tea=1)
    never = (
        await operations.reservations.reserve_stock(
            reserve(("tea", 1), order=uuid4(), ttl=timedelta(0))
        )
    ).order_id
    await stocked(operations, jam=3)
    picked, shrunk = await reserved(operations, ("jam", 2)), await reserved(operations, ("jam", 3))
    await operations.writer.write([confirm(picked)])
    return ReservedOrders(sold=sold, never=never, picked=picked, shrunk=shrunk)


async def check_settled(engine: AsyncEngine, orders: ReservedOrders) -> None:
    """Checks the stock after all events, and that the outbox is published."""
    stored = await as_stored(engine)
    current = stored.attempt_reservations
    assert ("leeds", "tea") in stored.levels
    assert stored.balances("leeds", "tea") == (1, 0, 0, 1)
    assert (
        sum(line.units(Bucket.COMMITTED) for line in current(orders.picked)[0].lines),
        sum(line.units(Bucket.WRITTEN_OFF) for line in current(orders.picked)[0].lines),
    ) == (1, 1)
    assert (
        sum(sum(line.units(Bucket.RELEASED) for line in r.lines) for r in current(orders.shrunk))
        == 2
    )
    assert [r.status for r in current(orders.sold)] == [Status.CLOSED] * 2
    assert [r.status for r in current(orders.never)] == [Status.EXPIRED]
    async with engine.connect() as connection:
        assert (
            await connection.execute(select(outbox.c.id).where(outbox.c.stream_seq.is_(None)))
        ).first() is None


async def order_events(engine: AsyncEngine, orders: ReservedOrders) -> list[tuple[str, Message]]:
    """Returns the events of the orders, each with its stream. Those of shipped units come before
    their commit.
    """
    sold, _, picked, shrunk = orders
    stored = await as_stored(engine)
    [reservation] = stored.attempt_reservations(picked)
    lines = lines_changed(picked, reservation.warehouse_id, {1: (1, 0, 1, 0)})
    cancelled = items_cancelled(shrunk, {1: 1}, stored.attempt_reservations(shrunk), PENDING)
    return [
        ("ORDERS", inspected(sold, uuid4(), "leeds", {1: (1, 1)})),
        ("ORDERS", cancelled),
        ("FULFILLMENTS", lines),
        # the shipments' events wait for the commit
        ("FULFILLMENTS", fulfillment_status_changed(sold, "london", SHIPPED, {1: 1})),
        ("FULFILLMENTS", fulfillment_status_changed(sold, "york", SHIPPED, {1: 1})),
        ("ORDERS", order_status_changed(sold, PENDING, CONFIRMED)),
    ]


async def test_service_consumes_publishes_and_expires(
    operations: Operations, engine: AsyncEngine, nats_url: str, eventually: Eventually
) -> None:
    """Over a real broker, an order's events and the passing of time move its stock, and each
    movement is published in order.
    """
    config = service_config(engine, nats_url)
    orders = await reserve_orders(operations)
    incoming = await order_events(engine, orders)
    async with broker_at(nats_url) as broker, running(config):
        for stream, event in incoming:
            await publish(broker, stream, event)
        await eventually(lambda: done(partial(check_settled, engine, orders)), timeout_s=30)
        published = await stock_changes(broker)
    world = await as_stored(engine)
    world.check()
    for place, level in world.levels.items():
        own = [m for m in published if (m.stock_level.warehouse_id, m.stock_level.sku) == place]
        assert [m.stock_level.version for m in own] == list(range(1, level.version + 1))
        assert own[-1].stock_level.available == level.available
