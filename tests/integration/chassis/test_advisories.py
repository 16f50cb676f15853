"""What the broker gives up by itself: it ends in failed_events, whoever listened or not."""

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
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deliveries, a second for each: then the server gives up."""
    monkeypatch.setattr(streams, "ACK_WAIT_S", 1.0)
    monkeypatch.setattr(streams, "MAX_DELIVER", 2)


def given_up() -> float:
    """How many events this process has learned of so far that the broker has given up."""
    return measured("inbox_given_up_total", consumer=CONSUMER)


@asynccontextmanager
async def reading(broker: Broker, engine: AsyncEngine) -> AsyncIterator[None]:
    """The advisories of the sample's consumer are read meanwhile."""
    advisories = Advisories(
        broker,
        FailedEvents(engine, store.failed_events),
        service="sample",
        consumers={CONSUMER: "ORDERS"},
    )
    async with cancelled_at_end(advisories.run()):
        yield


async def _take(broker: Broker, number: int) -> list[Any]:
    """So many deliveries, of which nobody says anything."""
    taken: list[Any] = []
    while len(taken) < number:
        subscription = await broker.streams.pull_subscribe_bind(CONSUMER, "ORDERS")
        with suppress(TimeoutError):
            taken += await subscription.fetch(number - len(taken), timeout=2)
        await subscription.unsubscribe()
    return taken


async def _given_up(broker: Broker) -> int:
    """How many advisories there are."""
    try:
        return (await broker.ensure_stream(ADVISORIES, correct=False)).last_seq
    except BROKER_ERRORS:
        return 0


@pytest.mark.usefixtures("hasty")
async def test_what_was_never_acknowledged_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A consumer takes its events, and says nothing, until the server stops bringing them.
    Nobody listens: they are stored all the same.
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
            await subscription.fetch(1, timeout=0.5)  # the server looks when it is asked
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


async def test_what_somebody_terminates_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Not by us: then it stands nowhere yet. The broker's word is taken whenever it is read, and
    read twice it changes nothing.
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
async def test_what_is_known_of_an_event_stays(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, stands: str
) -> None:
    """A row of ours stays as it is: what failed keeps its reason, and what is parked is tried
    again without the broker.
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
    assert given_up() == before  # only what is news is counted


async def test_an_advisory_of_a_message_that_is_gone_does_no_harm(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The stream was lost meanwhile, and another message has the place: that one was not given
    up. It is handled as all are.
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


def test_what_is_no_advisory_is_none() -> None:
    """Whatever else comes on the subject is passed over."""
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
