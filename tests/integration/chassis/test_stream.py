"""The broker: streams and consumers as declared, and a connection that outlives whatever happens
to it.
"""

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
from tests.support import Eventually, measured

SUBJECT = "orders.sample.status_changed"


def headers(name: str) -> dict[str, str]:
    return {"Nats-Msg-Id": name}


async def works(broker: Broker) -> bool:
    """Whether an event can be published now."""
    with contextlib.suppress(*BROKER_ERRORS):
        await broker.publish(SUBJECT, b"", headers("works"), stream="ORDERS", timeout_s=0.5)
        return True
    return False


async def test_streams_are_as_declared(broker: Broker) -> None:
    """One for each service: on disk, kept for fourteen days whoever has read, nothing deleted by
    hand, full means refused.
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


def test_what_may_come_again_finds_its_key() -> None:
    """Each thing is kept longer than what may bring it back: dedup < stream <= outbox < keys."""
    assert DUPLICATE_WINDOW_S < MAX_AGE_S <= KEPT_DAYS * 86400 < RETENTION.total_seconds()


async def test_streams_are_corrected(broker: Broker) -> None:
    """A stream that differs from what is declared is changed back; one that does not is left
    alone.
    """
    await broker.streams.update_stream(
        StreamConfig(
            name="ORDERS", subjects=["orders.>"], max_age=60, duplicate_window=30, deny_delete=True
        )
    )
    await broker.ensure_streams()
    assert (await broker.streams.stream_info("ORDERS")).config.max_age == MAX_AGE_S
    await broker.ensure_streams()


async def test_a_stream_that_gets_no_more_copies_serves_with_those_that_it_has(
    broker: Broker, nats_url: str
) -> None:
    """Three copies are wanted, and there is one server: it refuses, this is counted, and events
    are published all the same. What else the stream should be is corrected; and where the broker
    refuses that, there is no going on.
    """
    greedy = await connect(nats_url, name="greedy", limits=Limits(replicas=3))
    before = _refused()
    assert (await greedy.ensure_stream("ORDERS")).last_seq == 0
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
    return measured("broker_copies_refused_total", stream="ORDERS")


async def test_consumers_are_as_declared(broker: Broker) -> None:
    """Durable, acknowledged one by one without a bound of deliveries, for the subjects named;
    declared again with others, the same consumer hears these too.
    """
    for subjects, heard in (
        (["orders.b"], "b"),
        (["orders.b", "orders.a"], "ab"),
        (["orders.c"], "abc"),
    ):
        for _ in range(2):
            await broker.ensure_consumer("ORDERS", "sample", subjects)
        config: ConsumerConfig = (await broker.streams.consumer_info("ORDERS", "sample")).config
        assert (config.filter_subjects or [config.filter_subject or ""]) == [
            f"orders.{letter}" for letter in heard
        ]
        assert (config.ack_policy, config.ack_wait, config.backoff) == (
            AckPolicy.EXPLICIT,
            ACK_WAIT_S,
            None,
        )
        assert config.max_deliver == -1


async def test_an_older_replica_takes_nothing_from_a_newer(broker: Broker) -> None:
    """In a rolling deployment the newer version has added a subject, and the older begins again:
    what is published there is delivered.
    """
    await broker.ensure_consumer("ORDERS", "sample", ["orders.sample.noted", SUBJECT])
    await broker.ensure_consumer("ORDERS", "sample", [SUBJECT])
    await broker.publish("orders.sample.noted", b"", headers("new"), stream="ORDERS")
    await broker.publish(SUBJECT, b"", headers("known"), stream="ORDERS")
    subscription = await broker.streams.pull_subscribe_bind("sample", "ORDERS")
    found = [message.subject for _ in range(2) for message in await subscription.fetch(1)]
    assert found == ["orders.sample.noted", SUBJECT]


async def test_a_repeat_is_published_once(broker: Broker) -> None:
    """The stream knows a repeat by its id, and says where the first one stands."""
    first = await broker.publish(SUBJECT, b"one", headers("a"), stream="ORDERS")
    again = await broker.publish(SUBJECT, b"one", headers("a"), stream="ORDERS")
    assert (first.seq, first.duplicate, again.seq, again.duplicate) == (1, None, 1, True)


async def test_what_the_stream_refuses_is_told(broker: Broker) -> None:
    """Another service's subject, a subject that no stream has, a message that is too large."""
    with pytest.raises(BadRequestError):
        await broker.publish("payments.x", b"", headers("a"), stream="ORDERS")
    with pytest.raises(NoStreamResponseError):
        await broker.publish("nobody.x", b"", headers("b"), stream="ORDERS")
    with pytest.raises(MaxPayloadError):
        await broker.publish(SUBJECT, b"x" * MESSAGE_BYTES_MAX, headers("c"), stream="ORDERS")


async def test_largest_event_with_its_headers_is_published(broker: Broker) -> None:
    """The local broker takes a payload of EVENT_BYTES_MAX with 16 KiB of headers, to the byte.
    One byte more is refused before it is sent, whatever the share of its headers: the server
    would close the connection at it.
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


async def test_broker_that_takes_too_little_is_reported(
    own_nats: Nats, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """A max_payload below what events may need: each connection to such a broker is an error in
    the log, with both numbers, and a gauge shows what it takes. An event that is too large for
    it is refused by itself, those that are not are published.
    """
    own_nats.stop()
    default = f"max_payload: {2**20}"
    monkeypatch.setattr(
        nats, "CONFIGURATION", nats.CONFIGURATION.replace("max_payload: 2097152", default)
    )
    own_nats.start()
    with structlog.testing.capture_logs() as logs:
        small = await connect(own_nats.url, name="small", beat_s=0.05, silence_s=1.0)
    [told] = [line for line in logs if "max_payload" in line]
    assert (told["log_level"], told["max_payload"], told["needed"]) == (
        "error",
        2**20,
        MESSAGE_BYTES_MAX,
    )
    assert measured("broker_max_payload_bytes") == 2**20
    await small.ensure_streams()
    with pytest.raises(MaxPayloadError):
        await small.publish(SUBJECT, b"x" * 2**20, headers("a"), stream="ORDERS")
    assert await works(small)
    own_nats.stop()
    monkeypatch.undo()
    own_nats.start()
    await eventually(lambda: measured("broker_max_payload_bytes") == MESSAGE_BYTES_MAX)
    await small.close()


async def test_a_full_stream_refuses_and_forgets_nothing(nats_url: str) -> None:
    """At its limit a stream says no: what it has stays, and what it refused is still in the
    outbox.
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
    assert (await broker.ensure_stream("ORDERS")).first_seq == 1
    await broker.close()


async def test_a_broker_that_is_away_at_the_start_is_not_waited_for(
    own_nats: Nats, eventually: Eventually
) -> None:
    """A service starts without its broker, says so, and has it as soon as it is there."""
    own_nats.stop()
    broker = await connect(own_nats.url, name="sample", beat_s=0.05, silence_s=0.2)
    assert not broker.answers
    assert not await works(broker)
    own_nats.start()
    await eventually(lambda: broker.answers)
    await broker.ensure_streams()
    await eventually(lambda: works(broker))
    await broker.close()


async def test_publishing_fails_at_once_while_the_connection_is_away(
    own_nats: Nats, own_broker: Broker, eventually: Eventually
) -> None:
    """Nothing is buffered, to be stored some day: the caller keeps what he has. No request is
    left waiting for an answer.
    """
    own_nats.kill()
    await eventually(lambda: not own_broker.client.is_connected)
    for _ in range(3):
        with pytest.raises(BROKER_ERRORS):
            await asyncio.wait_for(
                own_broker.publish(SUBJECT, b"", headers("a"), stream="ORDERS", timeout_s=30), 0.5
            )
    assert not own_broker.client._resp_map
    await eventually(lambda: not own_broker.answers)
    own_nats.start()
    await eventually(lambda: works(own_broker))
    assert (await own_broker.ensure_stream("ORDERS")).last_seq == 1


@pytest.mark.parametrize("unsent", [False, True])
async def test_a_connection_that_falls_silent_is_replaced(
    own_nats: Nats, eventually: Eventually, unsent: bool
) -> None:
    """Frozen, without a word: nats-py itself notices late, or never where bytes are unsent. The
    watch takes a new client.
    """
    async with Proxy(own_nats.port).serving() as proxy:
        broker = await connect(
            f"nats://127.0.0.1:{proxy.port}", name="sample", beat_s=0.1, silence_s=0.5
        )
        await broker.ensure_streams()
        old, generation = broker.client, broker.generation
        proxy.freeze()
        if unsent:
            flood = asyncio.gather(
                *(
                    broker.publish(
                        SUBJECT, b"x" * 900_000, headers(str(n)), stream="ORDERS", timeout_s=0.3
                    )
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


async def test_a_frozen_server_is_waited_for(
    own_nats: Nats, own_broker: Broker, eventually: Eventually
) -> None:
    """While the server itself stands still there is nobody else to go to; afterwards all is as
    before.
    """
    assert own_nats.child
    os.kill(own_nats.child.pid, signal.SIGSTOP)
    await eventually(lambda: not own_broker.answers)
    os.kill(own_nats.child.pid, signal.SIGCONT)
    await eventually(lambda: works(own_broker))
    await eventually(lambda: own_broker.answers)


async def test_a_client_whose_reading_is_dead_is_replaced(
    own_broker: Broker, eventually: Eventually
) -> None:
    """It says that it is connected, and its flush succeeds: only an answer of the server proves
    anything.
    """
    old: Any = own_broker.client
    old._reading_task.cancel()
    await eventually(old._reading_task.done)
    assert old.is_connected
    await eventually(lambda: own_broker.client is not old)
    await eventually(lambda: works(own_broker))


async def test_what_was_written_last_goes_out(
    broker: Broker, nats_url: str, eventually: Eventually
) -> None:
    """What was said just before the end is not lost with the connection, more than a socket
    holds as well.
    """
    heard: list[int] = []

    async def hear(message: Any) -> None:
        heard.append(len(message.data))

    await broker.client.subscribe("last.words", cb=hear)
    await broker.client.flush()
    ending = await connect(nats_url, name="sample")
    for _ in range(20):
        await ending.client.publish("last.words", b"x" * 900_000)
    await ending.close()
    await eventually(lambda: len(heard) == 20)


async def test_nothing_stays_behind(own_nats: Nats, eventually: Eventually) -> None:
    """A broker that is closed has neither tasks nor connections, whether the server lives or
    not.
    """
    before = asyncio.all_tasks()
    for frozen in (False, True):
        async with Proxy(own_nats.port).serving() as proxy:
            broker = await connect(f"nats://127.0.0.1:{proxy.port}", name="sample")
            if frozen:
                proxy.freeze()
            async with asyncio.timeout(15):
                await broker.close()
    await eventually(lambda: not (asyncio.all_tasks() - before), what="no task is left")


async def test_a_slow_answer_does_no_harm(own_nats: Nats, eventually: Eventually) -> None:
    """A server that is slower than the watch expects is asked again, and its late answers do not
    kill the client's reading.
    """

    async def unanswered() -> bool:
        # for four beats
        return (
            broker._question is not None
            and not (await asyncio.wait([broker._question], timeout=0.2))[0]
        )

    async with Proxy(own_nats.port).serving() as proxy:
        broker = await connect(
            f"nats://127.0.0.1:{proxy.port}", name="sample", beat_s=0.05, silence_s=5.0
        )
        await broker.ensure_streams()
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
