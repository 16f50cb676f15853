"""The broker: the streams and durable consumers, declared here, and one connection that is replaced
when it falls silent.

What is published stands in the outbox (chassis.publish.relay), what is received goes to handlers
(chassis.consume.inbox): neither is here.
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
    StreamState,
)
from nats.js.errors import APIError, NotFoundError

from chassis.observe import telemetry
from chassis.values.event_subjects import MESSAGE_BYTES_MAX, STREAMS, message_bytes

# Where the broker says of each consumer what it has given up. It says so once, and keeps nothing of
# it: a stream does.
ADVISORIES = "ADVISORIES"
GIVEN_UP = (
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED",
)
ADVISORIES_BYTES_MAX = 64 * 2**20
MAX_AGE_S = 14 * 24 * 3600.0
# Within this time the broker recognises a message that it is given again. It is longer than the
# relay waits before it tries again; and as long does what was purged wait before the stream takes
# it again, for a purge does not make the broker forget.
DUPLICATE_WINDOW_S = 2 * 60.0
ACK_WAIT_S = 10.0
# An inbox parks an event after a few deliveries, and gives it up long before this many: then it
# crashes each time.
MAX_DELIVER = 250
# Messages that wait for their acknowledgement: those in hand of all replicas, and those that come
# again within a second. What is deferred for longer is parked and acknowledged
# (chassis.consume.parked_events).
MAX_ACK_PENDING = 2_000
CONNECT_TIMEOUT_S = 3
BEAT_S = 2.0
QUESTION_S = 24 * 3600
SILENCE_S = 10.0
# What any call on the broker may raise where it is away, or refuses.
BROKER_ERRORS = (NatsError, OSError, TimeoutError)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stream may take: bytes on disk (then it refuses, and the outbox keeps), and how
    many servers hold a copy.
    """

    max_bytes: int = 4 * 2**30
    replicas: int = 1


class Broker:
    """A connection to NATS that outlives its clients.

    `client` is the present one. `generation` grows each time that another client replaces it, and
    each subscriber subscribes again.
    """

    def __init__(
        self,
        url: str,
        name: str,
        limits: Limits,
        *,
        beat_s: float = BEAT_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.url, self.name, self.limits, self.beat_s, self.silence_s = (
            url,
            name,
            limits,
            beat_s,
            silence_s,
        )
        self.generation = 0
        self._client: Client | None = None
        self._heard = float("-inf")
        self._watcher: asyncio.Task[None] | None = None
        self._question: asyncio.Task[float] | None = None
        self._asked: tuple[Client, int] | None = None
        self._replaced = telemetry.counter(
            "broker_connections_replaced_total", "Connections to the broker that had fallen silent"
        )
        self._refused_copies = telemetry.counter(
            "broker_copies_refused_total",
            "Times that the broker refused a stream the copies that it should have: alert on it",
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
        """Connects, and watches the connection until `close`. A broker that is away is not
        waited for: the watcher goes on trying.
        """
        await self._replace()
        self._watcher = asyncio.create_task(self._watch(), name="broker watchdog")

    @property
    def client(self) -> Client:
        """The client that serves now. Raises ConnectionError where there has been none yet."""
        if self._client is None:
            raise ConnectionError("the broker has not been reached yet")
        return self._client

    @property
    def connection(self) -> tuple[int, int]:
        """Changes with each connection to a server. Raises ConnectionError where there has been
        none yet.
        """
        return self.generation, self.client.stats["reconnects"]

    @property
    def streams(self) -> JetStreamContext:
        """JetStream over the client that serves now. Raises ConnectionError while that is not
        connected.
        """
        return self.jetstream(5.0)

    def jetstream(self, timeout_s: float) -> JetStreamContext:
        """The same, with another time to wait for an answer."""
        if not self.client.is_connected:  # nats-py would fail too, and leak a little each time
            raise ConnectionError("the broker is away")
        return self.client.jetstream(timeout=timeout_s)

    @property
    def answers(self) -> bool:
        """Whether the broker has answered within the last `silence_s`."""
        return time.monotonic() - self._heard < self.silence_s

    async def publish(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str],
        *,
        stream: str,
        timeout_s: float = 2.0,
    ) -> PubAck:
        """Publishes on a stream, which must be `stream`, and waits for its answer.

        Raises one of BROKER_ERRORS. The stream may have the message then: the caller repeats it
        under the same Nats-Msg-Id. MaxPayloadError, one of them, is raised before anything is sent:
        the server would close the connection at a message that is too large, and nats-py itself
        does not count the headers.
        """
        if (
            message_bytes(payload, {"Nats-Expected-Stream": stream, **headers})
            > self.client.max_payload
        ):
            raise MaxPayloadError
        return await self.streams.publish(
            subject, payload, timeout=timeout_s, stream=stream, headers=headers
        )

    async def ensure_streams(self) -> None:
        """Creates the streams that are missing, and corrects those that differ from what is
        declared here.
        """
        for name in STREAMS:
            await self.ensure_stream(name)

    async def ensure_stream(self, name: str, *, correct: bool = True) -> StreamState:
        """Creates the stream, or corrects it; answers with what it holds. Raises one of
        BROKER_ERRORS.

        A stream of another service's may be created, for one cannot listen to nothing, but is its
        publisher's to `correct`: were their limits different, the two would change it for ever.
        """
        return (await self.ensure_stream_info(name, correct=correct)).state

    async def ensure_stream_info(self, name: str, *, correct: bool = True) -> StreamInfo:
        """As `ensure_stream`; answers with all that the broker knows of it."""
        wanted = self._wanted(name)
        try:
            info = await self.streams.stream_info(name)
        except NotFoundError:
            info = await self.streams.add_stream(StreamConfig(name=name, **wanted))
            log.info("stream created", stream=name)
        if correct and info.config.evolve(**wanted) != info.config:
            info = await self._correct(info, wanted)
        return info

    async def _correct(self, info: StreamInfo, wanted: dict[str, Any]) -> StreamInfo:
        """A stream that the broker refuses more copies, as a single server does, serves with
        those that it has.
        """
        name, copies = info.config.name, info.config.num_replicas
        try:
            info = await self.streams.update_stream(info.config.evolve(**wanted))
        except APIError as error:
            if isinstance(error, NotFoundError) or wanted["num_replicas"] == copies:
                raise
            self._refused_copies.labels(name).inc()
            log.error(
                "the broker refuses a stream more copies",
                stream=name,
                copies=copies,
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

    def _wanted(self, name: str) -> dict[str, Any]:
        events = name in STREAMS
        return {
            "subjects": [STREAMS[name]] if events else [f"{kind}.>" for kind in GIVEN_UP],
            "storage": StorageType.FILE,
            "retention": RetentionPolicy.LIMITS,
            # The broker publishes an advisory once: a stream that refuses it loses it.
            "discard": DiscardPolicy.NEW if events else DiscardPolicy.OLD,
            "max_age": MAX_AGE_S,
            "max_bytes": self.limits.max_bytes if events else ADVISORIES_BYTES_MAX,
            "num_replicas": self.limits.replicas,
            "duplicate_window": DUPLICATE_WINDOW_S,
            "deny_delete": True,
        }

    async def ensure_consumer(self, stream: str, durable: str, subjects: Sequence[str]) -> None:
        """Creates the durable consumer, or corrects it. A new one starts at the first message that
        the stream still has.

        The subjects of an existing consumer only grow: while versions are mixed, an older version
        would remove subjects of a newer one, and the server skips their messages for good.
        """
        wanted: dict[str, Any] = {
            "ack_policy": AckPolicy.EXPLICIT,
            "ack_wait": ACK_WAIT_S,
            # what was given up is not given up again
            "max_deliver": MAX_DELIVER if stream in STREAMS else -1,
            "max_ack_pending": MAX_ACK_PENDING,
        }
        try:
            found: ConsumerConfig = (await self.streams.consumer_info(stream, durable)).config
        except NotFoundError:
            found = ConsumerConfig(
                name=durable, durable_name=durable, deliver_policy=DeliverPolicy.ALL
            )
        # The server reports a filter over one subject in the singular field.
        heard = found.filter_subjects or ([found.filter_subject] if found.filter_subject else [])
        known = found.evolve(filter_subjects=heard, filter_subject=None)
        wanted["filter_subjects"] = sorted({*heard, *subjects})
        if known.evolve(**wanted) != known:
            await self.streams.add_consumer(stream, known.evolve(**wanted))
            log.info("consumer declared", stream=stream, consumer=durable)

    async def close(self) -> None:
        """Ends the watch and the connection; what was written before is given a second to go
        out.
        """
        if self._watcher:
            await _end(self._watcher)
        if self._client:
            await self._asks(self._client, timeout_s=1.0)
            await _discard(self._client)
        await self._forget()

    async def _watch(self) -> None:
        """nats-py can be dead and say that it is connected; so ask the server, and after too
        long a silence take a new client.
        """
        while True:
            await asyncio.sleep(self.beat_s)
            if self._client and await self._asks(self._client, timeout_s=self.beat_s):
                self._heard = time.monotonic()
            if not self.answers:
                await self._replace()
            self._connected.set(self.answers)
            if self._client and self.answers:
                self._max_payload.set(self._client.max_payload)
            else:
                self._max_payload.drop()

    async def _asks(self, client: Client, timeout_s: float) -> bool:
        """Whether the server answers a PING. A question that was not answered in time stays open
        until the next time.

        Not by flush(): where the client's reading task is dead, it succeeds without having asked.
        And not cancelled: nats-py's reading task fails on the answer to a cancelled question.
        """
        connection = (client, client.stats["reconnects"])
        if self._question is None or self._asked != connection:
            await self._forget()  # the client has forgotten it too
            self._asked, self._question = (
                connection,
                asyncio.create_task(client.rtt(timeout=QUESTION_S), name="broker ping"),
            )
        await asyncio.wait([self._question], timeout=timeout_s)
        if not self._question.done():
            return False
        answered = self._question.exception() is None
        self._question = None
        return answered

    async def _forget(self) -> None:
        if self._question:
            await _end(self._question)
            self._question = None

    async def _replace(self) -> None:
        """Puts a new client in the place of the old one, if the server takes it; otherwise the
        old one goes on trying as well.
        """
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(self.url.split(","), **self._settings())
                await client.rtt()
        except BaseException as error:  # a cancellation too: it is raised after the cleanup
            # nats-py's reading fails on the answer to a cancelled PING.
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
        old, self._client, self._heard = self._client, client, time.monotonic()
        self.generation += 1
        if old:
            self._replaced.inc()
            log.warning("the broker's connection had fallen silent and was replaced")
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
            "error_cb": _note,
        }


async def connect(url: str, *, name: str, limits: Limits | None = None, **watch: float) -> Broker:
    """A broker for this process; `name` is the service's, and the first part of its reply
    subjects (`_INBOX_<name>`).
    """
    broker = Broker(url, name, limits or Limits(), **watch)
    await broker.start()
    return broker


async def _note(error: Exception) -> None:
    """Must never raise: that would end the client's reading."""
    log.warning("the broker's client reports an error", error=repr(error))


async def _discard(client: Client) -> None:
    """Ends a client that may be frozen: closing would wait for its peer to take what is still
    unsent, so the socket goes first.
    """
    writer = getattr(client._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
    closing = asyncio.create_task(client.close(), name="broker close")
    await asyncio.wait([closing], timeout=2)
    await _end(closing)


def heed_cancellation() -> None:
    """Raises the cancellation of this task again, where nats-py has swallowed it (its flush
    does). For loops that call it, once a turn.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancels the task until it has ended: nats-py swallows a cancellation now and then. What it
    ends with is of no interest any more.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if not task.cancelled():
        task.exception()
