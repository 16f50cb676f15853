"""The fixtures of conftest.py keep their promises: tests do not meet, and waiting ends."""

import asyncio

import nats
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support import Accounts, Databases, Eventually, FreshDatabase


async def test_a_fresh_database_is_empty_and_of_version_18(database_url: str) -> None:
    """A test's database has no tables, and its server knows uuidv7()."""
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
    """A database made from a template has its rows, whether the template is given by URL or by
    name.
    """
    template = fresh_database()
    with psycopg.connect(template.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE migrated AS SELECT 7 AS answer")
    for given in (template, template.rpartition("/")[2]):
        with psycopg.connect(fresh_database(given).replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT answer FROM migrated").fetchone() == (7,)


def test_a_database_is_dropped_although_somebody_is_connected(databases: Databases) -> None:
    """A forgotten connection does not keep a test's database."""
    url = databases.create()
    with psycopg.connect(url.replace("+psycopg", "")) as forgotten:
        databases.drop(url)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            forgotten.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url.replace("+psycopg", ""))


async def test_an_account_that_comes_round_again_is_empty(nats_server: Accounts) -> None:
    """However many tests have used the pool, an account is handed out without streams, and not
    twice at a time.
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
    """The first true answer is what the caller gets; assertions that fail meanwhile are answers
    of 'not yet'.
    """
    answers = iter([0, None, "here"])

    async def ask() -> str | int | None:
        await asyncio.sleep(0)
        answer = next(answers)
        assert answer is not None
        return answer

    assert await eventually(ask) == "here"


async def test_eventually_says_what_was_missing(eventually: Eventually) -> None:
    """A wait that is over names what was waited for and how things stood last; one that hangs
    ends too.
    """
    with pytest.raises(AssertionError, match=r"not within 0.05 s: three orders; last seen: 'two'"):
        await eventually(lambda: _fail("two"), timeout_s=0.05, what="three orders")
    with pytest.raises(AssertionError, match="the condition itself did not answer"):
        await eventually(asyncio.Event().wait, timeout_s=0.05)


def _fail(message: str) -> None:
    raise AssertionError(message)
