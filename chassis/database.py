"""The one way to write: load, decide, save, once for each key. And the one way to read beside it.

A set of commands is one transaction: claim the keys, lock what the fresh ones need, read the clock,
fold, save. `load`, `decide` and `save` may run again and know nothing of it. No write inside a
write; nothing remote inside a write.
"""

import asyncio
import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import URL, Engine, ExceptionContext, Table, event, func, make_url, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from chassis import crash, silence, telemetry
from chassis.blame import READ_ONLY, Blame, blame, deferral, deferring, only_reading
from chassis.claims import Claims
from chassis.decision import Done, Outcome
from chassis.envelope import Envelope
from chassis.errors import Defect, Deferred
from chassis.fold import Decide, fold
from chassis.idempotency import Reused
from chassis.outbox import Outbox
from chassis.writing import writing

R = TypeVar("R")
H = TypeVar("H")
T = TypeVar("T")

# load(connection, envelopes, ids of the records that repeats are answered with) -> what they are
# about, locked, by id; what a command finds by its natural key stands under the command's target
# too
Load = Callable[
    [AsyncConnection, Sequence[Envelope[Any]], Collection[UUID]],
    Awaitable[MutableMapping[UUID, R]],
]
# save(connection, the records before, those that changed, rows of history)
Save = Callable[[AsyncConnection, Mapping[UUID, R], Mapping[UUID, R], Sequence[H]], Awaitable[None]]
Attempt = Callable[[AsyncConnection, Sequence[Envelope[Any]]], Awaitable[dict[str, Outcome[R]]]]

TRIES = 5
IDLE_IN_TRANSACTION_S = 15.0
CLOCK = select(func.clock_timestamp())  # the only clock of a decision, read once the locks are held


def connect(
    url: str | URL,
    *,
    name: str = "ordermesh",
    pool_size: int = 8,
    statement_timeout_s: float = 10,
    lock_timeout_s: float = 5,
    silence_s: float = 15,
) -> AsyncEngine:
    """An engine over psycopg. Nothing on it waits for ever: not for a connection, a lock, a
    statement, or a silent server.

    `name` is what pg_stat_activity shows. More than 8 connections in a process bring nothing:
    Python is the limit. With a `pool_size` of 0 nothing is pooled: a connection ends when it is let
    go, and what it holds with it. `silence_s` should be longer than any statement may take: it is
    for servers that do not end them themselves.
    """
    limits = {
        "statement_timeout": statement_timeout_s,
        "lock_timeout": lock_timeout_s,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_S,
    }
    options = " ".join(f"-c {key}={int(seconds * 1000)}" for key, seconds in limits.items())
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        **(
            {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 5}
            if pool_size
            else {"poolclass": NullPool}
        ),
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": name,
            "options": f"{options} -c timezone=UTC",
            "async_creator_fn": silence.opener(silence_s),
            "connect_timeout": 5,
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    _end_what_comes_late(engine.sync_engine)
    _end_what_takes_no_writes(engine.sync_engine)
    return engine


def _end_what_comes_late(engine: Engine) -> None:
    """Ends connections that are given back after the engine was disposed of: the pool that they
    came from is nobody's any more.
    """

    @event.listens_for(engine, "do_connect")
    def opening(_: object, record: ConnectionPoolEntry, *__: object) -> None:
        record.info["pool"] = engine.pool

    @event.listens_for(engine, "checkin")
    def given_back(_: object, record: ConnectionPoolEntry) -> None:
        if record.info["pool"] is not engine.pool:
            record.invalidate()


def _end_what_takes_no_writes(engine: Engine) -> None:
    """After a failover a connection may lead to what is a standby now, and lives on: it ends at
    the first write that is refused, and with it all that the pool has. Where we ourselves asked
    for one that can change nothing, the server says nothing about itself.
    """

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        asked = context.connection is not None and context.connection.get_execution_options().get(
            "postgresql_readonly"
        )
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY and not asked:
            context.is_disconnect = True


class Database:
    """A service's database: its engine, its claims, its outbox.

    `on_change` is called after each commit that has changed records, with their ids: events may
    wait for them.
    """

    def __init__(self, engine: AsyncEngine, claims: Table, outbox: Outbox) -> None:
        self.engine, self.claims, self.outbox = engine, Claims(claims), outbox
        self.on_change: Callable[[Collection[UUID]], None] = lambda _: None
        self._retries = telemetry.counter(
            "write_retries_total", "Sets that were written again after a race", "blame"
        )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one moment and can change nothing. Raises Deferred where the
        database is at fault, Defect for a write.
        """
        with deferring():
            async with self.engine.connect() as connection:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                with only_reading():
                    yield connection

    async def was_done(self, connection: AsyncConnection, key: str) -> bool:
        """Whether the effect of this key is committed."""
        return bool(await self.claims.find(connection, [key]))

    async def reused(
        self, connection: AsyncConnection, commands: Sequence[Envelope[Any]]
    ) -> list[Reused | None]:
        """For each command the refusal with which `write` answers a key that stands for another
        digest, in the table or earlier in the set; None for all others.

        An operation that asks a peer or writes something else before its write leaves the refused
        commands out of that. A rival may use a key between the two: `write` decides.
        """
        found = await self.claims.find(connection, {c.key for c in commands})
        digests = {key: digest for key, (digest, _) in found.items()}
        for command in commands:
            digests.setdefault(command.key, command.digest)
        return [None if digests[c.key] == c.digest else Reused(c.key) for c in commands]

    async def write(
        self,
        commands: Sequence[Envelope[Any]],
        *,
        load: Load[R],
        decide: Decide[R, H],
        save: Save[R, H],
    ) -> list[Outcome[R]]:
        """Answers each command, in the order given: what came of it, or why it was not done."""

        async def attempt(
            connection: AsyncConnection, commands: Sequence[Envelope[Any]]
        ) -> dict[str, Outcome[R]]:
            return await self._attempt(connection, commands, load, decide, save)

        # the first of each key, in the order of the commands
        once = {c.key: c for c in reversed(commands)}
        outcomes: dict[str, Outcome[R]] = {}
        try:
            with writing():
                await self._settle(
                    [once[key] for key in dict.fromkeys(c.key for c in commands)], attempt, outcomes
                )
        except Deferred as away:
            outcomes = dict.fromkeys(once, away) | outcomes
        return [
            outcomes[c.key] if c.digest == once[c.key].digest else Reused(c.key) for c in commands
        ]

    async def _settle(
        self,
        commands: Sequence[Envelope[Any]],
        attempt: Attempt[R],
        outcomes: dict[str, Outcome[R]],
    ) -> None:
        """A race retries the set; no connection: nobody's fault; whatever else: one by one, to
        find whose.
        """
        failure, fault = Exception(), Blame.RACE
        for pause in range(TRIES if commands else 0):
            try:
                async with self.engine.connect() as connection:
                    outcomes |= await _or_throw_away(connection, attempt(connection, commands))
                    return
            except Exception as error:  # noqa: BLE001  # whatever it is, `blame` judges it
                failure, fault = error, blame(error)
            if fault is Blame.AWAY and (away := deferral(fault)):
                raise away from failure
            if fault not in (Blame.RACE, Blame.TAKEN):
                break
            self._retries.labels(fault.name.lower()).inc()
            await asyncio.sleep(random.uniform(0, 0.01 * 2**pause))
        if len(commands) > 1 and fault is not Blame.RACE:
            for command in commands:
                await self._settle([command], attempt, outcomes)
        else:
            outcomes |= {c.key: deferral(fault) or Defect(failure) for c in commands}

    async def _attempt(
        self,
        connection: AsyncConnection,
        commands: Sequence[Envelope[Any]],
        load: Load[R],
        decide: Decide[R, H],
        save: Save[R, H],
    ) -> dict[str, Outcome[R]]:
        claimed = await self.claims.take(connection, commands)
        fresh = [c for c in commands if c.key not in claimed]
        repeats = {
            c.key: (c.target, claimed[c.key][1])
            for c in commands
            if c.key in claimed and claimed[c.key][0] == c.digest
        }
        needed = [c for c in commands if c.key not in claimed or c.key in repeats]
        picture = await load(connection, needed, {target for _, target in repeats.values()})
        now = (await connection.execute(CLOCK)).scalar_one()
        folded = fold(picture, fresh, decide, now)
        again = {
            key: Done(picture[known if known in picture else proposed], repeat=True)
            for key, (proposed, known) in repeats.items()
        }
        if len(folded.undone) < len(fresh):
            if folded.after or folded.history:
                await save(connection, folded.before, folded.after, folded.history)
            if folded.facts:
                await self.outbox.append(connection, folded.facts, folded.causes)
            if folded.undone:
                await self.claims.give_up(connection, folded.undone)
            await _finish(self._commit(connection, bool(folded.facts), folded.changed))
        return {c.key: Reused(c.key) for c in commands} | again | folded.outcomes

    async def _commit(
        self, connection: AsyncConnection, appended: bool, changed: Collection[UUID]
    ) -> None:
        await connection.commit()
        crash.point("database.committed")
        if appended:
            self.outbox.appended.set()
        self.on_change(changed)


async def _or_throw_away(connection: AsyncConnection, work: Awaitable[T]) -> T:
    """A connection whose view of the schema is out of date (a cached plan, say) must not serve
    again.
    """
    try:
        return await work
    except DBAPIError as error:
        if blame(error) is Blame.SCHEMA:
            await connection.invalidate()
        raise


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Lets the work end, whatever is cancelled meanwhile; the cancellation goes on afterwards."""
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled from task.exception()
    task.result()
