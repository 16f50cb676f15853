"""An operator's look at the outbox: how it stands, and letting what was published wait again. All
its SQL.

A row that waits again is published by the relay under its old id, behind all that the stream has,
in the order of its aggregate; its mark in the stream is then the new place, and the old copy stays
where it is. So marks only grow: the comparison with the stream (chassis.publish.stream_rebuild)
reads them as before. Consumers know the id, and change nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.database import Database, connect
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey

# One statement, however many rows. Who asks waits for it, and his deadline ends it before these do.
STATEMENT_TIMEOUT_S = 600.0
SILENCE_S = STATEMENT_TIMEOUT_S + 15.0
AT_ONCE_MAX = 4
REFUSED_SHOWN = 100


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the stream refuses, and why. `size` is its payload's, in bytes."""

    aggregate: UUID
    event_id: UUID
    type: str
    size: int
    refusal: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Stats:
    """How an outbox stands: events that wait, the oldest of them, all that are kept, the highest
    place of one that was published.

    `refused` are the events that the stream refuses, the oldest first, REFUSED_SHOWN at most: their
    aggregates' events wait behind them.
    """

    waiting: int
    oldest_waiting: datetime | None
    kept: int
    highest: int
    refused: Sequence[RefusedEvent] = ()


@dataclass(frozen=True, slots=True)
class Events:
    """Which events, by what must all hold; `since` included, `before` not.

    `aggregate` is the record that they tell of, or the order that they concern.
    """

    aggregate: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None


class Republish:
    """The outbox of one service, as its operators see it.

    All of it looks through what is kept, on connections of its own: the service's end a statement
    after 10 s, and hang up after 15 s of silence, which is what a long statement is to them. It is
    one transaction and not batch after batch: so the key exists exactly when all of it is done,
    and what is killed half-way has done nothing, and may be asked for again.
    """

    def __init__(self, database: Database) -> None:
        self._keys, self._outbox, self._table = (
            database.idempotency_keys,
            database.outbox,
            database.outbox.table,
        )
        url, limits = (
            database.engine.url,
            {"statement_timeout_s": STATEMENT_TIMEOUT_S, "silence_s": SILENCE_S},
        )
        # who comes fifth waits, as long as his deadline lets him
        self._few = asyncio.Semaphore(AT_ONCE_MAX)
        self._engine = connect(url, name="outbox operators", pool_size=0, **limits)
        t = self._table.c
        # Asked for one by one each of them finds an index; together they would be read from the
        # table, with their payloads.
        every, waits = select(func.count()).select_from(self._table), t.stream_seq.is_(None)
        oldest, highest = (
            select(func.min(t.create_time)).where(waits),
            select(func.coalesce(func.max(t.stream_seq), 0)),
        )
        self._stats = select(
            *(query.scalar_subquery() for query in (every.where(waits), oldest, every, highest))
        )
        size = func.length(t.payload).label("size")
        refused = select(t.aggregate, t.event_id, t.type, size, t.refusal, t.create_time).where(
            t.refusal.is_not(None)
        )
        self._refused = refused.order_by(t.id).limit(REFUSED_SHOWN)

    async def stats(self) -> Stats:
        """How it stands. Raises Deferred where the database is away."""
        async with self._transaction() as connection:
            waiting, oldest, kept, highest = (await connection.execute(self._stats)).one()
            rows = await connection.execute(self._refused)
            refused = [RefusedEvent(**row) for row in rows.mappings()]
        return Stats(
            waiting=waiting, oldest_waiting=oldest, kept=kept, highest=highest, refused=refused
        )

    async def count(self, events: Events) -> int:
        """How many of the events were published, and would be again. Raises Deferred where the
        database is away.
        """
        async with self._transaction() as connection:
            return await self._counted(connection, events, waiting=False)

    async def again(self, events: Events, command: IdempotencyKey) -> int:
        """Lets the events wait again that were published: all or none, and once for each command.
        Answers how many wait.

        Raises Invalid REQUEST_ID_REUSED, Deferred where the database is away.
        """
        async with self._transaction() as connection:
            if not await self._keys.insert_one(connection, command):
                return await self._counted(connection, events, waiting=True)
            number = (await connection.execute(self._unmark(events))).rowcount
        self._outbox.appended.set()
        return number

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with deferring_outages():
            async with self._few, self._engine.begin() as connection:
                yield connection

    def _unmark(self, events: Events) -> Update:
        return (
            update(self._table)
            .values(stream_seq=None)
            .where(*self._conditions(events), self._table.c.stream_seq.is_not(None))
        )

    async def _counted(self, connection: AsyncConnection, events: Events, *, waiting: bool) -> int:
        mark = self._table.c.stream_seq
        here = mark.is_(None) if waiting else mark.is_not(None)
        query = select(func.count()).select_from(self._table).where(*self._conditions(events), here)
        return int((await connection.execute(query)).scalar_one())

    def _conditions(self, events: Events) -> Iterator[ColumnElement[bool]]:
        t = self._table.c
        if events.aggregate is not None:
            yield or_(t.aggregate == events.aggregate, t.correlation_id == events.aggregate)
        if events.since is not None:
            yield t.create_time >= events.since
        if events.before is not None:
            yield t.create_time < events.before
