"""Published events are published again because an operator wants it: in order, under their ids,
without a second effect.
"""

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
from tests.sample.writes import count, placed, someone_waits
from tests.support import Eventually

# Of this database alone: the server serves other tests at the same time.
GONE = (
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outbox"
    " operators' and datname = current_database()"
)


def command(target: UUID = NO_TARGET) -> IdempotencyKey:
    return IdempotencyKey(key=f"test:{uuid4()}", target=target)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """The stream remembers ids for a tenth of a second, and not for two minutes; what is given
    waits until it has forgotten all.
    """
    monkeypatch.setattr(streams, "DUPLICATE_WINDOW_S", 0.1)
    return partial(asyncio.sleep, 0.5)  # time itself is what has to pass


async def told(broker: Broker, order: UUID) -> list[tuple[str, int]]:
    """The ids and versions of the order's events, as the stream has them."""
    found: list[tuple[str, int]] = []
    for message in await published(broker):
        event: Any = SampleStatusChanged.FromString(message.data or b"")
        if event.order_id == str(order):
            found.append(((message.headers or {})["ce-id"], event.version))
    return found


async def test_an_aggregate_s_events_are_published_again_in_order(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    forgotten: Callable[[], Awaitable[None]],
) -> None:
    """All of one order, under the same ids, in the same order, behind what the stream has;
    nobody else's. Nothing looks lost then.
    """
    async with running(relay(database, broker)):
        one, other = await placed(database, 2)
        await shipped(database, [one, other])
        await eventually(lambda: none_waits(engine))
        first, before = await told(broker, one), republished()
        assert await Republish(database).count(Events(aggregate=one)) == 4
        assert len(await told(broker, one)) == 4  # counting does nothing
        await forgotten()
        assert await Republish(database).again(Events(aggregate=one), command(one)) == 4
        await eventually(lambda: none_waits(engine))
    assert [version for _, version in first] == [1, 2, 3, 4]
    assert await told(broker, one) == first * 2
    assert len(await told(broker, other)) == 4
    async with running(relay(database, broker)):  # a new relay compares the stream with the marks
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() == before
    assert (await broker.ensure_stream("ORDERS")).last_seq == 13


async def test_the_times_are_those_of_the_outbox(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """From a time on, before another, of one aggregate or of all: what is given must all hold."""
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


async def test_what_is_asked_twice_is_done_once(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The same request again, its answer having been lost: it tells how many still wait. Another
    one under its id is refused.
    """
    republish, same = Republish(database), command()
    async with running(relay(database, broker)):
        [order] = await placed(database)
        await eventually(lambda: none_waits(engine))
    assert await republish.again(Events(aggregate=order), same) == 1
    assert await republish.again(Events(aggregate=order), same) == 1
    assert await waiting(engine) == 1
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    assert await republish.again(Events(aggregate=order), same) == 0
    assert await waiting(engine) == 0
    with pytest.raises(Invalid, match="request_id stands for another request"):
        await republish.again(
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
    """The same database, on connections that wait for a tenth of a second for a statement."""
    engine = connect(sample_url, silence_s=0.1, statement_timeout_s=0.1)
    yield Database(engine, idempotency_keys, database.outbox)
    await engine.dispose()


async def test_it_may_take_longer_than_the_service_waits(
    database: Database, hasty: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The service's connections hang up after a tenth of a second, and end a statement then: to
    publish much again takes longer.
    """
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    async with engine.begin() as connection:
        for statement in SLOW:
            await connection.execute(text(statement))
    assert (
        await Republish(hasty).again(
            Events(since=datetime.now(UTC) - timedelta(hours=1)), command()
        )
        == 3
    )
    assert await waiting(engine) == 3


async def test_to_look_may_take_longer_too(
    hasty: Database, database: Database, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Numbers over all that is kept come late, and come, where the service's own statements
    would have been ended long ago.
    """
    await placed(database, 3)
    answers: list[Any] = []
    for look in (Republish(hasty).stats, partial(Republish(hasty).count, Events())):
        async with engine.connect() as connection:
            await connection.execute(text("lock table outbox in access exclusive mode"))
            looking = asyncio.create_task(look())
            await eventually(lambda: someone_waits(engine))
            # time itself is what has to pass
            await connection.execute(text("select pg_sleep(0.3)"))
        answers.append(await looking)
    stats, number = answers
    assert (stats.waiting, stats.kept, stats.highest, number) == (3, 3, 0, 0)


async def test_what_is_killed_half_way_is_asked_for_again(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A connection that is lost in the middle leaves nothing done and nothing claimed; the same
    request does all of it, once.
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
    asking = asyncio.create_task(republish.again(all_, same))
    await eventually(lambda: someone_waits(engine, "Timeout"))
    async with engine.begin() as connection:
        await connection.execute(text(GONE))
    with pytest.raises(Deferred):
        await asking
    assert (
        await waiting(engine),
        await count(engine, idempotency_keys, idempotency_keys.c.key == same.key),
    ) == (0, 0)
    async with engine.begin() as connection:
        await connection.execute(text("drop trigger slow on outbox"))
    assert await republish.again(all_, same) == 3
    assert await waiting(engine) == 3


async def test_an_old_partition_stays_until_its_events_are_published(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events of a day that has had its time wait again: the day is not dropped before they are
    published, and then it is.
    """
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    old = datetime.now(UTC) - timedelta(days=30)
    async with engine.begin() as connection:
        await connection.execute(update(outbox).values(create_time=old))
    with monkeypatch.context() as longer:
        longer.setattr(partitions, "KEPT_DAYS", 60)
        await maintain(engine, outbox)  # the day gets its partition
    assert await Republish(database).again(Events(since=old - timedelta(days=1)), command()) == 3
    assert (await maintain(engine, outbox)).drop == ()
    async with running(relay(database, broker)):
        await eventually(lambda: none_waits(engine))
    assert (await maintain(engine, outbox)).drop == (old.date(),)


async def test_no_effect_is_repeated(
    database: Database,
    listener: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    forgotten: Callable[[], Awaitable[None]],
) -> None:
    """Everything is published again, beyond the stream's own memory, and again: whoever had it
    answers with what it has done.
    """
    effects = Effects(listener)
    async with (
        running(relay(database, broker)),
        consuming(broker, listener.engine, {SampleStatusChanged: effects}),
    ):
        await shipped(database, await placed(database, 5))
        await eventually(lambda: effects.handled == 20)
        for times in (2, 3):
            await forgotten()
            assert (
                await Republish(database).again(
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
    """Republished rows have new marks, beyond those of younger events. The disk is rolled back
    to before: every event is there again.
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
        await Republish(database).again(Events(aggregate=one), command(one))
        await eventually(lambda: _stand(own_broker, engine, 7), timeout_s=20)
        own_nats.kill()
        shutil.rmtree(own_nats.store)
        shutil.copytree(tmp_path / "copy", own_nats.store)
        own_nats.start()
        await eventually(lambda: _stand(own_broker, engine, 7), timeout_s=25)
    for order in (one, *later):
        assert len({event_id for event_id, _ in await told(own_broker, order)}) == (
            4 if order == one else 1
        )


async def _stand(broker: Broker, engine: AsyncEngine, number: int) -> bool:
    """Whether so many events stand in the stream where they are marked."""
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
