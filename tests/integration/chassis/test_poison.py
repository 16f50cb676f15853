"""Events that are delivered again and again without an outcome: a poison message ends as a failed
event, and the others have their effect.
"""

import asyncio
import os
import sys
from subprocess import Popen
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import event_payload
from chassis.broker.stream import Broker
from chassis.consume.delivery import POISON_AFTER
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Refused
from chassis.write.database import Database
from tests.sample import operators, store
from tests.sample.events import SamplePaid, SampleStatusChanged
from tests.sample.inbox import (
    CONSUMER,
    RecordingHandler,
    all_acknowledged,
    consuming,
    failed,
    let_arrive_together,
    names,
    publish,
    states,
)
from tests.sample.operators import operated
from tests.sample.process import POISON
from tests.sample.processes import sample_process
from tests.sample.store import history
from tests.sample.writes import count, placed
from tests.support import Eventually

SUBJECTS = ["orders.sample.status_changed"]
NEIGHBOURS = 3


async def delivered(broker: Broker, times: int) -> None:
    """Lets the broker deliver each event of the stream so often, without an outcome."""
    await broker.ensure_consumer("ORDERS", CONSUMER, SUBJECTS)
    subscription = await broker.streams.pull_subscribe_bind(CONSUMER, "ORDERS")
    events, enough = (await broker.ensure_stream("ORDERS")).state.messages, list[Any]()
    while len(enough) < events:  # a fetch gives what is there just now
        for message in await subscription.fetch(events):
            if message.metadata.num_delivered < times:
                await message.nak()
            else:
                enough.append(message)
    for message in enough:
        await message.nak()
    await subscription.unsubscribe()


async def omctl(address: str, *arguments: str) -> tuple[str, str]:
    """Runs omctl with the order service at this address; returns what it printed on stdout and
    stderr.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "omctl",
        *arguments,
        "--service",
        "order",
        env=os.environ | {"ORDER_ADDRESS": address},
        stdout=pipe,
        stderr=pipe,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()
    return out.decode(), err.decode()


async def test_poison_message_ends_as_a_failed_event(
    sample_url: str, nats_url: str, broker: Broker, database: Database, eventually: Eventually
) -> None:
    """An event kills the process of its consumer at each delivery, POISON_AFTER + 1 times at most.

    Events beside it and events that come meanwhile have their effect, once. omctl lists the poison
    message alone, and replays it where its handler is mended: it has its effect too.
    """
    first, *orders = await placed(database, 2 + NEIGHBOURS + POISON_AFTER)
    poison = await publish(broker, SamplePaid(order_id=str(first), old=POISON))
    for order in orders[:NEIGHBOURS]:
        await publish(broker, SamplePaid(order_id=str(order)))
    later, deaths = iter(orders[NEIGHBOURS:]), 0
    while not await _empties_its_stream(sample_url, nats_url, broker, eventually):
        deaths += 1
        assert deaths <= POISON_AFTER + 1
        await publish(broker, SamplePaid(order_id=str(next(later))))
    assert deaths > 1
    confirmed = history.c.new == "confirmed"
    assert await count(database.engine, history, confirmed) == NEIGHBOURS + deaths
    [row] = await failed(database.engine)
    assert (row.event_id, row.state, row.reason) == (poison, "failed", "INTERNAL")
    assert row.attempts > POISON_AFTER
    async with operated(sample_url, nats_url) as sample:
        address = sample.context.config.listen_address
        listed, _ = await omctl(address, "events", "failed", "--json")
        [line] = listed.splitlines()
        assert str(poison) in line
        _, said = await omctl(address, "events", "replay", "--all", "--reason", "INTERNAL")
        assert "1 of 1 replayed." in said
    assert await states(database.engine) == {poison: "replayed"}
    assert await count(database.engine, history, confirmed) == NEIGHBOURS + deaths + 1


async def _empties_its_stream(
    sample_url: str, nats_url: str, broker: Broker, eventually: Eventually
) -> bool:
    """Starts a consumer's process; returns whether it settles all events of the stream: False
    where it is killed before.
    """

    async def ends(process: Popen[str]) -> bool:
        settled = await all_acknowledged(broker, operators.CONSUMER, "PAYMENTS")
        return settled or process.poll() is not None

    with sample_process(sample_url, nats_url) as process:
        await eventually(lambda: ends(process), timeout_s=30)
        return process.poll() is None


async def test_poison_event_is_stored_before_its_last_try(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Delivered more than POISON_AFTER times without an outcome, an event is failed before its
    handler is called once more. It is terminated at the next delivery, and can be replayed.
    """
    event_id = await publish(broker, SampleStatusChanged())
    await delivered(broker, POISON_AFTER)
    seen: list[dict[Any, str]] = []

    async def deadly(deliveries: Any) -> Any:
        seen.append(await states(engine))
        await asyncio.Event().wait()

    async with consuming(broker, engine, {SampleStatusChanged: deadly}):
        await eventually(lambda: seen)
    assert seen == [{event_id: "failed"}]
    [row] = await failed(engine)
    assert (row.reason, row.attempts) == ("INTERNAL", POISON_AFTER + 1)
    handler = RecordingHandler()
    async with consuming(broker, engine, {SampleStatusChanged: handler}) as inbox:
        await eventually(lambda: all_acknowledged(broker))
        assert handler.sets == []
        [name] = await names(engine, event_id)
        assert await inbox.replay([name]) == {name: Done(record=None)}
    assert await states(engine) == {event_id: "replayed"}


async def test_poison_event_is_stored_before_it_is_read(
    sample_url: str,
    broker: Broker,
    engine: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The payload may be what ends the process: it is read after the event is stored as failed."""
    decode, server, seen = event_payload.decode_payload, create_engine(sample_url), list[Any]()

    def decode_payload(*arguments: Any) -> Any:
        with server.connect() as connection:
            seen.extend(connection.scalars(select(store.failed_events.c.state)))
        return decode(*arguments)

    await publish(broker, SampleStatusChanged())
    await delivered(broker, POISON_AFTER)
    monkeypatch.setattr(event_payload, "decode_payload", decode_payload)
    async with consuming(broker, engine, {SampleStatusChanged: RecordingHandler()}):
        await eventually(lambda: all_acknowledged(broker))
    server.dispose()
    assert seen == ["failed"]


async def test_unanswered_events_are_tried_alone(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered POISON_AFTER times without an outcome: one of the set may be a poison message.
    Each goes to its handler alone, after the events of the same batch that were delivered less
    often. Success leaves no row.
    """
    for number in range(3):
        await publish(broker, SampleStatusChanged(version=number))
    await delivered(broker, POISON_AFTER)
    for number in range(2):
        await publish(broker, SampleStatusChanged(version=3 + number))
    handler = RecordingHandler()
    let_arrive_together(monkeypatch, 5)
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: all_acknowledged(broker))
    assert [len(s) for s in handler.sets] == [2, 1, 1, 1]
    assert await failed(engine) == []


async def test_isolated_event_that_is_deferred_is_parked(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """A deferral of an event that was tried alone is an outcome as any other: the event is parked,
    and leaves no row when it succeeds.
    """
    event_id = await publish(broker, SampleStatusChanged())
    await delivered(broker, POISON_AFTER)
    later = RecordingHandler(lambda _: Deferred("PAYMENT_OUTSTANDING"))
    async with consuming(broker, engine, {SampleStatusChanged: later}):
        await eventually(lambda: all_acknowledged(broker))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (event_id, "deferred", "PAYMENT_OUTSTANDING")
    async with consuming(broker, engine, {SampleStatusChanged: RecordingHandler()}):
        await eventually(lambda: _has_no_row(engine))


async def _has_no_row(engine: AsyncEngine) -> bool:
    return await failed(engine) == []


async def test_isolated_event_that_is_refused_has_its_reason(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The row of an event that was refused when it was tried alone says why."""
    event_id = await publish(broker, SampleStatusChanged())
    await delivered(broker, POISON_AFTER)
    refusing = RecordingHandler(lambda _: Refused("ILLEGAL_TRANSITION"))
    async with consuming(broker, engine, {SampleStatusChanged: refusing}):
        await eventually(lambda: all_acknowledged(broker))
    [row] = await failed(engine)
    assert (row.event_id, row.state, row.reason) == (event_id, "failed", "ILLEGAL_TRANSITION")


async def test_deferred_events_stay_together(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Events that were tried often because they were deferred are not isolated."""
    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(3)]
    later = RecordingHandler(lambda _: Deferred("PAYMENT_OUTSTANDING"))
    async with consuming(broker, engine, {SampleStatusChanged: later}):
        await eventually(
            lambda: min(later.seen[event_id] for event_id in ids) > POISON_AFTER + 1, timeout_s=15
        )
    # all three are parked by now, and each has a next-try time of its own
    async with engine.begin() as connection:
        await connection.execute(
            update(store.failed_events).values(next_try_time=func.clock_timestamp())
        )
    handler = RecordingHandler()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: set(handler.settled) == set(ids), timeout_s=15)
    assert [len(s) for s in handler.sets] == [3]
