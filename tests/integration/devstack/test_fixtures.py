"""The fixtures of conftest.py: tests do not affect each other, and waiting ends."""

import asyncio

import nats
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support import Accounts, Databases, Eventually, FreshDatabase


async def test_a_fresh_database_is_empty_and_of_version_18(database_url: str) -> None:
    """A test's database has no tables, and its server has uuidv7()."""
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        assert (
            await connection.execute(
                text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            )
        ).scalar() == 0
        assert (await connection.execute(text("SELECT uuidv7() IS NOT NULL"))).scalar() is True
    await engine.dispose()


def test_a_template_is_copied(fresh_database: FreshDatabase) -> None:
    """A database made from a template has its rows; the template is given by URL or by name."""
    template = fresh_database()
    with psycopg.connect(template.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE migrated AS SELECT 7 AS answer")
    for given in (template, template.rpartition("/")[2]):
        with psycopg.connect(fresh_database(given).replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT answer FROM migrated").fetchone() == (7,)


def test_database_with_an_open_connection_is_dropped(databases: Databases) -> None:
    """A connection that is still open does not keep a test's database."""
    url = databases.create()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        databases.drop(url)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url.replace("+psycopg", ""))


async def test_account_that_is_handed_out_again_is_empty(nats_server: Accounts) -> None:
    """For any number of tests, an account is handed out without streams, and to one test at a
    time.
    """
    used = await nats_server.take()
    client = await nats.connect(used)
    await client.jetstream().add_stream(name="LEFTOVER", subjects=["leftover.>"])
    nats_server.give_back(used)
    taken = [await nats_server.take()]
    while taken[-1] != used:
        taken.append(await nats_server.take())
    assert len(set(taken)) == len(taken) > 1
    assert await client.jetstream().streams_info() == []
    await client.close()
    for url in taken:
        nats_server.give_back(url)


async def test_eventually_waits_and_returns_the_answer(eventually: Eventually) -> None:
    """The caller gets the first true answer; an assertion that fails before means 'not yet'."""
    answers = iter([0, None, "here"])

    async def ask() -> str | int | None:
        await asyncio.sleep(0)
        answer = next(answers)
        assert answer is not None
        return answer

    assert await eventually(ask) == "here"


async def test_eventually_names_the_missing_condition(eventually: Eventually) -> None:
    """The error of a timeout names the awaited condition and its last answer; a condition that
    hangs ends too.
    """
    with pytest.raises(AssertionError, match=r"not within 0.05 s: three orders; last seen: 'two'"):
        await eventually(lambda: _fail("two"), timeout_s=0.05, what="three orders")
    with pytest.raises(AssertionError, match="the condition itself did not answer"):
        await eventually(asyncio.Event().wait, timeout_s=0.05)


def _fail(message: str) -> None:
    raise AssertionError(message)
