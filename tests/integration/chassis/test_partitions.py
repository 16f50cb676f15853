"""The outbox's partitions: made ahead, dropped when old and all published, and repaired where a
worker came late.
"""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.errors import Deferred
from chassis.write import database as databases
from chassis.write.database import Database, connect
from chassis.write.partitions import maintain
from tests.sample.store import outbox
from tests.sample.writes import count, placed


@pytest.fixture(autouse=True)
def one_day() -> None:
    """Delays a test that would begin just before midnight (UTC): it counts its days from one
    today.
    """
    now = datetime.now(UTC)
    remaining_s = (
        86_400 - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    )
    if remaining_s < 20:
        time.sleep(remaining_s + 0.1)


def days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


async def appended(engine: AsyncEngine, when: datetime, seq: int | None) -> int:
    """Inserts a row into the outbox as if it had been appended at that time; returns its id."""
    values = {
        "shard": 0,
        "aggregate": uuid4(),
        "event_id": uuid4(),
        "subject": "orders.x",
        "type": "x",
        "payload": b"",
    }
    values |= {"sequence": 1}
    async with engine.begin() as connection:
        row = (
            insert(outbox).values(**values, create_time=when, stream_seq=seq).returning(outbox.c.id)
        )
        created: int = (await connection.execute(row)).scalar_one()
        return created


async def places(engine: AsyncEngine) -> dict[int, str]:
    """Returns the partition of each row."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("select id, tableoid::regclass::text from outbox"))
        return {row[0]: row[1] for row in rows}


def named(when: datetime) -> str:
    return f"outbox_{when:%Y%m%d}"


async def test_partitions_are_made_ahead(engine: AsyncEngine, database: Database) -> None:
    """Today and the coming days each get a partition, once; new events are stored there."""
    today = datetime.now(UTC).date()
    made = await maintain(engine, outbox)
    assert made.make == tuple(today + timedelta(days=ahead) for ahead in range(4))
    assert (await maintain(engine, outbox)).make == ()
    await placed(database)
    assert set((await places(engine)).values()) == {named(datetime.now(UTC))}


async def test_a_partition_is_like_the_outbox(engine: AsyncEngine) -> None:
    """A partition has the same indexes, its rows are found through the outbox, and it refuses an
    invalid shard too.
    """
    await maintain(engine, outbox)
    query = text("select count(*) from pg_indexes where tablename = :name")
    async with engine.connect() as connection:
        indexes = [
            (await connection.execute(query, {"name": name})).scalar_one()
            for name in ("outbox", named(datetime.now(UTC)))
        ]
    assert indexes[0] == indexes[1] == 5


async def test_rows_of_a_late_day_are_moved(engine: AsyncEngine, database: Database) -> None:
    """Rows in the default partition move to the partition of their day, with their ids, and can
    still be marked.
    """
    late, waiting = (
        await appended(engine, days_ago(2), 5),
        await appended(engine, days_ago(1), None),
    )
    await placed(database)
    assert set((await places(engine)).values()) == {"outbox_default"}
    assert {days_ago(2).date(), days_ago(1).date()} < set((await maintain(engine, outbox)).make)
    where = await places(engine)
    assert [where[late], where[waiting]] == [named(days_ago(2)), named(days_ago(1))]
    assert "outbox_default" not in where.values()
    async with engine.begin() as connection:
        await connection.execute(update(outbox).where(outbox.c.id == waiting).values(stream_seq=6))
    assert await count(engine, outbox, outbox.c.stream_seq.is_(None)) == 1  # the order just placed


async def test_old_partitions_go_when_all_is_published(engine: AsyncEngine) -> None:
    """Published rows are dropped a whole day at a time, once they are old enough; a waiting row
    keeps its day for any time.
    """
    old, waiting, young = (
        await appended(engine, days_ago(16), 1),
        await appended(engine, days_ago(20), None),
        days_ago(14),
    )
    kept = await appended(engine, young, 2)
    await maintain(engine, outbox)
    assert (await maintain(engine, outbox)).drop == (
        days_ago(16).date(),
    ) or old not in await places(engine)
    assert set(await places(engine)) == {waiting, kept}
    async with engine.begin() as connection:
        await connection.execute(update(outbox).where(outbox.c.id == waiting).values(stream_seq=3))
    assert (await maintain(engine, outbox)).drop == (days_ago(20).date(),)
    assert set(await places(engine)) == {kept}


async def test_concurrent_maintenance_makes_each_partition_once(engine: AsyncEngine) -> None:
    """Replicas maintain at once: each partition is made once, and no replica fails."""
    await appended(engine, days_ago(1), None)
    work = await asyncio.gather(*(maintain(engine, outbox) for _ in range(6)))
    made: list[date] = [day for w in work for day in w.make]
    assert len(made) == len(set(made)) == 5


async def test_writes_go_on_while_partitions_are_made(
    engine: AsyncEngine, database: Database
) -> None:
    """A writer waits for some milliseconds and never fails, also when the partition of its rows
    changes meanwhile.
    """
    writers = asyncio.gather(*(placed(database, 3) for _ in range(40)))
    await maintain(engine, outbox)
    await writers
    assert await count(engine, outbox) == 120
    await maintain(engine, outbox)
    assert "outbox_default" not in (await places(engine)).values()


async def test_maintenance_gives_up_behind_a_long_write(
    engine: AsyncEngine, sample_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maintainer that waits for the lock stops all writes behind it: so it gives up after a
    second, and tries again later.
    """
    monkeypatch.setattr(databases, "LOCK_TIMEOUT_S", 30.0)
    waiting = connect(sample_url, statement_timeout_s=60)
    async with engine.connect() as writer:
        await writer.execute(select(func.count()).select_from(outbox))
        began = time.monotonic()
        with pytest.raises(Deferred):
            await maintain(waiting, outbox)
        assert time.monotonic() - began < 20  # shorter than the lock timeout of others
    await waiting.dispose()
    assert (await maintain(engine, outbox)).make
