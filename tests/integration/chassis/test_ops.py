"""What every service hosts for its operators, asked over a real server, on a real database and a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.ops.v1 import ops_service_pb2 as api
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub, OutboxServiceStub
from sqlalchemy import delete, update

from chassis.client import ask, connect
from chassis.config import ServiceConfig
from chassis.convert import timestamp
from chassis.database import Database
from chassis.decision import Outcome
from chassis.errors import Deferred, Invalid, NotFound
from chassis.failed import FailedEvent, FailedEvents
from chassis.inbox import Delivery, Inbox
from chassis.service import Ground, founded
from chassis.tables import FailedState
from devstack.ports import free_ports
from tests.sample import store
from tests.sample.events import SamplePaid
from tests.sample.inbox import all_acknowledged, publish, states
from tests.sample.model import ConfirmPayment
from tests.sample.relaying import none_waits
from tests.sample.writes import count, placed, write
from tests.support import Eventually

CONSUMER = "sample-payments"
DEFERRED, FAILED, REPLAYED, DISCARDED = (
    api.FAILED_EVENT_STATE_DEFERRED,
    api.FAILED_EVENT_STATE_FAILED,
    api.FAILED_EVENT_STATE_REPLAYED,
    api.FAILED_EVENT_STATE_DISCARDED,
)
MORNING = datetime(2026, 11, 22, 9, tzinfo=UTC)


class Config(ServiceConfig):
    """The sample's settings."""

    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:0"
    metrics_address: str = "127.0.0.1:0"
    drain_delay_s: float = 0.0


class Paying:
    """The sample's handler: an order is paid. While it is `broken` it has a bug, while it `waits` it defers."""

    def __init__(self, database: Database) -> None:
        self.database, self.broken, self.waits = database, False, False
        self.sets: list[list[UUID]] = []

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        self.sets.append([d.event_id for d in deliveries])
        if self.broken:
            raise ZeroDivisionError("a bug")
        if self.waits:
            return [Deferred("PAYMENT_OUTSTANDING", "Not yet.")] * len(deliveries)
        return await write(self.database, *(ConfirmPayment(d.key, UUID(d.message.order_id), d.digest) for d in deliveries))


class Sample:
    """The sample service, running, and its operators' calls."""

    def __init__(self, ground: Ground, paying: Paying, channel: grpc.aio.Channel) -> None:
        self.ground, self.paying, self.engine = ground, paying, ground.database.engine
        failed_events: Any = FailedEventServiceStub(channel)
        outbox: Any = OutboxServiceStub(channel)
        self.failed_events, self.outbox = failed_events, outbox
        self.table = FailedEvents(self.engine, store.failed_events)

    async def listed(self, **filters: Any) -> list[UUID]:
        """The events that a filter finds, over all pages of two."""
        found: list[UUID] = []
        request = api.ListFailedEventsRequest(page_size=2, filter=api.FailedEventFilter(**filters))
        while True:
            page = await ask(self.failed_events.ListFailedEvents, request)
            assert not any(event.payload or event.payload_json for event in page.failed_events)
            found += [UUID(event.event_id) for event in page.failed_events]
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def read(self, event_id: UUID) -> api.FailedEvent:
        request = api.GetFailedEventRequest(consumer=CONSUMER, event_id=str(event_id))
        answer: api.GetFailedEventResponse = await ask(self.failed_events.GetFailedEvent, request)
        return answer.failed_event

    async def replay(self, event_id: UUID, consumer: str = CONSUMER) -> api.FailedEvent:
        request = api.ReplayFailedEventRequest(request_id=str(uuid4()), consumer=consumer, event_id=str(event_id))
        answer: api.ReplayFailedEventResponse = await ask(self.failed_events.ReplayFailedEvent, request)
        return answer.failed_event

    async def discard(self, event_id: UUID) -> api.FailedEvent:
        request = api.DiscardFailedEventRequest(request_id=str(uuid4()), consumer=CONSUMER, event_id=str(event_id))
        answer: api.DiscardFailedEventResponse = await ask(self.failed_events.DiscardFailedEvent, request)
        return answer.failed_event

    async def replay_all(self, limit: int = 0, dry_run: bool = False, **filters: Any) -> api.BatchReplayFailedEventsResponse:
        request = api.BatchReplayFailedEventsRequest(
            request_id=str(uuid4()), filter=api.FailedEventFilter(**filters), limit=limit, dry_run=dry_run
        )
        return await ask(self.failed_events.BatchReplayFailedEvents, request)

    async def fail(self, event: FailedEvent, minutes: int = 0) -> UUID:
        """The event has failed, so many minutes after nine in the morning."""
        await self.table.record([event])
        t = store.failed_events.c
        async with self.engine.begin() as connection:
            when = MORNING + timedelta(minutes=minutes)
            await connection.execute(update(store.failed_events).where(t.event_id == event.event_id).values(first_time=when))
        return event.event_id

    async def are(self, expected: dict[UUID, str]) -> bool:
        return await states(self.engine) == expected


@pytest.fixture
async def sample(sample_url: str, nats_url: str) -> AsyncIterator[Sample]:
    """The sample service, at a port of its own."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = Config.model_validate({"database_url": sample_url, "nats_url": nats_url, "listen_address": address})
    async with founded(config, store, stream_name="ORDERS", encode=store.event) as ground:
        paying = Paying(ground.database)
        await ground.open([], {SamplePaid: paying})
        async with connect(address) as channel:
            yield Sample(ground, paying, channel)


def event(state: FailedState = FailedState.FAILED, order: str = "", **fields: Any) -> FailedEvent:
    body = SamplePaid(order_id=order).SerializeToString()
    name, subject = SamplePaid.DESCRIPTOR.full_name, "payments.sample.paid"
    made = FailedEvent(CONSUMER, uuid4(), state, "PAYMENTS", 7, subject, name, "", body, None, MORNING, "ORDER_NOT_FOUND", "", 1)
    return replace(made, **fields)


async def test_a_poisoned_event_is_replayed_when_its_handler_is_mended(sample: Sample, eventually: Eventually) -> None:
    """A bug: the event has failed, its neighbours too. Replayed while it lasts it stays, with the new error; mended, it has its effect;

    replayed again, at once by two, and delivered once more by the broker, it has had it, once.
    """
    [order] = await placed(sample.ground.database)
    sample.paying.broken = True
    event_id = await publish(sample.ground.broker, SamplePaid(order_id=str(order), version=3), ce_subject=str(order))
    await eventually(lambda: sample.are({event_id: "failed"}))
    failed_event = await sample.read(event_id)
    assert (failed_event.state, failed_event.reason, failed_event.error) == (FAILED, "INTERNAL", "ZeroDivisionError: a bug")
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
    await sample.ground.broker.streams.delete_consumer("PAYMENTS", CONSUMER)
    await eventually(lambda: all_acknowledged(sample.ground.broker, CONSUMER, "PAYMENTS"))
    assert await count(sample.engine, store.history) == rows + 1
    assert await sample.are({event_id: "replayed"})


async def test_what_was_replayed_is_not_handled_again(sample: Sample) -> None:
    """However long ago, when its claim may be gone: the row remembers."""
    [order] = await placed(sample.ground.database)
    event_id = await sample.fail(event(order=str(order)))
    assert (await sample.replay(event_id)).state == REPLAYED
    assert (await sample.replay(event_id)).state == REPLAYED
    assert sample.paying.sets == [[event_id]]


async def test_a_deferred_event_need_not_be_waited_for(sample: Sample, eventually: Eventually) -> None:
    """An operator replays it before it comes again: the row stays, as replayed, and the delivery that follows changes nothing."""
    [order] = await placed(sample.ground.database)
    sample.paying.waits = True
    event_id = await publish(sample.ground.broker, SamplePaid(order_id=str(order)))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    assert (await sample.replay(event_id)).state == DEFERRED
    sample.paying.waits = False
    with suppress(NotFound):  # where the delivery came first, it left no row
        await sample.replay(event_id)
    await eventually(lambda: all_acknowledged(sample.ground.broker, CONSUMER, "PAYMENTS"))
    assert (await states(sample.engine)).get(event_id, "replayed") == "replayed"
    assert await count(sample.engine, store.history) == 2


async def test_a_discarded_event_is_not_delivered_again(sample: Sample, eventually: Eventually) -> None:
    """Given up while it is deferred: not when it comes again, nor when its stream was lost and brings it as new. Twice is once."""
    [order] = await placed(sample.ground.database)
    broker = sample.ground.broker
    sample.paying.waits = True
    event_id = await publish(broker, SamplePaid(order_id=str(order)))
    await eventually(lambda: sample.are({event_id: "deferred"}))
    for _ in range(2):
        assert (await sample.discard(event_id)).state == DISCARDED
    await eventually(lambda: all_acknowledged(broker, CONSUMER, "PAYMENTS"))
    sample.paying.waits = False
    handled = len(sample.paying.sets)
    await broker.streams.delete_stream("PAYMENTS")
    await broker.ensure_streams()
    other = await publish(broker, SamplePaid(order_id=str(order)))
    await publish(broker, SamplePaid(order_id=str(order)), event_id)
    await eventually(lambda: all_acknowledged(broker, CONSUMER, "PAYMENTS"))
    assert [id_ for s in sample.paying.sets[handled:] for id_ in s] == [other]
    assert await sample.are({event_id: "discarded"})
    assert (await sample.replay(event_id)).state == REPLAYED  # unless an operator wants it after all


async def test_filters_are_combined(sample: Sample) -> None:
    """Each condition leaves out something, all together leave one; the oldest first, over all pages; by default what is open."""
    one = await sample.fail(event(consumer="sample-orders", subject="a.b", reason="EVENT_AHEAD", aggregate="7"), minutes=5)
    old = await sample.fail(event(consumer="sample-orders", subject="a.b", reason="EVENT_AHEAD", aggregate="7"), minutes=1)
    rest = [
        await sample.fail(event(FailedState.DEFERRED, consumer="sample-orders", reason="EVENT_AHEAD", aggregate="8"), minutes=3),
        await sample.fail(event(subject="a.b", aggregate="7"), minutes=4),
        await sample.fail(event(FailedState.DEFERRED), minutes=2),
    ]
    closed = [await sample.fail(event(FailedState.REPLAYED), 6), await sample.fail(event(FailedState.DISCARDED), 7)]
    assert await sample.listed() == [old, rest[2], rest[0], rest[1], one]
    assert await sample.listed(states=[DEFERRED]) == [rest[2], rest[0]]
    assert await sample.listed(states=[REPLAYED, DISCARDED]) == closed
    assert await sample.listed(consumer="sample-orders") == [old, rest[0], one]
    assert await sample.listed(subject="a.b") == [old, rest[1], one]
    assert await sample.listed(reason="EVENT_AHEAD") == [old, rest[0], one]
    assert await sample.listed(aggregate_id="7") == [old, rest[1], one]
    five = timestamp(MORNING + timedelta(minutes=5))
    assert await sample.listed(first_fail_time_from=five) == [one]
    assert await sample.listed(first_fail_time_before=five) == [old, rest[2], rest[0], rest[1]]
    every = {"consumer": "sample-orders", "subject": "a.b", "reason": "EVENT_AHEAD", "aggregate_id": "7"}
    assert await sample.listed(states=[FAILED], first_fail_time_from=five, first_fail_time_before=Timestamp(seconds=2**33), **every) == [
        one
    ]
    assert await sample.listed(consumer="nobody") == []


async def test_events_of_one_moment_are_all_listed(sample: Sample) -> None:
    """Pages are cut by time, consumer and event: none is skipped and none shown twice where many failed at once."""
    ids = {await sample.fail(event(consumer=f"sample-{n % 3}")) for n in range(11)}
    found = await sample.listed()
    assert (len(found), set(found)) == (11, ids)


async def test_a_page_token_of_another_list_is_refused(sample: Sample) -> None:
    """A token is bound to its filter, and cannot be made up."""
    for _ in range(3):
        await sample.fail(event())
    page = await ask(sample.failed_events.ListFailedEvents, api.ListFailedEventsRequest(page_size=1))
    for token in (page.next_page_token, "x", "WyIiLCAiMjAyNi0xMS0yMiIsICJhIiwgImIiXQ=="):
        wrong = api.ListFailedEventsRequest(page_token=token, filter=api.FailedEventFilter(reason="OTHER"))
        with pytest.raises(Invalid, match="page_token"):
            await ask(sample.failed_events.ListFailedEvents, wrong)


async def test_many_are_replayed_the_oldest_first(sample: Sample) -> None:
    """A dry run replays nothing and tells which; a limit leaves the youngest, and says so; what fails again stays, the others are done."""
    orders = await placed(sample.ground.database, 3)
    fine = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    poison = await sample.fail(event(order=str(uuid4())), minutes=1)
    strange = await sample.fail(event(type="ordermesh.Unknown"), minutes=9)
    expected = await sample.listed()
    rows = await count(sample.engine, store.history)
    dry = await sample.replay_all(dry_run=True)
    assert ([UUID(e.event_id) for e in dry.failed_events], dry.replayed_count, dry.more) == (expected, 5, False)
    assert sample.paying.sets == []
    some = await sample.replay_all(limit=2)
    assert ([UUID(e.event_id) for e in some.failed_events], some.more) == (expected[:2], True)
    assert sample.paying.sets[0] == expected[:2]
    rest = await sample.replay_all(limit=1000)
    assert not rest.more
    found = {UUID(e.event_id): e for e in (*some.failed_events, *rest.failed_events)}
    assert {id_: e.state for id_, e in found.items()} == dict.fromkeys(fine, REPLAYED) | dict.fromkeys((poison, strange), FAILED)
    assert (found[poison].reason, found[strange].reason) == ("ORDER_NOT_FOUND", "INTERNAL")
    assert some.replayed_count + rest.replayed_count == 3
    assert await count(sample.engine, store.history) == rows + 3
    again = await sample.replay_all()
    assert (again.replayed_count, len(again.failed_events)) == (0, 2)
    assert await count(sample.engine, store.history) == rows + 3


async def test_a_repeat_takes_no_other_events(sample: Sample) -> None:
    """The answer was lost, the same request comes again: it tells how the events of the first now stand, and handles none."""
    orders = await placed(sample.ground.database, 3)
    first, second, third = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    poison = await sample.fail(event(order=str(uuid4())), minutes=-1)
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()), limit=2)
    answers = [await ask(sample.failed_events.BatchReplayFailedEvents, request) for _ in range(3)]
    for answer in answers:
        assert [(UUID(e.event_id), e.state, e.attempts) for e in answer.failed_events] == [(poison, FAILED, 2), (first, REPLAYED, 1)]
        assert (answer.replayed_count, answer.more) == (1, True)
    assert {id_ for s in sample.paying.sets for id_ in s} == {poison, first}
    assert await sample.are({poison: "failed", first: "replayed", second: "failed", third: "failed"})


async def test_a_repeat_of_a_request_that_found_nothing_finds_nothing(sample: Sample) -> None:
    """What has failed since then was not meant."""
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()))
    assert not (await ask(sample.failed_events.BatchReplayFailedEvents, request)).failed_events
    await sample.fail(event())
    assert not (await ask(sample.failed_events.BatchReplayFailedEvents, request)).failed_events
    assert sample.paying.sets == []


async def test_a_replay_that_was_killed_goes_on_with_the_same_events(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when its events are chosen and none is handled: a repeat goes on with those, and takes no older one that has come since.

    One that was discarded meanwhile is let alone; one whose row is gone had its effect.
    """
    orders = await placed(sample.ground.database, 4)
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
        await connection.execute(delete(store.failed_events).where(store.failed_events.c.event_id == ids[2]))
    rows = await count(sample.engine, store.history)
    for _ in range(2):
        answer = await ask(sample.failed_events.BatchReplayFailedEvents, request)
        found = [(UUID(e.event_id), e.state, e.consumer) for e in answer.failed_events]
        assert found == [(id_, state, CONSUMER) for id_, state in zip(ids, (DISCARDED, REPLAYED, REPLAYED, REPLAYED), strict=True)]
    assert sample.paying.sets == [[ids[1]], [ids[3]]]
    assert await count(sample.engine, store.history) == rows + 1
    assert (await states(sample.engine))[older] == "failed"


async def test_a_repeated_replay_is_not_tried_again(sample: Sample) -> None:
    """The event failed again, and the answer was lost: the repeat tells how it stands. Another request is another attempt."""
    event_id = await sample.fail(event(order=str(uuid4())))
    request = api.ReplayFailedEventRequest(request_id=str(uuid4()), consumer=CONSUMER, event_id=str(event_id))
    for _ in range(2):
        assert (await ask(sample.failed_events.ReplayFailedEvent, request)).failed_event.attempts == 2
    assert (await sample.replay(event_id)).attempts == 3


async def test_a_repeated_discard_gives_up_nothing_new(sample: Sample) -> None:
    """Discarded, replayed after all, and failed anew for another reason: the old request's repeat lets it stand."""
    [order] = await placed(sample.ground.database)
    made = event(order=str(order))
    request = api.DiscardFailedEventRequest(request_id=str(uuid4()), consumer=CONSUMER, event_id=str(await sample.fail(made)))
    assert (await ask(sample.failed_events.DiscardFailedEvent, request)).failed_event.state == DISCARDED
    assert (await sample.replay(made.event_id)).state == REPLAYED
    await sample.fail(made)
    assert (await ask(sample.failed_events.DiscardFailedEvent, request)).failed_event.state == FAILED
    assert await sample.are({made.event_id: "failed"})


async def test_a_request_id_stands_for_one_request(sample: Sample) -> None:
    """With another body it is refused, and nothing is done."""
    one, other = await sample.fail(event()), await sample.fail(event(), minutes=1)
    calls, replay, discard = sample.failed_events, api.ReplayFailedEventRequest, api.DiscardFailedEventRequest
    names = [{"consumer": CONSUMER, "event_id": str(event_id)} for event_id in (one, other)]
    cases: list[tuple[Any, Any, Any]] = [
        (calls.BatchReplayFailedEvents, *(api.BatchReplayFailedEventsRequest(limit=limit) for limit in (1, 2))),
        (calls.ReplayFailedEvent, *(replay(**name) for name in names)),
        (calls.DiscardFailedEvent, *(discard(**name) for name in names)),
    ]
    for method, request, another in cases:
        request.request_id = another.request_id = str(uuid4())
        await ask(method, request)
        with pytest.raises(Invalid, match="REQUEST_ID_REUSED"):
            await ask(method, another)
    assert sample.paying.sets == [[one], [one]]
    assert await sample.are({one: "discarded", other: "failed"})


async def test_a_request_that_was_refused_has_not_used_its_id_up(sample: Sample) -> None:
    """There is no such event: the same request is done when it has come."""
    replayed, discarded = event(order=str((await placed(sample.ground.database))[0])), event()
    replay = api.ReplayFailedEventRequest(request_id=str(uuid4()), consumer=CONSUMER, event_id=str(replayed.event_id))
    discard = api.DiscardFailedEventRequest(request_id=str(uuid4()), consumer=CONSUMER, event_id=str(discarded.event_id))
    for method, request in ((sample.failed_events.ReplayFailedEvent, replay), (sample.failed_events.DiscardFailedEvent, discard)):
        with pytest.raises(NotFound):
            await ask(method, request)
    await sample.table.record([replayed, discarded])
    assert (await ask(sample.failed_events.ReplayFailedEvent, replay)).failed_event.state == REPLAYED
    assert (await ask(sample.failed_events.DiscardFailedEvent, discard)).failed_event.state == DISCARDED


async def test_two_at_once_choose_the_same(sample: Sample) -> None:
    """A request and its repeat at the same time: between them they handle what one would have."""
    orders = await placed(sample.ground.database, 6)
    ids = [await sample.fail(event(order=str(order)), minutes=n) for n, order in enumerate(orders)]
    rows = await count(sample.engine, store.history)
    request = api.BatchReplayFailedEventsRequest(request_id=str(uuid4()), limit=3)
    answers = await asyncio.gather(*(ask(sample.failed_events.BatchReplayFailedEvents, request) for _ in range(4)))
    assert [[UUID(e.event_id) for e in answer.failed_events] for answer in answers] == [ids[:3]] * 4
    assert await count(sample.engine, store.history) == rows + 3


async def test_what_is_not_there_is_not_found(sample: Sample) -> None:
    """By any call that names an event, also where another consumer has trouble with it."""
    event_id = await sample.fail(event())
    for call in (sample.read, sample.replay, sample.discard):
        with pytest.raises(NotFound, match="has no failed event"):
            await call(uuid4())
    with pytest.raises(NotFound):
        await sample.replay(event_id, consumer="sample-orders")


async def test_a_payload_that_cannot_be_read_is_shown_as_it_is(sample: Sample) -> None:
    """Its type is not known here, or it is no such message: then there is no JSON, and all the rest."""
    for made in (event(type="ordermesh.Unknown", payload=b"\xff"), event(payload=b"\xff\xff")):
        shown = await sample.read(await sample.fail(made))
        assert (shown.payload, shown.payload_json) == (made.payload, "")


async def test_a_deferred_event_that_nobody_brings_is_taken_up(sample: Sample, eventually: Eventually) -> None:
    """The broker has lost it, or given it up: from time to time the consumer tries it from the database. One that still comes is left."""
    [order] = await placed(sample.ground.database)
    lost = await sample.fail(event(FailedState.DEFERRED, order=str(order)))
    hopeless = await sample.fail(event(FailedState.DEFERRED, order=str(uuid4())))
    fresh = await sample.fail(event(FailedState.DEFERRED, order=str(order)))
    t = store.failed_events.c
    async with sample.engine.begin() as connection:
        long_ago = update(store.failed_events).where(t.event_id != fresh).values(update_time=t.update_time - timedelta(minutes=2))
        await connection.execute(long_ago)
    await _survey(sample)
    assert await states(sample.engine) == {hopeless: "failed", fresh: "deferred"}  # its quarter of an hour was long over
    assert sample.paying.sets[0] in ([lost, hopeless], [hopeless, lost])
    assert await count(sample.engine, store.history) == 2


async def _survey(sample: Sample) -> None:
    inbox = Inbox(sample.ground.broker, sample.engine, store.failed_events, service="sample", handlers={SamplePaid: sample.paying})
    [consumer] = inbox._consumers
    await consumer._survey()


async def test_the_outbox_is_told(sample: Sample, eventually: Eventually) -> None:
    """How many wait, since when, how many are kept, how far the stream is; and published again, once for each request."""
    orders = await placed(sample.ground.database, 3)
    await eventually(lambda: none_waits(sample.engine))
    stats = await ask(sample.outbox.GetOutboxStats, api.GetOutboxStatsRequest())
    assert stats == api.GetOutboxStatsResponse(stream="ORDERS", waiting_count=0, kept_count=3, highest_stream_seq=3)
    request = api.RepublishEventsRequest(request_id=str(uuid4()), aggregate_id=str(orders[0]), dry_run=True)
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 1
    request.dry_run = False
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 1
    await eventually(lambda: none_waits(sample.engine))
    assert (await ask(sample.outbox.RepublishEvents, request)).event_count == 0
    everything = api.RepublishEventsRequest(request_id=str(uuid4()), create_time_from=timestamp(MORNING - timedelta(days=999)))
    assert (await ask(sample.outbox.RepublishEvents, everything)).event_count == 3
    await eventually(lambda: none_waits(sample.engine))
    everything.aggregate_id = str(orders[0])
    with pytest.raises(Invalid, match="REQUEST_ID_REUSED"):
        await ask(sample.outbox.RepublishEvents, everything)
    with pytest.raises(Invalid, match="aggregate_id or create_time_from"):
        await ask(sample.outbox.RepublishEvents, api.RepublishEventsRequest(request_id=str(uuid4())))
