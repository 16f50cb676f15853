"""Events in: hands arrived events to their handlers as sets; acknowledges, defers, parks or fails
each by its outcome.

Each (service, stream) has one durable consumer, which the service's replicas share. The inbox
acknowledges an event only when it is done or parked in failed_events. It terminates one only when
it is stored there as failed or discarded. chassis.consume.pull fetches the messages,
chassis.consume.delivery reads them, chassis.consume.dispatch calls the handlers, and
chassis.consume.parked_events tries parked events again.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import Message
from nats.aio.msg import Msg
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import ACK_WAIT_S, BROKER_ERRORS, Broker, raise_swallowed_cancellation
from chassis.consume.delivery import Received, received_event
from chassis.consume.dispatch import Dispatcher, Handler, failed_with
from chassis.consume.failed_event_records import Name
from chassis.consume.failed_events import FailedEvents
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

# A deferred event first comes again from the stream; at this delivery it is parked.
PARK_AT = 3
DELAY_MIN_S = 0.1
# The bound of a set. The handling of a set has steps on the event loop that grow with the set, and
# a call waits for one step each time (chassis.consume.turns).
SET_MAX = 50
IN_PROGRESS_S = ACK_WAIT_S / 3
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
    ) -> None:
        if not handlers:
            raise ValueError("an inbox needs handlers")
        subjects: dict[str, list[str]] = defaultdict(list)
        for kind in handlers:
            subjects[stream_of(subject_of(kind))].append(subject_of(kind))
        self.dispatcher, self.failed = Dispatcher(handlers), FailedEvents(engine, failed_events)
        turns = Turns()
        self.parking = ParkedEvents(self.failed, self.dispatcher, turns)
        self._consumers = [
            Consumer(
                pull=Pull(
                    broker=broker,
                    stream=stream,
                    consumer=f"{service}-{stream.lower()}",
                    subjects=wanted,
                    batch_size_max=SET_MAX,
                ),
                dispatcher=self.dispatcher,
                failed=self.failed,
                parking=self.parking,
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

    async def run(self) -> NoReturn:
        """Handles events until it is cancelled. It then returns unhandled events to the stream, for
        another replica.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self.parking.run(), name="inbox parking")
            for consumer in self._consumers:
                group.create_task(consumer.run(), name=f"inbox {consumer.name}")
        raise AssertionError("a task group ends by an exception alone")

    async def replay(self, names: Collection[Name]) -> Mapping[Name, Outcome[Any]]:
        """Hands failed events to their handlers again, in this order, whether or not the broker has
        them. Returns the outcome of each that was found.

        A replay of an event that had its effect meanwhile has no second effect. An event that was
        replayed is not tried again.
        """
        events = [row.event for row in (await self.failed.entries(names)).values()]
        replayed: dict[Name, Outcome[Any]] = {
            e.name: Done(record=None, repeat=True)
            for e in events
            if e.state is FailedState.REPLAYED
        }
        outcomes = await self.dispatcher.dispatch_stored(
            [e for e in events if e.name not in replayed]
        )
        await self.failed.replayed(
            [name for name, outcome in outcomes.items() if isinstance(outcome, Done)]
        )
        failures = {
            name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Failure)
        }
        await self.failed.record_failed_replays(
            [failed_with(e, failures[e.name]) for e in events if e.name in failures]
        )
        return replayed | dict(outcomes)


class Consumer:
    """One durable consumer: takes arrived events, dispatches them, and settles them, in turns with
    the service's other consumers.
    """

    def __init__(
        self,
        pull: Pull,
        dispatcher: Dispatcher,
        failed: FailedEvents,
        parking: ParkedEvents,
        turns: Turns,
    ) -> None:
        self.name, self.stream, self._pull, self._dispatcher = (
            pull.consumer,
            pull.stream,
            pull,
            dispatcher,
        )
        self._failed, self._parking, self._turns = failed, parking, turns
        self._unsettled: dict[int, Msg] = {}  # messages in hand that are not settled
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
                group.create_task(self._keep_in_progress(), name=f"inbox {self.name} in progress")
                group.create_task(self._count_open(), name=f"inbox {self.name} open events")
                group.create_task(self._pull.measure(), name=f"inbox {self.name} pending")
                while True:
                    messages = await self._pull.next()
                    self._unsettled = {id(raw): raw for raw in messages}
                    await self._turns.take(self._handle(messages))
        finally:
            await self._return_unhandled()

    async def _handle(self, messages: Sequence[Msg]) -> None:
        batch = []
        for raw in messages:
            batch.append(Received(event=received_event(raw, self.name), raw=raw))
            await asyncio.sleep(0)  # a call waits for one message at most
        await self._retry_outages(lambda: self._look_up(batch))
        for received in batch:
            if is_rejected(received):
                await self._settle_message(received, Msg.term)
        accepted = [r for r in batch if not is_rejected(r)]
        isolated = [r for r in accepted if r.may_be_poison]
        together = [r for r in accepted if not r.may_be_poison]
        for group in await self._dispatcher.groups(together):
            await self._settle(group, await self._dispatcher.dispatch(group))
        for received in isolated:
            await self._isolate(received)

    async def _look_up(self, batch: Sequence[Received]) -> None:
        """Reads the states of the events in failed_events. As a rule no event has a row there: then
        it looks up only those that come again.
        """
        if candidates := batch if self._any_open else [r for r in batch if r.event.attempts > 1]:
            states = await self._failed.states([r.event.name for r in candidates])
            for received in candidates:
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
        [group] = await self._dispatcher.groups([received])
        outcomes = await self._dispatcher.dispatch(group)
        await self._retry_outages(lambda: self._failed.delete_failed(received.event.name))
        received.state = None
        await self._settle(group, outcomes)

    async def _settle(self, group: Sequence[Received], outcomes: Sequence[Outcome[Any]]) -> None:
        pairs = list(zip(group, outcomes, strict=True))
        done = [received for received, outcome in pairs if isinstance(outcome, Done)]
        if done:
            crash_points.point("inbox.handled")
        if known := [received.event.name for received in done if received.state]:
            await self._retry_outages(lambda: self._failed.resolve(known))
        for received in done:
            await self._settle_message(received, Msg.ack)
        await self._defer_or_store(
            [(received, outcome) for received, outcome in pairs if isinstance(outcome, Failure)]
        )
        for received, outcome in pairs:
            self._dispatcher.report(received.event, outcome, received.state or FailedState.DEFERRED)

    async def _defer_or_store(self, failures: Sequence[tuple[Received, Failure]]) -> None:
        """Lets events that were not done come again from the stream soon, or stores them: parked if
        deferred, else failed.
        """
        stored = [
            (received, failure)
            for received, failure in failures
            if not is_redelivered(received, failure)
        ]
        if stored:
            await self._record(
                [received for received, _ in stored], [failure for _, failure in stored]
            )
        for received, _ in failures:
            if received.state is None:
                await self._settle_message(
                    received, partial(Msg.nak, delay=delay_s(received.event.attempts))
                )
            else:
                await self._settle_message(
                    received, Msg.ack if received.state is FailedState.DEFERRED else Msg.term
                )

    async def _record(self, group: Sequence[Received], failures: Sequence[Failure]) -> None:
        events = [
            failed_with(received.event, failure)
            for received, failure in zip(group, failures, strict=True)
        ]
        states = await self._retry_outages(lambda: self._failed.record(events))
        self._any_open, self._recorded = True, self._recorded + 1
        for received in group:
            received.state = states[received.event.name]
        if FailedState.DEFERRED in states.values():
            self._parking.parked()

    async def _settle_message(
        self, received: Received, settlement: Callable[[Msg], Awaitable[None]]
    ) -> None:
        """Settles the event at the server. If the server does not get the settlement, the event
        comes again.
        """
        if received.raw:
            self._unsettled.pop(id(received.raw))
            with suppress(*BROKER_ERRORS):
                await settlement(received.raw)

    async def _retry_outages(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeats `work` while the database is away. The events stay in hand meanwhile: without the
        database none can be handled or stored as failed.
        """
        return await retrying(work, f"events of {self.name}")

    async def _keep_in_progress(self) -> NoReturn:
        """Reports to the server that the events in hand are in progress, so that it does not
        deliver them to other replicas.
        """
        while True:
            raise_swallowed_cancellation()
            await asyncio.sleep(IN_PROGRESS_S)
            for raw in self._in_hand():
                with suppress(*BROKER_ERRORS):
                    await raw.in_progress()

    def _in_hand(self) -> list[Msg]:
        return [*self._unsettled.values(), *self._pull.arrived]

    async def _count_open(self) -> NoReturn:
        """Counts the open events every SURVEY_S seconds."""
        while True:
            await self._retry_outages(self._survey)
            await asyncio.sleep(SURVEY_S)

    async def _survey(self) -> None:
        recorded = self._recorded
        with telemetry.reading_of(self._open.labels(self.name)):
            counts = await self._failed.counts(self.name)
        for state in (FailedState.DEFERRED, FailedState.FAILED):
            self._open.labels(self.name, str(state)).set(counts.get(state, 0))
        # the count lacks rows that were recorded meanwhile
        self._any_open = bool(counts) or recorded != self._recorded

    async def _return_unhandled(self) -> None:
        """Returns the unhandled events to the stream, so that another replica gets them at once."""
        await self._pull.close()
        for raw in self._in_hand():
            with suppress(*BROKER_ERRORS):
                await raw.nak()


def is_rejected(received: Received) -> bool:
    """Returns whether the event is not to be handled. A failed event is tried again where it is
    published again; a discarded one never is.
    """
    failed_before = received.state is FailedState.FAILED and received.event.attempts > 1
    return failed_before or received.state is FailedState.DISCARDED


def is_redelivered(received: Received, failure: Failure) -> bool:
    """Returns whether an event is deferred for one of the first few times: then it comes again from
    the stream, and has no row.
    """
    deferred = failed_with(received.event, failure).state is FailedState.DEFERRED
    return deferred and received.state is None and received.event.attempts < PARK_AT


def delay_s(attempts: int) -> float:
    """Returns how long an event waits before it comes again from the stream, in seconds: twice as
    long each time, with a random part.
    """
    return DELAY_MIN_S * 2.0 ** (attempts - 1) * random.uniform(0.5, 1.0)
