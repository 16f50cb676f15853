"""An operator's view of the outbox: its state, and published events that are to be published again.
All its SQL.

The relay publishes a row that waits again under its old id, after all that the stream has, in the
order of its aggregate. The row's mark is then the new place, and the old copy stays in the stream.
So marks only grow, and the comparison with the stream (chassis.publish.stream_rebuild) reads them
as before. Consumers have the id already, and change nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import ge, lt
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.publish.marks import OutboxRow
from chassis.write.database import Database, connect
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey
from chassis.write.tables import conditions

# One statement for any number of rows. The caller's deadline ends it before these time-outs do.
STATEMENT_TIMEOUT_S = 600.0
IDLE_TIMEOUT_S = STATEMENT_TIMEOUT_S + 15.0
AT_ONCE_MAX = 4
REFUSED_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The state of an outbox: the events that wait, the oldest of them, all stored events, and the
    highest place of a published one.

    `refused` are the rows of the events that the stream refuses, the oldest first, REFUSED_SHOWN at
    most: their aggregates' events wait behind them. `size` is that of the payload, in bytes.
    """

    waiting: int
    oldest_waiting: datetime | None
    kept: int
    highest: int
    refused: Sequence[OutboxRow]


@dataclass(frozen=True, slots=True)
class Events:
    """Which events. Every field that is set must match; `since` is included, `before` excluded.

    `aggregate` is the record that they concern, or their order.
    """

    aggregate: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None


class Republish:
    """The outbox of one service, for its operators.

    Each method reads all stored rows, on connections of its own. The service's connections end a
    statement after 10 s, and close after 15 s without an answer, which a long statement would
    exceed. A request is one transaction and not several batches, so its key exists exactly when all
    of it is done. A request that is killed half-way has done nothing, and may be repeated.
    """

    def __init__(self, database: Database) -> None:
        self._keys, self._outbox, self._table = (
            database.idempotency_keys,
            database.outbox,
            database.outbox.table,
        )
        url, limits = (
            database.engine.url,
            {"statement_timeout_s": STATEMENT_TIMEOUT_S, "idle_timeout_s": IDLE_TIMEOUT_S},
        )
        # a fifth request waits, until its deadline at most
        self._few = asyncio.Semaphore(AT_ONCE_MAX)
        self._engine = connect(url, name="outbox operators", pool_size=0, **limits)
        t = self._table.c
        # In separate queries each of them uses an index; one query would read the table, with the
        # payloads.
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
        """Returns the state of the outbox. Raises Deferred where the database is away."""
        async with self._transaction() as connection:
            waiting, oldest, kept, highest = (await connection.execute(self._stats)).one()
            refused = (await connection.execute(self._refused)).all()
        return Stats(
            waiting=waiting, oldest_waiting=oldest, kept=kept, highest=highest, refused=refused
        )

    async def count(self, events: Events) -> int:
        """Returns how many of the events were published, and would be again. Raises Deferred where
        the database is away.
        """
        async with self._transaction() as connection:
            return await self._counted(connection, events, waiting=False)

    async def republish_events(self, events: Events, command: IdempotencyKey) -> int:
        """Sets the published ones of the events to wait again: all or none, and once for each
        command. Returns how many wait.

        Raises Invalid REQUEST_ID_REUSED, Deferred where the database is away.
        """
        async with self._transaction() as connection:
            if not await self._keys.insert_one(connection, command):
                return await self._counted(connection, events, waiting=True)
            published = self._table.c.stream_seq.is_not(None)
            again = update(self._table).where(*self._conditions(events), published)
            number = (await connection.execute(again.values(stream_seq=None))).rowcount
        self._outbox.appended.set()
        return number

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with deferring_outages():
            async with self._few, self._engine.begin() as connection:
                yield connection

    async def _counted(self, connection: AsyncConnection, events: Events, *, waiting: bool) -> int:
        mark = self._table.c.stream_seq
        here = mark.is_(None) if waiting else mark.is_not(None)
        query = select(func.count()).select_from(self._table).where(*self._conditions(events), here)
        return int((await connection.execute(query)).scalar_one())

    def _conditions(self, events: Events) -> list[ColumnElement[bool]]:
        t = self._table.c
        found = conditions((t.create_time, ge, events.since), (t.create_time, lt, events.before))
        if events.aggregate is not None:
            found.append(or_(t.aggregate == events.aggregate, t.correlation_id == events.aggregate))
        return found
