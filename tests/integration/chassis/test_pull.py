"""An inbox whose broker, stream, consumer or connection is lost, and an inbox that is slow, ends,
or is killed.
"""

import asyncio
import signal
import time
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import stream as streams
from chassis.broker.stream import Broker, Limits, connect
from chassis.consume import inbox as inboxes
from chassis.consume import pull as pulls
from chassis.consume.pull import IDLE_TIMEOUT_S, Pull
from devstack.nats import Nats
from tests.proxy import Proxy
from tests.sample.events import SampleStatusChanged
from tests.sample.inbox import (
    CONSUMER,
    RecordingHandler,
    all_acknowledged,
    consuming,
    failed,
    let_arrive_together,
    publish,
)
from tests.sample.processes import sample_process
from tests.sample.store import history
from tests.sample.writes import count
from tests.support import Eventually

SUBJECTS = ["orders.sample.status_changed"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the server's wait for an acknowledgement from thirty seconds to one: events of a
    dead connection come again soon.
    """
    monkeypatch.setattr(streams, "ACK_WAIT_S", 1.0)
    monkeypatch.setattr(inboxes, "IN_PROGRESS_S", 0.3)


def pull_of(broker: Broker, batch_size_max: int = inboxes.SET_MAX) -> Pull:
    """Returns a pull for the sample's consumer."""
    return Pull(
        broker=broker,
        stream="ORDERS",
        consumer=CONSUMER,
        subjects=SUBJECTS,
        batch_size_max=batch_size_max,
    )


async def test_an_event_is_handled_as_soon_as_it_arrives(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Events come one at a time, the last after a pause longer than a heartbeat. Each is handled at
    once, before the batch is full or the request ends.
    """
    handler = RecordingHandler()
    took: list[float] = []
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        for number in range(12):
            if number == 6:
                await asyncio.sleep(2.0)  # the pause is under test
            began = time.monotonic()
            await publish(broker, SampleStatusChanged(version=number))
            await eventually(lambda: len(handler.seen) == len(took) + 1)
            took.append(time.monotonic() - began)
    assert sorted(took)[len(took) // 2] < 0.4  # a heartbeat's time is 0.5 s, a request's 30 s


async def test_pull_requests_more_at_half_a_batch(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When half of the requested events have come, the pull requests a whole batch again: sets
    neither shrink nor exceed the batch.
    """
    let_arrive_together(monkeypatch, 9)
    pull = pull_of(broker, batch_size_max=10)
    await asyncio.gather(*(publish(broker, SampleStatusChanged(version=n)) for n in range(9)))
    first = await pull.next()
    assert len(first) == 9
    await pull._ask()
    assert pull._outstanding > 5
    pull.arrived.extend(first * 3)
    assert [len(await pull.next()) for _ in range(3)] == [10, 10, 7]
    await pull.close()


async def test_a_batch_is_bounded(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler never gets more than a batch, for any number of waiting events."""
    monkeypatch.setattr(inboxes, "SET_MAX", 16)
    handler = RecordingHandler()
    await asyncio.gather(*(publish(broker, SampleStatusChanged(version=n)) for n in range(100)))
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: len(handler.seen) == 100)
        await eventually(lambda: all_acknowledged(broker))
    assert max(len(s) for s in handler.sets) <= 16
    assert set(handler.seen.values()) == {1}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("killed", [False, True])
async def test_restarted_broker_is_consumed_again(
    own_nats: Nats, own_broker: Broker, engine: AsyncEngine, eventually: Eventually, killed: bool
) -> None:
    """The broker is stopped or killed, and started again. The first event is handled long before a
    request would end (30 s), and none is lost.
    """
    handler = RecordingHandler()
    async with consuming(own_broker, engine, {SampleStatusChanged: handler}):
        first = await publish(own_broker, SampleStatusChanged(version=1))
        await eventually(lambda: handler.settled == [first])
        own_nats.kill() if killed else own_nats.stop()
        await eventually(lambda: not own_broker.client.is_connected)
        own_nats.start()
        await eventually(lambda: own_broker.client.is_connected)
        second = await publish(own_broker, SampleStatusChanged(version=2))
        await eventually(lambda: second in handler.settled, timeout_s=15)
        await eventually(lambda: all_acknowledged(own_broker))


async def test_a_deleted_consumer_is_declared_again(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The new consumer begins at the first message: every event comes again, under the same key,
    and later ones follow.
    """
    handler = RecordingHandler()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        first = await publish(broker, SampleStatusChanged(version=1))
        await eventually(lambda: first in handler.settled)
        await broker.streams.delete_consumer("ORDERS", CONSUMER)
        second = await publish(broker, SampleStatusChanged(version=2))
        await eventually(lambda: second in handler.settled)
        await eventually(lambda: all_acknowledged(broker))
    assert handler.seen == {first: 2, second: 1}


async def test_a_deleted_stream_is_made_again(
    broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The stream is made again with its consumer: later events are consumed."""
    handler = RecordingHandler()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await publish(broker, SampleStatusChanged(version=1))
        await eventually(lambda: handler.settled)
        await broker.streams.delete_stream("ORDERS")
        await eventually(lambda: all_acknowledged(broker))
        second = await publish(broker, SampleStatusChanged(version=2))
        await eventually(lambda: second in handler.settled)


async def test_consumer_leaves_the_stream_limits_unchanged(nats_url: str, broker: Broker) -> None:
    """A consumer with other limits than the publisher's leaves the stream unchanged: otherwise the
    two would change it without end.
    """
    listener = await connect(nats_url, name="listener", limits=Limits(max_bytes=2**20))
    pull = pull_of(listener)
    await publish(broker, SampleStatusChanged(version=1))
    assert len(await pull.next()) == 1
    assert (await broker.streams.stream_info("ORDERS")).config.max_bytes == Limits().max_bytes
    await pull.close()
    await listener.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cut", [False, True])
async def test_a_dead_connection_is_replaced(
    own_nats: Nats, own_broker: Broker, engine: AsyncEngine, eventually: Eventually, cut: bool
) -> None:
    """The connection is frozen or reset: the inbox continues over another one, and the unsettled
    events of the dead one come again.
    """
    handler = RecordingHandler()
    async with Proxy(own_nats.port).serving() as proxy:
        broker = await connect(f"nats://127.0.0.1:{proxy.port}", name="sample")
        async with consuming(broker, engine, {SampleStatusChanged: handler}):
            await publish(own_broker, SampleStatusChanged(version=1))
            await eventually(lambda: handler.settled)
            proxy.cut() if cut else proxy.freeze()
            second = await publish(own_broker, SampleStatusChanged(version=2))
            # the recovery is guaranteed, its time is not
            await eventually(lambda: second in handler.settled, timeout_s=30)
        await broker.close()


@pytest.mark.usefixtures("impatient")
async def test_unsettled_events_go_to_no_other_replica(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler takes longer than the server's acknowledgement time: the inbox reports its events,
    and those behind them, as in progress.
    """
    # late ticks on a slow machine are not failed ticks
    monkeypatch.setattr(streams, "ACK_WAIT_S", 2.0)
    monkeypatch.setattr(inboxes, "SET_MAX", 2)
    go, handler, other = asyncio.Event(), RecordingHandler(), RecordingHandler()

    async def slow(deliveries: Any) -> Any:
        outcomes = await handler(deliveries)
        await go.wait()
        return outcomes

    async with consuming(broker, engine, {SampleStatusChanged: slow}):
        await asyncio.gather(*(publish(broker, SampleStatusChanged(version=n)) for n in range(4)))
        await eventually(lambda: handler.sets)
        async with consuming(broker, engine, {SampleStatusChanged: other}):
            await asyncio.sleep(3.0)  # well over an acknowledgement's time
            go.set()
            await eventually(lambda: all_acknowledged(broker))
    assert set((handler.seen + other.seen).values()) == {1}


async def test_first_heartbeats_are_waited_for(
    broker: Broker, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pull waits for its first heartbeats, and does not replace the connection before."""
    # a machine that halts for a while has missed no heartbeat
    monkeypatch.setattr(pulls, "IDLE_TIMEOUT_S", 4.0)
    pull = pull_of(broker)
    waiting = asyncio.create_task(pull.next())
    await eventually(lambda: pull._outstanding)
    subscription = pull._subscription
    done, _ = await asyncio.wait([waiting], timeout=IDLE_TIMEOUT_S)
    assert not done
    assert pull._subscription is subscription
    await publish(broker, SampleStatusChanged(version=2))
    await waiting
    await pull.close()


async def test_a_request_that_ends_is_followed_by_another(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a request after its time, and says so: the next request replaces it, over the
    same subscription.
    """
    monkeypatch.setattr(pulls, "EXPIRES_S", 1.2)
    # a machine that halts for a while has missed no heartbeat
    monkeypatch.setattr(pulls, "IDLE_TIMEOUT_S", 4.0)
    pull = pull_of(broker)
    await publish(broker, SampleStatusChanged(version=1))
    await pull.next()
    subscription = pull._subscription
    waiting = asyncio.create_task(pull.next())
    done, _ = await asyncio.wait([waiting], timeout=4 * 1.2)
    assert not done
    await publish(broker, SampleStatusChanged(version=2))
    await waiting
    assert pull._subscription is subscription
    await pull.close()


async def test_ending_inbox_gives_back_its_events(
    broker: Broker, engine: AsyncEngine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica gets the events at once, before the server's acknowledgement time is over."""
    monkeypatch.setattr(streams, "ACK_WAIT_S", 60.0)
    monkeypatch.setattr(inboxes, "SET_MAX", 3)
    stuck, handler = asyncio.Event(), RecordingHandler()

    async def never(deliveries: Any) -> Any:
        stuck.set()
        await asyncio.Event().wait()

    ids = [await publish(broker, SampleStatusChanged(version=n)) for n in range(10)]
    async with consuming(broker, engine, {SampleStatusChanged: never}):
        await stuck.wait()
    async with consuming(broker, engine, {SampleStatusChanged: handler}):
        await eventually(lambda: set(handler.settled) == set(ids), timeout_s=20)
        await eventually(lambda: all_acknowledged(broker), timeout_s=20)


async def test_crash_before_the_acknowledgement_repeats_no_effect(
    sample_url: str, nats_url: str, broker: Broker, engine: AsyncEngine, eventually: Eventually
) -> None:
    """The process is killed there; the event comes to the next process, which finds its key. It has
    one effect, and the acknowledgement.
    """
    with sample_process(sample_url, nats_url, "pay", "3", crash_at="inbox.handled") as crashing:
        assert await asyncio.to_thread(crashing.wait, 20) == -signal.SIGKILL
    assert await count(engine, history, history.c.new == "confirmed") >= 1
    with sample_process(sample_url, nats_url):
        await eventually(lambda: all_acknowledged(broker), timeout_s=20)
    info = await broker.streams.stream_info("ORDERS", subjects_filter="orders.sample.noted")
    assert (
        await count(engine, history, history.c.new == "confirmed")
        == (info.state.subjects or {})["orders.sample.noted"]
    )
    assert await failed(engine) == []
