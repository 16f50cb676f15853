"""A stream that was lost or rolled back: the relay publishes exactly the missing events of the
outbox again.
"""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import MAX_AGE_S, Broker
from chassis.publish import stream_comparison, stream_rebuild
from chassis.write.database import Database
from chassis.write.outbox import headers
from devstack.nats import Nats
from tests.sample.relaying import (
    has_messages,
    none_waits,
    published,
    relay,
    republished,
    running,
    shipped,
    versions,
    waiting,
)
from tests.sample.store import outbox
from tests.sample.writes import placed
from tests.streams import ensure_streams
from tests.support import Eventually


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the relay's checks of the stream while it runs: it sees only the answers to its
    publications.
    """
    monkeypatch.setattr(stream_rebuild, "CHECK_S", 3600.0)


async def distinct_versions(broker: Broker) -> dict[str, list[int]]:
    """Returns the versions of each order in the stream, repeats left out."""
    return {order: list(dict.fromkeys(found)) for order, found in (await versions(broker)).items()}


@pytest.mark.usefixtures("frequent_polls")
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
    async with running(relay(database, broker)):
        ids = await placed(database, 10)
        await shipped(database, ids)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await eventually(lambda: has_messages(broker, 40))
        await eventually(lambda: none_waits(engine))
    assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


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
        await ensure_streams(broker)
        await shipped(database, ids[:2])
        await eventually(lambda: has_messages(broker, 16))
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
        await eventually(lambda: has_messages(broker, 5))
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
        await eventually(lambda: has_messages(own_broker, 22), timeout_s=20)
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
    await ensure_streams(broker)
    await placed(database, 3)
    async with engine.connect() as connection:
        rows = (await connection.execute(select(outbox).where(outbox.c.stream_seq.is_(None)))).all()
    for row in rows:  # published, and not marked
        await broker.publish(row.subject, row.payload, headers(row, "sample"), stream="ORDERS")
    async with running(relay(database, broker)):
        await eventually(lambda: has_messages(broker, 9))
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
    monkeypatch.setattr(stream_comparison, "PAGE", 2)
    async with running(relay(database, broker)):
        await placed(database, 8)
        await eventually(lambda: none_waits(engine))
    await broker.streams.delete_stream("ORDERS")
    await ensure_streams(broker)
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
        await eventually(lambda: has_messages(broker, 13))
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
    await ensure_streams(broker)
    for number in range(8):
        await broker.publish(
            "orders.sample.noted", b"", {"Nats-Msg-Id": f"a stranger's {number}"}, stream="ORDERS"
        )
    async with running(relay(database, broker)):
        await eventually(lambda: has_messages(broker, 11))
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
    assert await has_messages(broker, 1)
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
        await eventually(lambda: has_messages(broker, 5))
        await eventually(lambda: none_waits(engine))
        assert republished() - before == 5 - kept
    assert {(m.headers or {})["ce-id"] for m in await published(broker)} == ids
    async with running(relay(database, broker)):  # and no other
        await placed(database, 1)
        await eventually(lambda: none_waits(engine))
    assert republished() - before == 5 - kept


@pytest.mark.usefixtures("short_window")
@pytest.mark.usefixtures("frequent_polls")
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
    monkeypatch.setattr(stream_comparison, "PAGE", 3)
    monkeypatch.setattr(stream_rebuild, "LOST_MAX", 2)
    async with running(relay(database, broker)):
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
            await eventually(lambda: has_messages(broker, 20))
            await eventually(lambda: none_waits(engine))
            assert await versions(broker) == {str(order): [1, 2, 3, 4] for order in ids}


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
        await eventually(lambda: has_messages(broker, 7))
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


@pytest.mark.usefixtures("frequent_polls")
async def test_two_relays_rebuild_one_stream(
    database: Database, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Both relays find the loss and rebuild: in the end the stream has each event once."""
    async with running(relay(database, broker), relay(database, broker)):
        ids = await placed(database, 30)
        await eventually(lambda: none_waits(engine))
        await broker.streams.delete_stream("ORDERS")
        await shipped(database, ids)
        await eventually(lambda: has_messages(broker, 120))
        await eventually(lambda: none_waits(engine))
    assert await waiting(engine) == 0
