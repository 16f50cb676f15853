"""The inbox stores events that no retry helps as failed; each fails alone. An operator replays or
discards it."""

import time
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import event_payload
from chassis.broker.stream import Broker
from chassis.consume.delivery import received_event
from chassis.consume.failed_events import FailedEvents
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Invalid, Refused, Violation
from chassis.write.tables import FailedState
from tests.sample import store
from tests.sample.events import SampleStatusChanged
from tests.sample.inbox import (
    CONSUMER,
    RecordingHandler,
    all_acknowledged,
    consuming,
    failed,
    has_state,
    names,
    publish,
    states,
)
from tests.streams import ensure_streams
from tests.support import Eventually


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
    orders, samples = RecordingHandler(), RecordingHandler()
    began = time.process_time()
    handlers: dict[type[Message], RecordingHandler] = {
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
    handler = RecordingHandler()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: all_acknowledged(broker))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (broken, "failed", "INTERNAL")
    assert handler.settled == [good]


@pytest.mark.parametrize("raised", [False, True])
async def test_refused_event_fails_alone(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, raised: bool
) -> None:
    """The handler refuses the event: it is stored and never delivered again. The others of its set
    have their effect, each once.
    """

    def outcome(delivery: Any) -> Any:
        if delivery.message.version != 3:
            return Done(record=None)
        if raised:
            raise Invalid("ILLEGAL_TRANSITION", "No.")
        return Refused("ILLEGAL_TRANSITION", "No.")

    handler = RecordingHandler(outcome)
    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: has_state(engine, ids[3], "failed"))
        await eventually(lambda: all_acknowledged(broker))
    assert set(handler.settled) == set(ids) - {ids[3]}
    [row] = await failed(engine)
    assert (row.reason, row.error, row.attempts) == ("ILLEGAL_TRANSITION", "No.", 1)


async def test_handler_bug_fails_only_its_own_event(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The handler raises for the set, and is called for each event alone: one fails, the others are
    done.
    """

    def outcome(delivery: Any) -> Any:
        return Done(record=1 // (delivery.message.version - 3))

    handler = RecordingHandler(outcome)
    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(6)]
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: all_acknowledged(broker))
        await eventually(lambda: has_state(engine, ids[3], "failed"))
    [row] = await failed(engine)
    assert (row.reason, row.error) == (
        "INTERNAL",
        "ZeroDivisionError: integer division or modulo by zero",
    )
    assert set(handler.settled) == set(ids) - {ids[3]}


async def test_handler_with_too_few_outcomes_fails_its_event(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """With fewer outcomes than events no outcome can be assigned: the event fails."""

    async def losing_outcomes(deliveries: Any) -> Any:
        return [Done(record=None)] * (len(deliveries) - 1)

    event_id = await publish(broker, SampleStatusChanged())
    async with consuming(broker, engine, {SampleStatusChanged: losing_outcomes}):
        await eventually(lambda: has_state(engine, event_id, "failed"))


async def test_unreadable_event_has_failed(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An unknown type, no type, a body that is no message, no id, and text that PostgreSQL cannot
    store: each event is stored, and none delays others.
    """
    handler = RecordingHandler()
    subject = "orders.sample.status_changed"
    name = SampleStatusChanged.DESCRIPTOR.full_name
    unreadable = [
        ({"ce-type": "ordermesh.sample.events.v2.SampleStatusChanged", "ce-id": str(uuid4())}, b""),
        ({"ce-id": str(uuid4())}, b""),
        ({"ce-type": name, "ce-id": "no id"}, b"\xff\xff"),
        ({"ce-type": "nul\0nul", "ce-time": "yesterday"}, b"\0"),
        ({}, b"bare"),
    ]
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        for headers, body in unreadable:
            await broker.publish(subject, body, headers, stream="ORDERS")
        fine = await publish(broker, SampleStatusChanged())
        await eventually(lambda: handler.settled == [fine])
        await eventually(lambda: all_acknowledged(broker))
    rows = await failed(engine)
    assert [row.state for row in rows] == [FailedState.FAILED] * 5
    assert {row.reason for row in rows} == {"EVENT_UNREADABLE"}
    assert len({row.event_id for row in rows}) == 5
    assert sorted(row.stream_seq for row in rows) == [1, 2, 3, 4, 5]


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
        await eventually(lambda: has_state(engine, event_id, "failed"))
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
    handler = RecordingHandler(lambda _: Refused("ILLEGAL_TRANSITION"))
    await FailedEvents(engine, store.failed_events).record([received_event(raw, CONSUMER)])
    await raw.nak()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: all_acknowledged(broker))
    assert handler.sets == []
    assert await states(engine) == {event_id: "failed"}


async def test_republished_failed_event_is_handled_again(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A lost stream delivers all its events again: one that had failed can have its effect now, and
    counts as replayed.
    """
    mended = False
    handler = RecordingHandler(
        lambda _: Done(record=None) if mended else Refused("ILLEGAL_TRANSITION")
    )
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        event_id = await publish(broker, SampleStatusChanged())
        await eventually(lambda: has_state(engine, event_id, "failed"))
        mended = True
        await broker.streams.delete_stream("ORDERS")
        await ensure_streams(broker)
        await publish(broker, SampleStatusChanged(), event_id)
        await eventually(lambda: has_state(engine, event_id, "replayed"))


async def test_a_replay_has_its_effect_once(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An operator replays: while the fault lasts the event stays failed, with one attempt more.
    After the fix it is replayed; a second replay has no further effect.
    """
    mended = False
    handler = RecordingHandler(
        lambda d: (
            Done(record=None, repeat=d.event_id in handler.settled)
            if mended
            else Refused("ILLEGAL_TRANSITION", "Still.")
        )
    )
    async with consuming(broker, engine, {SampleStatusChanged: handler}) as inbox:
        event_id = await publish(broker, SampleStatusChanged(version=9))
        await eventually(lambda: has_state(engine, event_id, "failed"))
        [name] = await names(engine, event_id)
        outcomes = dict(await inbox.replay([name, (CONSUMER, uuid4(), b"")]))
        assert isinstance(outcomes.pop(name), Refused)
        assert outcomes == {}
        [row] = await failed(engine)
        assert (row.state, row.attempts, row.error) == (FailedState.FAILED, 2, "Still.")
        mended = True
        for repeat in (False, True):
            assert await inbox.replay([name]) == {name: Done(record=None, repeat=repeat)}
            assert await states(engine) == {event_id: "replayed"}
    assert {(d.event_id, d.key, d.message.version) for s in handler.sets for d in s} == {
        (event_id, f"{CONSUMER}:{event_id}", 9)
    }


async def test_a_discarded_event_stays_so(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """An operator discards a deferred event: it comes once more at most, and is not tried again."""
    handler = RecordingHandler(lambda _: Deferred("PAYMENT_OUTSTANDING"))
    async with consuming(broker, engine, {SampleStatusChanged: handler}) as inbox:
        event_id = await publish(broker, SampleStatusChanged())
        await eventually(lambda: has_state(engine, event_id, "deferred"))
        [name] = await names(engine, event_id)
        async with engine.begin() as connection:
            await inbox.failed.discard(connection, [name])
        await eventually(lambda: all_acknowledged(broker))
    assert await states(engine) == {event_id: "discarded"}
