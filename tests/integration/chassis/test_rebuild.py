"""A stream that was lost or rolled back: the relay publishes exactly the missing events of the
outbox again.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Row, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import BROKER_ERRORS, MAX_AGE_S, Broker
from chassis.publish import stream_rebuild
from chassis.publish.stream_contents import StreamContents
from chassis.publish.stream_rebuild import StreamRebuild
from chassis.write.database import Database
from chassis.write.outbox import headers, shard_of
from chassis.write.tables import SHARDS
from devstack.nats import Nats
from tests.sample.relaying import (
    none_waits,
    published,
    relay,
    republished,
    rows_read,
    running,
    shipped,
    versions,
    waiting,
)
from tests.sample.store import outbox, stream_positions
from tests.sample.writes import placed
from tests.support import Eventually, measured


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the relay's checks of the stream while it runs: it sees only the answers to its
    publications.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 3600.0)


async def distinct_versions(broker: Broker) -> dict[str, list[int]]:
    """Returns the versions of each order in the stream, repeats left out."""
    return {order: list(dict.fromkeys(found)) for order, found in (await versions(broker)).items()}


async def test_a_deleted_stream_is_published_again(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream is deleted while no event is published: at its next check the relay makes it
    again, with all its events.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 0.1)
    async with running(relay(database, broker, poll_s=0.1)):
        ids = await placed(database, 10)
        await shipped(database, ids)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await eventually(lambda: _has(broker, 40))
        await eventually(lambda: none_waits(engine))
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


async def _has(broker: Broker, number: int) -> bool:
    with contextlib.suppress(*BROKER_ERRORS):
        return (await broker.ensure_stream("ORDERS")).messages == number
    return False


@pytest.mark.usefixtures("unwatched")
async def test_position_in_an_answer_reveals_a_loss(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A new event must get a position behind all marked ones. Its position is before them, so the
    relay finds the loss and publishes the events again.
    """
    async with running(relay(database, broker)):
        ids = await placed(database, 10)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await broker.ensure_streams()
        await shipped(database, ids[:2])
        await eventually(lambda: _has(broker, 16))
        await eventually(lambda: none_waits(engine))
    assert {order: set(found) for order, found in (await distinct_versions(broker)).items()} == {
        str(order): {1, 2, 3, 4} if order in ids[:2] else {1} for order in ids
    }


@pytest.mark.usefixtures("unwatched")
async def test_a_missing_stream_is_made(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The relay publishes and finds no stream: it makes the stream as declared, and publishes all
    events there.
    """
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await placed(database, 2)
        await eventually(lambda: _has(broker, 5))
        await eventually(lambda: none_waits(engine))


async def test_rolled_back_stream_is_published_from_its_end(
    database: Database,
    own_nats: Nats,
    own_broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    tmp_path: Path,
) -> None:
    """The server restarts with an older copy of its files: later events are published again,
    earlier ones are not.
    """
    async with running(relay(database, own_broker)):
        ids = await placed(database, 5)
        await eventually(lambda: none_waits(engine))
        own_nats.stop()
        shutil.copytree(own_nats.store, tmp_path / "copy")
        own_nats.start()
        await shipped(database, ids)
        await eventually(lambda: none_waits(engine), timeout_s=20)
        own_nats.kill()
        shutil.rmtree(own_nats.store)
        shutil.copytree(tmp_path / "copy", own_nats.store)
        own_nats.start()
        later = await placed(database, 2)
        await eventually(lambda: _has(own_broker, 22), timeout_s=20)
        await eventually(lambda: none_waits(engine))
    assert {order: sorted(found) for order, found in (await versions(own_broker)).items()} == {
        str(order): [1] if order in later else [1, 2, 3, 4] for order in [*ids, *later]
    }
    assert [m.headers and m.headers["ce-subject"] for m in await published(own_broker)][:5] == [
        str(o) for o in await _in_order(engine, 5)
    ]


async def _in_order(engine: AsyncEngine, number: int) -> list[str]:
    async with engine.connect() as connection:
        return list(
            (
                await connection.execute(
                    select(outbox.c.aggregate).order_by(outbox.c.stream_seq).limit(number)
                )
            ).scalars()
        )


async def test_unmarked_publication_after_a_loss_hides_no_event(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The new stream has some events where the outbox has others. The relay compares both, event by
    event, down to where they agree.
    """
    async with running(relay(database, broker)):
        await placed(database, 6)
        await eventually(lambda: none_waits(engine))
    await broker.streams.delete_stream("ORDERS")
    await broker.ensure_streams()
    await placed(database, 3)
    async with engine.connect() as connection:
        rows = (await connection.execute(select(outbox).where(outbox.c.stream_seq.is_(None)))).all()
    for row in rows:  # published, and not marked
        await broker.publish(row.subject, row.payload, headers(row, "sample"), stream="ORDERS")
    async with running(relay(database, broker)):
        await eventually(lambda: _has(broker, 9))
        await eventually(lambda: none_waits(engine))


async def test_events_at_their_positions_are_not_republished(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event that the stream has where it is marked is not published again, for any state of the
    later ones.
    """
    monkeypatch.setattr(stream_rebuild, "PAGE", 2)
    async with running(relay(database, broker)):
        await placed(database, 8)
        await eventually(lambda: none_waits(engine))
    await broker.streams.delete_stream("ORDERS")
    await broker.ensure_streams()
    async with engine.connect() as connection:
        rows = (await connection.execute(select(outbox).order_by(outbox.c.stream_seq))).all()
    for row in rows[:2]:  # so far it is as it was
        await broker.publish(row.subject, row.payload, headers(row, "sample"), stream="ORDERS")
    for number in range(5):
        await broker.publish(
            "orders.sample.noted", b"", {"Nats-Msg-Id": f"a stranger's {number}"}, stream="ORDERS"
        )
    before = republished()
    async with running(relay(database, broker)):
        await eventually(lambda: _has(broker, 13))
        await eventually(lambda: none_waits(engine))
    assert republished() - before == 6


async def test_longer_new_stream_is_found_to_be_another(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A message at the marked position is not enough: it must be the event that is marked there."""
    async with running(relay(database, broker)):
        await placed(database, 3)
        await eventually(lambda: none_waits(engine))
    await broker.streams.delete_stream("ORDERS")
    await broker.ensure_streams()
    for number in range(8):
        await broker.publish(
            "orders.sample.noted", b"", {"Nats-Msg-Id": f"a stranger's {number}"}, stream="ORDERS"
        )
    async with running(relay(database, broker)):
        await eventually(lambda: _has(broker, 11))
        await eventually(lambda: none_waits(engine))


async def test_expired_events_are_not_republished(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A stream deletes its oldest messages by age: the relay does not count them as lost, even
    where the stream is empty.
    """
    async with running(relay(database, broker)):
        await placed(database, 5)
        await eventually(lambda: none_waits(engine))
    async with engine.begin() as connection:
        await connection.execute(
            update(outbox).values(create_time=outbox.c.create_time - timedelta(seconds=MAX_AGE_S))
        )
    await broker.streams.purge_stream("ORDERS")
    await relay(database, broker).drain()
    before = republished()
    async with running(relay(database, broker)):
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert await _has(broker, 1)
    assert republished() == before


@pytest.mark.usefixtures("short_window")
@pytest.mark.parametrize("kept", [0, 2])
async def test_purged_events_are_published_again(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually, kept: int
) -> None:
    """All messages are purged, or all but the last, and are too young to have expired.

    The broker takes their ids for repeats until its window has passed; then the events are in the
    stream again, under the same ids.
    """
    async with running(relay(database, broker)):
        await placed(database, 5)
        await eventually(lambda: none_waits(engine))
    before, ids = republished(), await _event_ids(engine)
    await broker.streams.purge_stream("ORDERS", keep=kept or None)
    async with running(relay(database, broker)):
        await eventually(lambda: _has(broker, 5))
        await eventually(lambda: none_waits(engine))
        assert republished() - before == 5 - kept
    assert {(m.headers or {})["ce-id"] for m in await published(broker)} == ids
    async with running(relay(database, broker)):  # and no other
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() - before == 5 - kept


@pytest.mark.usefixtures("short_window")
async def test_each_further_loss_is_found(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relay compares new events page by page, and all events where the stream is another.

    The stream is purged twice and deleted in between, after all was compared: each time everything
    is published again, in order.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 0.05)
    monkeypatch.setattr(stream_rebuild, "PAGE", 3)
    monkeypatch.setattr(stream_rebuild, "LOST_MAX", 2)
    async with running(relay(database, broker, poll_s=0.05)):
        ids = await placed(database, 5)
        await shipped(database, ids)
        await eventually(lambda: none_waits(engine))
        for lose in (
            broker.streams.purge_stream,
            broker.streams.purge_stream,
            broker.streams.delete_stream,
            broker.streams.purge_stream,
        ):
            await lose("ORDERS")
            await eventually(lambda: _has(broker, 20))
            await eventually(lambda: none_waits(engine))
            assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


async def test_expired_events_are_read_once_in_pages(
    database: Database, broker: Broker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events of a day have expired than one statement can read. Each check reads at most a
    page of them, none is read again, and the purged events behind them are found in the end.
    """
    monkeypatch.setattr(stream_rebuild, "PAGE", 500)
    number = 20_000
    await _old(engine, number)
    await broker.streams.purge_stream("ORDERS", seq=number + 1)
    assert (await broker.ensure_stream("ORDERS")).first_seq == number + 1
    looks, shards = (
        StreamRebuild(
            outbox=outbox,
            positions=stream_positions,
            broker=broker,
            stream="ORDERS",
            source="sample",
        ),
        frozenset(range(SHARDS)),
    )
    before = republished()
    async with engine.connect() as connection:
        while not looks.complete:
            read = await rows_read(connection)
            looks.compare_now()
            await looks.advance(connection, shards)
            assert await rows_read(connection) - read < 1_500, "two pages at most, and the ends"
        assert republished() - before == 1
        read = await rows_read(connection)
        looks.compare_now()
        await looks.advance(connection, shards)
        assert looks.complete
        assert await rows_read(connection) - read < 50


async def _old(engine: AsyncEngine, number: int) -> None:
    """Inserts this number of rows that were published and have expired, and one younger row that
    was published after them.
    """
    rows = (
        "insert into outbox (create_time, shard, aggregate, event_id, sequence, subject, type,"
        f" payload, stream_seq) select clock_timestamp() - case when i < {number} then interval '14"
        " days' else interval '1 hour' end, i % 16, gen_random_uuid(), gen_random_uuid(), 1,"
        f" 'orders.x', 'x', '', i from generate_series(1, {number}) i"
    )
    async with engine.begin() as connection:
        await connection.execute(text(rows))
        await connection.execute(text("analyze outbox"))


@pytest.mark.usefixtures("short_window")
async def test_a_gap_is_filled(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Messages are missing in the middle, as after damage of a disk, and both ends are intact. The
    missing ones are published again, once.
    """
    await broker.publish(
        "orders.sample.noted", b"", {"Nats-Msg-Id": "a stranger's"}, stream="ORDERS"
    )
    async with running(relay(database, broker)):
        await placed(database, 6)
        await eventually(lambda: none_waits(engine))
    before, ids = republished(), await _event_ids(engine)
    await broker.streams.purge_stream("ORDERS", subject="orders.sample.status_changed", keep=2)
    async with running(relay(database, broker)):
        await eventually(lambda: _has(broker, 7))
        await eventually(lambda: none_waits(engine))
    async with running(relay(database, broker)):
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() - before == 4
    async with engine.connect() as connection:
        marks = (await connection.execute(select(outbox.c.event_id, outbox.c.stream_seq))).all()
    stands = {
        str(row.event_id): (await broker.streams.get_msg("ORDERS", row.stream_seq)).headers
        for row in marks
    }
    assert ids <= set(stands)
    assert all(headers and headers["ce-id"] == event_id for event_id, headers in stands.items())


async def _event_ids(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(map(str, (await connection.execute(select(outbox.c.event_id))).scalars()))


async def test_two_relays_rebuild_one_stream(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Both relays find the loss and rebuild: in the end the stream has each event once."""
    async with running(relay(database, broker, poll_s=0.05), relay(database, broker, poll_s=0.05)):
        ids = await placed(database, 30)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await shipped(database, ids)
        await eventually(lambda: _has(broker, 120))
        await eventually(lambda: none_waits(engine))
    assert await waiting(engine) == 0


async def test_new_events_do_not_wait_for_a_rebuild(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The stream has lost 1,500 events. New events are published behind some hundred of them, and
    always behind those of their own aggregate.

    At most LOST_RATE a second are published again, which a gauge shows.
    """
    number = 1500
    async with running(relay(database, broker, poll_s=0.05)):
        old = await placed(database, number)
        await eventually(lambda: none_waits(engine), timeout_s=60)
        before = republished()
        await broker.streams.delete_stream("ORDERS")
        await broker.ensure_streams()
        began = time.monotonic()
        await shipped(database, old[-1:])  # the last that would come again
        await eventually(lambda: republished() > before)
        await eventually(lambda: measured("outbox_comparison_remaining", stream="ORDERS") > 0)
        there = (await broker.ensure_stream("ORDERS")).last_seq
        new = await placed(database, 1)
        await eventually(lambda: _marked(engine, [*new, *old[-1:]]))
        marks = [row.stream_seq for row in await _rows(engine, [*new, *old[-1:]])]
        assert max(marks) <= there + 4 * stream_rebuild.LOST_MAX
        assert max(marks) < number
        await eventually(lambda: _has(broker, number + 4), timeout_s=60)
        await eventually(lambda: none_waits(engine))
        took_s = time.monotonic() - began
        await eventually(
            lambda: (
                REGISTRY.get_sample_value("outbox_comparison_remaining", {"stream": "ORDERS"}) == 0
            )
        )
    assert took_s >= (number - 3 * stream_rebuild.LOST_MAX) / stream_rebuild.LOST_RATE
    assert (await versions(broker))[str(old[-1])] == [1, 2, 3, 4]
    assert republished() - before == number


@pytest.mark.parametrize("is_purged", [False, True], ids=["wiped", "purged"])
async def test_new_event_beside_hot_aggregate_goes_first(
    database: Database,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    is_purged: bool,
) -> None:
    """One aggregate has 2,000 events in a stream that has lost them all. A new event of another
    aggregate is published behind some hundred of them.

    The new event of the first aggregate comes after its old ones, which come in order. At no time
    do more than 500 events wait.
    """
    number, most = 2_000, 0
    hot = await _hot(engine, number)
    if is_purged:  # the republished events' positions are behind the lost ones
        await broker.streams.purge_stream("ORDERS", seq=number + 1)
    start = (await broker.ensure_stream("ORDERS")).last_seq
    [other] = await placed(database, 1)
    async with running(relay(database, broker, poll_s=0.05)):
        await eventually(lambda: _marked(engine, [other]))
        [row] = await _rows(engine, [other])
        assert row.stream_seq <= start + 5 * stream_rebuild.LOST_MAX
        while not await _has(broker, number + 2):
            most = max(most, await waiting(engine))
            await asyncio.sleep(0.1)
        await eventually(lambda: none_waits(engine))
    rows = sorted(await _rows(engine, [hot]), key=lambda row: row.id)
    marks = [row.stream_seq for row in rows]
    assert marks == sorted(marks)
    held = await StreamContents(broker, "ORDERS").between(start + 1, start + number + 2)
    assert [held[row.stream_seq].event_id for row in rows] == [str(row.event_id) for row in rows]
    assert most <= 500


async def _hot(engine: AsyncEngine, number: int) -> UUID:
    """Inserts an aggregate with this number of events that are marked as published, and one that
    waits.
    """
    hot = uuid4()
    rows = (
        "insert into outbox (shard, aggregate, event_id, sequence, subject, type, payload, "
        f"stream_seq) select {shard_of(hot)}, '{hot}', gen_random_uuid(), i, 'orders.x', 'x', '', "
        f"case when i <= {number} then i end from generate_series(1, {number} + 1) i"
    )
    async with engine.begin() as connection:
        await connection.execute(text(rows))
    return hot


async def _rows(engine: AsyncEngine, aggregates: list[UUID]) -> Sequence[Row[tuple[object, ...]]]:
    async with engine.connect() as connection:
        return (
            await connection.execute(select(outbox).where(outbox.c.aggregate.in_(aggregates)))
        ).all()


async def _marked(engine: AsyncEngine, aggregates: list[UUID]) -> bool:
    return all(row.stream_seq for row in await _rows(engine, aggregates))
