"""The pace of a rebuild: new events do not wait for it, and each check reads a bounded part."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.publish import stream_comparison, stream_rebuild
from chassis.publish.stream_contents import StreamContents
from chassis.publish.stream_rebuild import StreamRebuild
from chassis.write.database import Database
from chassis.write.outbox import shard_of
from chassis.write.tables import SHARDS
from tests.sample.relaying import (
    has_messages,
    none_waits,
    relay,
    republished,
    rows_read,
    running,
    shipped,
    versions,
    waiting,
)
from tests.sample.store import outbox, stream_positions
from tests.sample.writes import placed
from tests.streams import ensure_streams
from tests.support import Eventually, measured


async def test_expired_events_are_read_once_in_pages(
    database: Database, broker: Broker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events of a day have expired than one statement can read. Each check reads at most a
    page of them, none is read again, and the purged events behind them are found in the end.
    """
    monkeypatch.setattr(stream_comparison, "PAGE", 500)
    number = 20_000
    await _old(engine, number)
    await broker.streams.purge_stream("ORDERS", seq=number + 1)
    assert (await broker.ensure_stream("ORDERS")).state.first_seq == number + 1
    looks, shards = (
        StreamRebuild(
            outbox=outbox,
            positions=stream_positions,
            broker=broker,
            stream="ORDERS",
            source="sample",
        ),
        frozenset(range(SHARDS)),
    )
    before = republished()
    async with engine.connect() as connection:
        while not looks.complete:
            read = await rows_read(connection)
            looks.compare_now()
            await looks.advance(connection, shards)
            assert await rows_read(connection) - read < 1_500, "two pages at most, and the ends"
        assert republished() - before == 1
        read = await rows_read(connection)
        looks.compare_now()
        await looks.advance(connection, shards)
        assert looks.complete
        assert await rows_read(connection) - read < 50


async def _old(engine: AsyncEngine, number: int) -> None:
    """Inserts this number of rows that were published and have expired, and one younger row that
    was published after them.
    """
    rows = (
        "insert into outbox (create_time, shard, aggregate, event_id, sequence, subject, type,"
        f" payload, stream_seq) select clock_timestamp() - case when i < {number} then interval '14"
        " days' else interval '1 hour' end, i % 16, gen_random_uuid(), gen_random_uuid(), 1,"
        f" 'orders.x', 'x', '', i from generate_series(1, {number}) i"
    )
    async with engine.begin() as connection:
        await connection.execute(text(rows))
        await connection.execute(text("analyze outbox"))


@pytest.mark.usefixtures("frequent_polls")
async def test_new_events_do_not_wait_for_a_rebuild(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The stream has lost 1,500 events. New events are published behind some hundred of them, and
    always behind those of their own aggregate.

    At most LOST_RATE a second are published again, which a gauge shows.
    """
    number = 1500
    async with running(relay(database, broker)):
        old = await placed(database, number)
        await eventually(lambda: none_waits(engine), timeout_s=60)
        before = republished()
        await broker.streams.delete_stream("ORDERS")
        await ensure_streams(broker)
        began = time.monotonic()
        await shipped(database, old[-1:])  # the last that would come again
        await eventually(lambda: republished() > before)
        await eventually(lambda: measured("outbox_comparison_remaining", stream="ORDERS") > 0)
        there = (await broker.ensure_stream("ORDERS")).state.last_seq
        new = await placed(database, 1)
        await eventually(lambda: _marked(engine, [*new, *old[-1:]]))
        marks = [row.stream_seq for row in await _rows(engine, [*new, *old[-1:]])]
        assert max(marks) <= there + 4 * stream_rebuild.LOST_MAX
        assert max(marks) < number
        await eventually(lambda: has_messages(broker, number + 4), timeout_s=60)
        await eventually(lambda: none_waits(engine))
        took_s = time.monotonic() - began
        await eventually(
            lambda: (
                REGISTRY.get_sample_value("outbox_comparison_remaining", {"stream": "ORDERS"}) == 0
            )
        )
    assert took_s >= (number - 3 * stream_rebuild.LOST_MAX) / stream_rebuild.LOST_RATE
    assert (await versions(broker))[str(old[-1])] == [1, 2, 3, 4]
    assert republished() - before == number


@pytest.mark.parametrize("is_purged", [False, True], ids=["wiped", "purged"])
@pytest.mark.usefixtures("frequent_polls")
async def test_new_event_beside_hot_aggregate_goes_first(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    is_purged: bool,
) -> None:
    """One aggregate has 2,000 events in a stream that has lost them all. A new event of another
    aggregate is published behind some hundred of them.

    The new event of the first aggregate comes after its old ones, which come in order. At no time
    do more than 500 events wait.
    """
    number, most = 2_000, 0
    hot = await _hot(engine, number)
    if is_purged:  # the republished events' positions are behind the lost ones
        await broker.streams.purge_stream("ORDERS", seq=number + 1)
    start = (await broker.ensure_stream("ORDERS")).state.last_seq
    [other] = await placed(database, 1)
    async with running(relay(database, broker)):
        await eventually(lambda: _marked(engine, [other]))
        [row] = await _rows(engine, [other])
        assert row.stream_seq <= start + 5 * stream_rebuild.LOST_MAX
        while not await has_messages(broker, number + 2):
            most = max(most, await waiting(engine))
            await asyncio.sleep(0.1)
        await eventually(lambda: none_waits(engine))
    rows = sorted(await _rows(engine, [hot]), key=lambda row: row.id)
    marks = [row.stream_seq for row in rows]
    assert marks == sorted(marks)
    held = await StreamContents(broker, "ORDERS").between(start + 1, start + number + 2)
    assert [held[row.stream_seq].event_id for row in rows] == [str(row.event_id) for row in rows]
    assert most <= 500


async def _hot(engine: AsyncEngine, number: int) -> UUID:
    """Inserts an aggregate with this number of events that are marked as published, and one that
    waits.
    """
    hot = uuid4()
    rows = (
        "insert into outbox (shard, aggregate, event_id, sequence, subject, type, payload, "
        f"stream_seq) select {shard_of(hot)}, '{hot}', gen_random_uuid(), i, 'orders.x', 'x', '', "
        f"case when i <= {number} then i end from generate_series(1, {number} + 1) i"
    )
    async with engine.begin() as connection:
        await connection.execute(text(rows))
    return hot


async def _rows(engine: AsyncEngine, aggregates: list[UUID]) -> Sequence[Row[tuple[object, ...]]]:
    async with engine.connect() as connection:
        return (
            await connection.execute(select(outbox).where(outbox.c.aggregate.in_(aggregates)))
        ).all()


async def _marked(engine: AsyncEngine, aggregates: list[UUID]) -> bool:
    return all(row.stream_seq for row in await _rows(engine, aggregates))
