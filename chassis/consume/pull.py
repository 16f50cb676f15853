"""One lingering pull on a durable consumer: hands over whatever has arrived, as soon as something
has.

nats-py's fetch waits for a full batch, and does not notice that its request was lost. Here the
server's heartbeats tell: where they fail, and where the server ends a request, the consumer is
declared again if need be, and a new pull takes the old one's place. What the messages mean, and
their acknowledgement, is chassis.consume.inbox's.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.broker.stream import BROKER_ERRORS, Broker, heed_cancellation
from chassis.observe import telemetry

HEARTBEAT_S = 0.5
SILENCE_S = 3 * HEARTBEAT_S
EXPIRES_S = 30.0
PAUSE_S = 0.2
MEASURE_S = 10.0
HEARTBEAT = "100"
EXPIRED = ("404", "408")

log = structlog.get_logger()


class Pull:
    """What waits for one consumer. `arrived` are the messages that are here and that nobody has
    taken yet.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        consumer: str,
        subjects: Sequence[str],
        *,
        batch_size_max: int = 100,
        linger_s: float = 0.0,
    ) -> None:
        """`linger_s` is how long a batch that is not full waits for more: larger sets for a
        little latency.
        """
        self._broker, self.stream, self.consumer, self._subjects = (
            broker,
            stream,
            consumer,
            subjects,
        )
        self._batch, self._linger_s = batch_size_max, linger_s
        self.arrived: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._subscription: Subscription | None = None
        # what is still on its way to it arrives all the same
        self._former: Subscription | None = None
        self._generation = -1  # the broker's, when this began; -1: begin anew
        self._reply = ""
        self._outstanding = 0  # messages that the server may still send for what it was asked
        self._heard = 0.0
        self._pending = telemetry.reading(
            "inbox_pending", "Events that the stream has still to give", "consumer"
        ).labels(consumer)

    async def next(self) -> list[Msg]:
        """At least one message and a batch at most, in the order of arrival. Waits; outlives the
        broker, the stream and the consumer.
        """
        while True:
            heed_cancellation()
            try:
                await self._ask()
            except BROKER_ERRORS as error:
                log.warning(
                    "the broker cannot be asked for events",
                    consumer=self.consumer,
                    error=repr(error),
                )
                self._generation = -1
                await asyncio.sleep(PAUSE_S)
            if self.arrived:
                break
            await self._wait()
        if self._linger_s and len(self.arrived) < self._batch:
            await asyncio.sleep(self._linger_s)
        taken = [self.arrived.popleft() for _ in range(min(len(self.arrived), self._batch))]
        self._pending.set(taken[-1].metadata.num_pending)
        return taken

    async def measure(self) -> NoReturn:
        """Shows how many events the stream has still to give, also where none arrive; no number
        while the broker cannot be asked.
        """
        while True:
            # `next` says that the broker is away
            with suppress(*BROKER_ERRORS), telemetry.reading_of(self._pending):
                info = await self._broker.streams.consumer_info(self.stream, self.consumer)
                self._pending.set(info.num_pending or 0)
            heed_cancellation()
            await asyncio.sleep(MEASURE_S)

    async def close(self) -> None:
        """Nothing more arrives here. What has arrived and was not taken is still in `arrived`."""
        for subscription in (self._former, self._subscription):
            await _end(subscription)

    async def _ask(self) -> None:
        """Makes sure that the server owes us messages, or will say that there are none."""
        silent = self._outstanding > 0 and time.monotonic() - self._heard > SILENCE_S
        if silent or self._generation != self._broker.generation:
            if self.arrived:
                return  # first things first
            await self._begin()
        if self._outstanding > self._batch // 2:
            return
        if not self._outstanding:
            self._heard = time.monotonic()
        number = self._batch - self._outstanding
        request = {
            "batch": number,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}"
        await self._broker.client.publish(subject, json.dumps(request).encode(), self._reply)
        self._outstanding += number

    async def _begin(self) -> None:
        """A new subscription on the client that serves now: what an old request still brings is
        taken too, but no longer counted on.
        """
        if self._subscription:
            # whatever the reason, it may last
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
        generation = self._broker.generation
        await self._broker.ensure_stream(self.stream, correct=False)
        await self._broker.ensure_consumer(self.stream, self.consumer, self._subjects)
        await _end(self._former)
        self._former, self._reply = self._subscription, self._broker.client.new_inbox()
        self._subscription = await self._broker.client.subscribe(self._reply, cb=self._on)
        self._generation, self._outstanding = generation, 0

    async def _wait(self) -> None:
        """Until something has arrived, or the server has ended a request, or has been silent for
        too long.
        """
        self._arrival.clear()
        if not self.arrived:
            try:
                async with asyncio.timeout(
                    max(0.0, self._heard + SILENCE_S - time.monotonic()) + 0.01
                ):
                    await self._arrival.wait()
            except TimeoutError:
                return

    async def _on(self, message: Msg) -> None:
        """Called by the client for each message, and for each word of the server about a
        request.
        """
        self._heard = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._outstanding = max(0, self._outstanding - 1)
            self.arrived.append(message)
        elif status != HEARTBEAT and message.subject == self._reply:
            left = (message.headers or {}).get("Nats-Pending-Messages")
            self._outstanding = max(0, self._outstanding - int(left)) if left else 0
            if status not in EXPIRED:
                log.info(
                    "a request for events ended",
                    consumer=self.consumer,
                    status=status,
                    why=(message.headers or {}).get("Description"),
                )
                self._generation = -1
        else:
            return
        self._arrival.set()


async def _end(subscription: Subscription | None) -> None:
    if subscription:
        try:
            await subscription.unsubscribe()
        except BROKER_ERRORS as error:
            log.debug("its client has gone before it", error=repr(error))
