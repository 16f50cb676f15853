"""A long backlog of waiting events: the relay reads and measures it in bounded time."""

import asyncio
import time
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.broker.stream import Broker
from chassis.publish import backlog
from chassis.publish import relay as relaying
from chassis.publish.backlog import Backlog
from chassis.write.database import Database
from chassis.write.tables import SHARDS
from tests.sample.relaying import (
    none_waits,
    relay,
    rows_read,
    running,
)
from tests.sample.store import outbox
from tests.sample.writes import placed
from tests.support import Eventually, measured


async def test_measuring_leaves_time_for_publishing(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The relay measures the backlog at intervals, counted from the end of the last measurement:
    after a long one, events are published first.
    """
    monkeypatch.setattr(relaying, "POLL_S", 0.01)
    monkeypatch.setattr(relaying, "MEASURE_S", 0.2)
    slow, times = relay(database, broker), list[tuple[float, float]]()
    plain = slow._backlog.measure

    async def measured(connection: AsyncConnection) -> None:
        began = time.monotonic()
        await plain(connection)
        await asyncio.sleep(0.3)  # longer than its own period: a long backlog
        times.append((began, time.monotonic()))

    monkeypatch.setattr(slow._backlog, "measure", measured)
    async with running(slow):
        await placed(database, 3)
        await eventually(lambda: len(times) >= 3)
        await eventually(lambda: none_waits(engine))
    assert all(later[0] - earlier[1] >= 0.2 for earlier, later in pairwise(times))


async def test_long_backlog_is_measured_by_its_first_rows(
    database: Database, broker: Broker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay reads no more waiting rows than the metric's text says, and the oldest is among
    them.
    """
    monkeypatch.setattr(backlog, "COUNTED_MAX", 50)
    rows = (
        "insert into outbox (create_time, shard, aggregate, event_id, sequence, subject, type,"
        " payload, stream_seq) select clock_timestamp() - interval '2 hours' + i * interval '1"
        f" ms', i % {SHARDS}, gen_random_uuid(), gen_random_uuid(), 1, 'orders.x', 'x', '', case"
        " when i % 2 = 0 then i end from generate_series(1, 20000) i"
    )
    async with engine.connect() as connection:
        await connection.execute(text(rows))
        await connection.execute(text("analyze outbox"))
        before = await rows_read(connection)
        await Backlog(outbox, "ORDERS").measure(connection)
        assert await rows_read(connection) - before <= 60
    assert _gauge("outbox_waiting") == 50
    assert 7190 < _gauge("outbox_oldest_waiting_seconds") < 7260


def _gauge(name: str) -> float:
    return measured(name, stream="ORDERS")


async def test_a_backlog_is_read_without_sorting_it(
    database: Database, broker: Broker, engine: AsyncEngine
) -> None:
    """For any number of waiting and published events, one index returns the next batch in its
    order.
    """
    number = 20_000
    rows = (
        "insert into outbox (shard, aggregate, event_id, sequence, subject, type, payload,"
        f" stream_seq) select i % {SHARDS}, gen_random_uuid(), gen_random_uuid(), 1, 'orders.x',"
        f" 'x', '', case when i % 2 = 0 then i end from generate_series(1, {number}) i"
    )
    query = relay(database, broker)._read.compile(dialect=engine.dialect)
    async with engine.connect() as connection:
        await connection.execute(text(rows))
        await connection.execute(text("analyze outbox"))
        parameters = query.params | {
            "shards": list(range(8)),
            "blocked": [],
            "given_aggregate": [],
            "given_id": [],
        }
        plan = await connection.exec_driver_sql(f"explain {query}", parameters)
        steps = "\n".join(plan.scalars())
    assert "Sort" not in steps.replace("Sort Key", "")
    assert "using outbox_default_id_shard_idx" in steps
