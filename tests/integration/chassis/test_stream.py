"""The broker: streams and consumers as declared, and a connection that recovers from failures."""

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest
import structlog
from nats.errors import MaxPayloadError
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NoStreamResponseError

from chassis.broker import stream
from chassis.broker.stream import (
    ACK_WAIT_S,
    BROKER_ERRORS,
    DUPLICATE_WINDOW_S,
    MAX_AGE_S,
    Broker,
    Limits,
    connect,
)
from chassis.values.event_subjects import MESSAGE_BYTES_MAX, STREAMS, message_bytes
from chassis.write.idempotency_keys import RETENTION
from chassis.write.outbox import EVENT_BYTES_MAX
from chassis.write.partitions import KEPT_DAYS
from devstack import nats
from devstack.nats import Nats
from tests.proxy import Proxy
from tests.streams import ensure_streams
from tests.support import Eventually, measured

SUBJECT = "orders.sample.status_changed"


def headers(name: str) -> dict[str, str]:
    return {"Nats-Msg-Id": name}


async def works(broker: Broker) -> bool:
    """Returns whether an event can be published now."""
    with contextlib.suppress(*BROKER_ERRORS):
        async with asyncio.timeout(0.5):
            await broker.publish(SUBJECT, b"", headers("works"), stream="ORDERS")
        return True
    return False


async def test_streams_are_as_declared(broker: Broker) -> None:
    """Each service has one stream: on disk, kept for fourteen days for any readers, without
    deletion by hand, and a full stream refuses.
    """
    for name, subjects in STREAMS.items():
        config = (await broker.streams.stream_info(name)).config
        assert config.subjects == [subjects]
        assert (config.storage, config.retention) == (StorageType.FILE, RetentionPolicy.LIMITS)
        assert (config.max_age, config.duplicate_window) == (MAX_AGE_S, DUPLICATE_WINDOW_S)
        assert (config.deny_delete, config.discard, config.max_bytes) == (
            True,
            "new",
            Limits().max_bytes,
        )


def test_keys_outlive_every_source_of_repeats() -> None:
    """Each store keeps its data longer than the store that can repeat it: dedup < stream <= outbox
    < keys.
    """
    assert DUPLICATE_WINDOW_S < MAX_AGE_S <= KEPT_DAYS * 86400 < RETENTION.total_seconds()


async def test_streams_are_corrected(broker: Broker) -> None:
    """A stream that differs from its declaration is changed back; an equal one is not updated."""
    await broker.streams.update_stream(
        StreamConfig(
            name="ORDERS", subjects=["orders.>"], max_age=60, duplicate_window=30, deny_delete=True
        )
    )
    await ensure_streams(broker)
    assert (await broker.streams.stream_info("ORDERS")).config.max_age == MAX_AGE_S
    await ensure_streams(broker)


async def test_stream_without_more_copies_is_published_to(broker: Broker, nats_url: str) -> None:
    """Three copies are declared, and there is one server: it refuses, this is counted, and events
    are published all the same.

    Other settings of the stream are corrected; where the broker refuses that, the service stops.
    """
    greedy = await connect(nats_url, name="greedy", limits=Limits(replicas=3))
    before = _refused()
    assert (await greedy.ensure_stream("ORDERS")).state.last_seq == 0
    assert _refused() - before == 1
    assert (await greedy.publish(SUBJECT, b"", headers("a"), stream="ORDERS")).seq == 1
    found = (await broker.streams.stream_info("ORDERS")).config
    await broker.streams.update_stream(found.evolve(subjects=["orders.else.>"]))
    await greedy.ensure_stream("ORDERS")
    assert (await broker.streams.stream_info("ORDERS")).config.subjects == found.subjects
    assert (await greedy.publish(SUBJECT, b"", headers("b"), stream="ORDERS")).seq == 2
    await broker.streams.delete_stream("ORDERS")
    await broker.streams.add_stream(found.evolve(storage=StorageType.MEMORY))
    with pytest.raises(BROKER_ERRORS):
        await greedy.ensure_stream("ORDERS")
    await greedy.close()


def _refused() -> float:
    return measured("broker_replicas_refused_total", stream="ORDERS")


async def test_consumers_are_as_declared(broker: Broker) -> None:
    """Consumers are durable, acknowledge one by one without a bound of deliveries, and have the
    declared subjects; a second declaration with other subjects adds these.
    """
    for subjects, sizes in (
        (["orders.b"], "b"),
        (["orders.b", "orders.a"], "ab"),
        (["orders.c"], "abc"),
    ):
        for _ in range(2):
            await broker.ensure_consumer("ORDERS", "sample", subjects)
        config: ConsumerConfig = (await broker.streams.consumer_info("ORDERS", "sample")).config
        assert (config.filter_subjects or [config.filter_subject or ""]) == [
            f"orders.{letter}" for letter in sizes
        ]
        assert (config.ack_policy, config.ack_wait, config.backoff) == (
            AckPolicy.EXPLICIT,
            ACK_WAIT_S,
            None,
        )
        assert config.max_deliver == -1


async def test_older_replica_keeps_the_newer_ones_subjects(broker: Broker) -> None:
    """In a rolling deployment the newer version has added a subject, and the older one starts
    again: events of that subject are still delivered.
    """
    await broker.ensure_consumer("ORDERS", "sample", ["orders.sample.noted", SUBJECT])
    await broker.ensure_consumer("ORDERS", "sample", [SUBJECT])
    await broker.publish("orders.sample.noted", b"", headers("new"), stream="ORDERS")
    await broker.publish(SUBJECT, b"", headers("known"), stream="ORDERS")
    subscription = await broker.streams.pull_subscribe_bind("sample", "ORDERS")
    found = [message.subject for _ in range(2) for message in await subscription.fetch(1)]
    assert found == ["orders.sample.noted", SUBJECT]


async def test_a_repeat_is_published_once(broker: Broker) -> None:
    """The stream recognises a repeat by its id, and answers the position of the first one."""
    first = await broker.publish(SUBJECT, b"one", headers("a"), stream="ORDERS")
    again = await broker.publish(SUBJECT, b"one", headers("a"), stream="ORDERS")
    assert (first.seq, first.duplicate, again.seq, again.duplicate) == (1, None, 1, True)


async def test_refusal_of_the_stream_is_raised(broker: Broker) -> None:
    """The stream refuses another service's subject, a subject of no stream, and a message that is
    too large.
    """
    with pytest.raises(BadRequestError):
        await broker.publish("payments.x", b"", headers("a"), stream="ORDERS")
    with pytest.raises(NoStreamResponseError):
        await broker.publish("foreign.x", b"", headers("b"), stream="ORDERS")
    with pytest.raises(MaxPayloadError):
        await broker.publish(SUBJECT, b"x" * MESSAGE_BYTES_MAX, headers("c"), stream="ORDERS")


async def test_largest_event_with_its_headers_is_published(broker: Broker) -> None:
    """The local broker accepts a payload of EVENT_BYTES_MAX with 16 KiB of headers, to the byte.

    One byte more is refused before it is sent, for any share of headers: the server would close the
    connection.
    """
    names = {"Nats-Msg-Id": "a", "Nats-Expected-Stream": "ORDERS", "padding": ""}
    padding = MESSAGE_BYTES_MAX - EVENT_BYTES_MAX - message_bytes(b"", names)
    client, largest = broker.client, b"x" * EVENT_BYTES_MAX
    with pytest.raises(MaxPayloadError):
        await broker.publish(
            SUBJECT, largest, headers("a") | {"padding": "x" * (padding + 1)}, stream="ORDERS"
        )
    assert (
        await broker.publish(
            SUBJECT, largest, headers("a") | {"padding": "x" * padding}, stream="ORDERS"
        )
    ).seq == 1
    assert (broker.client, client.stats["reconnects"]) == (client, 0)


@pytest.mark.usefixtures("short_idle_timeout")
async def test_broker_that_takes_too_little_is_reported(
    own_nats: Nats, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """A max_payload below the size of an event: each connection to such a broker logs an error with
    both numbers, and a gauge shows the broker's limit.

    A larger event is refused alone, and smaller ones are published.
    """
    own_nats.stop()
    default = f"max_payload: {2**20}"
    with monkeypatch.context() as patch:
        patch.setattr(
            nats, "CONFIGURATION", nats.CONFIGURATION.replace("max_payload: 2097152", default)
        )
        own_nats.start()
    with structlog.testing.capture_logs() as logs:
        small = await connect(own_nats.url, name="small")
    [entry] = [line for line in logs if "max_payload" in line]
    assert (entry["log_level"], entry["max_payload"], entry["needed"]) == (
        "error",
        2**20,
        MESSAGE_BYTES_MAX,
    )
    assert measured("broker_max_payload_bytes") == 2**20
    await ensure_streams(small)
    with pytest.raises(MaxPayloadError):
        await small.publish(SUBJECT, b"x" * 2**20, headers("a"), stream="ORDERS")
    assert await works(small)
    own_nats.stop()
    own_nats.start()
    await eventually(lambda: measured("broker_max_payload_bytes") == MESSAGE_BYTES_MAX)
    await small.close()


async def test_full_stream_refuses_and_keeps_its_messages(nats_url: str) -> None:
    """At its limit a stream refuses an event: it keeps its messages, and the refused event stays in
    the outbox.
    """
    broker = await connect(nats_url, name="small", limits=Limits(max_bytes=2000))
    await broker.ensure_stream("ORDERS")
    every = (
        broker.publish(SUBJECT, b"x" * 500, headers(str(number)), stream="ORDERS")
        for number in range(10)
    )
    refused = [
        answer
        for answer in await asyncio.gather(*every, return_exceptions=True)
        if isinstance(answer, BROKER_ERRORS)
    ]
    assert 5 < len(refused) < 10
    # it is not the event's fault
    assert not any(isinstance(answer, BadRequestError) for answer in refused)
    assert (await broker.ensure_stream("ORDERS")).state.first_seq == 1
    await broker.close()


@pytest.mark.usefixtures("short_idle_timeout")
async def test_service_starts_without_its_broker(own_nats: Nats, eventually: Eventually) -> None:
    """A service starts without its broker, logs that, and connects as soon as the broker is
    there.
    """
    own_nats.stop()
    broker = await connect(own_nats.url, name="sample")
    assert not broker.answers
    assert not await works(broker)
    own_nats.start()
    await eventually(lambda: broker.answers)
    await ensure_streams(broker)
    await eventually(lambda: works(broker))
    await broker.close()


async def test_publish_without_a_connection_fails_at_once(
    own_nats: Nats, own_broker: Broker, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event is buffered for a later publication: the caller keeps it. No request is left without
    an answer.
    """
    own_nats.kill()
    await eventually(lambda: not own_broker.client.is_connected)
    monkeypatch.setattr(stream, "PUBLISH_TIMEOUT_S", 30.0)
    for _ in range(3):
        with pytest.raises(BROKER_ERRORS):
            await asyncio.wait_for(
                own_broker.publish(SUBJECT, b"", headers("a"), stream="ORDERS"), 0.5
            )
    assert not own_broker.client._resp_map
    await eventually(lambda: not own_broker.answers)
    own_nats.start()
    await eventually(lambda: works(own_broker))
    assert (await own_broker.ensure_stream("ORDERS")).state.last_seq == 1


@pytest.mark.parametrize("unsent", [False, True])
@pytest.mark.usefixtures("short_idle_timeout")
async def test_frozen_connection_is_replaced(
    own_nats: Nats, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, unsent: bool
) -> None:
    """A connection is frozen: nats-py itself notices late, or never where bytes are unsent. The
    broker's own check opens a new client.
    """
    monkeypatch.setattr(stream, "PUBLISH_TIMEOUT_S", 0.3)
    async with Proxy(own_nats.port).serving() as proxy:
        broker = await connect(f"nats://127.0.0.1:{proxy.port}", name="sample")
        await ensure_streams(broker)
        old, generation = broker.client, broker.generation
        proxy.freeze()
        if unsent:
            flood = asyncio.gather(
                *(
                    broker.publish(SUBJECT, b"x" * 900_000, headers(str(n)), stream="ORDERS")
                    for n in range(20)
                ),
                return_exceptions=True,
            )
            assert all(isinstance(answer, BROKER_ERRORS) for answer in await flood)
        await eventually(lambda: broker.generation > generation)
        await eventually(lambda: old.is_closed)
        # it is a TcpTransport
        socket = old._transport._io_writer.transport  # type: ignore[union-attr]
        assert socket.is_closing()
        assert socket.get_write_buffer_size() == 0
        await eventually(lambda: works(broker))
        await broker.close()


async def test_connection_recovers_after_a_frozen_server(
    own_nats: Nats, own_broker: Broker, eventually: Eventually
) -> None:
    """While the server itself is frozen there is no other server; afterwards the same connection
    works.
    """
    assert own_nats.child
    os.kill(own_nats.child.pid, signal.SIGSTOP)
    await eventually(lambda: not own_broker.answers)
    os.kill(own_nats.child.pid, signal.SIGCONT)
    await eventually(lambda: works(own_broker))
    await eventually(lambda: own_broker.answers)


async def test_client_with_an_ended_reading_is_replaced(
    own_broker: Broker, eventually: Eventually
) -> None:
    """The client reports that it is connected, and its flush succeeds: only an answer of the server
    proves the connection.
    """
    old: Any = own_broker.client
    old._reading_task.cancel()
    await eventually(old._reading_task.done)
    assert old.is_connected
    await eventually(lambda: own_broker.client is not old)
    await eventually(lambda: works(own_broker))


async def test_messages_before_the_close_arrive(
    broker: Broker, nats_url: str, eventually: Eventually
) -> None:
    """Messages published just before the close arrive, also more than a socket buffers."""
    sizes: list[int] = []

    async def receive(message: Any) -> None:
        sizes.append(len(message.data))

    await broker.client.subscribe("last.words", cb=receive)
    await broker.client.flush()
    ending = await connect(nats_url, name="sample")
    for _ in range(20):
        await ending.client.publish("last.words", b"x" * 900_000)
    await ending.close()
    await eventually(lambda: len(sizes) == 20)


async def test_closed_broker_leaves_no_task_or_connection(
    own_nats: Nats, eventually: Eventually
) -> None:
    """A closed broker has neither tasks nor connections, with a running or a frozen server."""
    before = asyncio.all_tasks()
    for frozen in (False, True):
        async with Proxy(own_nats.port).serving() as proxy:
            broker = await connect(f"nats://127.0.0.1:{proxy.port}", name="sample")
            if frozen:
                proxy.freeze()
            async with asyncio.timeout(15):
                await broker.close()
    await eventually(lambda: not (asyncio.all_tasks() - before), what="no task is left")


async def test_slow_answer_leaves_the_client_reading(
    own_nats: Nats, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server slower than the check expects is asked again, and its late answers do not end the
    client's reading.
    """

    monkeypatch.setattr(stream, "BEAT_S", 0.05)
    monkeypatch.setattr(stream, "IDLE_TIMEOUT_S", 5.0)

    async def unanswered() -> bool:
        # for four beats
        return broker._ping is not None and not (await asyncio.wait([broker._ping], timeout=0.2))[0]

    async with Proxy(own_nats.port).serving() as proxy:
        broker = await connect(f"nats://127.0.0.1:{proxy.port}", name="sample")
        await ensure_streams(broker)
        client = broker.client
        for _ in range(3):
            proxy.stop()
            await eventually(unanswered)
            proxy.go()
            await eventually(lambda: works(broker))
        assert broker.client is client
        assert client._reading_task
        assert not client._reading_task.done()
        await broker.close()
