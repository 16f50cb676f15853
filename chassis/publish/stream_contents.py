"""The contents of a stream: its bounds and the ids of its messages, as the broker has them now.

It only reads. Where it reads several messages, it reads their headers and not their payloads. The
comparison with the outbox is chassis.publish.stream_comparison.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, Header, RawStreamMsg, StreamInfo
from nats.js.errors import APIError, NotFoundError

from chassis.broker.stream import BROKER_ERRORS, Broker

LOOK_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 5.0
DELETED_AFTER_S = 30.0  # the server deletes a consumer that this process could not delete
# The statuses that end a pull request after the last message. With any other one the broker has cut
# the reading short: 409 (the consumer or its leader is gone), 503 (no server answers).
END_STATUSES = frozenset({"404", "408"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The state of a stream. `first_seq` is `last_seq + 1` where it is empty; `deleted` counts the
    places between the two that hold no message.
    """

    create_time: datetime
    first_seq: int
    last_seq: int
    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message of a stream. Headers that it does not have are empty strings."""

    seq: int
    event_id: str
    aggregate: str
    source: str
    type: str
    time: str  # of the event, as its producer wrote it


class StreamContents:
    """Reads one stream. Every method raises one of BROKER_ERRORS where the broker is away."""

    def __init__(self, broker: Broker, stream: str) -> None:
        self._broker, self._stream = broker, stream

    async def ensured(self) -> Bounds:
        """Returns the bounds. It creates or corrects the stream first."""
        return _bounds(await self._broker.ensure_stream(self._stream))

    async def bounds(self) -> Bounds | None:
        """Returns the bounds; None where there is no such stream."""
        try:
            streams = self._broker.jetstream(LOOK_TIMEOUT_S)
            return _bounds(await streams.stream_info(self._stream))
        except NotFoundError:
            return None

    async def message(self, seq: int) -> RawStreamMsg | None:
        """Returns one message with its payload; None where the place is empty."""
        try:
            return await self._broker.streams.get_msg(self._stream, seq)
        except NotFoundError:
            return None

    async def holds(self, seq: int, event_id: object) -> bool:
        """Returns whether the message at this place is that event."""
        message = await self.message(seq)
        return message is not None and event_id_of(message) == str(event_id)

    async def between(self, low: int, high: int) -> dict[int, Entry]:
        """Returns the messages from `low` to `high`, both included, by their places.

        Raises one of BROKER_ERRORS where the broker cuts the reading short.
        """
        found: dict[int, Entry] = {}
        async with self._reading(low, high) as arrived, asyncio.timeout(READ_TIMEOUT_S):
            pending = high - low + 1
            while pending > 0 and (message := await arrived.get()) is not None:
                if isinstance(message, Exception):
                    raise message
                entry = _entry(message)
                pending = min(message.metadata.num_pending, high - entry.seq)
                if entry.seq <= high:
                    found[entry.seq] = entry
        return found

    @asynccontextmanager
    async def _reading(
        self,
        low: int,
        high: int,
    ) -> AsyncIterator["asyncio.Queue[Msg | Exception | None]"]:
        """Yields a queue of the messages from `low` on, without their payloads, and None after the
        last one.

        An error in the queue means that the broker has ended the reading before the last message.

        It uses a consumer and not direct requests, because a server that is behind may answer
        those.
        """
        arrived: asyncio.Queue[Msg | Exception | None] = asyncio.Queue()

        async def take(message: Msg) -> None:
            is_message = message.reply.startswith("$JS.ACK.")
            arrived.put_nowait(message if is_message else _end_of(message))

        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=low,
            ack_policy=AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=DELETED_AFTER_S,
        )
        streams, client = self._broker.streams, self._broker.client
        name = (await streams.add_consumer(self._stream, config)).name
        reply = client.new_inbox()
        subscription = await client.subscribe(reply, cb=take)
        request = json.dumps({"batch": high - low + 1, "no_wait": True}).encode()
        try:
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}"
            await client.publish(subject, request, reply)
            yield arrived
        finally:
            with suppress(*BROKER_ERRORS):  # the server deletes the consumer later
                await subscription.unsubscribe()
                await streams.delete_consumer(self._stream, name)


def event_id_of(message: RawStreamMsg) -> str:
    """Returns the id of a message's event; an empty text where its headers have none."""
    return str((message.headers or {}).get("ce-id", ""))


def _bounds(info: StreamInfo) -> Bounds:
    if info.created is None:
        raise TypeError("the broker does not say when it created the stream")
    state = info.state
    first_seq = state.first_seq if state.messages else state.last_seq + 1
    return Bounds(
        create_time=info.created,
        first_seq=first_seq,
        last_seq=state.last_seq,
        deleted=state.num_deleted or 0,
    )


def _end_of(answer: Msg) -> Exception | None:
    """Returns None where the status says that there are no more messages; otherwise an error."""
    headers = answer.headers or {}
    status = headers.get(Header.STATUS, "")
    if status in END_STATUSES:
        return None
    code = int(status) if status.isdecimal() else None
    return APIError(code=code, description=headers.get(Header.DESCRIPTION, "no description"))


def _entry(message: Msg) -> Entry:
    headers = message.headers or {}
    return Entry(
        seq=message.metadata.sequence.stream,
        event_id=headers.get("ce-id", ""),
        aggregate=headers.get("ce-subject", ""),
        source=headers.get("ce-source", ""),
        type=headers.get("ce-type", ""),
        time=headers.get("ce-time", ""),
    )
