"""The idempotency keys of a write: one key has one effect, and each repeat finds it."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.write.database import Database
from chassis.write.idempotency_keys import IdempotencyKeys
from tests.sample import model, store
from tests.sample.model import (
    CancelOrder,
    ConfirmPayment,
    Order,
    ShipmentCreated,
    Status,
)
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
    repeats,
    status,
    write,
)
from tests.support import Eventually


async def test_write_inserts_its_keys_sorted(database: Database, engine: AsyncEngine) -> None:
    """For any order of the commands, their keys are inserted in one order: concurrent sets wait
    without a deadlock.
    """
    inserted: list[str] = []
    names = [f"{name}:{uuid4()}" for name in "dacb"]

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("INSERT INTO idempotency_keys"):
            inserted.extend(parameters["given_key"])

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await write(database, *(create(key=name) for name in names))
    assert inserted == sorted(names)


async def test_repeat_is_answered_with_the_current_record(
    database: Database, engine: AsyncEngine
) -> None:
    """A repeat changes nothing, and returns the record of its key, for any new proposal and any
    later change.
    """
    first = create()
    await write(database, first)
    await write(database, envelope(ConfirmPayment(), first.target))
    # proposes another id
    [again] = await write(database, create(key=first.key, reference=first.command.reference))
    assert isinstance(again, Done)
    assert again.repeat
    assert (again.record.id, again.record.status) == (first.target, Status.CONFIRMED)
    assert await count(engine, orders) == 1


async def test_repeat_finds_a_record_under_another_id(
    database: Database, engine: AsyncEngine
) -> None:
    """The row of a key has the proposed id; where the record has another one, a repeat still finds
    it.
    """
    first = create(reference="cart-7")
    second = create(reference="cart-7", new=False)  # the other path to the same record: it skips
    await write(database, first)
    [found], [again] = await write(database, second), await write(database, second)
    assert [unwrap(found).id, unwrap(again).id] == [first.target, first.target]
    assert repeats([found, again]) == [False, True]
    assert await count(engine, idempotency_keys) == 2


async def test_another_body_is_refused(database: Database) -> None:
    """A key belongs to its first request, in the same set as well as later."""
    first = create(request_hash=b"one")
    other = create(key=first.key, request_hash=b"other")
    assert kinds(await write(database, first, other, first)) == ["Done", "KeyReused", "Done"]
    assert kinds(
        await write(
            database,
            again := create(request_hash=b"one"),
            create(key=again.key, request_hash=b"two"),
        )
    ) == ["Done", "KeyReused"]
    [outcome] = await write(database, other)
    assert reason(outcome) == "REQUEST_ID_REUSED"


async def test_refused_and_deferred_leave_no_key(database: Database, engine: AsyncEngine) -> None:
    """A key exists exactly when its effect is committed, a skip included; other commands can be
    tried again.
    """
    [order, other] = await placed(database, 2)
    cancel, twice, unknown = (
        envelope(CancelOrder(), order),
        envelope(CancelOrder(), order),
        envelope(ConfirmPayment(), uuid4()),
    )
    early, pay, skip = (
        envelope(ShipmentCreated(), other),
        envelope(ConfirmPayment(), other),
        envelope(ConfirmPayment(), other),
    )
    outcomes = await write(database, cancel, twice, early, unknown, pay, skip)
    assert kinds(outcomes) == ["Done", "Refused", "Deferred", "Deferred", "Done", "Done"]
    assert (
        await count(
            engine,
            idempotency_keys,
            idempotency_keys.c.key.in_([twice.key, early.key, unknown.key]),
        )
        == 0
    )
    assert (
        await count(
            engine, idempotency_keys, idempotency_keys.c.key.in_([cancel.key, pay.key, skip.key])
        )
        == 3
    )
    assert status((await write(database, early))[0]) == "shipped"  # its time has come


async def test_reused_names_the_keys_that_a_write_refuses(database: Database) -> None:
    """A key that another request hash has used, in a write or in an earlier command of the set, is
    named. A repeat and a new command are not.

    The check uses no key.
    """
    used, new = create(), create()
    await write(database, used)
    commands = [
        used,
        replace(used, request_hash=b"other"),
        new,
        replace(new, request_hash=b"other"),
    ]
    for _ in range(2):
        async with database.read() as connection:
            refusals = await database.reused(connection, commands)
            assert await database.reused(connection, []) == []
        assert [refusal.key if refusal else None for refusal in refusals] == [
            None,
            used.key,
            None,
            new.key,
        ]
    assert kinds(await write(database, *commands)) == ["Done", "KeyReused", "Done", "KeyReused"]


async def test_waiter_on_a_deleted_key_decides_for_itself(
    database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Two sets have the same key, and the first one is deferred: the second waits, and then
    decides.
    """
    [order, other] = await placed(database, 2)
    early, waited, calls = envelope(ShipmentCreated(), order), asyncio.Event(), Counter[str]()

    async def save(connection: Any, *rest: Any) -> None:
        await waited.wait()
        await store.save_orders(connection, *rest)

    def decide(order: Order | None, command: Envelope[Any], now: datetime) -> model.Decided:
        calls[command.key] += 1
        return model.decide(order, command, now)

    first = asyncio.create_task(
        write(database, early, envelope(ConfirmPayment(), other), save=save, decide=decide)
    )
    await eventually(lambda: calls[early.key] == 1)
    second = asyncio.create_task(write(database, early, decide=decide))
    await eventually(lambda: query_waits(engine))
    waited.set()
    assert [reason((await t)[0]) for t in (first, second)] == ["PAYMENT_OUTSTANDING"] * 2
    assert calls[early.key] == 2


async def test_same_key_twice_in_a_set_is_decided_once(
    database: Database, engine: AsyncEngine
) -> None:
    """A key that comes twice in one set has one effect and one answer."""
    [order] = await placed(database)
    cancel = envelope(CancelOrder(), order)
    assert [status(o) for o in await write(database, cancel, cancel, cancel)] == ["cancelled"] * 3
    assert await count(engine, history) == 2


async def test_key_swept_between_two_statements_is_a_race(
    database: Database, engine: AsyncEngine, sample_url: str
) -> None:
    """The insert finds that a key exists, and the read finds it deleted: the set is tried again,
    and the command is decided.
    """
    first = create()
    await write(database, first)
    sweeper = psycopg.connect(
        make_url(sample_url).set(drivername="postgresql").render_as_string(hide_password=False),
        autocommit=True,
    )

    def sweep(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT idempotency_keys.key"):
            sweeper.execute("delete from idempotency_keys")

    event.listen(engine.sync_engine, "before_cursor_execute", sweep)
    [outcome] = await write(database, create(key=first.key, reference="another"))
    sweeper.close()
    assert isinstance(outcome, Done)
    assert not outcome.repeat
    assert await count(engine, idempotency_keys) == 1


async def test_old_keys_are_swept_in_bounded_batches(
    database: Database, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys older than the bound are deleted, in transactions of a bounded number of rows; younger
    ones stay.
    """
    await placed(database, 12)
    young = create()
    async with engine.begin() as connection:
        await connection.execute(
            text("update idempotency_keys set create_time = clock_timestamp() - interval '40 days'")
        )
    await write(database, young)
    recorder = Recorder(engine)
    monkeypatch.setattr("chassis.write.idempotency_keys.SWEPT_MAX", 5)
    assert await IdempotencyKeys(idempotency_keys).sweep(engine) == 12
    assert recorder.statements.count("COMMIT") == 3
    assert (
        await count(engine, idempotency_keys)
        == await count(engine, idempotency_keys, idempotency_keys.c.key == young.key)
        == 1
    )


async def test_concurrent_sweeps_skip_locked_keys(
    database: Database, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep skips a key that another sweep is deleting, without waiting."""
    await placed(database, 3)
    monkeypatch.setattr("chassis.write.idempotency_keys.RETENTION", timedelta(0))
    async with engine.connect() as other:
        await other.execute(select(idempotency_keys).limit(1).with_for_update())
        assert await IdempotencyKeys(idempotency_keys).sweep(engine) == 2
