"""The operators' services that every service hosts, called over a real server, on a real database
and a real broker.
"""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.ops.v1 import ops_service_pb2 as api
from sqlalchemy import select

from chassis.rpc.client import ask
from chassis.values.convert import timestamp
from chassis.values.errors import Invalid, NotFound
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.events import SamplePaid
from tests.sample.inbox import all_acknowledged, publish, states
from tests.sample.operators import (
    CONSUMER,
    DEFERRED,
    DISCARDED,
    FAILED,
    MORNING,
    REPLAYED,
    Sample,
    event,
)
from tests.sample.relaying import none_waits
from tests.sample.writes import count, placed
from tests.streams import ensure_streams
from tests.support import Eventually


async def test_event_failed_by_a_bug_is_replayed_after_the_fix(
    sample: Sample, eventually: Eventually
) -> None:
    """A bug makes an event fail. A replay before the fix leaves it failed, with the new error; a
    replay after the fix has its effect.

    Two more replays at once, and one more delivery by the broker, add no effect.
    """
    [order] = await placed(sample.context.database)
    sample.paying.broken = True
    event_id = await publish(
        sample.context.broker, SamplePaid(order_id=str(order), version=3), ce_subject=str(order)
    )
    await eventually(lambda: sample.are({event_id: "failed"}))
    failed_event = await sample.read(event_id)
    assert (failed_event.state, failed_event.reason, failed_event.error) == (
        FAILED,
        "INTERNAL",
        "ZeroDivisionError: a bug",
    )
    assert json.loads(failed_event.payload_json) == {"orderId": str(order), "version": 3}
    assert SamplePaid.FromString(failed_event.payload) == SamplePaid(order_id=str(order), version=3)
    still = await sample.replay(event_id)
    assert (still.state, still.attempts, still.error) == (FAILED, 2, "ZeroDivisionError: a bug")
    rows = await count(sample.engine, store.history)
    sample.paying.broken = False
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(sample.replay(event_id)) for _ in range(2)]
    assert [each.result().state for each in both] == [REPLAYED, REPLAYED]
    assert (await sample.replay(event_id)).state == REPLAYED
    await sample.context.broker.streams.delete_consumer("PAYMENTS", CONSUMER)
    await eventually(lambda: all_acknowledged(sample.context.broker, CONSUMER, "PAYMENTS"))
    assert await count(sample.engine, store.history) == rows + 1
    assert await sample.are({event_id: "replayed"})


async def test_replayed_event_is_not_handled_again(sample: Sample) -> None:
    """The row stays as replayed, also after the event's key is deleted."""
    [order] = await placed(sample.context.database)
    event_id = await sample.fail(event(order=str(order)))
    assert (await sample.replay(event_id)).state == REPLAYED
    assert (await sample.replay(event_id)).state == REPLAYED
    assert sample.paying.sets == [[event_id]]


async def test_deferred_event_is_replayed_before_its_next_try(
    sample: Sample, eventually: Eventually
) -> None:
    """An operator replays the event before it comes again. The row stays as replayed, and the
    delivery that follows changes nothing.
    """
    [order] = await placed(sample.context.database)
    sample.paying.waits = True
    event_id = await publish(sample.context.broker, SamplePaid(order_id=str(order)))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    assert (await sample.replay(event_id)).state == DEFERRED
    sample.paying.waits = False
    with suppress(NotFound):  # where the delivery came first, it left no row
        await sample.replay(event_id)
    await eventually(lambda: all_acknowledged(sample.context.broker, CONSUMER, "PAYMENTS"))
    assert (await states(sample.engine)).get(event_id, "replayed") == "replayed"
    assert await count(sample.engine, store.history) == 2


async def test_operator_request_stores_actor_and_note(sample: Sample) -> None:
    """The key of an operator's request has the claimed actor of its call and its note; without them
    it has neither.
    """
    first, second = await sample.fail(event()), await sample.fail(event())
    request = api.DiscardFailedEventRequest(
        request_id=str(uuid4()), consumer=CONSUMER, event_id=str(first), note="forged"
    )
    await sample.failed_events.DiscardFailedEvent(
        request, timeout=5, metadata=[("ordermesh-actor", "staff:7f3a")]
    )
    await sample.discard(second)
    async with sample.engine.connect() as connection:
        rows = await connection.execute(
            select(store.idempotency_keys.c.claimed_actor, store.idempotency_keys.c.note).order_by(
                store.idempotency_keys.c.create_time
            )
        )
        assert [tuple(row) for row in rows] == [("staff:7f3a", "forged"), (None, None)]


async def test_a_discarded_event_is_not_delivered_again(
    sample: Sample, eventually: Eventually
) -> None:
    """An operator discards a deferred event: it is not handled when it comes again, nor when its
    stream was lost and delivers it as new.

    A second discard changes nothing.
    """
    [order] = await placed(sample.context.database)
    broker = sample.context.broker
    sample.paying.waits = True
    event_id = await publish(broker, SamplePaid(order_id=str(order)))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    for _ in range(2):
        assert (await sample.discard(event_id)).state == DISCARDED
    await eventually(lambda: all_acknowledged(broker, CONSUMER, "PAYMENTS"))
    sample.paying.waits = False
    handled = len(sample.paying.sets)
    await broker.streams.delete_stream("PAYMENTS")
    await ensure_streams(broker)
    other = await publish(broker, SamplePaid(order_id=str(order)))
    await publish(broker, SamplePaid(order_id=str(order)), event_id)
    await eventually(lambda: all_acknowledged(broker, CONSUMER, "PAYMENTS"))
    assert [id_ for s in sample.paying.sets[handled:] for id_ in s] == [other]
    assert await sample.are({event_id: "discarded"})
    # unless an operator replays it after all
    assert (await sample.replay(event_id)).state == REPLAYED


class FilteredEvents(NamedTuple):
    """The events that the tests of filters list."""

    one: UUID  # the only one that all conditions permit
    old: UUID  # as `one`, but older
    rest: list[UUID]
    closed: list[UUID]


async def fail_filtered_events(sample: Sample) -> FilteredEvents:
    """Stores open events that differ in one condition each, and two closed ones."""
    one = await sample.fail(
        event(consumer="sample-orders", subject="a.b", reason="EVENT_AHEAD", aggregate="7"),
        minutes=5,
    )
    old = await sample.fail(
        event(consumer="sample-orders", subject="a.b", reason="EVENT_AHEAD", aggregate="7"),
        minutes=1,
    )
    rest = [
        await sample.fail(
            event(
                FailedState.DEFERRED, consumer="sample-orders", reason="EVENT_AHEAD", aggregate="8"
            ),
            minutes=3,
        ),
        await sample.fail(event(subject="a.b", aggregate="7"), minutes=4),
        await sample.fail(event(FailedState.DEFERRED), minutes=2),
    ]
    closed = [
        await sample.fail(event(FailedState.REPLAYED), 6),
        await sample.fail(event(FailedState.DISCARDED), 7),
    ]
    return FilteredEvents(one=one, old=old, rest=rest, closed=closed)


async def test_each_filter_leaves_out_events(sample: Sample) -> None:
    """Each condition leaves out an event; the oldest come first, over all pages. By default the
    list has open events.
    """
    one, old, rest, closed = await fail_filtered_events(sample)
    assert await sample.listed() == [old, rest[2], rest[0], rest[1], one]
    assert await sample.listed(states=[DEFERRED]) == [rest[2], rest[0]]
    assert await sample.listed(states=[REPLAYED, DISCARDED]) == closed
    assert await sample.listed(consumer="sample-orders") == [old, rest[0], one]
    assert await sample.listed(subject="a.b") == [old, rest[1], one]
    assert await sample.listed(type="a.b") == []
    assert await sample.listed(type=SamplePaid.DESCRIPTOR.full_name) == [
        old,
        rest[2],
        rest[0],
        rest[1],
        one,
    ]
    assert await sample.listed(reason="EVENT_AHEAD") == [old, rest[0], one]
    assert await sample.listed(aggregate_id="7") == [old, rest[1], one]
    assert await sample.listed(consumer="unknown") == []


async def test_filters_are_combined(sample: Sample) -> None:
    """Each bound of a time leaves out events, and all conditions together leave one."""
    one, old, rest, _ = await fail_filtered_events(sample)
    five = timestamp(MORNING + timedelta(minutes=5))
    assert await sample.listed(first_fail_time_from=five) == [one]
    updated = (await sample.read(rest[1])).update_time
    assert rest[1] in await sample.listed(update_time_from=updated)
    assert rest[1] not in await sample.listed(update_time_before=updated)
    assert (
        await sample.listed(update_time_from=timestamp(datetime.now(UTC) + timedelta(days=1))) == []
    )
    assert await sample.listed(first_fail_time_before=five) == [old, rest[2], rest[0], rest[1]]
    every = {
        "consumer": "sample-orders",
        "subject": "a.b",
        "reason": "EVENT_AHEAD",
        "aggregate_id": "7",
    }
    assert await sample.listed(
        states=[FAILED],
        first_fail_time_from=five,
        first_fail_time_before=Timestamp(seconds=2**33),
        **every,
    ) == [one]


async def test_events_of_the_same_time_are_each_listed_once(sample: Sample) -> None:
    """Pages are cut by time, consumer and event: many events that failed at once are each listed
    once.
    """
    ids = {await sample.fail(event(consumer=f"sample-{n % 3}")) for n in range(11)}
    found = await sample.listed()
    assert (len(found), set(found)) == (11, ids)


async def test_a_page_token_of_another_list_is_refused(sample: Sample) -> None:
    """A token belongs to its filter, and an invented one is refused."""
    for _ in range(3):
        await sample.fail(event())
    page = await ask(
        sample.failed_events.ListFailedEvents, api.ListFailedEventsRequest(page_size=1)
    )
    for token in (page.next_page_token, "x", "WyIiLCAiMjAyNi0xMS0yMiIsICJhIiwgImIiXQ=="):
        wrong = api.ListFailedEventsRequest(
            page_token=token, filter=api.FailedEventFilter(reason="OTHER")
        )
        with pytest.raises(Invalid, match="page_token"):
            await ask(sample.failed_events.ListFailedEvents, wrong)


async def test_batch_replay_takes_the_oldest_first(sample: Sample) -> None:
    """A dry run lists the events and replays none. A limit leaves the youngest, and says so. Events
    that fail again stay; the others are done.
    """
    orders = await placed(sample.context.database, 3)
    fine = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    poison = await sample.fail(event(order=str(uuid4())), minutes=1)
    strange = await sample.fail(event(type="ordermesh.Unknown"), minutes=9)
    expected = await sample.listed()
    rows = await count(sample.engine, store.history)
    dry = await sample.replay_all(dry_run=True)
    assert ([UUID(e.event_id) for e in dry.failed_events], dry.tried_count, dry.more) == (
        expected,
        5,
        False,
    )
    assert sample.paying.sets == []
    some = await sample.replay_all(limit=2)
    assert (some.tried_count, some.more) == (2, True)
    assert sample.paying.sets[0] == expected[:2]
    rest = await sample.replay_all(limit=1000)
    assert (rest.tried_count, rest.more) == (3 + len(some.failed_events), False)
    assert await sample.listed(states=[REPLAYED]) == fine
    found = {UUID(e.event_id): e for e in (*some.failed_events, *rest.failed_events)}
    assert {id_: e.state for id_, e in found.items()} == dict.fromkeys((poison, strange), FAILED)
    assert (found[poison].reason, found[strange].reason) == ("ORDER_NOT_FOUND", "EVENT_UNREADABLE")
    assert some.replayed_count + rest.replayed_count == 3
    assert await count(sample.engine, store.history) == rows + 3
    again = await sample.replay_all()
    assert (again.replayed_count, len(again.failed_events)) == (0, 2)
    assert await count(sample.engine, store.history) == rows + 3


async def test_unknown_failed_event_is_not_found(sample: Sample) -> None:
    """Each call that names an event answers NotFound, also where another consumer has stored that
    event.
    """
    event_id = await sample.fail(event())
    for call in (sample.read, sample.replay, sample.discard):
        with pytest.raises(NotFound, match="has no failed event"):
            await call(uuid4())
    with pytest.raises(NotFound):
        await sample.replay(event_id, consumer="sample-orders")


async def test_unreadable_payload_is_answered_as_bytes(sample: Sample) -> None:
    """The type is unknown here, or the bytes are no such message: the answer has no JSON, and all
    other fields.
    """
    for made in (event(type="ordermesh.Unknown", payload=b"\xff"), event(payload=b"\xff\xff")):
        shown = await sample.read(await sample.fail(made))
        assert (shown.payload, shown.payload_json) == (made.payload, "")


async def test_outbox_state_is_answered(sample: Sample, eventually: Eventually) -> None:
    """The answer has the number of waiting and stored events, the oldest waiting one and the
    stream's end. Each request publishes again once.
    """
    orders = await placed(sample.context.database, 3)
    await eventually(lambda: none_waits(sample.engine))
    stats = await ask(sample.outbox.GetOutboxStats, api.GetOutboxStatsRequest())
    assert stats == api.GetOutboxStatsResponse(
        stream="ORDERS", waiting_count=0, kept_count=3, highest_stream_seq=3
    )
    request = api.RepublishEventsRequest(
        request_id=str(uuid4()), aggregate_id=str(orders[0]), dry_run=True
    )
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 1
    request.dry_run = False
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 1
    await eventually(lambda: none_waits(sample.engine))
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 0
    everything = api.RepublishEventsRequest(
        request_id=str(uuid4()), create_time_from=timestamp(MORNING - timedelta(days=999))
    )
    assert (await ask(sample.outbox.RepublishEvents, everything)).event_count == 3
    await eventually(lambda: none_waits(sample.engine))
    everything.aggregate_id = str(orders[0])
    with pytest.raises(Invalid, match="request_id stands for another request"):
        await ask(sample.outbox.RepublishEvents, everything)
    with pytest.raises(Invalid, match="aggregate_id or create_time_from"):
        await ask(
            sample.outbox.RepublishEvents, api.RepublishEventsRequest(request_id=str(uuid4()))
        )


async def test_stored_version_is_set_once_for_a_request(sample: Sample) -> None:
    """The version is set for this order alone. A repeat changes nothing, and is answered with the
    current version.
    """
    order, other = await placed(sample.context.database, 2)
    request = api.SetStoredVersionRequest(
        request_id=str(uuid4()), order_id=str(order), version=2**20
    )
    assert (await ask(sample.failed_events.SetStoredVersion, request)).stored_version == 2**20
    lower = api.SetStoredVersionRequest(request_id=str(uuid4()), order_id=str(order), version=7)
    assert (await ask(sample.failed_events.SetStoredVersion, lower)).stored_version == 7
    assert (await ask(sample.failed_events.SetStoredVersion, request)).stored_version == 7
    async with sample.engine.connect() as connection:
        stored = dict(
            map(tuple, await connection.execute(select(store.orders.c.id, store.orders.c.version)))
        )
    assert stored == {order: 7, other: 1}


async def test_version_that_is_not_stored_is_not_found(sample: Sample) -> None:
    """An order without a stored version, and a fulfilment where only orders are stored, are not
    found; the request_id stays free.
    """
    [order] = await placed(sample.context.database)
    request_id = str(uuid4())
    for fields in (
        {"order_id": str(uuid4())},
        {"order_id": str(order), "fulfillment_id": str(uuid4())},
    ):
        with pytest.raises(NotFound) as caught:
            await ask(
                sample.failed_events.SetStoredVersion,
                api.SetStoredVersionRequest(request_id=request_id, version=1, **fields),
            )
        assert caught.value.reason == "STORED_VERSION_NOT_FOUND"
    fine = api.SetStoredVersionRequest(request_id=request_id, order_id=str(order), version=3)
    assert (await ask(sample.failed_events.SetStoredVersion, fine)).stored_version == 3
