"""The broker's side: the time of each service's last event, and how to lose, repeat and shuffle the
broker's messages.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import NotFoundError

from chassis.broker.stream import BROKER_ERRORS
from chassis.values.event_subjects import STREAMS

SHUFFLED_MAX: Final = 60
READ_MAX: Final = 200
STOLEN_MAX: Final = 10
FETCH_S: Final = 0.5
LATE_S: Final = (0.5, 6.0)
ASK_S: Final = 3.0
AGAIN_S: Final = 0.3
GIVE_UP_S: Final = 20.0


class Events:
    """The harness's own connection, without a proxy. It reconnects after an outage of the
    broker.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        # monotonic, of the last event on each stream
        self.arrived_at: dict[str, float] = dict.fromkeys(STREAMS, float("-inf"))

    @property
    def streams(self) -> JetStreamContext:
        """Returns JetStream, as nats-py has it."""
        return self._client.jetstream(timeout=ASK_S)

    async def progress(self, streams: Iterable[str], since: float) -> float:
        """Waits for a new event on each of these streams. Returns the time from `since` (monotonic)
        to the last of them.
        """
        names = list(streams)
        while any(self.arrived_at[name] <= since for name in names):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # several tasks wait for several streams: no one Event fits
        return max(self.arrived_at[name] for name in names) - since

    async def sequences(self) -> dict[str, int]:
        """Returns the last sequence number of each existing stream."""
        found: dict[str, int] = {}
        for name in STREAMS:
            if info := await self._info(name):
                found[name] = info.state.last_seq
        return found

    async def waiting(self) -> int:
        """Returns the number of messages that consumers have not received or not acknowledged."""
        total = 0
        for name in STREAMS:
            if await self._info(name):
                total += sum(
                    (c.num_pending or 0) + (c.num_ack_pending or 0)
                    for c in await self.streams.consumers_info(name)
                )
        return total

    async def messages(self, stream: str) -> AsyncIterator[Msg]:
        """Returns all messages of the stream, in order."""
        info = await self._info(stream)
        if info is None or not info.state.messages:
            return
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.ALL,
            inactive_threshold=GIVE_UP_S,
        )
        subscription = await self.streams.pull_subscribe("", stream=stream, config=config)
        try:
            remaining = info.state.messages
            while remaining > 0:
                for message in await subscription.fetch(
                    min(remaining, READ_MAX), timeout=GIVE_UP_S
                ):
                    remaining -= 1
                    yield message
        finally:
            await subscription.unsubscribe()

    async def delete_stream(self, stream: str) -> int:
        """Deletes the stream; returns the number of its messages."""
        info = await self._info(stream)
        if info is None:
            return 0
        await self.streams.delete_stream(stream)
        return info.state.messages

    async def delete_consumer(self, stream: str, chance: random.Random) -> int:
        """Deletes one of the stream's consumers; returns the number of messages to be delivered
        again.
        """
        if await self._info(stream) is None:
            return 0
        consumers = sorted(await self.streams.consumers_info(stream), key=lambda each: each.name)
        if not consumers:
            return 0
        victim = chance.choice(consumers)
        await self.streams.delete_consumer(stream, victim.name)
        return victim.delivered.consumer_seq if victim.delivered else 0

    async def shuffle(self, stream: str, chance: random.Random) -> int:
        """Publishes some messages of the stream again, in any order; returns their number.

        Each has a new message id for the broker, which would refuse the repeat, and the event's own
        id for consumers.
        """
        info = await self._info(stream)
        if info is None or not info.state.messages:
            return 0
        places = range(info.state.first_seq, info.state.last_seq + 1)
        sent = 0
        for place in chance.sample(places, min(SHUFFLED_MAX, len(places))):
            try:
                found = await self.streams.get_msg(stream, place)
            except NotFoundError:
                continue
            headers = dict(found.headers or {}) | {
                "Nats-Msg-Id": str(uuid.UUID(int=chance.getrandbits(128), version=4))
            }
            await self.streams.publish(
                found.subject or "",
                found.data or b"",
                stream=stream,
                headers=headers,
                timeout=ASK_S,
            )
            sent += 1
        return sent

    async def steal(self, stream: str, chance: random.Random, lasts_s: float) -> int:
        """Takes messages of one of the stream's consumers, as a replica would, and gives each back
        seconds later; returns their number.

        So events arrive for the first time in another order than that of their publication.
        """
        if await self._info(stream) is None:
            return 0
        names = sorted(consumer.name for consumer in await self.streams.consumers_info(stream))
        if not names:
            return 0
        taken, end = 0, time.monotonic() + lasts_s
        subscription = await self.streams.pull_subscribe_bind(chance.choice(names), stream)
        try:
            while time.monotonic() < end:
                try:
                    messages = await subscription.fetch(STOLEN_MAX, timeout=FETCH_S)
                except TimeoutError:
                    continue
                for message in messages:
                    await message.nak(delay=chance.uniform(*LATE_S))
                taken += len(messages)
        finally:
            await subscription.unsubscribe()
        return taken

    async def _info(self, stream: str) -> StreamInfo | None:
        """Returns the broker's information about a stream; None if it does not exist. Retries while
        the broker may be restarting.
        """
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                return await self.streams.stream_info(stream)
            except NotFoundError:
                return None
            except BROKER_ERRORS:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_S)  # the broker is restarting; the deadline bounds the loop

    def note_arrival(self, stream: str, _message: Msg) -> None:
        """Records the arrival of a new event."""
        self.arrived_at[stream] = time.monotonic()


@asynccontextmanager
async def subscribed(url: str) -> AsyncIterator[Events]:
    """Events of the broker at `url`."""

    async def quietly(_error: Exception) -> None:
        """Ignores the error: the run stops and starts the broker."""

    client = await nats.connect(
        url,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        ping_interval=2,
        connect_timeout=1,
        error_cb=quietly,
        pending_size=0,
    )
    try:
        events = Events(client)
        for stream, subjects in STREAMS.items():
            await client.subscribe(subjects, cb=_recorder(events, stream))
        await client.flush()
        yield events
    finally:
        await client.close()


def _recorder(events: Events, stream: str) -> Any:
    async def record(message: Msg) -> None:
        events.note_arrival(stream, message)

    return record
