"""Parked events: acknowledged, stored as deferred, and tried again from failed_events in
bounded, fair batches.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker
from chassis.consume.failed_event_records import ConsumerEvent
from chassis.consume.failed_events import WAIT_MAX, WAIT_MIN, FailedEvents
from chassis.consume.inbox import PARK_AT
from chassis.values.decision import Done
from chassis.values.errors import Deferred
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.events import SamplePaid, SampleStatusChanged
from tests.sample.inbox import (
    RecordingHandler,
    all_acknowledged,
    consuming,
    failed,
    names,
    publish,
    states,
)
from tests.sample.operators import CONSUMER, Sample, event
from tests.sample.writes import create, write
from tests.streams import ensure_streams
from tests.support import Eventually

HOUR = timedelta(hours=1)
MINUTES = timedelta(minutes=1)
t = store.failed_events.c


@pytest.fixture
def table(engine: AsyncEngine) -> FailedEvents:
    """The sample's failed events."""
    return FailedEvents(engine, store.failed_events)


async def changed(engine: AsyncEngine, *event_ids: UUID, **values: Any) -> None:
    """Changes rows of failed_events: all, or those of these events."""
    condition = t.event_id.in_(event_ids) if event_ids else t.event_id.is_not(None)
    async with engine.begin() as connection:
        await connection.execute(update(store.failed_events).where(condition).values(**values))


async def parked(table: FailedEvents, number: int = 1, **fields: Any) -> list[ConsumerEvent]:
    """Returns this number of parked events."""
    events = [event(FailedState.DEFERRED, **fields) for _ in range(number)]
    await table.record(events)
    return events


async def test_deferred_event_is_parked_and_acknowledged(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """After PARK_AT deliveries an event is deferred in failed_events, and the stream has no pending
    message.
    """
    handler = RecordingHandler(lambda _: Deferred("PAYMENT_OUTSTANDING", "Not paid yet."))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged(version=5))
        [row] = await eventually(lambda: failed(engine))
        assert (row.state, row.reason) == (FailedState.DEFERRED, "PAYMENT_OUTSTANDING")
        assert row.attempts == PARK_AT
        assert row.next_try_time > row.first_time
        await eventually(lambda: all_acknowledged(broker))
        assert await states(engine) == {event_id: "deferred"}
        await eventually(lambda: handler.seen[event_id] > PARK_AT)


async def test_parked_event_that_succeeds_leaves_no_row(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The event is tried from the database, with or without a changed record, and its row is
    deleted.
    """
    waits = True
    handler = RecordingHandler(lambda _: Deferred("EVENT_AHEAD") if waits else Done(record=None))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged())
        await eventually(lambda: failed(engine))
        await eventually(lambda: all_acknowledged(broker))
        waits = False
        await eventually(lambda: handler.settled == [event_id])

        async def row_is_deleted() -> bool:
            return not await failed(engine)

        await eventually(row_is_deleted)


async def test_changed_record_wakes_its_parked_events(
    sample: Sample, eventually: Eventually
) -> None:
    """An event about a missing order waits for that order; another order's change does not wake
    it.
    """
    order, other = uuid4(), uuid4()
    await ensure_streams(sample.context.broker)
    event_id = await publish(sample.context.broker, SamplePaid(order_id=str(order)))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    [row] = await failed(sample.engine)
    assert row.waits_for == order
    later = datetime.now(UTC) + HOUR
    await changed(sample.engine, next_try_time=later)
    await eventually(lambda: all_acknowledged(sample.context.broker, CONSUMER, "PAYMENTS"))
    tried = len(sample.paying.sets)
    await write(sample.context.database, create(target=other))
    [row] = await failed(sample.engine)
    assert (row.next_try_time, len(sample.paying.sets)) == (later, tried)
    await write(sample.context.database, create(target=order))
    await eventually(lambda: sample.are({}))
    async with sample.engine.connect() as connection:
        query = select(store.orders.c.status).where(store.orders.c.id == order)
        assert (await connection.execute(query)).scalar_one() == "confirmed"


@pytest.mark.parametrize(
    ("age", "least", "most"),
    [
        (timedelta(0), WAIT_MIN, WAIT_MIN),
        (timedelta(seconds=10), timedelta(seconds=10), timedelta(seconds=10)),
        (timedelta(minutes=10), WAIT_MAX, WAIT_MAX),
    ],
)
async def test_next_wait_is_as_long_as_the_time_so_far(
    table: FailedEvents, engine: AsyncEngine, age: timedelta, least: timedelta, most: timedelta
) -> None:
    """An event waits as long as it has waited so far, between WAIT_MIN and WAIT_MAX, each spread by
    a fifth.
    """
    await parked(table, 20)
    now = datetime.now(UTC)
    await changed(engine, first_time=now - age, next_try_time=now)
    fetched = await table.fetch_due(50, fewest_tries=True)
    assert len(fetched) == 20
    assert {e.attempts for e in fetched} == {2}
    slack = timedelta(seconds=2)  # a busy machine makes them older
    waits = [row.next_try_time - row.update_time for row in await failed(engine)]
    assert all(0.8 * least <= wait <= 1.2 * most + slack for wait in waits)
    assert len(set(waits)) > 10


async def test_last_try_is_at_the_end_of_the_time(table: FailedEvents, engine: AsyncEngine) -> None:
    """A parked event does not fail before 15 minutes have passed, and its next try is no later than
    that.
    """
    await parked(table)
    now = datetime.now(UTC)
    await changed(engine, first_time=now - 14.75 * MINUTES, next_try_time=now)
    [fetched] = await table.fetch_due(50, fewest_tries=True)
    [row] = await failed(engine)
    assert fetched.state is row.state is FailedState.DEFERRED
    assert row.next_try_time == row.first_time + 15 * MINUTES


async def test_last_try_finds_the_event_failed(table: FailedEvents, engine: AsyncEngine) -> None:
    """When its time is up an event counts as failed before its last try: if that try ends the
    process, no other follows.
    """
    [first] = await parked(table)
    now = datetime.now(UTC)
    await changed(engine, first_time=now - 15 * MINUTES, next_try_time=now)
    [fetched] = await table.fetch_due(50, fewest_tries=False)
    assert (fetched.event_id, fetched.state) == (first.event_id, FailedState.FAILED)
    [row] = await failed(engine)
    assert (row.state, row.next_try_time) == (FailedState.FAILED, None)
    assert await table.fetch_due(50, fewest_tries=False) == []


async def test_replicas_fetch_different_events(table: FailedEvents, engine: AsyncEngine) -> None:
    """Two concurrent replicas share the due events, and neither waits for the other's locks."""
    await parked(table, 60)
    await changed(engine, next_try_time=datetime.now(UTC))
    async with engine.begin() as connection:
        first = [event.event_id for event in await table.fetch_due(20, fewest_tries=True)]
        locked = select(t.event_id).where(t.event_id.not_in(first)).limit(10).with_for_update()
        held = set((await connection.execute(locked)).scalars())
        fetches = [table.fetch_due(25, fewest_tries=fewest) for fewest in (True, False)]
        one, two = await asyncio.gather(*fetches)
    found = [*first, *(event.event_id for event in [*one, *two])]
    assert len(found) == len(set(found)) == 50
    assert not held & set(found)


async def test_fetches_starve_no_parked_event(table: FailedEvents, engine: AsyncEngine) -> None:
    """Of 20,000 due rows the first batches have the one that was never tried from the database, and
    the one due for longest.
    """
    [fresh] = await parked(table)
    [old] = await parked(table)
    now = datetime.now(UTC)
    waiting = [replace(event(FailedState.DEFERRED), attempts=9) for _ in range(19_998)]
    await table.record(waiting)
    await changed(engine, next_try_time=now - HOUR)
    await changed(engine, fresh.event_id, attempts=PARK_AT, next_try_time=now)
    await changed(engine, old.event_id, attempts=30, next_try_time=now - 2 * HOUR)
    assert fresh.event_id in {e.event_id for e in await table.fetch_due(50, fewest_tries=True)}
    assert old.event_id in {e.event_id for e in await table.fetch_due(50, fewest_tries=False)}


async def test_waiting_events_are_fetched_once_a_change(
    table: FailedEvents, engine: AsyncEngine
) -> None:
    """Events that wait for a changed record are taken in batches, each once, for any time of their
    next try.
    """
    record = uuid4()
    await parked(table, 30, waits_for=record)
    await parked(table, 5, waits_for=uuid4())
    any_parked, now = await table.parked()
    assert any_parked
    batches = [await table.fetch_waiting([record], now, 20) for _ in range(3)]
    assert [len(batch) for batch in batches] == [20, 10, 0]
    assert len({event.event_id for batch in batches for event in batch}) == 30


async def test_try_with_another_error_is_stored(sample: Sample, eventually: Eventually) -> None:
    """A parked event has the error of its last try, and the number of its tries."""
    await ensure_streams(sample.context.broker)
    event_id = await publish(sample.context.broker, SamplePaid(order_id=str(uuid4())))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    sample.paying.waits = True

    async def says(reason: str, attempts: int) -> bool:
        [row] = await failed(sample.engine)
        return bool(row.reason == reason and row.attempts > attempts)

    await eventually(lambda: says("PAYMENT_OUTSTANDING", PARK_AT))


async def test_parked_event_that_is_refused_has_failed(
    sample: Sample, eventually: Eventually
) -> None:
    """The try was refused: the event is not tried again."""
    await ensure_streams(sample.context.broker)
    event_id = await publish(sample.context.broker, SamplePaid(order_id=str(uuid4())))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    sample.paying.broken = True
    await eventually(lambda: sample.are({event_id: "failed"}))
    [row] = await failed(sample.engine)
    assert (row.reason, row.next_try_time) == ("INTERNAL", None)


async def test_message_of_a_parked_event_changes_no_row(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A lost stream delivers a parked event again: it is tried, acknowledged, and keeps its first
    time.
    """
    handler = RecordingHandler(lambda _: Deferred("EVENT_AHEAD"))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged())
        [before] = await eventually(lambda: failed(engine))
        await changed(engine, next_try_time=datetime.now(UTC) + HOUR)
        await broker.streams.delete_stream("ORDERS")
        await ensure_streams(broker)
        seen = handler.seen[event_id]
        await publish(broker, SampleStatusChanged(), event_id)
        await eventually(lambda: handler.seen[event_id] > seen)
        await eventually(lambda: all_acknowledged(broker))
        [after] = await failed(engine)
    assert (after.state, after.first_time) == (FailedState.DEFERRED, before.first_time)
    assert len(await names(engine, event_id)) == 1
    assert handler.seen[event_id] == seen + 1
