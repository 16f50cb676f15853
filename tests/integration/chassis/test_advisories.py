"""Messages that the broker gives up are stored in failed_events, with or without a running
subscriber.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import stream as streams
from chassis.broker.stream import ADVISORIES, BROKER_ERRORS, Broker
from chassis.consume.advisories import Advisories, understood
from chassis.consume.delivery import receive
from chassis.consume.failed_events import FailedEvents
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.events import SampleStatusChanged
from tests.sample.inbox import (
    CONSUMER,
    Handling,
    all_acknowledged,
    consuming,
    failed,
    names,
    publish,
    states,
)
from tests.support import Eventually, cancelled_at_end, measured

SUBJECTS = ["orders.sample.status_changed"]


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deliveries with a second for each: then the server gives up."""
    monkeypatch.setattr(streams, "ACK_WAIT_S", 1.0)
    monkeypatch.setattr(streams, "MAX_DELIVER", 2)


def given_up() -> float:
    """Returns the number of events that the broker has given up, as this process has counted
    them.
    """
    return measured("inbox_given_up_total", consumer=CONSUMER)


@asynccontextmanager
async def reading(broker: Broker, engine: AsyncEngine) -> AsyncIterator[None]:
    """Reads the advisories of the sample's consumer inside the block."""
    advisories = Advisories(
        broker,
        FailedEvents(engine, store.failed_events),
        service="sample",
        consumers={CONSUMER: "ORDERS"},
    )
    async with cancelled_at_end(advisories.run()):
        yield


async def _take(broker: Broker, number: int) -> list[Any]:
    """Fetches this number of deliveries, without an acknowledgement."""
    taken: list[Any] = []
    while len(taken) < number:
        subscription = await broker.streams.pull_subscribe_bind(CONSUMER, "ORDERS")
        with suppress(TimeoutError):
            taken += await subscription.fetch(number - len(taken), timeout=2)
        await subscription.unsubscribe()
    return taken


async def _given_up(broker: Broker) -> int:
    """Returns the number of advisories."""
    try:
        return (await broker.ensure_stream(ADVISORIES, correct=False)).last_seq
    except BROKER_ERRORS:
        return 0


@pytest.mark.usefixtures("short_limits")
async def test_unacknowledged_event_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A consumer fetches its events and never acknowledges them, until the server stops delivering
    them. They are stored, also without a subscriber at that time.
    """
    await broker.ensure_stream(ADVISORIES)
    await broker.ensure_consumer("ORDERS", CONSUMER, SUBJECTS)
    ids = [
        await publish(broker, SampleStatusChanged(version=n), ce_subject=f"order {n}")
        for n in range(3)
    ]
    await _take(broker, 6)

    async def all_given_up() -> bool:
        subscription = await broker.streams.pull_subscribe_bind(CONSUMER, "ORDERS")
        try:
            await subscription.fetch(1, timeout=0.5)  # the server checks when it is asked
        except TimeoutError:
            return await _given_up(broker) == 3
        return False

    await eventually(all_given_up, timeout_s=15)
    async with reading(broker, engine):
        await eventually(lambda: _are(engine, dict.fromkeys(ids, "failed")))
    rows = {row.event_id: row for row in await failed(engine)}
    assert [(rows[id_].aggregate, rows[id_].attempts, rows[id_].stream_seq) for id_ in ids] == [
        (f"order {n}", 2, n + 1) for n in range(3)
    ]
    assert SampleStatusChanged.FromString(rows[ids[2]].payload) == SampleStatusChanged(version=2)
    handling = Handling()
    async with consuming(broker, engine, {SampleStatusChanged: handling}) as inbox:
        await inbox.replay(await names(engine, *ids))
    assert await states(engine) == dict.fromkeys(ids, "replayed")
    assert handling.seen == dict.fromkeys(ids, 1)


async def _are(engine: AsyncEngine, expected: dict[UUID, str]) -> bool:
    return await states(engine) == expected


async def test_event_terminated_by_another_client_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A client other than the inbox terminates an event that has no row. The advisory is stored
    whenever it is read, and a second read changes nothing.
    """
    await broker.ensure_stream(ADVISORIES)
    await broker.ensure_consumer("ORDERS", CONSUMER, SUBJECTS)
    event_id = await publish(broker, SampleStatusChanged(version=1))
    [raw] = await _take(broker, 1)
    await raw.term()
    async with reading(broker, engine):
        await eventually(lambda: _are(engine, {event_id: "failed"}))
    [before] = await failed(engine)
    await broker.streams.delete_consumer(ADVISORIES, "sample-advisories")
    async with reading(broker, engine):
        await eventually(lambda: all_acknowledged(broker, "sample-advisories", ADVISORIES))
    assert await failed(engine) == [before]


@pytest.mark.parametrize("stands", ["deferred", "failed", "replayed", "discarded"])
async def test_advisory_leaves_a_stored_row_unchanged(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, stands: str
) -> None:
    """A stored row stays as it is: a failed event keeps its reason, and a parked one is tried again
    without the broker.
    """
    await broker.ensure_stream(ADVISORIES)
    await broker.ensure_consumer("ORDERS", CONSUMER, SUBJECTS)
    event_id, before = await publish(broker, SampleStatusChanged(version=1)), given_up()
    [raw] = await _take(broker, 1)
    table = FailedEvents(engine, store.failed_events)
    received = receive(raw, CONSUMER, {}).event
    await table.record([replace(received, state=FailedState(stands), reason="OURS")])
    await raw.term()
    async with reading(broker, engine):
        await eventually(lambda: all_acknowledged(broker, "sample-advisories", ADVISORIES))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (event_id, stands, "OURS")
    assert given_up() == before  # only new advisories are counted


async def test_advisory_of_a_lost_message_is_ignored(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The stream was lost meanwhile, and another message has the position: that one was not given
    up, and is handled as all are.
    """
    await broker.ensure_stream(ADVISORIES)
    await broker.ensure_consumer("ORDERS", CONSUMER, SUBJECTS)
    for seq in (1, 2):
        await publish(broker, SampleStatusChanged(version=seq))
    for raw in await _take(broker, 2):
        await raw.term()
    await eventually(lambda: _counts(broker, 2))
    await broker.streams.delete_stream("ORDERS")
    await broker.ensure_streams()
    again = await publish(broker, SampleStatusChanged(version=3))
    handling = Handling()
    async with reading(broker, engine), consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: all_acknowledged(broker, "sample-advisories", ADVISORIES))
        await eventually(lambda: handling.settled == [again])
    assert await failed(engine) == []


async def _counts(broker: Broker, number: int) -> bool:
    return await _given_up(broker) == number


def test_message_that_is_no_advisory_is_skipped() -> None:
    """Any other message on the subject is skipped."""
    words = (
        b'{"timestamp":"2026-11-22T18:56:24.339405809Z","stream":"ORDERS",'
        b'"consumer":"c","stream_seq":2,"deliveries":5}'
    )
    found = understood(words)
    assert found
    assert (found.stream, found.consumer, found.seq, found.deliveries) == ("ORDERS", "c", 2, 5)
    assert found.time == datetime(2026, 11, 22, 18, 56, 24, 339405, tzinfo=UTC)
    for other in (b"", b"{}", b"[]", b"7", b"\xff", words.replace(b"2,", b'"x",')):
        assert understood(other) is None
