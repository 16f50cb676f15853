"""Calls the handlers with events, a set of one kind at a time, and returns an outcome for each
event. Acknowledges and stores nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import structlog
from google.protobuf.message import Message

from chassis.broker.event_payload import unknown_values, unreadable
from chassis.consume.delivery import Delivery, Received, storable
from chassis.consume.failed_event_records import ConsumerEvent, Name
from chassis.observe import telemetry
from chassis.values.decision import Done, Outcome
from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Invalid,
    InvalidField,
    NotFound,
    Refused,
)
from chassis.values.event_subjects import subject_of
from chassis.values.request_context import KeyReused
from chassis.write.error_classification import classify, deferred_failure
from chassis.write.tables import FailedState

C = TypeVar("C")
M = TypeVar("M", bound=Message)

log = structlog.get_logger()

Handler = Callable[[Sequence[Delivery[M]]], Awaitable[Sequence[Outcome[Any]]]]


async def run_handler(
    commands: Sequence[C | None],
    operation: Callable[[Sequence[C]], Awaitable[Sequence[Outcome[Any]]]],
) -> Sequence[Outcome[Any]]:
    """Returns an outcome for each event. `commands` has the command of each; an event without one
    (None) is done.
    """
    present = [command for command in commands if command is not None]
    outcomes = iter(await operation(present) if present else ())
    return [Done(record=None) if command is None else next(outcomes) for command in commands]


def handler(
    decode: Callable[[M, Delivery[M]], C | None],
    operation: Callable[[Sequence[C]], Awaitable[Sequence[Outcome[Any]]]],
) -> Handler[M]:
    """Returns a handler that decodes the events and applies their commands together. `decode`
    returns None for an event that changes nothing.
    """

    async def handle(deliveries: Sequence[Delivery[M]]) -> Sequence[Outcome[Any]]:
        return await run_handler([decode(each.message, each) for each in deliveries], operation)

    return handle


class Dispatcher:
    """Calls the handlers of events with sets of them."""

    def __init__(self, handlers: Mapping[type[Message], Handler[Any]]) -> None:
        self._by_kind, self.kinds = handlers, {kind.DESCRIPTOR.full_name: kind for kind in handlers}
        self._took = telemetry.histogram(
            "inbox_handle_seconds", "How long a handler takes for a set of events", "event"
        )
        self._unknown = telemetry.counter(
            "inbox_unknown_values_total",
            "Enum values of events that this version does not define: they change nothing",
            "event",
            "field",
        )
        self._handled = telemetry.counter(
            "inbox_handled_total", "Events by their outcome", "consumer", "event", "outcome"
        )
        self._age = telemetry.histogram(
            "inbox_event_age_seconds",
            "From an event's storage in its outbox to its effect",
            "event",
        )

    async def dispatch_stored(self, events: Sequence[ConsumerEvent]) -> Mapping[Name, Outcome[Any]]:
        """Returns the outcomes of stored events that are handled again."""
        outcomes: dict[Name, Outcome[Any]] = {}
        for group in await self.groups([Received(event=event) for event in events]):
            for received, outcome in zip(group, await self.dispatch(group), strict=True):
                outcomes[received.event.name] = outcome
        return outcomes

    async def groups(self, batch: Sequence[Received]) -> Sequence[Sequence[Received]]:
        """Reads the events; returns the groups that go to a handler together."""
        for received in batch:
            received.parse(self.kinds)
            await asyncio.sleep(0)  # a call waits for one event at most
        return list(group_by_type(batch))

    async def dispatch(self, group: Sequence[Received]) -> Sequence[Outcome[Any]]:
        """Returns the outcome of each of these events, all of one kind. It raises only an exception
        that ends the process.

        If the handler raises for several events, it handles each of them alone, so an event fails
        for its own error only.
        """
        deliveries = [received.delivery for received in group if received.delivery]
        if not deliveries:
            return [received.fault or Defect(LookupError()) for received in group]
        for delivery in deliveries:
            for field in unknown_values(delivery.message):
                self._unknown.labels(delivery.message.DESCRIPTOR.name, field).inc()
        return await self._dispatch(group)

    async def _dispatch(self, group: Sequence[Received]) -> Sequence[Outcome[Any]]:
        deliveries = [received.delivery for received in group if received.delivery]
        kind = type(deliveries[0].message)
        try:
            with (
                telemetry.consuming(subject_of(kind), [r.event.traceparent for r in group]),
                self._took.labels(kind.DESCRIPTOR.name).time(),
            ):
                outcomes = await self._by_kind[kind](deliveries)
            if len(outcomes) != len(group):
                raise TypeError(f"{len(group)} events, and {len(outcomes)} outcomes")
            return [
                _event_outcome(delivery, outcome)
                for delivery, outcome in zip(deliveries, outcomes, strict=True)
            ]
        except Deferred as deferred:
            return [deferred] * len(group)
        # a handler's exception is the outcome of its events
        except Exception as error:  # noqa: BLE001
            if later := deferred_failure(classify(error)):
                return [later] * len(group)
            if len(group) == 1:
                return [
                    _event_outcome(deliveries[0], error)
                    if isinstance(error, Refused)
                    else Defect(error)
                ]
        return [outcome for received in group for outcome in await self._dispatch([received])]

    def report(self, event: ConsumerEvent, outcome: Outcome[Any], state: FailedState) -> None:
        """Counts the event's outcome, and logs a failure. `state` is the state of an event that is
        not done.
        """
        name = event.type.rpartition(".")[2] if event.type in self.kinds else "unknown"
        if isinstance(outcome, Done):
            done = "repeat" if outcome.repeat else "skipped" if outcome.skipped else "done"
            self._handled.labels(event.consumer, name, done).inc()
            age = datetime.now(UTC) - event.event_time
            self._age.labels(name).observe(max(0.0, age.total_seconds()))
            return
        self._handled.labels(event.consumer, name, str(state)).inc()
        words = {
            "consumer": event.consumer,
            "type": name,
            "event_id": str(event.event_id),
            "reason": outcome.reason,
            "attempts": event.attempts,
        }
        if state is FailedState.DEFERRED:
            log.debug("event deferred", **words)
        else:
            log.error("event failed", **words, exc_info=outcome.__cause__)


def _event_outcome(delivery: Delivery[Any], outcome: Outcome[Any]) -> Outcome[Any]:
    """Returns the outcome with the reasons that events have. An event whose own content breaks a
    rule that no contract can state is unreadable. A second body under one event id is refused, as a
    write refuses a second request under one key. A refusal that a peer has sent keeps its reason:
    it is not about this event's content.
    """
    if isinstance(outcome, InvalidField):
        return unreadable(outcome.message.rstrip("."), outcome.violations)
    if isinstance(outcome, KeyReused) and outcome.key.startswith(delivery.key):
        text = (
            f"Event {delivery.event_id} was handled with another body: this one is never applied."
        )
        return Invalid("EVENT_ID_REUSED", text, event_id=str(delivery.event_id))
    return outcome


def group_by_type(batch: Sequence[Received]) -> Iterator[list[Received]]:
    """Groups the events that go to their handler together: all of a kind. An event that cannot be
    read is a group of its own.

    A set has one body of an event id. A second body goes into a later group, so that each has an
    outcome of its own.
    """
    together: dict[tuple[type[Message], int], list[Received]] = defaultdict(list)
    bodies: dict[UUID, list[bytes]] = defaultdict(list)
    for received in batch:
        if received.delivery:
            known, digest = bodies[received.event.event_id], received.event.digest
            if digest not in known:
                known.append(digest)
            together[type(received.delivery.message), known.index(digest)].append(received)
    yield from together.values()
    yield from ([received] for received in batch if received.delivery is None)


def failed_with(event: ConsumerEvent, failure: Failure) -> ConsumerEvent:
    """Returns the event with its failure. It is deferred if a later try may succeed: the failure is
    Deferred, or a record that it concerns does not exist yet.
    """
    state = (
        FailedState.DEFERRED if isinstance(failure, (Deferred, NotFound)) else FailedState.FAILED
    )
    cause = failure.__cause__
    error = failure.message or (
        f"{type(cause).__name__}: {cause}".partition("\n")[0] if cause else ""
    )
    waits_for = failure.target if state is FailedState.DEFERRED else None
    return replace(
        event,
        state=state,
        reason=storable(failure.reason),
        error=storable(error),
        waits_for=waits_for,
    )
