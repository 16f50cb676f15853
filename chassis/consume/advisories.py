"""What the broker has given up: a delivery too many, or one that somebody has terminated. Such
events go to failed_events too.

The broker says of each consumer what it has given up, once, to whoever listens; a stream of its own
keeps that, and here it is read. What a consumer gives up by itself it has stored before
(chassis.consume.inbox): then nothing is left to do. Nothing is handled here.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

import structlog
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from chassis.broker.stream import ADVISORIES, BROKER_ERRORS, GIVEN_UP, Broker
from chassis.consume.delivery import described
from chassis.consume.dispatch import failed_with
from chassis.consume.failed_events import FailedEvent, FailedEvents
from chassis.consume.pull import Pull
from chassis.observe import telemetry
from chassis.values.errors import Defect
from chassis.write.error_classification import LATER, TROUBLE, classify

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The broker's words: which message it will not deliver to this consumer any more, after so
    many deliveries.
    """

    stream: str
    consumer: str
    seq: int
    deliveries: int
    time: datetime


class Advisories:
    """Reads what the broker says of a service's consumers; replicas share the reading."""

    def __init__(
        self, broker: Broker, failed: FailedEvents, *, service: str, consumers: Mapping[str, str]
    ) -> None:
        """`consumers` are the service's durable consumers, with their streams."""
        self._broker, self._failed = broker, failed
        subjects = [
            f"{kind}.{stream}.{consumer}"
            for kind in GIVEN_UP
            for consumer, stream in consumers.items()
        ]
        self._pull = Pull(
            broker=broker, stream=ADVISORIES, consumer=f"{service}-advisories", subjects=subjects
        )
        self._given_up = telemetry.counter(
            "inbox_given_up_total", "Events that the broker has given up by itself", "consumer"
        )

    async def run(self) -> NoReturn:
        """Reads until it is cancelled. Outlives the absence of the broker and of the database."""
        try:
            while True:
                for message in await self._pull.next():
                    await self._patiently(partial(self._take, message))
                    with suppress(*BROKER_ERRORS):
                        await message.ack()
        finally:
            await self._pull.close()

    async def _take(self, message: Msg) -> None:
        words = understood(message.data)
        if words is None:
            log.error("an advisory that cannot be read", subject=message.subject)
            return
        event = await self._find(words)
        if event and await self._failed.give_up([event]):  # what we gave up ourselves is no news
            self._given_up.labels(words.consumer).inc()
            log.error(
                "the broker has given an event up",
                consumer=words.consumer,
                event_id=str(event.event_id),
                seq=words.seq,
            )

    async def _find(self, words: GivenUp) -> FailedEvent | None:
        """The message that was given up. None where it is gone, or where another has its place:
        what was lost comes again by itself.
        """
        try:
            found = await self._broker.streams.get_msg(words.stream, words.seq)
        except NotFoundError:
            return None
        if found.time is None or found.time > words.time:
            return None
        body, headers = found.data or b"", found.headers or {}
        event = described(
            words.consumer,
            words.stream,
            words.seq,
            found.subject or "",
            headers,
            body,
            found.time,
            words.deliveries,
        )
        return failed_with(
            event,
            Defect(RuntimeError(f"given up by the broker after {words.deliveries} deliveries")),
        )

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Nothing is passed over because the database or the broker is away."""
        while True:
            try:
                return await work()
            except BROKER_ERRORS as error:
                log.warning("an advisory waits for the broker", error=repr(error))
            except TROUBLE as error:
                if classify(error) not in LATER:
                    raise
                log.warning("an advisory waits for the database", error=repr(error))
            await asyncio.sleep(random.uniform(0.1, 0.5))


def understood(body: bytes) -> GivenUp | None:
    """An advisory, of either kind; None where it is not one."""
    try:
        words: dict[str, Any] = json.loads(body)
        seq, deliveries = int(words["stream_seq"]), int(words["deliveries"])
        return GivenUp(
            stream=str(words["stream"]),
            consumer=str(words["consumer"]),
            seq=seq,
            deliveries=deliveries,
            time=datetime.fromisoformat(words["timestamp"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
