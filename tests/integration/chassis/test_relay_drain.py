"""The relay at the end of its process: it publishes the waiting events of free shards, in bounded
time.
"""

import asyncio
import time
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.publish import relay as relaying
from chassis.publish.shards import Shards
from chassis.write.database import Database, connect
from devstack.nats import Nats
from tests.sample.relaying import (
    relay,
    shipped,
    waiting,
)
from tests.sample.writes import placed
from tests.streams import ensure_streams


async def test_drain_publishes_waiting_events(
    database: Database, broker: Broker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain at the end of a process leaves no event to the next one, if there is time."""
    monkeypatch.setattr(relaying, "BATCH_MAX", 16)
    await shipped(database, await placed(database, 20))
    await relay(database, broker).drain()
    assert await waiting(engine) == 0


async def test_drain_leaves_other_replicas_shards(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    sample_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ending replica does not publish a shard that another replica owns."""
    monkeypatch.setattr(relaying, "DRAIN_S", 1.0)
    async with connect(sample_url, pool_size=0).connect() as other:
        shards = Shards(other)
        await shards.join()
        await shards.balance()
        await placed(database, 5)
        await relay(database, broker).drain()
        assert await waiting(engine) == 5


async def test_a_drain_is_bounded(
    database: Database,
    own_nats: Nats,
    own_broker: Broker,
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a broker the drain ends in time, and the events wait."""
    monkeypatch.setattr(relaying, "DRAIN_S", 0.5)
    await placed(database, 5)
    own_nats.kill()
    began = time.monotonic()
    await relay(database, own_broker).drain()
    assert time.monotonic() - began < 10
    assert await waiting(engine) == 5


async def test_drain_with_a_swallowed_cancellation_ends(
    database: Database, broker: Broker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py can swallow a cancellation, so the drain checks the time too.

    Here the drain has found its stream lost, and the read of the stream's messages swallows it: the
    lost events wait for the next process.
    """
    swallowed = 0

    async def swallow(*_: Any) -> Any:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        raise NotFoundError

    await placed(database, 3)
    await relay(database, broker).drain()
    assert await waiting(engine) == 0
    await broker.streams.delete_stream("ORDERS")
    await ensure_streams(broker)
    await broker.publish(
        "orders.sample.status_changed", b"", {"Nats-Msg-Id": "another"}, stream="ORDERS"
    )
    await placed(database)
    monkeypatch.setattr(JetStreamContext, "get_msg", swallow)
    monkeypatch.setattr(relaying, "DRAIN_S", 3.0)
    async with asyncio.timeout(20):
        await relay(database, broker).drain()
    assert (swallowed, await waiting(engine)) == (1, 1)
