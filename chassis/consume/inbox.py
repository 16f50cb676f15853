"""Events in: what has arrived goes to its handlers as sets, and by their outcomes it is
acknowledged, comes later, or has failed.

One durable consumer for each (service, stream), shared by the service's replicas. Nothing is
acknowledged that was neither done nor parked in failed_events, and nothing is given up before it
stands there. How messages get here is chassis.consume.pull's, what they say
chassis.consume.delivery's, what is made of them chassis.consume.dispatch's, and parked events are
tried again by chassis.consume.parked_events.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from nats.aio.msg import Msg
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import ACK_WAIT_S, BROKER_ERRORS, Broker, heed_cancellation
from chassis.consume.delivery import Received, received_event
from chassis.consume.dispatch import Dispatcher, Handler, failed_with
from chassis.consume.failed_events import DEFERRAL_LIMIT, FailedEvents, Name
from chassis.consume.parked_events import ParkedEvents
from chassis.consume.pull import Pull
from chassis.consume.turns import Turns
from chassis.observe import telemetry
from chassis.values import crash_points
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Defect, Failure
from chassis.values.event_subjects import stream_of, subject_of
from chassis.write.error_classification import retrying
from chassis.write.tables import FailedState

T = TypeVar("T")

# An event that is deferred comes again from the stream at first; at this delivery it is parked.
PARK_AT = 3
DELAY_MIN_S = 0.1
# A set is handled by steps on the event loop that grow with it, and a call waits for one of them
# each time (chassis.consume.turns).
SET_MAX = 50
TICK_S = ACK_WAIT_S / 3
SURVEY_S = 30.0


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
        batch_size_max: int = SET_MAX,
        linger_s: float = 0.0,
        deferral_limit: timedelta = DEFERRAL_LIMIT,
    ) -> None:
        """`deferral_limit` is how long an event may be deferred, from the first time;
        `linger_s`: see chassis.consume.pull.
        """
        if not handlers:
            raise ValueError("an inbox needs handlers")
        subjects: dict[str, list[str]] = defaultdict(list)
        for kind in handlers:
            subjects[stream_of(subject_of(kind))].append(subject_of(kind))
        self._handlers, self.failed = (
            Dispatcher(handlers),
            FailedEvents(engine, failed_events, deferral_limit),
        )
        turns = Turns()
        self._parking = ParkedEvents(self.failed, self._handlers, turns)
        self._consumers = [
            Consumer(
                pull=Pull(
                    broker=broker,
                    stream=stream,
                    consumer=f"{service}-{stream.lower()}",
                    subjects=wanted,
                    batch_size_max=batch_size_max,
                    linger_s=linger_s,
                ),
                handlers=self._handlers,
                failed=self.failed,
                parking=self._parking,
                turns=turns,
            )
            for stream, wanted in subjects.items()
        ]

    @property
    def consumers(self) -> Mapping[str, str]:
        """The durable consumers, one for each stream, and their streams: `order-payments` ->
        `PAYMENTS`.
        """
        return {consumer.name: consumer.stream for consumer in self._consumers}

    @property
    def kinds(self) -> Mapping[str, type[Message]]:
        """The events that there are handlers for, by their full names."""
        return self._handlers.kinds

    def changed(self, records: Collection[UUID]) -> None:
        """These records of the service have changed: parked events that wait for them are tried
        at once.
        """
        self._parking.changed(records)

    async def run(self) -> NoReturn:
        """Handles events until it is cancelled. What it has in hand then is given back, for
        another replica.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._parking.run(), name="inbox parking")
            for consumer in self._consumers:
                group.create_task(consumer.run(), name=f"inbox {consumer.name}")
        raise AssertionError("a task group ends by an exception alone")

    async def replay(self, names: Collection[Name]) -> Mapping[Name, Outcome[Any]]:
        """Hands failed events to their handlers again, in this order, whatever the broker has;
        answers what came of each that was found.

        An event that had its effect meanwhile has no second one, however often it is replayed; one
        that was replayed is not tried again.
        """
        events = await self.failed.get(names)
        over: dict[Name, Outcome[Any]] = {
            e.name: Done(None, repeat=True) for e in events if e.state is FailedState.REPLAYED
        }
        outcomes = await self._handlers.again([e for e in events if e.name not in over])
        if done := [name for name, outcome in outcomes.items() if isinstance(outcome, Done)]:
            await self.failed.replayed(done)
        failures = {
            name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)
        }
        if failures:
            await self.failed.still(
                [failed_with(e, failures[e.name]) for e in events if e.name in failures]
            )
        return over | dict(outcomes)


class Consumer:
    """One durable consumer: takes what has arrived, has it handled, and settles it, in turns
    with the service's others.
    """

    def __init__(
        self,
        pull: Pull,
        handlers: Dispatcher,
        failed: FailedEvents,
        parking: ParkedEvents,
        turns: Turns,
    ) -> None:
        self.name, self.stream, self._pull, self._handlers = (
            pull.consumer,
            pull.stream,
            pull,
            handlers,
        )
        self._failed, self._parking, self._turns = failed, parking, turns
        self._held: dict[int, Msg] = {}  # messages in hand that are not settled
        self._any_open, self._recorded = True, 0
        self._open = telemetry.reading(
            "failed_events",
            "Events that are deferred, and those that have failed",
            "consumer",
            "state",
        )

    async def run(self) -> NoReturn:
        """Handles events until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name=f"inbox {self.name} keeps")
                group.create_task(self._look_around(), name=f"inbox {self.name} looks around")
                group.create_task(self._pull.measure(), name=f"inbox {self.name} counts")
                while True:
                    messages = await self._pull.next()
                    self._held = {id(raw): raw for raw in messages}
                    await self._turns.take(self._handle(messages))
        finally:
            await self._give_back()

    async def _handle(self, messages: Sequence[Msg]) -> None:
        batch = []
        for raw in messages:
            batch.append(Received(received_event(raw, self.name), raw))
            await asyncio.sleep(0)  # a call waits for one message at most
        await self._patiently(lambda: self._look_up(batch))
        for received in batch:
            if given_up(received):
                await self._say(received, Msg.term)
        left = [r for r in batch if not r.settled]
        isolated = [r for r in left if r.may_be_poison]
        together = [r for r in left if not r.may_be_poison]
        for group in await self._handlers.groups(together):
            await self._settle(group, await self._handlers.ask(group))
        for received in isolated:
            await self._isolate(received)

    async def _look_up(self, batch: Sequence[Received]) -> None:
        """How the events stand in failed_events. None has a row there, as a rule: then only
        those that come again are looked up.
        """
        if maybe := batch if self._any_open else [r for r in batch if r.event.attempts > 1]:
            states = await self._failed.states([r.event.name for r in maybe])
            for received in maybe:
                received.state = states.get(received.event.name)

    async def _isolate(self, received: Received) -> None:
        """Stores an event that may be a poison message as failed, then tries it alone.

        If it ends the process again, the row stays, and the next delivery is terminated. With an
        outcome it is no poison message: the row is deleted, and the event settled as any other.
        """
        times = received.event.attempts
        error = RuntimeError(
            f"delivered {times} times without an outcome: does it end its consumer?"
        )
        await self._record([received], [Defect(error)])
        [group] = await self._handlers.groups([received])
        outcomes = await self._handlers.ask(group)
        await self._patiently(lambda: self._failed.delete_failed(received.event.name))
        received.state = None
        await self._settle(group, outcomes)

    async def _settle(self, group: Sequence[Received], outcomes: Sequence[Outcome[Any]]) -> None:
        both = list(zip(group, outcomes, strict=True))
        done = [received for received, outcome in both if isinstance(outcome, Done)]
        if done:
            crash_points.point("inbox.handled")
        if known := [received.event.name for received in done if received.state]:
            await self._patiently(lambda: self._failed.resolve(known))
        for received in done:
            await self._say(received, Msg.ack)
        await self._keep(
            [(received, outcome) for received, outcome in both if isinstance(outcome, Failure)]
        )
        for received, outcome in both:
            self._handlers.report(received.event, outcome, received.state or FailedState.DEFERRED)

    async def _keep(self, failures: Sequence[tuple[Received, Failure]]) -> None:
        """What was not done comes again from the stream soon, or is stored: parked where it is
        deferred, else given up.
        """
        stored = [
            (received, failure)
            for received, failure in failures
            if not soon_again(received, failure)
        ]
        if stored:
            await self._record(
                [received for received, _ in stored], [failure for _, failure in stored]
            )
        for received, _ in failures:
            if received.state is None:
                await self._say(received, partial(Msg.nak, delay=delay_s(received.event.attempts)))
            else:
                await self._say(
                    received, Msg.ack if received.state is FailedState.DEFERRED else Msg.term
                )

    async def _record(self, group: Sequence[Received], failures: Sequence[Failure]) -> None:
        events = [
            failed_with(received.event, failure)
            for received, failure in zip(group, failures, strict=True)
        ]
        states = await self._patiently(lambda: self._failed.record(events))
        self._any_open, self._recorded = True, self._recorded + 1
        for received in group:
            received.state = states[received.event.name]
        if FailedState.DEFERRED in states.values():
            self._parking.parked()

    async def _say(self, received: Received, word: Callable[[Msg], Awaitable[None]]) -> None:
        """Tells the server what has become of the event. Where it is not heard, the event comes
        again.
        """
        received.settled = True
        if received.raw:
            self._held.pop(id(received.raw))
            with suppress(*BROKER_ERRORS):
                await word(received.raw)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """While the database is away nothing can be handled and nothing may be given up: the
        events stay in hand.
        """
        return await retrying(work, f"events of {self.name}")

    async def _tick(self) -> NoReturn:
        """The server hears of what is in hand, and does not give it to others."""
        while True:
            heed_cancellation()
            await asyncio.sleep(TICK_S)
            for raw in self._in_hand():
                with suppress(*BROKER_ERRORS):
                    await raw.in_progress()

    def _in_hand(self) -> list[Msg]:
        return [*self._held.values(), *self._pull.arrived]

    async def _look_around(self) -> NoReturn:
        """Now and then what is open is counted."""
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
        # what was recorded meanwhile was not counted
        self._any_open = any_open or recorded != self._recorded

    async def _give_back(self) -> None:
        """Another replica may have at once what this one does not handle any more."""
        await self._pull.close()
        for raw in self._in_hand():
            with suppress(*BROKER_ERRORS):
                await raw.nak()


def given_up(received: Received) -> bool:
    """Whether it is not to be handled. One that has failed gets another chance where it is
    published again, a discarded one never.
    """
    failed_before = received.state is FailedState.FAILED and received.event.attempts > 1
    return failed_before or received.state is FailedState.DISCARDED


def soon_again(received: Received, failure: Failure) -> bool:
    """Whether an event is deferred for the first few times: then it comes again from the stream,
    and has no row.
    """
    deferred = failed_with(received.event, failure).state is FailedState.DEFERRED
    return deferred and received.state is None and received.event.attempts < PARK_AT


def delay_s(attempts: int) -> float:
    """How long an event waits before it comes again from the stream: twice as long each time,
    and never all at once.
    """
    return DELAY_MIN_S * 2.0 ** (attempts - 1) * random.uniform(0.5, 1.0)
