"""The inbox settles each event by the outcome of its handler. Events that fail:
test_inbox_failures.py; connections that fail: test_pull.py.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.consume import inbox as inboxes
from chassis.consume.delivery import Delivery
from chassis.consume.failed_event_records import digest_of
from chassis.consume.inbox import PARK_AT, Inbox, delay_s
from chassis.observe import telemetry
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, NotFound, Overloaded
from chassis.write.tables import FailedState
from tests.rpc.spans import recorded
from tests.sample import store
from tests.sample.events import SampleNoted, SamplePaid, SampleStatusChanged
from tests.sample.inbox import (
    CONSUMER,
    RecordingHandler,
    all_acknowledged,
    consuming,
    failed,
    has_state,
    let_arrive_together,
    publish,
    states,
)
from tests.support import Eventually, measured


async def test_arrived_events_are_one_set(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog goes to its handlers in batches. Each handler gets its events of a batch at once,
    in order, and all are acknowledged.
    """
    orders, notes = RecordingHandler(), RecordingHandler()
    ids = [
        await publish(broker, SampleStatusChanged(version=n) if n % 3 else SampleNoted(version=n))
        for n in range(30)
    ]
    let_arrive_together(monkeypatch, 30)
    async with consuming(broker, engine, {SampleStatusChanged: orders, SampleNoted: notes}):
        await eventually(lambda: len(orders.seen) + len(notes.seen) == 30)
        await eventually(lambda: all_acknowledged(broker))
    assert [[d.message.version for d in s] for s in orders.sets] == [
        [n for n in range(30) if n % 3]
    ]
    assert [[d.message.version for d in s] for s in notes.sets] == [
        [n for n in range(30) if not n % 3]
    ]
    assert orders.seen + notes.seen == dict.fromkeys(ids, 1)
    assert await failed(engine) == []


async def test_delivery_has_key_hash_and_time_of_its_event(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The delivery's key is the consumer's and the event's, its request hash is the digest of its
    row, and its time that of the publication.
    """
    handler, time = RecordingHandler(), datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    event_id = await publish(
        broker, SampleStatusChanged(order_id="7", version=3), ce_time=time.isoformat()
    )
    await publish(broker, SampleStatusChanged(order_id="7", version=4))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: len(handler.seen) == 2)
    first, second = (d for s in handler.sets for d in s)
    assert (first.event_id, first.key, first.time) == (event_id, f"sample-orders:{event_id}", time)
    assert (first.message.order_id, first.message.version) == ("7", 3)
    subject, name = "orders.sample.status_changed", SampleStatusChanged.DESCRIPTOR.full_name
    for delivery in (first, second):
        assert delivery.request_hash == digest_of(
            subject, name, delivery.message.SerializeToString()
        )
    assert first.request_hash != second.request_hash


async def test_event_is_handled_in_its_own_trace(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The handler's spans continue the trace in the event's header."""
    traces: list[str | None] = []

    def outcome(_: Delivery[Any]) -> Outcome[Any]:
        traces.append(telemetry.traceparent())
        return Done(record=None)

    await publish(broker, SampleStatusChanged(version=1), traceparent=f"00-{7:032x}-{7:016x}-01")
    with recorded():
        async with consuming(broker, engine, {SampleStatusChanged: RecordingHandler(outcome)}):
            await eventually(lambda: traces)
    [inside] = traces
    assert inside
    assert inside.startswith(f"00-{7:032x}-")
    assert not inside.endswith(f"-{7:016x}-01")


async def test_skip_and_repeat_are_counted_apart(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A skip, a repeat and a change are three outcomes of the same counter, and all of them are
    acknowledged.
    """
    made = {
        1: Done(record="changed"),
        2: Done(record="as it was", skipped=True),
        3: Done(record="changed", repeat=True),
    }
    before = {outcome: _handled(outcome) for outcome in ("done", "skipped", "repeat")}
    for version in (1, 2, 2, 3):
        await publish(broker, SampleStatusChanged(version=version))
    async with consuming(
        broker, engine, {SampleStatusChanged: RecordingHandler(lambda d: made[d.message.version])}
    ):
        await eventually(
            lambda: (
                {o: _handled(o) - was for o, was in before.items()}
                == {"done": 1, "skipped": 2, "repeat": 1}
            )
        )
        await eventually(lambda: all_acknowledged(broker))


def _handled(outcome: str) -> float:
    return measured(
        "inbox_handled_total", consumer=CONSUMER, event="SampleStatusChanged", outcome=outcome
    )


async def test_each_stream_has_its_consumer(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Handlers for two streams make two durable consumers, which subscribe only to the subjects of
    these handlers.
    """
    orders, payments = RecordingHandler(), RecordingHandler()
    await publish(broker, SampleNoted())
    await publish(broker, SampleStatusChanged())
    await publish(broker, SamplePaid())
    async with consuming(
        broker, engine, {SampleStatusChanged: orders, SamplePaid: payments}
    ) as inbox:
        await eventually(lambda: orders.sets and payments.sets)
        assert sorted(inbox.consumers) == ["sample-orders", "sample-payments"]
    config = (await broker.streams.consumer_info("ORDERS", "sample-orders")).config
    assert config.filter_subjects == ["orders.sample.status_changed"]


async def test_replicas_share_a_consumer(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event goes to one of the replicas."""
    monkeypatch.setattr(inboxes, "SET_MAX", 2)
    one, two = RecordingHandler(), RecordingHandler()
    async with AsyncExitStack() as stack:
        for handler in (one, two):
            await stack.enter_async_context(
                consuming(broker, engine, {SampleStatusChanged: handler})
            )
        await eventually(lambda: _pulls(broker, 2))
        await asyncio.gather(*(publish(broker, SampleStatusChanged(version=n)) for n in range(100)))
        await eventually(lambda: len(one.seen + two.seen) == 100)
        await eventually(lambda: all_acknowledged(broker))
    assert set((one.seen + two.seen).values()) == {1}
    assert one.sets
    assert two.sets


async def _pulls(broker: Broker, number: int) -> bool:
    with suppress(*BROKER_ERRORS):
        return bool((await broker.streams.consumer_info("ORDERS", CONSUMER)).num_waiting == number)
    return False


@pytest.mark.parametrize(
    "failure",
    [Deferred("DEPENDENCY_UNAVAILABLE"), Overloaded("OVERLOADED"), NotFound("ORDER_NOT_FOUND")],
)
async def test_deferred_event_comes_again(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, failure: Any
) -> None:
    """An event that is deferred, or whose record is not found yet, comes again later. Meanwhile
    failed_events has a row, which is deleted in the end.
    """
    handler = RecordingHandler(lambda _: Done(record=None) if len(handler.sets) > 3 else failure)
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged())
        [row] = await eventually(lambda: failed(engine))  # the row is there only for a moment
        assert (row.state, row.reason, row.consumer) == (
            FailedState.DEFERRED,
            failure.reason,
            CONSUMER,
        )
        await eventually(lambda: handler.settled == [event_id])
        await eventually(lambda: _nothing_failed(engine))
        await eventually(lambda: all_acknowledged(broker))
    assert handler.seen == {event_id: 4}
    assert len({d.key for s in handler.sets for d in s}) == 1


async def _nothing_failed(engine: AsyncEngine) -> bool:
    return not await failed(engine)


async def test_deferral_ends_by_time_and_not_by_count(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The time counts from the consumer's first deferral of the event, for any number of
    deliveries; then the event has failed.
    """
    handler = RecordingHandler(lambda _: Deferred("PAYMENT_OUTSTANDING", "Not paid yet."))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged(version=5))
        await eventually(lambda: handler.seen[event_id] > PARK_AT)
        assert await states(engine) == {event_id: "deferred"}
        async with engine.begin() as connection:
            long_ago = store.failed_events.c.first_time - timedelta(minutes=15)
            await connection.execute(update(store.failed_events).values(first_time=long_ago))
        await eventually(lambda: has_state(engine, event_id, "failed"))
        await eventually(lambda: all_acknowledged(broker))
        [row] = await failed(engine)
        # the row has failed before its last try
        await eventually(lambda: handler.seen[event_id] == row.attempts)
        assert (row.reason, row.error) == ("PAYMENT_OUTSTANDING", "Not paid yet.")
        assert SampleStatusChanged.FromString(row.payload) == SampleStatusChanged(version=5)
        assert (row.stream, row.subject, row.type) == (
            "ORDERS",
            "orders.sample.status_changed",
            SampleStatusChanged.DESCRIPTOR.full_name,
        )


def test_delays_grow_and_are_bounded() -> None:
    """The first delay is a tenth of a second, and each is twice the one before. They are spread so
    that events that failed together do not come together.

    At most PARK_AT deliveries of an event wait in the stream.
    """
    assert all(0.05 <= delay_s(1) <= 0.1 for _ in range(100))
    assert all(0.1 <= delay_s(PARK_AT - 1) <= 0.2 for _ in range(100))
    assert len({delay_s(1) for _ in range(100)}) > 50


@pytest.mark.parametrize(
    "error",
    [
        Deferred("DEPENDENCY_UNAVAILABLE"),
        OperationalError("select 1", {}, Exception("gone")),
        ConnectionError(),
    ],
)
async def test_unreachable_dependency_defers_the_set(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, error: Exception
) -> None:
    """A peer or the database is unreachable: the handler is not called for each event alone, all
    come again, and none fails.
    """
    calls = 0
    handler = RecordingHandler()

    async def away(deliveries: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise error
        return await handler(deliveries)

    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: away}):
        await eventually(lambda: set(handler.settled) == set(ids))
        await eventually(lambda: all_acknowledged(broker))
        await eventually(lambda: _nothing_failed(engine))


async def test_unknown_event_waits_for_the_newer_version(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """In a rolling deployment two versions share a consumer, and the older one gets events of
    unknown types. It defers any such event, and the newer version handles it when it comes again.
    """
    older, newer = RecordingHandler(), RecordingHandler()
    await broker.ensure_consumer(
        "ORDERS", CONSUMER, ["orders.sample.noted", "orders.sample.status_changed"]
    )
    async with consuming(broker, engine, {SampleStatusChanged: older}):
        event_id = await publish(broker, SampleNoted(version=7))
        await eventually(lambda: has_state(engine, event_id, "deferred"))
        [row] = await failed(engine)
        assert (row.reason, row.error.partition(":")[0]) == (
            "EVENT_AHEAD",
            "no handler here takes events of type 'ordermesh.sample.events.v1.SampleNoted'",
        )
    async with consuming(broker, engine, {SampleStatusChanged: newer, SampleNoted: newer}):
        await eventually(lambda: newer.settled == [event_id], timeout_s=30)
        await eventually(lambda: _nothing_failed(engine))


async def test_inbox_without_handlers_is_refused(broker: Broker, engine: AsyncEngine) -> None:
    """An inbox without handlers raises, because it would have nothing to run."""
    with pytest.raises(ValueError, match="needs handlers"):
        Inbox(broker, engine, store.failed_events, service="sample", handlers={})
