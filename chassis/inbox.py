"""Events in: what has arrived goes to its handlers as sets, and by their outcomes it is acknowledged, comes later, or has failed.

One durable consumer for each (service, stream), shared by the service's replicas. Nothing is acknowledged that was not done, and
nothing is given up before it stands in failed_events. How messages get here is chassis.pull's, what they say
chassis.delivery's, and what is made of them chassis.handling's.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import structlog
from google.protobuf.message import Message
from nats.aio.msg import Msg
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis import crash, telemetry
from chassis.blame import LATER, TROUBLE, blame
from chassis.decision import Done, Outcome
from chassis.delivery import Received, receive
from chassis.errors import Defect, Failure
from chassis.failed import DEFERRAL_LIMIT, FailedEvent, FailedEvents
from chassis.handling import Handler, Handlers, failed_with, sets
from chassis.pull import Pull
from chassis.stream import ACK_WAIT_S, BROKER_ERRORS, MAX_DELIVER, Broker, heed_cancellation, stream_of, subject_of
from chassis.tables import FailedState

T = TypeVar("T")

DELAY_MIN_S, DELAY_MAX_S = 0.1, 10.0
# After so many deliveries without a word of ours an event is given up: it ends its consumer. (It has gone alone since handling.SUSPECT.)
HOPELESS = 20
TICK_S = ACK_WAIT_S / 3
SURVEY_S = 30.0

log = structlog.get_logger()


class Inbox:
    """Hands the events of a service to its handlers."""

    def __init__(
        self,
        broker: Broker,
        engine: AsyncEngine,
        failed_events: Table,
        *,
        service: str,
        handlers: Mapping[type[Message], Handler[Any]],
        batch_size_max: int = 100,
        linger_s: float = 0.0,
        deferral_limit: timedelta = DEFERRAL_LIMIT,
    ) -> None:
        """`deferral_limit` is how long an event may be deferred, from the first time; `linger_s`: see chassis.pull."""
        if not handlers:
            raise ValueError("an inbox needs handlers")
        subjects: dict[str, list[str]] = defaultdict(list)
        for kind in handlers:
            subjects[stream_of(subject_of(kind))].append(subject_of(kind))
        self._handlers, self.failed = Handlers(handlers), FailedEvents(engine, failed_events, deferral_limit)
        self._consumers = [
            Consumer(
                Pull(broker, stream, f"{service}-{stream.lower()}", wanted, batch_size_max=batch_size_max, linger_s=linger_s),
                self._handlers,
                self.failed,
            )
            for stream, wanted in subjects.items()
        ]

    @property
    def consumers(self) -> Mapping[str, str]:
        """The durable consumers, one for each stream, and their streams: `order-payments` -> `PAYMENTS`."""
        return {consumer.name: consumer.stream for consumer in self._consumers}

    @property
    def kinds(self) -> Mapping[str, type[Message]]:
        """The events that there are handlers for, by their full names."""
        return self._handlers.kinds

    async def run(self) -> NoReturn:
        """Handles events until it is cancelled. What it has in hand then is given back, for another replica."""
        async with asyncio.TaskGroup() as group:
            for consumer in self._consumers:
                group.create_task(consumer.run(), name=f"inbox {consumer.name}")
        raise AssertionError("a task group ends by an exception alone")

    async def replay(self, consumer: str, event_ids: Collection[UUID]) -> Mapping[UUID, Outcome[Any]]:
        """Hands failed events to their handlers again, in this order, whatever the broker has; answers what came of each that was found.

        An event that had its effect meanwhile has no second one, however often it is replayed; one that was replayed is not tried again.
        """
        events = await self.failed.get(consumer, event_ids)
        over: dict[UUID, Outcome[Any]] = {e.event_id: Done(None, repeat=True) for e in events if e.state is FailedState.REPLAYED}
        outcomes = await self._handlers.again([e for e in events if e.event_id not in over])
        if done := [key for key, outcome in outcomes.items() if isinstance(outcome, Done)]:
            await self.failed.replayed(consumer, done)
        failures = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Failure)}
        if failures:
            await self.failed.still([failed_with(e, failures[e.event_id]) for e in events if e.event_id in failures])
        return over | dict(outcomes)


class Consumer:
    """One durable consumer: takes what has arrived, has it handled, and settles it."""

    def __init__(self, pull: Pull, handlers: Handlers, failed: FailedEvents) -> None:
        self.name, self.stream, self._pull, self._handlers, self._failed = pull.consumer, pull.stream, pull, handlers, failed
        self._held: list[Received] = []
        self._any_open, self._recorded = True, 0
        self._handled = telemetry.counter("inbox_handled_total", "Events by what became of them", "consumer", "event", "outcome")
        self._age = telemetry.histogram("inbox_event_age_seconds", "From an event's publication to its effect", "event")
        self._open = telemetry.reading("failed_events", "Events that are deferred, and those that have failed", "consumer", "state")

    async def run(self) -> NoReturn:
        """Handles events until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name=f"inbox {self.name} keeps")
                group.create_task(self._look_around(), name=f"inbox {self.name} looks around")
                group.create_task(self._pull.measure(), name=f"inbox {self.name} counts")
                while True:
                    messages = await self._pull.next()
                    self._held = [receive(raw, self.name, self._handlers.kinds) for raw in messages]
                    await self._handle(self._held)
        finally:
            await self._give_back()

    async def _handle(self, batch: Sequence[Received]) -> None:
        await self._patiently(lambda: self._look_up(batch))
        for group in list(sets(batch)):
            for received in [r for r in group if given_up(r)]:
                await self._say(received, Msg.term)
            if left := [r for r in group if not r.settled]:
                await self._precaution(left)
                await self._settle(left, await self._handlers.ask(left))

    async def _look_up(self, batch: Sequence[Received]) -> None:
        """How the events stand in failed_events. None has a row there, as a rule: then only those that come again are looked up."""
        if maybe := batch if self._any_open else [r for r in batch if r.event.attempts > 1]:
            states = await self._failed.states(self.name, [r.event.event_id for r in maybe])
            for received in maybe:
                received.state = states.get(received.event.event_id)

    async def _precaution(self, group: Sequence[Received]) -> None:
        """An event that has come so often, and of which nobody has ever said anything, goes to failed_events before it is tried again."""
        silent = [r for r in group if r.state is None and r.event.attempts > HOPELESS]
        if last := silent + [r for r in group if r.event.attempts >= MAX_DELIVER]:
            why = Defect(RuntimeError(f"delivered {last[0].event.attempts} times, and never answered: does it end its consumer?"))
            await self._record(last, [why] * len(last))

    async def _settle(self, group: Sequence[Received], outcomes: Sequence[Outcome[Any]]) -> None:
        both = list(zip(group, outcomes, strict=True))
        done = [received for received, outcome in both if isinstance(outcome, Done)]
        if done:
            crash.point("inbox.handled")
        if known := [received.event.event_id for received in done if received.state]:
            await self._patiently(lambda: self._failed.resolve(self.name, known))
        for received in done:
            await self._say(received, Msg.ack)
        failures = [(received, outcome) for received, outcome in both if isinstance(outcome, Failure)]
        if failures:
            await self._record([received for received, _ in failures], [failure for _, failure in failures])
        for received, _ in failures:
            later = received.state is FailedState.DEFERRED
            await self._say(received, partial(Msg.nak, delay=delay_s(received.event.attempts)) if later else Msg.term)
        for received, outcome in both:
            self._tell(received, outcome)

    async def _record(self, group: Sequence[Received], failures: Sequence[Failure]) -> None:
        events = [failed_with(received.event, failure) for received, failure in zip(group, failures, strict=True)]
        states = await self._patiently(lambda: self._failed.record(events))
        self._any_open, self._recorded = True, self._recorded + 1
        for received in group:
            received.state = states[received.event.event_id]

    def _tell(self, received: Received, outcome: Outcome[Any]) -> None:
        event, name = received.event, received.event.type.rpartition(".")[2] if received.kind else "unknown"
        if isinstance(outcome, Done):
            self._handled.labels(self.name, name, "repeat" if outcome.repeat else "skipped" if outcome.skipped else "done").inc()
            self._age.labels(name).observe(max(0.0, (datetime.now(UTC) - event.event_time).total_seconds()))
            return
        state = received.state or FailedState.FAILED
        self._handled.labels(self.name, name, str(state)).inc()
        words = {
            "consumer": self.name,
            "type": name,
            "event_id": str(event.event_id),
            "reason": outcome.reason,
            "attempts": event.attempts,
        }
        if state is FailedState.DEFERRED:
            log.info("event deferred", **words)
        else:
            log.error("event failed", **words, exc_info=outcome.__cause__)

    async def _say(self, received: Received, word: Callable[[Msg], Awaitable[None]]) -> None:
        """Tells the server what has become of the event. Where it is not heard, the event comes again."""
        received.settled = True
        if received.raw:
            with suppress(*BROKER_ERRORS):
                await word(received.raw)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """While the database is away nothing can be handled and nothing may be given up: the events stay in hand."""
        while True:
            try:
                return await work()
            except TROUBLE as error:
                if blame(error) not in LATER:
                    raise
                log.warning("events wait for the database", consumer=self.name, error=repr(error))
            await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _tick(self) -> NoReturn:
        """The server hears of what is in hand, and does not give it to others."""
        while True:
            heed_cancellation()
            await asyncio.sleep(TICK_S)
            for raw in self._in_hand():
                with suppress(*BROKER_ERRORS):
                    await raw.in_progress()

    def _in_hand(self) -> list[Msg]:
        return [*(received.raw for received in self._held if received.raw and not received.settled), *self._pull.arrived]

    async def _look_around(self) -> NoReturn:
        """Now and then: what is open is counted, and what nobody brings any more is taken up."""
        while True:
            await self._patiently(self._survey)
            await asyncio.sleep(SURVEY_S)

    async def _survey(self) -> None:
        recorded = self._recorded
        with telemetry.reading_of(self._open.labels(self.name)):
            counts = await self._failed.counts(self.name)
        for state in (FailedState.DEFERRED, FailedState.FAILED):
            self._open.labels(self.name, str(state)).set(counts.get(state, 0))
        any_open = bool(counts) or await self._failed.any_discarded(self.name)
        self._any_open = any_open or recorded != self._recorded  # what was recorded meanwhile was not counted
        if FailedState.DEFERRED in counts:
            await self._take_up(await self._failed.abandoned(self.name))

    async def _take_up(self, events: Sequence[FailedEvent]) -> None:
        """Deferred events that nobody brings any more, whatever the broker has made of them, are tried again from here."""
        if not events:
            return
        log.warning("deferred events were not delivered again: they are tried from the database", consumer=self.name, events=len(events))
        outcomes = await self._handlers.again(events)
        await self._failed.resolve(self.name, [key for key, outcome in outcomes.items() if isinstance(outcome, Done)])
        failures = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Failure)}
        again = [replace(e, attempts=e.attempts + 1) for e in events if e.event_id in failures]
        if again:
            await self._failed.record([failed_with(e, failures[e.event_id]) for e in again])

    async def _give_back(self) -> None:
        """Another replica may have at once what this one does not handle any more."""
        await self._pull.close()
        for raw in self._in_hand():
            with suppress(*BROKER_ERRORS):
                await raw.nak()


def given_up(received: Received) -> bool:
    """Whether it is not to be handled. One that has failed gets another chance where it is published again, a discarded one never."""
    failed_before = received.state is FailedState.FAILED and received.event.attempts > 1
    return failed_before or received.state is FailedState.DISCARDED


def delay_s(attempts: int) -> float:
    """How long an event waits before it comes again: twice as long each time, up to ten seconds, and never all at once."""
    return min(DELAY_MIN_S * 2.0 ** min(attempts - 1, 16), DELAY_MAX_S) * random.uniform(0.5, 1.0)
