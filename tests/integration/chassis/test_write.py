"""The rules of a write: what it inserts, decides, saves and answers, and in which order. Its keys:
test_write_keys.py; faults: test_write_faults.py and test_write_connections.py.
"""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.decision import Decision, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Failure
from chassis.write.database import Database, connect
from tests.sample import model, store
from tests.sample.events import SampleStatusChanged
from tests.sample.model import (
    CancelOrder,
    ConfirmPayment,
    Order,
    ShipmentCreated,
    Status,
)
from tests.sample.store import history, idempotency_keys, orders, outbox
from tests.sample.writes import (
    Recorder,
    count,
    create,
    envelope,
    kinds,
    placed,
    query_waits,
    reason,
    status,
    write,
)
from tests.support import Eventually

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SERIALIZABLE = "default_transaction_isolation = serializable"


async def test_commands_of_a_set_are_applied_in_order(
    database: Database, engine: AsyncEngine
) -> None:
    """Each command gets the record that the previous one left. The row is saved once; all history
    rows and events are saved, in order, in one shard.
    """
    [order] = await placed(database)
    assert (
        reason((await write(database, envelope(ShipmentCreated(), order)))[0])
        == "PAYMENT_OUTSTANDING"
    )
    outcomes = await write(
        database,
        envelope(ConfirmPayment(), order),
        envelope(ShipmentCreated(), order),
        envelope(ConfirmPayment(), order),
    )
    # the last was skipped
    assert [status(o) for o in outcomes] == ["confirmed", "shipped", "shipped"]
    async with engine.connect() as connection:
        steps = (
            await connection.execute(
                select(history.c.version, history.c.new).order_by(history.c.version)
            )
        ).all()
        rows = (await connection.execute(select(outbox).order_by(outbox.c.id))).all()
        assert (await connection.execute(select(orders.c.status, orders.c.version))).one() == (
            "shipped",
            4,
        )
    assert [tuple(s) for s in steps] == [
        (1, "pending"),
        (2, "confirmed"),
        (3, "processing"),
        (4, "shipped"),
    ]
    events: list[Any] = [SampleStatusChanged.FromString(row.payload) for row in rows]
    assert [(e.order_id, e.version, e.new) for e in events] == [(str(order), *s) for s in steps]
    assert len({row.shard for row in rows}) == 1
    assert len({row.event_id for row in rows}) == 4
    assert {(row.subject, row.type) for row in rows} == {
        ("orders.sample.status_changed", "ordermesh.sample.events.v1.SampleStatusChanged")
    }


async def test_set_of_commands_is_seven_statements(database: Database, engine: AsyncEngine) -> None:
    """A hundred commands are seven statements: keys, locks in the order of ids, clock, rows,
    history, outbox, commit.
    """
    ids = await placed(database, 100)
    recorder = Recorder(engine)
    await write(database, *(envelope(ConfirmPayment(), order) for order in ids))
    keys, lock, clock, rows, steps, events, commit, *_ = recorder.statements
    assert keys.startswith("INSERT INTO idempotency_keys")
    assert "ON CONFLICT DO NOTHING" in keys
    assert lock.endswith("ORDER BY orders.id FOR NO KEY UPDATE")
    assert "clock_timestamp()" in clock
    assert [rows[:13], steps[:19], commit] == ["UPDATE orders", "INSERT INTO history", "COMMIT"]
    assert events.startswith("WITH counted AS (INSERT INTO event_sequences")
    assert "INSERT INTO outbox" in events


async def test_statements_are_the_same_for_any_set_size(
    database: Database, engine: AsyncEngine
) -> None:
    """Statements are built once and bound to arrays: none depends on the number of commands."""
    recorder, statements = Recorder(engine), []
    for size in (2, 50):
        ids = await placed(database, size)
        recorder.statements.clear()
        await write(database, *(envelope(ConfirmPayment(), order) for order in ids))
        statements.append(list(recorder.statements))
    assert statements[0] == statements[1]


async def test_write_inside_a_write_is_refused(database: Database) -> None:
    """It could wait for itself: a nested write is refused at once. Other tasks write meanwhile, and
    the same task can write afterwards.
    """

    async def save(connection: Any, *rest: Any) -> None:
        await write(database, create())

    [outcome] = await write(database, create(), save=save)
    assert isinstance(outcome, Defect)
    assert str(outcome.__cause__) == "no write inside a write"
    assert (
        kinds(
            [
                o
                for r in await asyncio.gather(*(write(database, create()) for _ in range(3)))
                for o in r
            ]
        )
        == ["Done"] * 3
    )


@pytest.mark.parametrize("place", ["load", "decide", "save"])
async def test_call_inside_a_write_is_refused(database: Database, place: str) -> None:
    """A peer is not called while rows can be locked: at any point of a write, the call is refused
    at once.
    """
    called = AsyncMock()

    async def asking(*arguments: Any) -> Any:
        await ask(called, None)
        return await usual(*arguments)

    def asking_at_once(*arguments: Any) -> Any:
        asking(*arguments).send(None)

    usual: Any = {"load": store.lock_orders, "save": store.save_orders}.get(place)
    [outcome] = await write(
        database, create(), **{place: asking_at_once if place == "decide" else asking}
    )
    assert isinstance(outcome, Defect)
    assert str(outcome.__cause__) == "no call of a peer inside a write"
    called.assert_not_called()
    assert kinds(await write(database, create())) == ["Done"]
    await ask(called, None)
    called.assert_called_once()


@pytest.mark.parametrize("after_a_read", [False, True])
async def test_a_write_is_read_committed(
    database: Database, engine: AsyncEngine, sample_url: str, after_a_read: bool
) -> None:
    """With any default of the server, a set that waited reads the other set's commit; a read hands
    its connection back unchanged.
    """
    async with engine.begin() as connection:
        await connection.execute(
            text(f"alter role current_user in database {engine.url.database} set {SERIALIZABLE}")
        )
    fresh = connect(sample_url, pool_size=1)
    seen: list[str] = []

    async def load(connection: Any, *rest: Any) -> Any:
        seen.append((await connection.execute(text("show transaction_isolation"))).scalar_one())
        return await store.lock_orders(connection, *rest)

    other = Database(fresh, idempotency_keys, database.outbox)
    if after_a_read:
        async with other.read() as connection:
            await connection.execute(text("select 1"))
    await write(other, create(), load=load)
    assert seen == ["read committed"]
    await fresh.dispose()


async def test_record_under_two_ids_is_one_record(database: Database, engine: AsyncEngine) -> None:
    """A record found by its natural key has the proposed id and its own: a change under one id is
    visible under the other.
    """
    first = create(reference="cart-7")
    await write(database, first)
    also = create(reference="cart-7", new=False)
    outcomes = await write(
        database,
        also,
        envelope(ConfirmPayment(), also.target),
        envelope(ShipmentCreated(), first.target),
    )
    assert [status(o) for o in outcomes] == ["pending", "confirmed", "shipped"]
    assert {unwrap(o).id for o in outcomes} == {first.target}
    async with engine.connect() as connection:
        assert (await connection.execute(select(orders.c.status, orders.c.version))).one() == (
            "shipped",
            4,
        )


async def test_set_without_changes_is_rolled_back(database: Database, engine: AsyncEngine) -> None:
    """A set of refusals and repeats ends in a rollback."""
    [order] = await placed(database)
    cancel = envelope(CancelOrder(), order)
    await write(database, cancel)
    recorder = Recorder(engine)
    assert kinds(await write(database, cancel, envelope(CancelOrder(), order))) == [
        "Done",
        "Refused",
    ]
    assert "COMMIT" not in recorder.statements
    assert await write(database) == []


async def test_clock_of_the_database_is_read_after_the_locks(
    database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A decision that had to wait uses the time at which it got its locks."""
    [order] = await placed(database)
    async with engine.connect() as holder:
        await holder.execute(select(orders).with_for_update())
        waiting = asyncio.create_task(write(database, envelope(ConfirmPayment(), order)))
        await eventually(lambda: query_waits(engine))
        released: datetime = (await holder.execute(select(func.clock_timestamp()))).scalar_one()
        await holder.rollback()
    await waiting
    async with engine.connect() as connection:
        query = select(history.c.time).where(history.c.new == Status.CONFIRMED)
        assert (await connection.execute(query)).scalar_one() > released


async def test_history_of_an_unchanged_record_is_saved(
    database: Database, engine: AsyncEngine
) -> None:
    """A change of the history alone is saved: a late event on a cancelled order's timeline."""
    [order] = await placed(database)

    def decide(order: Order | None, command: Envelope[Any], now: datetime) -> model.Decided:
        assert order
        return Decision(
            order,
            [
                model.Transition(
                    order_id=order.id,
                    version=9,
                    old=order.status,
                    new=order.status,
                    reason="NOTED",
                    cause=command.key,
                    time=now,
                )
            ],
        )

    assert kinds(await write(database, envelope(ConfirmPayment(), order), decide=decide)) == [
        "Done"
    ]
    assert await count(engine, history, history.c.reason == "NOTED") == 1


async def test_relay_is_woken_by_a_commit_with_events(database: Database) -> None:
    """Committed events wake the relay; a skip and a refusal do not."""
    [order] = await placed(database)
    assert database.outbox.appended.is_set()
    await write(database, envelope(CancelOrder(), order))
    database.outbox.appended.clear()
    await write(database, envelope(CancelOrder(), order), envelope(ConfirmPayment(), order))
    assert not database.outbox.appended.is_set()


@pytest.mark.parametrize("seed", range(10))
async def test_any_division_into_sets_gives_the_same_history(
    database: Database, engine: AsyncEngine, seed: int
) -> None:
    """One at a time, or in sets of any size, the same commands make the same history."""
    dice, ids = random.Random(seed), await placed(database, 3)
    kinds_of_command = [ConfirmPayment(), CancelOrder(), ShipmentCreated()]
    commands = [envelope(dice.choice(kinds_of_command), dice.choice(ids)) for _ in range(12)]
    commands += dice.sample(commands, 3)
    expected: dict[UUID, list[Status]] = {order: [] for order in ids}
    alone: dict[UUID, Order] = {}
    known: set[str] = set()
    for command in commands:  # the model: one at a time, in memory
        order = alone.get(command.target) or Order(
            id=command.target, reference="", total=0, status=Status.PENDING, version=1, deadline=NOW
        )
        try:
            decision = model.decide(order, command, NOW) if command.key not in known else None
        except Failure:
            continue
        if decision:
            known.add(command.key)
            alone[command.target] = decision.record
            expected[command.target] += [step.new for step in decision.history]
    rest = commands
    while rest:
        size = dice.randint(1, 6)
        await write(database, *rest[:size])
        rest = rest[size:]
    for target in ids:
        async with engine.connect() as connection:
            query = (
                select(history.c.new)
                .where(history.c.order_id == target, history.c.version > 1)
                .order_by(history.c.version)
            )
            assert list((await connection.execute(query)).scalars()) == expected[target]
