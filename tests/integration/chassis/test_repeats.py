"""Operators' requests that come again: after a lost answer, after a crash, and concurrent. Each has
one effect, on the same events.
"""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.ops.v1 import ops_service_pb2 as api
from sqlalchemy import delete

from chassis.consume.inbox import Inbox
from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Invalid, NotFound
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.inbox import states
from tests.sample.operators import CONSUMER, DISCARDED, FAILED, REPLAYED, Sample, event
from tests.sample.writes import count, placed

REFUSED = api.FailedEventFilter(reason="ILLEGAL_TRANSITION")


async def test_batch_discard_takes_a_filter_in_one_call(sample: Sample) -> None:
    """3,001 events are discarded in one call, the oldest first up to the limit; those of another
    reason, and replayed ones, stay.

    A dry run counts them. A repeat of the request is answered with the same, and takes no event
    that came since.
    """
    refused = [event(reason="ILLEGAL_TRANSITION") for _ in range(3_000)]
    await sample.table.record(refused)
    deferred = await sample.fail(event(FailedState.DEFERRED, reason="ILLEGAL_TRANSITION"))
    done = await sample.fail(event(FailedState.REPLAYED, reason="ILLEGAL_TRANSITION"), minutes=1)
    other = await sample.fail(event(), minutes=2)
    call = sample.failed_events.BatchDiscardFailedEvents
    dry = await ask(
        call,
        api.BatchDiscardFailedEventsRequest(
            request_id=str(uuid4()), filter=REFUSED, limit=10_000, dry_run=True
        ),
    )
    assert (dry.discarded_count, dry.more, len(dry.failed_events)) == (3_001, False, 100)
    some = await ask(
        call, api.BatchDiscardFailedEventsRequest(request_id=str(uuid4()), filter=REFUSED, limit=1)
    )
    assert (some.discarded_count, some.more) == (1, True)
    assert (await sample.read(deferred)).state == DISCARDED  # the oldest
    request = api.BatchDiscardFailedEventsRequest(
        request_id=str(uuid4()), filter=REFUSED, limit=10_000
    )
    answer = await ask(call, request)
    assert (answer.discarded_count, answer.more) == (3_000, False)
    new = await sample.fail(event(reason="ILLEGAL_TRANSITION"), minutes=3)
    assert await ask(call, request) == answer
    assert await sample.listed() == [other, new]
    assert await sample.listed(states=[REPLAYED]) == [done]


async def test_repeat_of_a_batch_replay_takes_no_other_events(sample: Sample) -> None:
    """The answer was lost and the request comes again: it is answered with the current state of the
    first call's events, and handles none.
    """
    orders = await placed(sample.context.database, 3)
    first, second, third = [
        await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)
    ]
    poison = await sample.fail(event(order=str(uuid4())), minutes=-1)
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()), limit=2)
    answers = [await ask(sample.failed_events.BatchReplayFailedEvents, request) for _ in range(3)]
    for answer in answers:
        assert [(UUID(e.event_id), e.state, e.attempts) for e in answer.failed_events] == [
            (poison, FAILED, 2)
        ]
        assert (answer.tried_count, answer.replayed_count, answer.more) == (2, 1, True)
    assert {id_ for s in sample.paying.sets for id_ in s} == {poison, first}
    assert await sample.are(
        {poison: "failed", first: "replayed", second: "failed", third: "failed"}
    )


async def test_repeat_of_an_empty_batch_replay_takes_no_event(sample: Sample) -> None:
    """The repeat takes no event that failed since the first call."""
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()))
    assert not (await ask(sample.failed_events.BatchReplayFailedEvents, request)).failed_events
    await sample.fail(event())
    assert not (await ask(sample.failed_events.BatchReplayFailedEvents, request)).failed_events
    assert sample.paying.sets == []


async def test_repeat_of_a_killed_replay_takes_the_same_events(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call ends when its events are chosen and none is handled. A repeat continues with
    those, and takes no older one that came since.

    It leaves out an event that was discarded meanwhile; an event without a row had its effect.
    """
    orders = await placed(sample.context.database, 4)
    ids = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()))

    async def killed(*_: Any) -> None:
        raise Deferred("DEPENDENCY_UNAVAILABLE")

    with monkeypatch.context() as patched:
        patched.setattr(Inbox, "replay", killed)
        with pytest.raises(Deferred):
            await ask(sample.failed_events.BatchReplayFailedEvents, request)
    older = await sample.fail(event(), minutes=-5)
    assert (await sample.discard(ids[0])).state == DISCARDED
    assert (await sample.replay(ids[1])).state == REPLAYED
    async with sample.engine.begin() as connection:
        await connection.execute(
            delete(store.failed_events).where(store.failed_events.c.event_id == ids[2])
        )
    rows = await count(sample.engine, store.history)
    for _ in range(2):
        answer = await ask(sample.failed_events.BatchReplayFailedEvents, request)
        found = [(UUID(e.event_id), e.state, e.consumer) for e in answer.failed_events]
        assert found == [(ids[0], DISCARDED, CONSUMER)]
        assert (answer.tried_count, answer.replayed_count) == (4, 3)
    assert sample.paying.sets == [[ids[1]], [ids[3]]]
    assert await count(sample.engine, store.history) == rows + 1
    assert (await states(sample.engine))[older] == "failed"


async def test_a_repeated_replay_is_not_tried_again(sample: Sample) -> None:
    """The event failed again, and the answer was lost: the repeat is answered with its state.
    Another request is another attempt.
    """
    event_id = await sample.fail(event(order=str(uuid4())))
    request = api.ReplayFailedEventRequest(
        request_id=str(uuid4()), consumer=CONSUMER, event_id=str(event_id)
    )
    for _ in range(2):
        assert (
            await ask(sample.failed_events.ReplayFailedEvent, request)
        ).failed_event.attempts == 2
    assert (await sample.replay(event_id)).attempts == 3


async def test_repeated_discard_leaves_a_new_failure(sample: Sample) -> None:
    """An event is discarded, replayed, and fails again for another reason: the repeat of the old
    request leaves it failed.
    """
    [order] = await placed(sample.context.database)
    made = event(order=str(order))
    request = api.DiscardFailedEventRequest(
        request_id=str(uuid4()), consumer=CONSUMER, event_id=str(await sample.fail(made))
    )
    assert (
        await ask(sample.failed_events.DiscardFailedEvent, request)
    ).failed_event.state == DISCARDED
    assert (await sample.replay(made.event_id)).state == REPLAYED
    await sample.fail(made)
    assert (
        await ask(sample.failed_events.DiscardFailedEvent, request)
    ).failed_event.state == FAILED
    assert await sample.are({made.event_id: "failed"})


async def test_request_id_with_another_body_is_refused(sample: Sample) -> None:
    """With another body the request is refused, and no event changes."""
    one, other = await sample.fail(event()), await sample.fail(event(), minutes=1)
    calls, replay, discard = (
        sample.failed_events,
        api.ReplayFailedEventRequest,
        api.DiscardFailedEventRequest,
    )
    names = [{"consumer": CONSUMER, "event_id": str(event_id)} for event_id in (one, other)]
    cases: list[tuple[Any, Any, Any]] = [
        (
            calls.BatchReplayFailedEvents,
            *(api.BatchReplayFailedEventsRequest(limit=limit) for limit in (1, 2)),
        ),
        (
            calls.BatchDiscardFailedEvents,
            *(api.BatchDiscardFailedEventsRequest(filter=REFUSED, limit=limit) for limit in (1, 2)),
        ),
        (calls.ReplayFailedEvent, *(replay(**name) for name in names)),
        (calls.DiscardFailedEvent, *(discard(**name) for name in names)),
    ]
    for method, request, another in cases:
        request.request_id = another.request_id = str(uuid4())
        await ask(method, request)
        with pytest.raises(Invalid, match="request_id stands for another request"):
            await ask(method, another)
    assert sample.paying.sets == [[one], [one]]
    assert await sample.are({one: "discarded", other: "failed"})


async def test_refused_request_leaves_its_id_free(sample: Sample) -> None:
    """The event does not exist yet: the same request succeeds once it does."""
    replayed, discarded = event(order=str((await placed(sample.context.database))[0])), event()
    replay = api.ReplayFailedEventRequest(
        request_id=str(uuid4()), consumer=CONSUMER, event_id=str(replayed.event_id)
    )
    discard = api.DiscardFailedEventRequest(
        request_id=str(uuid4()), consumer=CONSUMER, event_id=str(discarded.event_id)
    )
    for method, request in (
        (sample.failed_events.ReplayFailedEvent, replay),
        (sample.failed_events.DiscardFailedEvent, discard),
    ):
        with pytest.raises(NotFound):
            await ask(method, request)
    await sample.table.record([replayed, discarded])
    assert (
        await ask(sample.failed_events.ReplayFailedEvent, replay)
    ).failed_event.state == REPLAYED
    assert (
        await ask(sample.failed_events.DiscardFailedEvent, discard)
    ).failed_event.state == DISCARDED


async def test_concurrent_repeats_choose_the_same_events(sample: Sample) -> None:
    """A request and its repeats at the same time handle together the events that one request would
    handle.
    """
    orders = await placed(sample.context.database, 6)
    ids = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    rows = await count(sample.engine, store.history)
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()), limit=3)
    answers = await asyncio.gather(
        *(ask(sample.failed_events.BatchReplayFailedEvents, request) for _ in range(4))
    )
    assert [(answer.tried_count, answer.replayed_count) for answer in answers] == [(3, 3)] * 4
    assert await sample.listed(states=[REPLAYED]) == ids[:3]
    assert await count(sample.engine, store.history) == rows + 3
