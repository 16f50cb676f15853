"""Connections that fail during a write or a read: lost, frozen, exhausted, on an old schema, on a
standby."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.errors import Deferred, NotFound
from chassis.write import database as databases
from chassis.write.database import Database, connect
from tests.proxy import Proxy
from tests.sample import store
from tests.sample.model import ConfirmPayment
from tests.sample.store import idempotency_keys
from tests.sample.writes import (
    create,
    envelope,
    kinds,
    placed,
    reason,
    status,
    write,
)
from tests.support import Eventually

END_SESSION = "select pg_terminate_backend(pg_backend_pid())"


async def test_lost_connection_defers_the_whole_set(database: Database, sample_url: str) -> None:
    """The set is deferred, without a failed command; with the same keys all of it is done later."""
    ids = await placed(database, 3)

    async def cut(connection: AsyncConnection, *rest: Any) -> None:
        await store.save_orders(connection, *rest)
        await connection.execute(text(END_SESSION))

    commands = [envelope(ConfirmPayment(), order) for order in ids]
    assert [reason(o) for o in await write(database, *commands, save=cut)] == [
        "DEPENDENCY_UNAVAILABLE"
    ] * 3
    assert [status(o) for o in await write(database, *commands)] == ["confirmed"] * 3
    nowhere = connect("postgresql://unknown@127.0.0.1:1/nothing")
    unreachable = Database(nowhere, idempotency_keys, database.outbox)
    assert [reason(o) for o in await write(unreachable, *commands)] == [
        "DEPENDENCY_UNAVAILABLE"
    ] * 3


async def test_connection_lost_one_by_one_defers_the_rest(database: Database) -> None:
    """The connection is lost while the commands are tried one by one: the committed one is done,
    the others are deferred without a further connection.
    """
    ids, loads = await placed(database, 4), 0

    async def unlucky(connection: AsyncConnection, *rest: Any) -> Any:
        nonlocal loads
        loads += 1
        if loads == 1:
            raise ZeroDivisionError
        if loads == 3:
            await connection.execute(text(END_SESSION))
        return await store.lock_orders(connection, *rest)

    outcomes = await write(
        database, *(envelope(ConfirmPayment(), order) for order in ids), load=unlucky
    )
    assert kinds(outcomes) == ["Done", "Deferred", "Deferred", "Deferred"]
    assert loads == 3


async def test_no_free_connection_defers(sample_url: str, database: Database) -> None:
    """An exhausted pool counts as an unreachable database: the wait is bounded."""
    narrow = connect(sample_url, pool_size=1)
    narrow.pool._timeout = 0.1  # type: ignore[attr-defined]  # five seconds otherwise
    full = Database(narrow, idempotency_keys, database.outbox)
    async with narrow.connect():
        assert reason((await write(full, create()))[0]) == "DEPENDENCY_UNAVAILABLE"
    await narrow.dispose()


async def test_locks_and_statements_have_time_limits(
    sample_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is not released and a statement that does not end defer the set: every connection
    has these limits.
    """
    monkeypatch.setattr(databases, "LOCK_TIMEOUT_S", 0.1)
    [order] = await placed(database)
    hasty = connect(sample_url, statement_timeout_s=0.2)
    limited = Database(hasty, idempotency_keys, database.outbox)

    async def slow(connection: AsyncConnection, *rest: Any) -> Any:
        await connection.execute(text("select pg_sleep(5)"))

    async with database.engine.connect() as holder:
        await holder.execute(text("select * from orders for update"))
        assert (
            reason((await write(limited, envelope(ConfirmPayment(), order)))[0])
            == "DEPENDENCY_UNAVAILABLE"
        )
    assert (
        reason((await write(limited, envelope(ConfirmPayment(), order), load=slow))[0])
        == "DEPENDENCY_UNAVAILABLE"
    )
    async with database.engine.connect() as connection:
        limit = await connection.execute(text("show idle_in_transaction_session_timeout"))
        assert limit.scalar_one() == "15s"
    await hasty.dispose()


@pytest.mark.parametrize("answer", ["of a statement", "of the commit"])
async def test_frozen_connection_defers_the_set(
    sample_url: str, database: Database, answer: str
) -> None:
    """The server receives the statement and never answers, so none of its limits helps. The set is
    deferred, and done once later.
    """
    [order] = await placed(database)
    command = envelope(ConfirmPayment(), order)
    async with Proxy(make_url(sample_url).port or 5432).serving() as proxy:
        # healthy statements of a slow machine are not silent
        through = connect(make_url(sample_url).set(port=proxy.port), idle_timeout_s=2.0)

        async def stranded(connection: AsyncConnection, *rest: Any) -> None:
            if answer == "of the commit":
                await store.save_orders(connection, *rest)
            proxy.freeze()
            if answer == "of a statement":
                await store.save_orders(connection, *rest)

        async with asyncio.timeout(30):
            lost = await write(
                Database(through, idempotency_keys, database.outbox), command, save=stranded
            )
        assert reason(lost[0]) == "DEPENDENCY_UNAVAILABLE"
        assert proxy.struck.stranded == 1
        proxy.cut()  # now the server ends the session, and releases the transaction's locks
        assert (
            status((await write(Database(through, idempotency_keys, database.outbox), command))[0])
            == "confirmed"
        ), "the next connection serves"
        await through.dispose()


async def test_connection_of_a_cancelled_caller_is_closed(
    sample_url: str, eventually: Eventually
) -> None:
    """The caller is cancelled while a connection opens. The connection is opened and closed, so
    that the server does not wait a minute for the rest of the handshake.
    """
    async with Proxy(make_url(sample_url).port or 5432).serving() as proxy:
        through = connect(make_url(sample_url).set(port=proxy.port))
        proxy.stop()
        opening = asyncio.create_task(through.connect().start())
        await eventually(lambda: proxy.struck.held)
        opening.cancel()
        # a reference to the error keeps the frames, and psycopg's objects in them
        with pytest.raises(asyncio.CancelledError) as _:
            await opening
        assert proxy.open == 1
        proxy.go()
        await eventually(lambda: proxy.open == 0)
        await through.dispose()


async def test_connection_returned_after_disposal_is_closed(
    sample_url: str, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An engine is disposed of during a read: the reader's connection ends when it is given back,
    and so do those of before a second disposal.
    """

    async def are_open(count: int) -> bool:
        async with engine.connect() as connection:
            found = await connection.execute(
                text("select count(*) from pg_stat_activity where application_name = 'late'")
            )
            return bool(found.scalar_one() == count)

    late = connect(sample_url, name="late")
    async with late.connect() as first:
        await first.execute(text("select 1"))
        await late.dispose()
        async with late.connect() as second:
            await second.execute(text("select 1"))
        assert await are_open(2), "connections opened since are kept"
        await late.dispose()
    await eventually(lambda: are_open(0))


async def test_connection_with_an_old_schema_is_closed(
    sample_url: str, database: Database, engine: AsyncEngine
) -> None:
    """A statement prepared before a migration can fail after it for as long as its connection
    exists: the connection is closed at the first failure.
    """
    narrow = connect(sample_url, pool_size=1)
    one = Database(narrow, idempotency_keys, database.outbox)

    sessions: list[int] = []

    async def star(connection: AsyncConnection, *rest: Any) -> Any:
        sessions.append((await connection.execute(text("select pg_backend_pid()"))).scalar_one())
        await connection.execute(text("select * from orders"))
        return await store.lock_orders(connection, *rest)

    for _ in range(10):  # psycopg prepares frequent statements
        await write(one, create(), load=star)
    async with engine.begin() as connection:
        await connection.execute(text("alter table orders add column note text"))
    assert reason((await write(one, create(), load=star))[0]) == "DATABASE_NOT_READY"
    assert status((await write(one, create(), load=star))[0]) == "pending"
    *before, after = sessions
    assert len(set(before)) == 1
    assert after not in before
    await narrow.dispose()


async def test_connections_to_a_standby_are_closed(sample_url: str, database: Database) -> None:
    """After a failover the pool's connections lead to a server that takes no writes, and stay open.

    The first refused write of any caller is deferred and closes them all; the next write opens a
    new connection.
    """
    stale = connect(sample_url, pool_size=2)
    one = Database(stale, idempotency_keys, database.outbox)

    async def demoted() -> None:
        async with stale.connect() as first, stale.connect() as second:
            for connection in (first, second):
                await connection.execute(text("set default_transaction_read_only = on"))
                await connection.commit()

    await demoted()
    assert reason((await write(one, create()))[0]) == "DEPENDENCY_UNAVAILABLE"
    assert [status((await write(one, create()))[0]) for _ in range(2)] == ["pending"] * 2
    await demoted()
    with pytest.raises(DBAPIError, match="read-only"):
        async with stale.begin() as connection:
            await connection.execute(delete(idempotency_keys))
    assert [status((await write(one, create()))[0]) for _ in range(2)] == ["pending"] * 2
    await stale.dispose()


async def test_read_of_an_unreachable_database_raises_deferred(database: Database) -> None:
    """A read raises Deferred where the database is at fault; the reader's own errors pass
    unchanged.
    """
    unreachable = Database(
        connect("postgresql://unknown@127.0.0.1:1/nothing"), idempotency_keys, database.outbox
    )
    with pytest.raises(Deferred) as away:
        async with unreachable.read():
            pass
    assert away.value.reason == "DEPENDENCY_UNAVAILABLE"
    with pytest.raises(Deferred) as older:
        async with database.read() as connection:
            await connection.execute(text("select a_column_of_tomorrow from orders"))
    assert older.value.reason == "DATABASE_NOT_READY"
    with pytest.raises(NotFound):
        async with database.read():
            raise NotFound("ORDER_NOT_FOUND")
    with pytest.raises(ZeroDivisionError):
        async with database.read():
            raise ZeroDivisionError
