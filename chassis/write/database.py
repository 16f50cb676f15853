"""A service's database: connections, reads, idempotency keys and the outbox.

chassis/write/writer.py changes records over it.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import URL, Engine, ExceptionContext, Table, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from chassis.values.envelope import Envelope
from chassis.values.errors import Defect
from chassis.values.request_context import KeyReused
from chassis.write import idle_timeout
from chassis.write.error_classification import READ_ONLY, ErrorClass, classify, deferring_outages
from chassis.write.idempotency_keys import IdempotencyKeys
from chassis.write.outbox import Outbox

IDLE_IN_TRANSACTION_S = 15.0
LOCK_TIMEOUT_S = 5.0


def connect(
    url: str | URL,
    *,
    name: str = "ordermesh",
    pool_size: int = 8,
    statement_timeout_s: float = 10,
    idle_timeout_s: float = 15,
) -> AsyncEngine:
    """Returns an engine over psycopg. Each wait on it is bounded: for a connection, a lock, a
    statement, or a server that does not answer.

    `name` is what pg_stat_activity shows. More than 8 connections in a process bring nothing,
    because Python is the limit. With a `pool_size` of 0 nothing is pooled: a connection and its
    locks end when it is released. `idle_timeout_s` should be longer than any statement may take:
    it is for servers that do not end statements themselves.
    """
    limits = {
        "statement_timeout": statement_timeout_s,
        "lock_timeout": LOCK_TIMEOUT_S,
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
            "async_creator_fn": idle_timeout.connection_opener(idle_timeout_s),
            "connect_timeout": 5,
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )
    _invalidate_orphaned_connections(engine.sync_engine)
    _invalidate_outdated_connections(engine.sync_engine)
    return engine


def _invalidate_orphaned_connections(engine: Engine) -> None:
    """Ends connections that are returned after the engine was disposed of: the pool that they came
    from is closed.
    """

    @event.listens_for(engine, "do_connect")
    def opening(_: object, record: ConnectionPoolEntry, *__: object) -> None:
        record.info["pool"] = engine.pool

    @event.listens_for(engine, "checkin")
    def given_back(_: object, record: ConnectionPoolEntry) -> None:
        if record.info["pool"] is not engine.pool:
            record.invalidate()


def _invalidate_outdated_connections(engine: Engine) -> None:
    """Ends a connection, and all others of the pool, at the first write that the server refuses as
    read-only: after a failover a connection that still works may lead to a standby. A connection
    that the service itself opened as read-only is left alone.

    Ends a connection alone at an error of the schema: it has a cached plan, for example, and every
    later use of it would fail.
    """

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        read_only = (
            context.connection is not None
            and context.connection.get_execution_options().get("postgresql_readonly")
        )
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY and not read_only:
            context.is_disconnect = True
        if (
            classify(context.sqlalchemy_exception or context.original_exception)
            is ErrorClass.SCHEMA
        ):
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False


class Database:
    """A service's database: its engine, its idempotency keys, its outbox.

    Each of `on_change` is called after each commit that has changed records, with their ids: events
    and watches wait for them.
    """

    def __init__(self, engine: AsyncEngine, idempotency_keys: Table, outbox: Outbox) -> None:
        self.engine, self.idempotency_keys, self.outbox = (
            engine,
            IdempotencyKeys(idempotency_keys),
            outbox,
        )
        self.on_change: list[Callable[[Collection[UUID]], None]] = []

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yields a connection that reads one snapshot and cannot write. Raises Deferred where the
        database is at fault, Defect for a write.
        """
        with deferring_outages():
            async with self.engine.connect() as connection:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                try:
                    yield connection
                except DBAPIError as error:
                    # the service's own bug, and no sign of a standby
                    if getattr(error.orig, "sqlstate", None) == READ_ONLY:
                        raise Defect(error) from error
                    raise

    async def was_done(self, connection: AsyncConnection, key: str) -> bool:
        """Returns whether the effect of this key is committed."""
        return bool(await self.idempotency_keys.find(connection, [key]))

    async def reused(
        self, connection: AsyncConnection, envelopes: Sequence[Envelope[Any]]
    ) -> list[KeyReused | None]:
        """Returns for each envelope the refusal with which `Writer.write` answers a reused key.

        The key has another request hash in the table or earlier in the set. The others get None.
        An operation that asks a peer or writes something else before its write leaves out the
        refused envelopes. Another caller may use a key between the two; `Writer.write` decides.
        """
        found = await self.idempotency_keys.find(connection, {each.key for each in envelopes})
        hashes = {key: request_hash for key, (request_hash, _) in found.items()}
        for each in envelopes:
            hashes.setdefault(each.key, each.request_hash)
        return [
            None if hashes[each.key] == each.request_hash else KeyReused(each.key)
            for each in envelopes
        ]
