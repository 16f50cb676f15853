"""The rows of failed_events: each outcome of an event sets the state of its row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.failed_event_records import ConsumerEvent
from chassis.consume.failed_events import FailedEvents
from chassis.write.tables import FailedState
from tests.sample.inbox import failed
from tests.sample.store import failed_events

DEFERRED, FAILED, REPLAYED, DISCARDED = FailedState
LIMIT = timedelta(minutes=15)


def event(state: FailedState, consumer: str = "sample-orders", attempts: int = 1) -> ConsumerEvent:
    time = datetime(2026, 11, 22, tzinfo=UTC)
    return ConsumerEvent(
        consumer=consumer,
        event_id=uuid4(),
        digest=b"digest",
        state=state,
        stream="ORDERS",
        stream_seq=7,
        subject="orders.x",
        type="x",
        aggregate="7",
        payload=b"body",
        traceparent=None,
        event_time=time,
        reason="SOME_REASON",
        error="",
        attempts=attempts,
    )


@pytest.fixture
def table(engine: AsyncEngine) -> FailedEvents:
    """The sample's failed events."""
    return FailedEvents(engine, failed_events)


@pytest.mark.parametrize(
    ("stands", "old", "recorded", "becomes"),
    [
        (DEFERRED, False, DEFERRED, DEFERRED),
        (DEFERRED, True, DEFERRED, FAILED),  # its time is up
        (DEFERRED, False, FAILED, FAILED),
        (FAILED, True, DEFERRED, FAILED),  # failed: not tried again
        (FAILED, False, FAILED, FAILED),
        (DISCARDED, True, DEFERRED, DISCARDED),  # decided by an operator
        (DISCARDED, False, FAILED, DISCARDED),
        (REPLAYED, True, DEFERRED, DEFERRED),  # another failure: its time begins again
        (REPLAYED, True, FAILED, FAILED),
    ],
)
async def test_each_outcome_sets_the_state_of_the_row(
    table: FailedEvents,
    engine: AsyncEngine,
    stands: FailedState,
    old: bool,
    recorded: FailedState,
    becomes: FailedState,
) -> None:
    """Each outcome is recorded on each state that the row can have."""
    first = event(stands)
    assert await table.record([first]) == {first.name: stands}
    if old:
        async with engine.begin() as connection:
            await connection.execute(
                update(failed_events).values(first_time=failed_events.c.first_time - LIMIT)
            )
    [before] = await failed(engine)
    assert await table.record([replace(first, state=recorded, attempts=9)]) == {first.name: becomes}
    [row] = await failed(engine)
    assert (row.state, row.attempts) == (becomes, 9)
    assert (row.first_time == before.first_time) is (stands is not REPLAYED)


async def test_event_twice_in_a_set_has_one_row(table: FailedEvents, engine: AsyncEngine) -> None:
    """The same event may come twice in one set: the statement inserts it once."""
    one = event(DEFERRED)
    assert await table.record([one, one]) == {one.name: DEFERRED}
    assert len(await failed(engine)) == 1


async def test_rows_of_two_consumers_are_separate(table: FailedEvents, engine: AsyncEngine) -> None:
    """Two consumers may fail on the same event: an outcome of one does not change the other's
    row.
    """
    mine = event(FAILED)
    other = replace(mine, consumer="sample-payments")
    await table.record([mine])
    await table.record([other])
    await table.resolve([mine.name])
    async with engine.connect() as connection:
        rows = await connection.execute(select(failed_events.c.consumer, failed_events.c.state))
        assert {tuple(row) for row in rows} == {
            ("sample-orders", REPLAYED),
            ("sample-payments", FAILED),
        }
    async with engine.begin() as connection:
        await table.discard(connection, [mine.name])  # it is no longer open
    assert await table.states([mine.name, other.name]) == {mine.name: REPLAYED, other.name: FAILED}
    assert await table.counts("sample-payments") == {FAILED: 1}
    assert await table.counts("sample-orders") == {}
    entries = await table.entries([other.name])
    assert [entry.event for entry in entries.values()] == [other]


@pytest.mark.parametrize("stands", [DEFERRED, FAILED, REPLAYED, DISCARDED])
async def test_delete_failed_deletes_no_other_state(
    table: FailedEvents, stands: FailedState
) -> None:
    """The row of a failed event is deleted; a parked, replayed or discarded one stays."""
    it = event(stands)
    await table.record([it])
    await table.delete_failed(it.name)
    assert await table.states([it.name]) == ({} if stands is FAILED else {it.name: stands})


async def test_deferred_row_is_deleted_and_failed_row_stays(table: FailedEvents) -> None:
    """An event that succeeded without an operator leaves no row; one that an operator could see
    stays, as replayed.
    """
    later, failed_event = event(DEFERRED), event(FAILED)
    await table.record([later, failed_event])
    await table.resolve([later.name, failed_event.name])
    assert await table.states([later.name, failed_event.name]) == {failed_event.name: REPLAYED}
