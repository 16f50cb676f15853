"""The broker: the streams and durable consumers, declared here, and one connection that is replaced
when the broker stops answering on it.

chassis.publish.relay publishes from the outbox, and chassis.consume.inbox hands received events to
handlers: neither is here.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    PubAck,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, NotFoundError

from chassis.observe import telemetry
from chassis.values.event_subjects import MESSAGE_BYTES_MAX, STREAMS, message_bytes

MAX_AGE_S = 14 * 24 * 3600.0
# The window in which the broker recognises a repeated message. It is longer than the relay waits
# before it tries again. A message that was purged waits as long before the stream takes it again: a
# purge does not shorten the window.
DUPLICATE_WINDOW_S = 2 * 60.0
ACK_WAIT_S = 10.0
# The bound on messages that are not acknowledged: those in hand of all replicas, and those that
# come again within a second. An event that is deferred for longer is parked and acknowledged
# (chassis.consume.parked_events).
MAX_ACK_PENDING = 2_000
CONNECT_TIMEOUT_S = 3
BEAT_S = 2.0
PING_TIMEOUT_S = 24 * 3600
IDLE_TIMEOUT_S = 10.0
PUBLISH_TIMEOUT_S = 2.0
# The errors of any call on the broker where the broker is away, or refuses.
BROKER_ERRORS = (NatsError, OSError, TimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a stream: bytes on disk (beyond them the stream refuses, and the outbox keeps
    the events), and how many servers hold a copy.
    """

    max_bytes: int = 4 * 2**30
    replicas: int = 1


class Broker:
    """A connection to NATS that outlives its clients.

    `client` is the present client. `generation` grows each time that another client replaces it,
    and each subscriber subscribes again.
    """

    def __init__(self, url: str, name: str, limits: Limits) -> None:
        self.url, self.name, self.limits = url, name, limits
        self.generation = 0
        self._client: Client | None = None
        self._last_answer_time = float("-inf")
        self._watcher: asyncio.Task[None] | None = None
        self._ping: asyncio.Task[float] | None = None
        self._ping_connection: tuple[Client, int] | None = None
        self._replaced = telemetry.counter(
            "broker_connections_replaced_total", "Connections that did not answer and were replaced"
        )
        self._refused_copies = telemetry.counter(
            "broker_replicas_refused_total",
            "Times that the broker refused to give a stream its replicas: alert on it",
            "stream",
        )
        self._max_payload = telemetry.reading(
            "broker_max_payload_bytes",
            "The largest message that the broker takes: alert below 2097152",
        )
        self._connected = telemetry.gauge(
            "broker_connected", "Whether the broker has answered lately (1) or not (0)"
        )

    async def start(self) -> None:
        """Connects, and watches the connection until `close`. It does not wait for a broker that is
        away: the watching task tries again.
        """
        await self._replace()
        self._watcher = asyncio.create_task(self._watch(), name="broker watchdog")

    @property
    def client(self) -> Client:
        """The present client. Raises ConnectionError before the first one has connected."""
        if self._client is None:
            raise ConnectionError("the broker has not been reached yet")
        return self._client

    @property
    def connection(self) -> tuple[int, int]:
        """A value that changes with each connection to a server. Raises ConnectionError before the
        first connection.
        """
        return self.generation, self.client.stats["reconnects"]

    @property
    def streams(self) -> JetStreamContext:
        """JetStream over the present client. Raises ConnectionError while that client is not
        connected.
        """
        return self.jetstream(5.0)

    def jetstream(self, timeout_s: float) -> JetStreamContext:
        """Returns JetStream over the present client, with its own time-out for an answer."""
        if not self.client.is_connected:  # nats-py would fail too, and leak a little each time
            raise ConnectionError("the broker is away")
        return self.client.jetstream(timeout=timeout_s)

    @property
    def answers(self) -> bool:
        """Whether the broker has answered within the last IDLE_TIMEOUT_S."""
        return time.monotonic() - self._last_answer_time < IDLE_TIMEOUT_S

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str], *, stream: str
    ) -> PubAck:
        """Publishes on a stream, which must be `stream`, and waits for its answer.

        Raises one of BROKER_ERRORS. The stream may have the message then: the caller repeats it
        under the same Nats-Msg-Id. This method raises MaxPayloadError, one of them, before it sends
        anything: the server would close the connection at a message that is too large, and nats-py
        does not count the headers.
        """
        if (
            message_bytes(payload, {"Nats-Expected-Stream": stream, **headers})
            > self.client.max_payload
        ):
            raise MaxPayloadError
        return await self.streams.publish(
            subject, payload, timeout=PUBLISH_TIMEOUT_S, stream=stream, headers=headers
        )

    async def ensure_stream(self, name: str, *, correct: bool = True) -> StreamInfo:
        """Creates or corrects the stream; returns what the broker reports of it. Raises one of
        BROKER_ERRORS.

        A consumer may create the stream of another service, because it cannot subscribe to a stream
        that does not exist. Only the publisher may `correct` it: with different limits, the two
        would change it again and again.
        """
        wanted: dict[str, Any] = {
            "subjects": [STREAMS[name]],
            "storage": StorageType.FILE,
            "retention": RetentionPolicy.LIMITS,
            "discard": DiscardPolicy.NEW,
            "max_age": MAX_AGE_S,
            "max_bytes": self.limits.max_bytes,
            "num_replicas": self.limits.replicas,
            "duplicate_window": DUPLICATE_WINDOW_S,
            "deny_delete": True,
        }
        try:
            info = await self.streams.stream_info(name)
        except NotFoundError:
            info = await self.streams.add_stream(StreamConfig(name=name, **wanted))
            log.info("stream created", stream=name)
        if correct and info.config.evolve(**wanted) != info.config:
            info = await self._correct(info, wanted)
        return info

    async def _correct(self, info: StreamInfo, wanted: dict[str, Any]) -> StreamInfo:
        """Corrects a stream. If the broker refuses more copies, as a single server does, the stream
        keeps the number of copies that it has.
        """
        name, copies = info.config.name, info.config.num_replicas
        try:
            info = await self.streams.update_stream(info.config.evolve(**wanted))
        except APIError as error:
            if isinstance(error, NotFoundError) or wanted["num_replicas"] == copies:
                raise
            self._refused_copies.labels(name).inc()
            log.error(
                "the broker refuses to give a stream more replicas",
                stream=name,
                replicas=copies,
                error=repr(error),
            )
            wanted |= {"num_replicas": copies}
            return (
                await self._correct(info, wanted)
                if info.config.evolve(**wanted) != info.config
                else info
            )
        log.info("stream corrected", stream=name)
        return info

    async def ensure_consumer(self, stream: str, durable: str, subjects: Sequence[str]) -> None:
        """Creates the durable consumer, or corrects it. A new one starts at the first message that
        the stream still has.

        The subjects of an existing consumer only grow: while versions are mixed, an older version
        would remove subjects of a newer one, and the server skips their messages for good.
        """
        wanted: dict[str, Any] = {
            "ack_policy": AckPolicy.EXPLICIT,
            "ack_wait": ACK_WAIT_S,
            # No bound: at the bound the broker drops a message, and no row says so. The inbox
            # bounds the deliveries (chassis.consume.delivery.POISON_AFTER).
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
        }
        try:
            found: ConsumerConfig = (await self.streams.consumer_info(stream, durable)).config
        except NotFoundError:
            found = ConsumerConfig(
                name=durable, durable_name=durable, deliver_policy=DeliverPolicy.ALL
            )
        # The server reports a filter over one subject in the singular field.
        present = found.filter_subjects or ([found.filter_subject] if found.filter_subject else [])
        known = found.evolve(filter_subjects=present, filter_subject=None)
        wanted["filter_subjects"] = sorted({*present, *subjects})
        if known.evolve(**wanted) != known:
            await self.streams.add_consumer(stream, known.evolve(**wanted))
            log.info("consumer declared", stream=stream, consumer=durable)

    async def close(self) -> None:
        """Ends the watch and the connection. Messages that were written before get a second to
        leave.
        """
        if self._watcher:
            await _cancel_until_done(self._watcher)
        if self._client:
            await self._answers_ping(self._client, timeout_s=1.0)
            await _discard(self._client)
        await self._end_ping()

    async def _watch(self) -> None:
        """Pings the server, and replaces the client when no answer has come for too long. nats-py
        may report a dead connection as connected.
        """
        while True:
            await asyncio.sleep(BEAT_S)
            if self._client and await self._answers_ping(self._client, timeout_s=BEAT_S):
                self._last_answer_time = time.monotonic()
            if not self.answers:
                await self._replace()
            self._connected.set(self.answers)
            if self._client and self.answers:
                self._max_payload.set(self._client.max_payload)
            else:
                self._max_payload.drop()

    async def _answers_ping(self, client: Client, timeout_s: float) -> bool:
        """Returns whether the server answers a PING. A PING without an answer in time stays open
        until the next call.

        It does not use flush(): where the client's reading task is dead, flush() succeeds without a
        PING. It does not cancel a PING: nats-py's reading task fails on the answer to a cancelled
        one.
        """
        connection = (client, client.stats["reconnects"])
        if self._ping is None or self._ping_connection != connection:
            await self._end_ping()  # a reconnection drops the client's open PINGs
            self._ping_connection, self._ping = (
                connection,
                asyncio.create_task(client.rtt(timeout=PING_TIMEOUT_S), name="broker ping"),
            )
        await asyncio.wait([self._ping], timeout=timeout_s)
        if not self._ping.done():
            return False
        answered = self._ping.exception() is None
        self._ping = None
        return answered

    async def _end_ping(self) -> None:
        if self._ping:
            await _cancel_until_done(self._ping)
            self._ping = None

    async def _replace(self) -> None:
        """Replaces the client with a new one, if the server accepts that. If not, the old client
        tries on as well.
        """
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(self.url.split(","), **self._settings())
                await client.rtt()
        except BaseException as error:  # a cancellation too: it is raised after the cleanup
            # nats-py stops reading on the answer to a cancelled PING.
            await _discard(client)
            if not isinstance(error, Exception):
                raise
            log.warning("the broker cannot be reached", error=repr(error))
            return
        if client.max_payload < MESSAGE_BYTES_MAX:
            log.error(
                "the broker's max_payload is too small: events that are larger are not published. "
                "Raise max_payload in the broker's settings",
                max_payload=client.max_payload,
                needed=MESSAGE_BYTES_MAX,
            )
        self._max_payload.set(client.max_payload)
        old, self._client, self._last_answer_time = self._client, client, time.monotonic()
        self.generation += 1
        if old:
            self._replaced.inc()
            log.warning("the broker did not answer: its connection was replaced")
            await _discard(old)

    def _settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "inbox_prefix": f"_INBOX_{self.name}",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.5,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            # while the connection is away, publishing fails at once instead of filling a buffer
            "pending_size": 0,
            "error_cb": _log_error,
        }


async def connect(url: str, *, name: str, limits: Limits | None = None) -> Broker:
    """Returns a broker for this process. `name` is the service's, and the first part of its reply
    subjects (`_INBOX_<name>`).
    """
    broker = Broker(url, name, limits or Limits())
    await broker.start()
    return broker


async def _log_error(error: Exception) -> None:
    """Logs an error of the client. It must never raise: that would end the client's reading."""
    log.warning("the broker's client reports an error", error=repr(error))


async def _discard(client: Client) -> None:
    """Ends a client that may be frozen. Closing would wait until the peer has taken all unsent
    bytes, so this aborts the socket first.
    """
    writer = getattr(client._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
    closing = asyncio.create_task(client.close(), name="broker close")
    await asyncio.wait([closing], timeout=2)
    await _cancel_until_done(closing)


def raise_swallowed_cancellation() -> None:
    """Raises this task's cancellation again where nats-py has swallowed it (its flush does). Loops
    call it once a turn.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


async def _cancel_until_done(task: asyncio.Task[Any]) -> None:
    """Cancels the task until it has ended, because nats-py sometimes swallows a cancellation. It
    ignores the task's result and error.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if not task.cancelled():
        task.exception()
