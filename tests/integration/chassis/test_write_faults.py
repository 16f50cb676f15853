"""Faults during a write: of a command, of the service's code, of the schema, of the caller.
Connections that fail: test_write_connections.py.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import delete, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write.database import Database
from chassis.write.error_classification import Race
from chassis.write.outbox import EVENT_BYTES_MAX, Outbox
from chassis.write.workspace import Workspace
from chassis.write.writer import TRIES
from tests.sample import model, store
from tests.sample.events import SampleStatusChanged
from tests.sample.model import ConfirmPayment, Order, Status, Transition
from tests.sample.store import history, idempotency_keys, orders
from tests.sample.writes import (
    Recorder,
    count,
    create,
    envelope,
    kinds,
    placed,
    query_waits,
    reason,
    retried,
    status,
    write,
)
from tests.support import Eventually


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("times", [2, 100])
async def test_races_retry_the_set_bounded(database: Database, code: str, times: int) -> None:
    """A serialization failure or a deadlock retries the whole set a few times; if it persists, the
    set is deferred.
    """
    ids, before = await placed(database, 3), retried("race")
    tries = 0

    async def unlucky(connection: AsyncConnection, *rest: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= times:
            await connection.execute(
                text(f"do $$ begin raise exception using errcode = '{code}'; end $$")
            )
        return await store.lock_orders(connection, *rest)

    outcomes = await write(
        database, *(envelope(ConfirmPayment(), order) for order in ids), load=unlucky
    )
    if times == 2:
        assert [status(o) for o in outcomes] == ["confirmed"] * 3
        assert (tries, retried("race") - before) == (3, 2)
    else:
        assert [reason(o) for o in outcomes] == ["CONTENTION"] * 3
        assert all(isinstance(o, Deferred) for o in outcomes)
        assert (tries, retried("race") - before) == (TRIES, TRIES)


async def test_natural_key_twice_in_a_set_is_tried_one_by_one(
    database: Database, engine: AsyncEngine
) -> None:
    """Where two commands of a set make the same new record, retries cannot help. The commands are
    tried one by one, and the second finds the first one's record.
    """
    outcomes = await write(
        database, create(reference="cart-7"), create(), create(reference="cart-7")
    )
    assert kinds(outcomes) == ["Done", "Done", "Exists"]
    assert await count(engine, orders) == 2


async def test_natural_key_that_load_misses_is_a_defect(
    database: Database, engine: AsyncEngine
) -> None:
    """A single command still finds the natural key taken, without a concurrent writer: the
    service's `load` misses a record that it must find.
    """

    async def blind(*_: Any) -> Workspace[Order]:
        return Workspace({})

    await write(database, create(reference="cart-7"))
    [outcome] = await write(database, create(reference="cart-7"), load=blind)
    assert isinstance(outcome, Defect)
    assert await count(engine, idempotency_keys) == 1


async def test_data_that_the_schema_rejects_fails_its_own_command(
    database: Database, engine: AsyncEngine
) -> None:
    """A constraint, a number out of range and a text that PostgreSQL cannot store each fail one
    command: the others of the set are done.
    """
    outcomes = await write(
        database,
        create(),
        create(total=-1),
        create(total=2**70),
        create(reference="nul\0"),
        create(),
    )
    assert kinds(outcomes) == ["Done", "Defect", "Defect", "Defect", "Done"]
    assert await count(engine, idempotency_keys) == 2
    assert await count(engine, orders) == 2


async def test_row_refused_by_a_trigger_fails_its_command(
    database: Database, engine: AsyncEngine
) -> None:
    """An exception of the service's own trigger is handled like a constraint."""
    async with engine.begin() as connection:
        body = "begin if new.total = 13 then raise exception ''unlucky''; end if; return new; end"
        await connection.execute(
            text(f"create function guard() returns trigger language plpgsql as '{body}'")
        )
        await connection.execute(
            text(
                "create trigger guard before insert on orders for each row execute function guard()"
            )
        )
    assert kinds(await write(database, create(), create(total=13))) == ["Done", "Defect"]


@pytest.mark.parametrize("where", ["decide", "load", "save"])
async def test_an_unexpected_exception_fails_its_own_command(
    database: Database, where: str
) -> None:
    """A bug in one command fails only that command and leaves no key: after the fix, a repeat
    succeeds.
    """
    ids = await placed(database, 3)
    decided: Counter[str] = Counter()

    def decide(order: Order | None, command: Envelope[Any], now: datetime) -> model.Decided:
        decided[command.key] += 1
        if where == "decide" and command.target == ids[1]:
            raise ZeroDivisionError
        return model.decide(order, command, now)

    async def load(
        connection: AsyncConnection, commands: Sequence[Envelope[Any]], repeats: Any
    ) -> Any:
        if where == "load" and ids[1] in {c.target for c in commands}:
            raise ZeroDivisionError
        return await store.lock_orders(connection, commands, repeats)

    async def save(connection: AsyncConnection, before: Any, after: Any, steps: Any) -> None:
        if where == "save" and ids[1] in after:
            raise ZeroDivisionError
        await store.save_orders(connection, before, after, steps)

    commands = [envelope(ConfirmPayment(), order) for order in ids]
    outcomes = await write(database, *commands, load=load, decide=decide, save=save)
    assert kinds(outcomes) == ["Done", "Defect", "Done"]
    assert isinstance(outcomes[1], Defect)
    assert isinstance(outcomes[1].__cause__, ZeroDivisionError)
    if where == "decide":
        assert set(decided.values()) == {1}  # it is pure: one call is enough
    assert status((await write(database, commands[1]))[0]) == "confirmed"


async def test_repeat_of_a_deleted_record_is_a_defect(
    database: Database, engine: AsyncEngine
) -> None:
    """Records are never deleted. If one is, a repeat does not make it again, and the other commands
    are done.
    """
    first = create()
    await write(database, first)
    async with engine.begin() as connection:
        await connection.execute(delete(history))
        await connection.execute(delete(orders))
    assert kinds(await write(database, first, create())) == ["Defect", "Done"]


async def test_missing_migration_defers_its_own_command(database: Database) -> None:
    """A command that does not fit the schema is deferred alone: a replica may be ahead of its
    migration.
    """
    ids = await placed(database, 2)

    async def ahead(
        connection: AsyncConnection, commands: Sequence[Envelope[Any]], repeats: Any
    ) -> Any:
        if ids[1] in {c.target for c in commands}:
            await connection.execute(text("select a_column_of_tomorrow from orders"))
        return await store.lock_orders(connection, commands, repeats)

    outcomes = await write(
        database, *(envelope(ConfirmPayment(), order) for order in ids), load=ahead
    )
    assert kinds(outcomes) == ["Done", "Deferred"]
    assert reason(outcomes[1]) == "DATABASE_NOT_READY"


SLOW_COMMIT = (
    (
        "create function slow() returns trigger language plpgsql as 'begin perform"
        " pg_advisory_xact_lock(1); return null; end'"
    ),
    (
        "create constraint trigger slow after insert on orders deferrable initially deferred for"
        " each row execute function slow()"
    ),
)


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_commit_is_shielded_from_cancellation(
    database: Database, engine: AsyncEngine, eventually: Eventually, when: str
) -> None:
    """A cancellation before the commit undoes the write; during the commit, the commit ends as if
    the cancellation had come after it.

    The connection is back in the pool either way, and a repeat finds the result.
    """
    async with engine.begin() as connection:
        for statement in SLOW_COMMIT:
            await connection.execute(text(statement))

    async def save(connection: AsyncConnection, *rest: Any) -> None:
        await store.save_orders(connection, *rest)
        if when == "before":
            await connection.execute(text("select pg_advisory_xact_lock(1)"))

    command = create()
    async with engine.connect() as holder:
        await holder.execute(text("select pg_advisory_xact_lock(1)"))
        task = asyncio.create_task(write(database, command, save=save))
        await eventually(lambda: query_waits(engine))
        for _ in range(2):
            task.cancel()
            # Before the commit the task ends, on a machine of any speed; during it the test can
            # only wait for a while.
            await asyncio.wait([task], timeout=10.0 if when == "before" else 0.05)
        assert task.done() == (when == "before")
        await holder.rollback()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(engine, orders) == (when == "during")
    # the relay is woken all the same
    assert database.outbox.appended.is_set() == (when == "during")
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # it is a QueuePool
    [again] = await write(database, command)
    assert isinstance(again, Done)
    assert again.repeat is (when == "during")


async def test_commit_that_fails_during_cancellation_is_its_cause(
    database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The cancellation is raised with the failure as its cause; no error is left unretrieved."""
    async with engine.begin() as connection:
        for statement in SLOW_COMMIT:
            await connection.execute(text(statement))
    async with engine.connect() as holder:
        await holder.execute(text("select pg_advisory_xact_lock(1)"))
        task = asyncio.create_task(write(database, create()))
        await eventually(lambda: query_waits(engine))
        task.cancel()
        others = (
            "select pg_terminate_backend(pid) from pg_stat_activity where datname ="
            " current_database() and pid <> pg_backend_pid()"
        )
        await holder.execute(text(others))
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await task
    assert cancelled.value.__cause__ is not None


async def test_read_is_a_snapshot_without_writes(database: Database, engine: AsyncEngine) -> None:
    """A read is a snapshot, and the database refuses a write through it: a defect of the service,
    which no retry helps.
    """
    await placed(database, 2)
    async with database.read() as connection:
        seen = (await connection.execute(text("select count(*) from orders"))).scalar_one()
        await placed(database)
        assert (
            (await connection.execute(text("select count(*) from orders"))).scalar_one()
            == seen
            == 2
        )
    with pytest.raises(Defect) as caught:
        async with database.read() as connection:
            await connection.execute(text("delete from history"))
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert isinstance(caught.value.__cause__.orig, psycopg.errors.ReadOnlySqlTransaction)
    assert not caught.value.__cause__.connection_invalidated, "the server is not at fault"
    assert await count(engine, history) == 3


async def test_race_raised_by_the_service_retries_the_set(database: Database) -> None:
    """`load` and `save` can raise that another transaction came first: then the set is tried
    again.
    """
    tries = 0

    async def save(connection: AsyncConnection, *rest: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Race("changed meanwhile")
        await store.save_orders(connection, *rest)

    assert status((await write(database, create(), save=save))[0]) == Status.PENDING
    assert tries == 2


async def test_a_rolled_back_set_leaves_no_trace(database: Database, engine: AsyncEngine) -> None:
    """Rows, history, events and keys are committed or rolled back together."""
    recorder = Recorder(engine)

    async def save(connection: AsyncConnection, *rest: Any) -> None:
        await store.save_orders(connection, *rest)
        raise ZeroDivisionError

    assert kinds(await write(database, create(), save=save)) == ["Defect"]
    assert "COMMIT" not in recorder.statements
    assert [
        await count(engine, table) for table in (orders, idempotency_keys, history, store.outbox)
    ] == [
        0,
        0,
        0,
        0,
    ]


async def test_event_too_large_to_publish_fails_its_own_write(engine: AsyncEngine) -> None:
    """A change whose event no broker would accept is not committed: its command fails as a defect,
    and the others of its set are done.

    The outbox gets no row that would block its aggregate.
    """

    def fat(transition: Transition) -> OutgoingEvent:
        id = transition.order_id
        message = SampleStatusChanged(order_id=str(id), new="x" * sizes[id])
        return OutgoingEvent(aggregate=id, order_id=id, message=message)

    first, second, third = create(), create(), create()
    around = (
        len(
            SampleStatusChanged(
                order_id=str(first.target), new="x" * EVENT_BYTES_MAX
            ).SerializeToString()
        )
        - EVENT_BYTES_MAX
    )
    sizes = {
        first.target: 1,
        second.target: EVENT_BYTES_MAX - around + 1,
        third.target: EVENT_BYTES_MAX - around,
    }
    database = Database(engine, idempotency_keys, Outbox(store.outbox, encode=fat))
    outcomes = await write(database, first, second, third)
    assert kinds(outcomes) == ["Done", "Defect", "Done"]
    assert isinstance(outcomes[1], Defect)
    assert f"{EVENT_BYTES_MAX + 1} bytes, and an event may have {EVENT_BYTES_MAX}" in str(
        outcomes[1].__cause__
    )
    assert await count(engine, orders) == await count(engine, store.outbox) == 2
