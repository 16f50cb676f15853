"""An operator's look at the outbox: how it stands, and letting what was published wait again. All its SQL.

A row that waits again is published by the relay under its old id, behind all that the stream has, in the order of its aggregate; its
mark in the stream is then the new place, and the old copy stays where it is. So marks only grow: the comparison with the stream
(chassis.rebuild) reads them as before. Consumers know the id, and change nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Update, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.blame import deferring
from chassis.database import Database
from chassis.errors import Invalid
from chassis.outbox import shard_of

# One statement, however many rows: who asks waits for it, and his deadline ends it before this does.
STATEMENT_TIMEOUT = text("set local statement_timeout = '600s'")


@dataclass(frozen=True, slots=True)
class Stats:
    """How an outbox stands: events that wait, the oldest of them, all that are kept, the highest place of one that was published."""

    waiting: int
    oldest_waiting: datetime | None
    kept: int
    highest: int


@dataclass(frozen=True, slots=True)
class Events:
    """Which events, by what must all hold; `since` included, `before` not."""

    aggregate: UUID | None = None
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Republication:
    """What is asked for, and what that is idempotent on: a chassis.decision.Command."""

    key: str
    digest: bytes
    target: UUID


class Republish:
    """The outbox of one service, as its operators see it."""

    def __init__(self, database: Database) -> None:
        self._database, self._table = database, database.outbox.table
        t = self._table.c
        waits = t.stream_seq.is_(None)
        oldest = select(func.min(t.create_time)).where(waits).scalar_subquery()
        waiting = select(func.count()).select_from(self._table).where(waits).scalar_subquery()
        self._stats = select(waiting, oldest, func.count(), func.coalesce(func.max(t.stream_seq), 0)).select_from(self._table)

    async def stats(self) -> Stats:
        """How it stands. Raises Deferred where the database is away."""
        async with self._database.read() as connection:
            return Stats(*(await connection.execute(self._stats)).one())

    async def count(self, events: Events) -> int:
        """How many of the events were published, and would be again."""
        async with self._database.read() as connection:
            return await self._counted(connection, events, waiting=False)

    async def again(self, events: Events, command: Republication) -> int:
        """Lets the events wait again that were published: all or none, and once for each command. Answers how many wait.

        Raises Invalid REQUEST_ID_REUSED, Deferred where the database is away.
        """
        with deferring():
            async with self._database.engine.begin() as connection:
                claimed = await self._database.claims.take(connection, [command])
                if known := claimed.get(command.key):
                    if known[0] != command.digest:
                        raise Invalid("REQUEST_ID_REUSED", key=command.key)
                    return await self._counted(connection, events, waiting=True)
                await connection.execute(STATEMENT_TIMEOUT)
                number = (await connection.execute(self._unmark(events))).rowcount
        self._database.outbox.appended.set()
        return number

    def _unmark(self, events: Events) -> Update:
        return update(self._table).values(stream_seq=None).where(*self._conditions(events), self._table.c.stream_seq.is_not(None))

    async def _counted(self, connection: AsyncConnection, events: Events, *, waiting: bool) -> int:
        mark = self._table.c.stream_seq
        here = mark.is_(None) if waiting else mark.is_not(None)
        query = select(func.count()).select_from(self._table).where(*self._conditions(events), here)
        return int((await connection.execute(query)).scalar_one())

    def _conditions(self, events: Events) -> Iterator[ColumnElement[bool]]:
        t = self._table.c
        if events.aggregate is not None:
            yield t.shard == shard_of(events.aggregate)
            yield t.aggregate == events.aggregate
        if events.since is not None:
            yield t.create_time >= events.since
        if events.before is not None:
            yield t.create_time < events.before
