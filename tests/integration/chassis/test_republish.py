"""An operator publishes events again: in order, under their ids, without a second effect."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import stream as streams
from chassis.broker.stream import Broker
from chassis.publish import stream_rebuild
from chassis.publish.republish import Events, Republish
from chassis.values.errors import Deferred, Invalid
from chassis.write import partitions
from chassis.write.database import Database, connect
from chassis.write.idempotency_keys import NO_TARGET, IdempotencyKey
from chassis.write.partitions import maintain
from devstack.nats import Nats
from tests.sample.events import SampleStatusChanged
from tests.sample.inbox import Effects, all_acknowledged, consuming, failed
from tests.sample.relaying import (
    none_waits,
    published,
    relay,
    republished,
    running,
    shipped,
    waiting,
)
from tests.sample.store import idempotency_keys, outbox
from tests.sample.writes import count, placed, query_waits
from tests.support import Eventually

# Of this database alone: the server serves other tests at the same time.
END_SESSION = (
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outbox"
    " operators' and datname = current_database()"
)


def command(target: UUID = NO_TARGET) -> IdempotencyKey:
    return IdempotencyKey(key=f"test:{uuid4()}", target=target)


@pytest.fixture
def window_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Shortens the stream's memory of ids from two minutes to a tenth of a second; returns a
    function that waits until it is over.
    """
    monkeypatch.setattr(streams, "DUPLICATE_WINDOW_S", 0.1)
    return partial(asyncio.sleep, 0.5)  # the time itself must pass


async def stream_events(broker: Broker, order: UUID) -> list[tuple[str, int]]:
    """Returns the ids and versions of the order's events, as the stream has them."""
    found: list[tuple[str, int]] = []
    for message in await published(broker):
        event: Any = SampleStatusChanged.FromString(message.data or b"")
        if event.order_id == str(order):
            found.append(((message.headers or {})["ce-id"], event.version))
    return found


async def test_events_of_an_aggregate_are_republished_in_order(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    window_over: Callable[[], Awaitable[None]],
) -> None:
    """All events of one order, and no others, are published again: under the same ids, in the same
    order, behind the stream's end. No event looks lost then.
    """
    async with running(relay(database, broker)):
        one, other = await placed(database, 2)
        await shipped(database, [one, other])
        await eventually(lambda: none_waits(engine))
        first, before = await stream_events(broker, one), republished()
        assert await Republish(database).count(Events(aggregate=one)) == 4
        assert len(await stream_events(broker, one)) == 4  # a count publishes nothing
        await window_over()
        assert await Republish(database).republish_events(Events(aggregate=one), command(one)) == 4
        await eventually(lambda: none_waits(engine))
    assert [version for _, version in first] == [1, 2, 3, 4]
    assert await stream_events(broker, one) == first * 2
    assert len(await stream_events(broker, other)) == 4
    async with running(relay(database, broker)):  # a new relay compares the stream with the marks
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() == before
    assert (await broker.ensure_stream("ORDERS")).state.last_seq == 13


async def test_republication_is_bounded_by_times_of_the_outbox(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The bounds are a first time, an end time, and one aggregate or all: an event must match all
    that are given.
    """
    async with running(relay(database, broker)):
        one, other = await placed(database, 2)
        await eventually(lambda: none_waits(engine))
        async with engine.connect() as connection:
            between: datetime = (
                await connection.execute(text("select clock_timestamp()"))
            ).scalar_one()
        await shipped(database, [one])
        await eventually(lambda: none_waits(engine))
    counting = Republish(database).count
    assert await counting(Events(since=between)) == 3
    assert await counting(Events(before=between)) == 2
    assert await counting(Events(aggregate=one, before=between)) == 1
    assert await counting(Events(aggregate=other, since=between)) == 0
    assert (
        await counting(
            Events(since=between - timedelta(hours=1), before=between + timedelta(hours=1))
        )
        == 5
    )


async def test_repeated_republication_is_done_once(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The request comes again after a lost answer: it is answered with the number of waiting
    events. Another request under its id is refused.
    """
    republish, same = Republish(database), command()
    async with running(relay(database, broker)):
        [order] = await placed(database)
        await eventually(lambda: none_waits(engine))
    assert await republish.republish_events(Events(aggregate=order), same) == 1
    assert await republish.republish_events(Events(aggregate=order), same) == 1
    assert await waiting(engine) == 1
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    assert await republish.republish_events(Events(aggregate=order), same) == 0
    assert await waiting(engine) == 0
    with pytest.raises(Invalid, match="request_id stands for another request"):
        await republish.republish_events(
            Events(), IdempotencyKey(key=same.key, request_hash=b"other", target=same.target)
        )


SLOW = (
    """
    create function slow() returns trigger language plpgsql
    as $$ begin perform pg_sleep(0.5); return null; end $$
    """,
    """create trigger slow after update on outbox for each statement execute function slow()""",
)


@pytest.fixture
async def hasty(database: Database, sample_url: str) -> AsyncIterator[Database]:
    """The same database, on connections whose statements time out after a tenth of a second."""
    engine = connect(sample_url, idle_timeout_s=0.1, statement_timeout_s=0.1)
    yield Database(engine, idempotency_keys, database.outbox)
    await engine.dispose()


async def test_republication_outlasts_the_statement_timeout(
    database: Database, hasty: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The service's connections end a statement after a tenth of a second; a republication may take
    longer.
    """
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    async with engine.begin() as connection:
        for statement in SLOW:
            await connection.execute(text(statement))
    assert (
        await Republish(hasty).republish_events(
            Events(since=datetime.now(UTC) - timedelta(hours=1)), command()
        )
        == 3
    )
    assert await waiting(engine) == 3


async def test_outbox_counts_outlast_the_statement_timeout(
    hasty: Database, database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Counts over the whole outbox take longer than the service's statement timeout, and
    succeed.
    """
    await placed(database, 3)
    answers: list[Any] = []
    for look in (Republish(hasty).stats, partial(Republish(hasty).count, Events())):
        async with engine.connect() as connection:
            await connection.execute(text("lock table outbox in access exclusive mode"))
            looking = asyncio.create_task(look())
            await eventually(lambda: query_waits(engine))
            # the time itself must pass
            await connection.execute(text("select pg_sleep(0.3)"))
        answers.append(await looking)
    stats, number = answers
    assert (stats.waiting, stats.kept, stats.highest, number) == (3, 3, 0, 0)


async def test_interrupted_republication_is_done_by_its_repeat(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A connection that is lost during the call leaves no change and no key; the same request then
    does all of it, once.
    """
    republish, same, all_ = (
        Republish(database),
        command(),
        Events(since=datetime.now(UTC) - timedelta(hours=1)),
    )
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    async with engine.begin() as connection:
        for statement in SLOW:
            await connection.execute(text(statement.replace("pg_sleep(0.5)", "pg_sleep(30)")))
    asking = asyncio.create_task(republish.republish_events(all_, same))
    await eventually(lambda: query_waits(engine, "Timeout"))
    async with engine.begin() as connection:
        await connection.execute(text(END_SESSION))
    with pytest.raises(Deferred):
        await asking
    assert (
        await waiting(engine),
        await count(engine, idempotency_keys, idempotency_keys.c.key == same.key),
    ) == (0, 0)
    async with engine.begin() as connection:
        await connection.execute(text("drop trigger slow on outbox"))
    assert await republish.republish_events(all_, same) == 3
    assert await waiting(engine) == 3


async def test_an_old_partition_stays_until_its_events_are_published(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events of an expired day wait again: the day is dropped only after they are published."""
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    old = datetime.now(UTC) - timedelta(days=30)
    async with engine.begin() as connection:
        await connection.execute(update(outbox).values(create_time=old))
    with monkeypatch.context() as longer:
        longer.setattr(partitions, "KEPT_DAYS", 60)
        await maintain(engine, outbox)  # the day gets its partition
    assert (
        await Republish(database).republish_events(Events(since=old - timedelta(days=1)), command())
        == 3
    )
    assert (await maintain(engine, outbox)).drop == ()
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    assert (await maintain(engine, outbox)).drop == (old.date(),)


async def test_republication_repeats_no_effect(
    database: Database,
    listener: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    window_over: Callable[[], Awaitable[None]],
) -> None:
    """Everything is published again twice, outside the stream's deduplication window: each consumer
    answers with the stored result.
    """
    effects = Effects(listener)
    async with (
        running(relay(database, broker)),
        consuming(broker, listener.engine, {SampleStatusChanged: effects}),
    ):
        await shipped(database, await placed(database, 5))
        await eventually(lambda: effects.handled == 20)
        for times in (2, 3):
            await window_over()
            assert (
                await Republish(database).republish_events(
                    Events(since=datetime.now(UTC) - timedelta(hours=1)), command()
                )
                == 20
            )
            await eventually(partial(effects.has_handled, 20 * times))
        await eventually(lambda: all_acknowledged(broker))
    assert len(effects.keys) == 20
    assert await effects.number() == 20
    assert await failed(listener.engine) == []


@pytest.mark.usefixtures("short_window")
async def test_a_rollback_after_a_republication_loses_nothing(
    database: Database,
    own_nats: Nats,
    own_broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Republished rows have new marks, beyond those of younger events. After a rollback of the disk
    to an earlier time, every event is there again.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 0.5)
    async with running(relay(database, own_broker)):
        [one] = await placed(database)
        await shipped(database, [one])
        await eventually(lambda: none_waits(engine))
        own_nats.stop()
        shutil.copytree(own_nats.store, tmp_path / "copy")
        own_nats.start()
        later = await placed(database, 3)
        await eventually(lambda: none_waits(engine), timeout_s=20)
        await own_broker.streams.purge_stream("ORDERS", keep=1)
        await Republish(database).republish_events(Events(aggregate=one), command(one))
        await eventually(lambda: _stand(own_broker, engine, 7), timeout_s=20)
        own_nats.kill()
        shutil.rmtree(own_nats.store)
        shutil.copytree(tmp_path / "copy", own_nats.store)
        own_nats.start()
        await eventually(lambda: _stand(own_broker, engine, 7), timeout_s=25)
    for order in (one, *later):
        assert len({event_id for event_id, _ in await stream_events(own_broker, order)}) == (
            4 if order == one else 1
        )


async def _stand(broker: Broker, engine: AsyncEngine, number: int) -> bool:
    """Returns whether this number of events is in the stream where it is marked."""
    async with engine.connect() as connection:
        rows = (await connection.execute(select(outbox.c.event_id, outbox.c.stream_seq))).all()
    for row in rows:
        if row.stream_seq is None:
            return False
        try:
            message = await broker.streams.get_msg("ORDERS", row.stream_seq)
        except streams.BROKER_ERRORS:
            return False
        if (message.headers or {}).get("ce-id") != str(row.event_id):
            return False
    return len(rows) == number
