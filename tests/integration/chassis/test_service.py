"""The ground of a service: what its settings say is what it stands on."""

import asyncio
from datetime import UTC, datetime
from typing import ClassVar

import grpc
from nats.js.errors import NotFoundError
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.breaker import Breaker
from chassis.claims import KEPT, NOBODY
from chassis.config import ServiceConfig
from chassis.service import founded
from chassis.stream import Broker, Limits, connect
from tests.sample import store
from tests.support import Eventually


class Config(ServiceConfig):
    """The sample's settings."""

    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:0"
    metrics_address: str = "127.0.0.1:0"


async def test_a_stream_has_its_publisher_s_limits(sample_url: str, nats_url: str, eventually: Eventually) -> None:
    """A service creates its stream as large as its settings say, and asks for as many copies. (The test's broker has only itself.)"""
    settings = {"database_url": sample_url, "nats_url": nats_url}
    listener = await connect(nats_url, name="listener")
    async with founded(Config.model_validate(settings | {"stream_replicas": 3}), store, stream_name="ORDERS", encode=store.event) as ground:
        assert ground.broker.limits == Limits(replicas=3)
    async with founded(Config.model_validate(settings | {"stream_bytes_max": 2**21}), store, stream_name="ORDERS", encode=store.event):
        await eventually(lambda: _exists(listener))
    config = (await listener.streams.stream_info("ORDERS")).config
    assert (config.max_bytes, config.num_replicas) == (2**21, 1)
    await listener.close()


async def test_tasks_end_before_the_channels_that_they_call_over(sample_url: str, nats_url: str, eventually: Eventually) -> None:
    """At the end a task that is in the middle of something can still call: a closed channel would be taken for a defect of its event."""
    settings = {"database_url": sample_url, "nats_url": nats_url}
    states: list[grpc.ChannelConnectivity] = []

    async def working(channel: grpc.aio.Channel) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            states.append(channel.get_state())

    async with founded(Config.model_validate(settings), store, stream_name="ORDERS", encode=store.event) as ground:
        channel = await ground.channel("127.0.0.1:1", Breaker("peer"))
        ground.tasks.start("working", working(channel))
        await asyncio.sleep(0)  # it begins
    assert states == [grpc.ChannelConnectivity.IDLE]
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_service_keeps_its_house(sample_url: str, nats_url: str, engine: AsyncEngine, eventually: Eventually) -> None:
    """From its start on: the outbox has a partition for each of the coming days, and claims that nothing can come to again are gone."""
    async with engine.begin() as connection:
        await connection.execute(insert(store.claims).values(key="old", digest=b"", target=NOBODY, claim_time=datetime.now(UTC) - 2 * KEPT))

    async def is_kept() -> bool:
        async with engine.connect() as connection:
            days = await connection.execute(text("select count(*) from pg_inherits where inhparent = 'outbox'::regclass"))
            return days.scalar_one() > 1 and (await connection.execute(select(store.claims))).first() is None

    assert not await is_kept()
    async with founded(
        Config.model_validate({"database_url": sample_url, "nats_url": nats_url}), store, stream_name="ORDERS", encode=store.event
    ):
        await eventually(is_kept)


async def _exists(broker: Broker) -> bool:
    try:
        await broker.streams.stream_info("ORDERS")
    except NotFoundError:
        return False
    return True
