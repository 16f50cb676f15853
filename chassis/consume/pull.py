"""One pull on a durable consumer: returns all messages that have arrived, as soon as there is one.

nats-py's fetch waits for a full batch, and does not notice that its request was lost. This pull
uses the server's heartbeats. Where they stop, and where the server ends a request, it declares the
consumer again if necessary, and starts a new pull. chassis.consume.inbox reads the messages and
acknowledges them.
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

from chassis.broker.stream import BROKER_ERRORS, Broker, raise_swallowed_cancellation
from chassis.observe import telemetry

HEARTBEAT_S = 0.5
IDLE_TIMEOUT_S = 3 * HEARTBEAT_S
EXPIRES_S = 30.0
PAUSE_S = 0.2
MEASURE_S = 10.0
HEARTBEAT = "100"
EXPIRED = ("404", "408")

log = structlog.get_logger()


class Pull:
    """A pull for one consumer. `arrived` has the messages that `next` has not returned yet."""

    def __init__(
        self,
        broker: Broker,
        stream: str,
        consumer: str,
        subjects: Sequence[str],
        *,
        batch_size_max: int,
    ) -> None:
        self._broker, self.stream, self.consumer, self._subjects = (
            broker,
            stream,
            consumer,
            subjects,
        )
        self._batch = batch_size_max
        self.arrived: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._subscription: Subscription | None = None
        # messages that are still on their way to it arrive all the same
        self._previous: Subscription | None = None
        self._generation = -1  # the broker's at the last `_resubscribe`; -1: begin again
        self._reply = ""
        self._outstanding = 0  # messages that the server may still send for open requests
        self._last_message_time = 0.0
        self._pending = telemetry.reading(
            "inbox_pending", "Events that the consumer has not received yet", "consumer"
        ).labels(consumer)

    async def next(self) -> list[Msg]:
        """Returns at least one message and a batch at most, in the order of arrival. It waits, and
        survives an absence of the broker, the stream or the consumer.
        """
        while True:
            raise_swallowed_cancellation()
            try:
                await self._ask()
            except BROKER_ERRORS as error:
                log.warning(
                    "a request for events failed",
                    consumer=self.consumer,
                    error=repr(error),
                )
                self._generation = -1
                await asyncio.sleep(PAUSE_S)
            if self.arrived:
                break
            await self._wait()
        taken = [self.arrived.popleft() for _ in range(min(len(self.arrived), self._batch))]
        self._pending.set(taken[-1].metadata.num_pending)
        return taken

    async def measure(self) -> NoReturn:
        """Sets the gauge of events that are not received yet, also where none arrive. The gauge has
        no value while the broker does not answer.
        """
        while True:
            # `next` logs that the broker is away
            with suppress(*BROKER_ERRORS), telemetry.reading_of(self._pending):
                info = await self._broker.streams.consumer_info(self.stream, self.consumer)
                self._pending.set(info.num_pending or 0)
            raise_swallowed_cancellation()
            await asyncio.sleep(MEASURE_S)

    async def close(self) -> None:
        """Ends the subscriptions. `arrived` keeps the messages that `next` has not returned."""
        for subscription in (self._previous, self._subscription):
            await _unsubscribe(subscription)

    async def _ask(self) -> None:
        """Makes sure that a request is open at the server: it will send messages, or say that there
        are none.
        """
        silent = (
            self._outstanding > 0 and time.monotonic() - self._last_message_time > IDLE_TIMEOUT_S
        )
        if silent or self._generation != self._broker.generation:
            if self.arrived:
                return  # return those first
            await self._resubscribe()
        if self._outstanding > self._batch // 2:
            return
        if not self._outstanding:
            self._last_message_time = time.monotonic()
        number = self._batch - self._outstanding
        request = {
            "batch": number,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}"
        await self._broker.client.publish(subject, json.dumps(request).encode(), self._reply)
        self._outstanding += number

    async def _resubscribe(self) -> None:
        """Subscribes again on the present client. Messages of an old request still arrive, but no
        longer count as outstanding.
        """
        if self._subscription:
            # the cause may last: pause before the next try
            await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))
        generation = self._broker.generation
        await self._broker.ensure_stream(self.stream, correct=False)
        await self._broker.ensure_consumer(self.stream, self.consumer, self._subjects)
        await _unsubscribe(self._previous)
        self._previous, self._reply = self._subscription, self._broker.client.new_inbox()
        self._subscription = await self._broker.client.subscribe(self._reply, cb=self._on_message)
        self._generation, self._outstanding = generation, 0

    async def _wait(self) -> None:
        """Waits until a message has arrived, the server has ended a request, or no heartbeat has
        come for too long.
        """
        self._arrival.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(
                max(0.0, self._last_message_time + IDLE_TIMEOUT_S - time.monotonic()) + 0.01
            ):
                await self._arrival.wait()

    async def _on_message(self, message: Msg) -> None:
        """Takes a message, or the server's status of a request. The client calls it for each."""
        self._last_message_time = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._outstanding = max(0, self._outstanding - 1)
            self.arrived.append(message)
        elif status != HEARTBEAT and message.subject == self._reply:
            waiting = (message.headers or {}).get("Nats-Pending-Messages")
            self._outstanding = max(0, self._outstanding - int(waiting)) if waiting else 0
            if status not in EXPIRED:
                log.info(
                    "a request for events ended early",
                    consumer=self.consumer,
                    status=status,
                    why=(message.headers or {}).get("Description"),
                )
                self._generation = -1
        else:
            return
        self._arrival.set()


async def _unsubscribe(subscription: Subscription | None) -> None:
    if subscription:
        try:
            await subscription.unsubscribe()
        except BROKER_ERRORS as error:
            log.debug("its client has closed before it", error=repr(error))
