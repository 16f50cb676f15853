"""The inbox settles each event by the outcome of its handler. Connections that fail:
test_pull.py.
"""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import event_payload
from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.consume.delivery import Delivery, received_event
from chassis.consume.failed_events import FailedEvents, digest_of
from chassis.consume.inbox import PARK_AT, Inbox, delay_s
from chassis.observe import telemetry
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred, Invalid, NotFound, Overloaded, Refused, Violation
from chassis.write.tables import FailedState
from tests.rpc.spans import recorded
from tests.sample import store
from tests.sample.events import SampleNoted, SamplePaid, SampleStatusChanged
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
from tests.streams import ensure_streams
from tests.support import Eventually, measured


async def test_arrived_events_are_one_set(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A backlog goes to its handlers in batches. Each handler gets its events of a batch at once,
    in order, and all are acknowledged.
    """
    orders, notes = Handling(), Handling()
    ids = [
        await publish(broker, SampleStatusChanged(version=n) if n % 3 else SampleNoted(version=n))
        for n in range(30)
    ]
    async with consuming(
        broker, engine, {SampleStatusChanged: orders, SampleNoted: notes}, linger_s=2.0
    ):
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
    handling, time = Handling(), datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    event_id = await publish(
        broker, SampleStatusChanged(order_id="7", version=3), ce_time=time.isoformat()
    )
    await publish(broker, SampleStatusChanged(order_id="7", version=4))
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: len(handling.seen) == 2)
    first, second = (d for s in handling.sets for d in s)
    assert (first.event_id, first.key, first.time) == (event_id, f"sample-orders:{event_id}", time)
    assert (first.message.order_id, first.message.version) == ("7", 3)
    subject, name = "orders.sample.status_changed", SampleStatusChanged.DESCRIPTOR.full_name
    for delivery in (first, second):
        assert delivery.request_hash == digest_of(
            subject, name, delivery.message.SerializeToString()
        )
    assert first.request_hash != second.request_hash


async def test_event_of_a_million_items_fails_and_the_next_is_handled(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """2 MB of empty items are EVENT_UNREADABLE by their bound, take little time, and stop no
    inbox.
    """
    number = OrderStatusChanged.DESCRIPTOR.fields_by_name["items"].number
    garbage = OrderStatusChanged.FromString(bytes([number << 3 | 2, 0]) * 1_000_000)
    garbage_id = await publish(broker, garbage)
    del garbage
    good_id = await publish(broker, SampleStatusChanged(version=1))
    orders, samples = Handling(), Handling()
    began = time.process_time()
    handlers: dict[type[Message], Handling] = {
        OrderStatusChanged: orders,
        SampleStatusChanged: samples,
    }
    async with consuming(broker, engine, handlers):
        await eventually(lambda: all_acknowledged(broker))
    assert time.process_time() - began < 1.0
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (garbage_id, "failed", "EVENT_UNREADABLE")
    assert "items: must contain no more than 500 item(s)" in row.error
    assert (orders.sets, samples.settled) == ([], [good_id])


async def test_event_with_a_validation_bug_fails_alone(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the chassis' validation fails that event as INTERNAL: the others are
    handled.
    """

    def rules(message: Any, *, fail_fast: bool = False) -> list[Violation]:
        if message.version == 1:
            raise RuntimeError("a rule cannot be evaluated")
        return []

    monkeypatch.setattr(event_payload, "violations", rules)
    broken, good = [await publish(broker, SampleStatusChanged(version=n)) for n in (1, 2)]
    handling = Handling()
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: all_acknowledged(broker))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (broken, "failed", "INTERNAL")
    assert handling.settled == [good]


async def test_event_is_handled_in_its_own_trace(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The handler's spans continue the trace in the event's header."""
    traces: list[str | None] = []

    def outcome(_: Delivery[Any]) -> Outcome[Any]:
        traces.append(telemetry.traceparent())
        return Done(None)

    await publish(broker, SampleStatusChanged(version=1), traceparent=f"00-{7:032x}-{7:016x}-01")
    with recorded():
        async with consuming(broker, engine, {SampleStatusChanged: Handling(outcome)}):
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
    made = {1: Done("changed"), 2: Done("as it was", skipped=True), 3: Done("changed", repeat=True)}
    before = {outcome: _handled(outcome) for outcome in ("done", "skipped", "repeat")}
    for version in (1, 2, 2, 3):
        await publish(broker, SampleStatusChanged(version=version))
    async with consuming(
        broker, engine, {SampleStatusChanged: Handling(lambda d: made[d.message.version])}
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
    orders, payments = Handling(), Handling()
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
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Each event goes to one of the replicas."""
    one, two = Handling(), Handling()
    async with AsyncExitStack() as stack:
        for handling in (one, two):
            await stack.enter_async_context(
                consuming(broker, engine, {SampleStatusChanged: handling}, batch_size_max=2)
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
    handling = Handling(lambda _: Done(None) if len(handling.sets) > 3 else failure)
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        event_id = await publish(broker, SampleStatusChanged())
        [row] = await eventually(lambda: failed(engine))  # the row is there only for a moment
        assert (row.state, row.reason, row.consumer) == (
            FailedState.DEFERRED,
            failure.reason,
            CONSUMER,
        )
        await eventually(lambda: handling.settled == [event_id])
        await eventually(lambda: _nothing_failed(engine))
        await eventually(lambda: all_acknowledged(broker))
    assert handling.seen == {event_id: 4}
    assert len({d.key for s in handling.sets for d in s}) == 1


async def _nothing_failed(engine: AsyncEngine) -> bool:
    return not await failed(engine)


async def test_deferral_ends_by_time_and_not_by_count(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The time counts from the consumer's first deferral of the event, for any number of
    deliveries; then the event has failed.
    """
    handling = Handling(lambda _: Deferred("PAYMENT_OUTSTANDING", "Not paid yet."))
    async with consuming(
        broker, engine, {SampleStatusChanged: handling}, deferral_limit=timedelta(minutes=15)
    ):
        event_id = await publish(broker, SampleStatusChanged(version=5))
        await eventually(lambda: handling.seen[event_id] > PARK_AT)
        assert await states(engine) == {event_id: "deferred"}
        async with engine.begin() as connection:
            long_ago = store.failed_events.c.first_time - timedelta(minutes=15)
            await connection.execute(update(store.failed_events).values(first_time=long_ago))
        await eventually(lambda: _is(engine, event_id, "failed"))
        await eventually(lambda: all_acknowledged(broker))
        [row] = await failed(engine)
        # the row has failed before its last try
        await eventually(lambda: handling.seen[event_id] == row.attempts)
        assert (row.reason, row.error) == ("PAYMENT_OUTSTANDING", "Not paid yet.")
        assert SampleStatusChanged.FromString(row.payload) == SampleStatusChanged(version=5)
        assert (row.stream, row.subject, row.type) == (
            "ORDERS",
            "orders.sample.status_changed",
            SampleStatusChanged.DESCRIPTOR.full_name,
        )


async def _is(engine: AsyncEngine, event_id: UUID, state: str) -> bool:
    return (await states(engine)).get(event_id) == state


def test_delays_grow_and_are_bounded() -> None:
    """The first delay is a tenth of a second, and each is twice the one before. They are spread so
    that events that failed together do not come together.

    At most PARK_AT deliveries of an event wait in the stream.
    """
    assert all(0.05 <= delay_s(1) <= 0.1 for _ in range(100))
    assert all(0.1 <= delay_s(PARK_AT - 1) <= 0.2 for _ in range(100))
    assert len({delay_s(1) for _ in range(100)}) > 50


@pytest.mark.parametrize("raised", [False, True])
async def test_refused_event_fails_alone(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, raised: bool
) -> None:
    """The handler refuses the event: it is stored and never delivered again. The others of its set
    have their effect, each once.
    """

    def outcome(delivery: Any) -> Any:
        if delivery.message.version != 3:
            return Done(None)
        if raised:
            raise Invalid("ILLEGAL_TRANSITION", "No.")
        return Refused("ILLEGAL_TRANSITION", "No.")

    handling = Handling(outcome)
    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: _is(engine, ids[3], "failed"))
        await eventually(lambda: all_acknowledged(broker))
    assert set(handling.settled) == set(ids) - {ids[3]}
    [row] = await failed(engine)
    assert (row.reason, row.error, row.attempts) == ("ILLEGAL_TRANSITION", "No.", 1)


async def test_handler_bug_fails_only_its_own_event(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The handler raises for the set, and is called for each event alone: one fails, the others are
    done.
    """

    def outcome(delivery: Any) -> Any:
        return Done(1 // (delivery.message.version - 3))

    handling = Handling(outcome)
    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: all_acknowledged(broker))
        await eventually(lambda: _is(engine, ids[3], "failed"))
    [row] = await failed(engine)
    assert (row.reason, row.error) == (
        "INTERNAL",
        "ZeroDivisionError: integer division or modulo by zero",
    )
    assert set(handling.settled) == set(ids) - {ids[3]}


async def test_handler_with_too_few_outcomes_fails_its_event(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """With fewer outcomes than events no outcome can be assigned: the event fails."""

    async def losing_outcomes(deliveries: Any) -> Any:
        return [Done(None)] * (len(deliveries) - 1)

    event_id = await publish(broker, SampleStatusChanged())
    async with consuming(broker, engine, {SampleStatusChanged: losing_outcomes}):
        await eventually(lambda: _is(engine, event_id, "failed"))


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
    handling = Handling()

    async def away(deliveries: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise error
        return await handling(deliveries)

    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: away}):
        await eventually(lambda: set(handling.settled) == set(ids))
        await eventually(lambda: all_acknowledged(broker))
        await eventually(lambda: _nothing_failed(engine))


async def test_unreadable_event_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An unknown type, no type, a body that is no message, no id, and text that PostgreSQL cannot
    store: each event is stored, and none delays others.
    """
    handling = Handling()
    subject = "orders.sample.status_changed"
    name = SampleStatusChanged.DESCRIPTOR.full_name
    unreadable = [
        ({"ce-type": "ordermesh.sample.events.v2.SampleStatusChanged", "ce-id": str(uuid4())}, b""),
        ({"ce-id": str(uuid4())}, b""),
        ({"ce-type": name, "ce-id": "no id"}, b"\xff\xff"),
        ({"ce-type": "nul\0nul", "ce-time": "yesterday"}, b"\0"),
        ({}, b"bare"),
    ]
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        for headers, body in unreadable:
            await broker.publish(subject, body, headers, stream="ORDERS")
        fine = await publish(broker, SampleStatusChanged())
        await eventually(lambda: handling.settled == [fine])
        await eventually(lambda: all_acknowledged(broker))
    rows = await failed(engine)
    assert [row.state for row in rows] == [FailedState.FAILED] * 5
    assert {row.reason for row in rows} == {"EVENT_UNREADABLE"}
    assert len({row.event_id for row in rows}) == 5
    assert sorted(row.stream_seq for row in rows) == [1, 2, 3, 4, 5]


async def test_unknown_event_waits_for_the_newer_version(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """In a rolling deployment two versions share a consumer, and the older one gets events of
    unknown types. It defers any such event, and the newer version handles it when it comes again.
    """
    older, newer = Handling(), Handling()
    await broker.ensure_consumer(
        "ORDERS", CONSUMER, ["orders.sample.noted", "orders.sample.status_changed"]
    )
    async with consuming(broker, engine, {SampleStatusChanged: older}):
        event_id = await publish(broker, SampleNoted(version=7))
        await eventually(lambda: _is(engine, event_id, "deferred"))
        [row] = await failed(engine)
        assert (row.reason, row.error.partition(":")[0]) == (
            "EVENT_AHEAD",
            "no handler here takes events of type 'ordermesh.sample.events.v1.SampleNoted'",
        )
    async with consuming(broker, engine, {SampleStatusChanged: newer, SampleNoted: newer}):
        await eventually(lambda: newer.settled == [event_id], timeout_s=30)
        await eventually(lambda: _nothing_failed(engine))


async def test_event_is_not_terminated_before_it_is_stored(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """While failed_events cannot be written the events stay unsettled: neither terminated nor lost.
    Then they are stored.
    """
    calls = 0

    async def refuse(deliveries: Any) -> Any:
        nonlocal calls
        async with engine.begin() as connection:
            await connection.execute(text("alter table failed_events rename to elsewhere"))
        calls += 1
        return [Refused("ILLEGAL_TRANSITION")] * len(deliveries)

    event_id = await publish(broker, SampleStatusChanged())
    async with consuming(broker, engine, {SampleStatusChanged: refuse}):
        await eventually(lambda: calls == 1)
        info = await broker.streams.consumer_info("ORDERS", CONSUMER)
        assert info.num_ack_pending == 1
        async with engine.begin() as connection:
            await connection.execute(text("alter table elsewhere rename to failed_events"))
        await eventually(lambda: _is(engine, event_id, "failed"))
        await eventually(lambda: all_acknowledged(broker))
    assert calls == 1


async def test_stored_failed_event_is_terminated_at_redelivery(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The event was stored, and the process ended before it answered the server. The event comes
    again, and is terminated without a call of its handler.
    """
    event_id = await publish(broker, SampleStatusChanged())
    await broker.ensure_consumer("ORDERS", CONSUMER, ["orders.sample.status_changed"])
    [raw] = await (await broker.streams.pull_subscribe_bind(CONSUMER, "ORDERS")).fetch(1)
    handling = Handling(lambda _: Refused("ILLEGAL_TRANSITION"))
    await FailedEvents(engine, store.failed_events).record([received_event(raw, CONSUMER)])
    await raw.nak()
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        await eventually(lambda: all_acknowledged(broker))
    assert handling.sets == []
    assert await states(engine) == {event_id: "failed"}


async def test_republished_failed_event_is_handled_again(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A lost stream delivers all its events again: one that had failed can have its effect now, and
    counts as replayed.
    """
    mended = False
    handling = Handling(lambda _: Done(None) if mended else Refused("ILLEGAL_TRANSITION"))
    async with consuming(broker, engine, {SampleStatusChanged: handling}):
        event_id = await publish(broker, SampleStatusChanged())
        await eventually(lambda: _is(engine, event_id, "failed"))
        mended = True
        await broker.streams.delete_stream("ORDERS")
        await ensure_streams(broker)
        await publish(broker, SampleStatusChanged(), event_id)
        await eventually(lambda: _is(engine, event_id, "replayed"))


async def test_a_replay_has_its_effect_once(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An operator replays: while the fault lasts the event stays failed, with one attempt more.
    After the fix it is replayed; a second replay has no further effect.
    """
    mended = False
    handling = Handling(
        lambda d: (
            Done(None, repeat=d.event_id in handling.settled)
            if mended
            else Refused("ILLEGAL_TRANSITION", "Still.")
        )
    )
    async with consuming(broker, engine, {SampleStatusChanged: handling}) as inbox:
        event_id = await publish(broker, SampleStatusChanged(version=9))
        await eventually(lambda: _is(engine, event_id, "failed"))
        [name] = await names(engine, event_id)
        outcomes = dict(await inbox.replay([name, (CONSUMER, uuid4(), b"")]))
        assert isinstance(outcomes.pop(name), Refused)
        assert outcomes == {}
        [row] = await failed(engine)
        assert (row.state, row.attempts, row.error) == (FailedState.FAILED, 2, "Still.")
        mended = True
        for repeat in (False, True):
            assert await inbox.replay([name]) == {name: Done(None, repeat=repeat)}
            assert await states(engine) == {event_id: "replayed"}
    assert {(d.event_id, d.key, d.message.version) for s in handling.sets for d in s} == {
        (event_id, f"{CONSUMER}:{event_id}", 9)
    }


async def test_a_discarded_event_stays_so(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An operator discards a deferred event: it comes once more at most, and is not tried again."""
    handling = Handling(lambda _: Deferred("PAYMENT_OUTSTANDING"))
    async with consuming(broker, engine, {SampleStatusChanged: handling}) as inbox:
        event_id = await publish(broker, SampleStatusChanged())
        await eventually(lambda: _is(engine, event_id, "deferred"))
        [name] = await names(engine, event_id)
        async with engine.begin() as connection:
            await inbox.failed.discard(connection, name)
        await eventually(lambda: all_acknowledged(broker))
    assert await states(engine) == {event_id: "discarded"}


async def test_inbox_without_handlers_is_refused(broker: Broker, engine: AsyncEngine) -> None:
    """An inbox without handlers raises, because it would have nothing to run."""
    with pytest.raises(ValueError, match="needs handlers"):
        Inbox(broker, engine, store.failed_events, service="sample", handlers={})
