"""The outbox's partitions, one for each day of creation (UTC): made some days ahead, and dropped
when they are old and all their events are published.

A worker calls `maintain` now and then. Without a call nothing is lost: rows of a day without a
partition go to the default one, and are moved when their day gets its own.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import structlog
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.write.error_classification import deferring_outages

# As long as a stream keeps its messages, so that a lost stream can be published again as a whole.
KEPT_DAYS = 14
AHEAD_DAYS = 3

TODAY = text("select (clock_timestamp() at time zone 'UTC')::date")
PARTITIONS = text(
    "select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid ="
    " i.inhrelid where i.inhparent = 'outbox'::regclass and c.relname <> 'outbox_default'"
)
STRANDED = text("select distinct (create_time at time zone 'UTC')::date from outbox_default")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """The days that need a partition, and those whose partition is due to be dropped."""

    make: tuple[date, ...]
    drop: tuple[date, ...]


async def maintain(engine: AsyncEngine, table: Table) -> Work:
    """Makes and drops partitions of the outbox; returns the days of both. Cheap when there is
    nothing to do; several replicas may call it at once.

    A partition is dropped when its day ended KEPT_DAYS ago or more and no row in it still waits.
    Raises Deferred where the database is away, or where the lock is not free within a second: call
    again later. The lock stops the writes for some milliseconds.
    """
    with deferring_outages():
        async with engine.connect() as connection:
            work = await _plan(connection)
        return await _do(engine, table) if work.make or work.drop else work


async def _do(engine: AsyncEngine, table: Table) -> Work:
    async with engine.begin() as connection:
        await connection.execute(text("set local lock_timeout = '1s'"))
        # An append waits here, and not at a partition that is about to change.
        await connection.execute(text("lock table outbox in access exclusive mode"))
        work = await _plan(connection)
        for day in work.make:
            await _make(connection, table, day)
        dropped = [day for day in work.drop if await _drop(connection, day)]
    return Work(work.make, tuple(dropped))


async def _plan(connection: AsyncConnection) -> Work:
    today: date = (await connection.execute(TODAY)).scalar_one()
    there = set((await connection.execute(PARTITIONS)).scalars())
    stranded = set((await connection.execute(STRANDED)).scalars())
    wanted = {today + timedelta(days=n) for n in range(AHEAD_DAYS + 1)}
    old = {day for day in there if day + timedelta(days=KEPT_DAYS) < today}
    return Work(tuple(sorted((wanted | stranded) - there)), tuple(sorted(old)))


async def _make(connection: AsyncConnection, table: Table, day: date) -> None:
    name, columns = _name(day), ", ".join(table.c.keys())
    start, end = (
        f"timestamptz '{d.isoformat()} 00:00:00+00'" for d in (day, day + timedelta(days=1))
    )
    moved = (
        f"delete from outbox_default where create_time >= {start} and create_time < {end} returning"
        f" {columns}"
    )
    await connection.execute(
        text(f"create table {name} (like outbox including defaults including constraints)")
    )
    await connection.execute(
        text(f"with moved as ({moved}) insert into {name} ({columns}) select {columns} from moved")
    )
    await connection.execute(
        text(f"alter table outbox attach partition {name} for values from ({start}) to ({end})")
    )
    log.info("outbox partition created", day=day.isoformat())


async def _drop(connection: AsyncConnection, day: date) -> bool:
    waiting = await connection.execute(
        text(f"select exists (select from {_name(day)} where stream_seq is null)")
    )
    if waiting.scalar_one():
        log.warning(
            "an old outbox partition is kept: some of its events still wait to be published",
            day=day.isoformat(),
        )
        return False
    await connection.execute(text(f"drop table {_name(day)}"))
    log.info("outbox partition dropped", day=day.isoformat())
    return True


def _name(day: date) -> str:
    return f"outbox_{day:%Y%m%d}"
