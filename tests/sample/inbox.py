"""Events for the sample's inbox in tests: published as the relay does, and handlers that record
their events.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.message import Message
from nats.aio.msg import Msg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler
from chassis.consume.failed_event_records import Name
from chassis.consume.inbox import Inbox
from chassis.consume.pull import Pull
from chassis.values.decision import Done, Outcome
from chassis.values.event_subjects import stream_of, subject_of
from chassis.write.database import Database
from tests.sample import store
from tests.sample.writes import count, create, write
from tests.support import cancelled_at_end, eventually

CONSUMER = "sample-orders"
FLUSH_AFTER = 500


def headers_of(event: Message, event_id: UUID, **changed: str) -> dict[str, str]:
    """Returns the headers of the event as the relay sets them, with the stated ones instead."""
    headers = {
        "Nats-Msg-Id": str(event_id),
        "ce-id": str(event_id),
        "ce-type": event.DESCRIPTOR.full_name,
        "ce-subject": str(uuid4()),
        "ce-time": datetime.now(UTC).isoformat(),
    }
    return headers | {name.replace("_", "-"): value for name, value in changed.items()}


async def publish(
    broker: Broker, event: Message, event_id: UUID | None = None, **changed: str
) -> UUID:
    """Publishes an event with the relay's headers, unless others are stated; returns its id."""
    event_id = event_id or uuid4()
    headers = headers_of(event, event_id, **changed)
    subject = subject_of(type(event))
    await broker.publish(subject, event.SerializeToString(), headers, stream=stream_of(subject))
    return event_id


async def publish_many(broker: Broker, events: Sequence[tuple[Message, UUID]]) -> None:
    """Publishes the events under these ids, a repeated id as another message. Faster than
    `publish`: it waits once, until the streams have stored all of them.
    """
    numbers = Counter(stream_of(subject_of(type(event))) for event, _ in events)
    before = {stream: (await broker.ensure_stream(stream)).state.messages for stream in numbers}
    for number, (event, event_id) in enumerate(events, 1):
        headers = headers_of(event, event_id, Nats_Msg_Id=str(uuid4()))
        await broker.client.publish(
            subject_of(type(event)), event.SerializeToString(), headers=headers
        )
        if number % FLUSH_AFTER == 0:
            await broker.client.flush()
    await broker.client.flush()

    async def all_stored() -> bool:
        return all(
            [
                (await broker.ensure_stream(stream)).state.messages == before[stream] + number
                for stream, number in numbers.items()
            ]
        )

    await eventually(all_stored, timeout_s=60)


class RecordingHandler:
    """A handler that records its sets, and returns for each event the result of `outcome`: by
    default it is done.
    """

    def __init__(
        self, outcome: Callable[[Delivery[Any]], Outcome[Any]] = lambda _: Done(record=None)
    ) -> None:
        self.outcome = outcome
        self.sets: list[list[Delivery[Any]]] = []
        self.settled: list[UUID] = []

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        self.sets.append(list(deliveries))
        outcomes = [self.outcome(delivery) for delivery in deliveries]
        self.settled += [
            d.event_id
            for d, outcome in zip(deliveries, outcomes, strict=True)
            if isinstance(outcome, Done)
        ]
        return outcomes

    @property
    def seen(self) -> Counter[UUID]:
        """Returns how often the handler got each event."""
        return Counter(delivery.event_id for deliveries in self.sets for delivery in deliveries)


@asynccontextmanager
async def consuming(
    broker: Broker,
    engine: AsyncEngine,
    handlers: Mapping[type[Message], Handler[Any]],
) -> AsyncIterator[Inbox]:
    """Runs an inbox inside."""
    inbox = Inbox(broker, engine, store.failed_events, service="sample", handlers=handlers)
    async with cancelled_at_end(inbox.run()):
        yield inbox


def let_arrive_together(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Holds the first messages of a pull back until so many have come: they are one set."""
    arrive, held = Pull._on_message, list[Msg]()

    async def on_message(pull: Pull, message: Msg) -> None:
        if "Status" in (message.headers or {}):
            await arrive(pull, message)
            return
        held.append(message)
        if len(held) == number:
            for each in held:
                await arrive(pull, each)
        elif len(held) > number:
            await arrive(pull, message)

    monkeypatch.setattr(Pull, "_on_message", on_message)


async def failed(engine: AsyncEngine) -> list[Any]:
    """Returns the rows of failed_events."""
    async with engine.connect() as connection:
        return list(
            (
                await connection.execute(
                    select(store.failed_events).order_by(store.failed_events.c.first_time)
                )
            ).all()
        )


async def states(engine: AsyncEngine) -> dict[UUID, str]:
    """Returns the state of each event there."""
    return {row.event_id: str(row.state) for row in await failed(engine)}


async def has_state(engine: AsyncEngine, event_id: UUID, state: str) -> bool:
    """Returns whether the event is stored in this state."""
    return (await states(engine)).get(event_id) == state


async def names(engine: AsyncEngine, *event_ids: UUID) -> list[Name]:
    """Returns the names of the rows of these events, in their order."""
    found = {row.event_id: (row.consumer, row.event_id, row.digest) for row in await failed(engine)}
    return [found[event_id] for event_id in event_ids]


async def all_acknowledged(
    broker: Broker, consumer: str = CONSUMER, stream: str = "ORDERS"
) -> bool:
    """Whether the consumer has no pending and no unacknowledged event."""
    try:
        info = await broker.streams.consumer_info(stream, consumer)
    except BROKER_ERRORS:
        return False
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


class Effects:
    """A handler with an effect in the database: each event becomes an order of that name, once."""

    def __init__(self, database: Database) -> None:
        self._database, self.handled, self.keys = database, 0, set[str]()

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[Any]]:
        outcomes = await write(
            self._database,
            *(
                create(key=d.key, request_hash=d.request_hash, reference=f"from {d.event_id}")
                for d in deliveries
            ),
        )
        self.handled += len(deliveries)
        self.keys |= {d.key for d in deliveries}
        return outcomes

    def has_handled(self, number: int) -> bool:
        """Whether so many events have been handled, repeats included."""
        return self.handled >= number

    async def number(self) -> int:
        """Returns the number of effects."""
        return await count(
            self._database.engine, store.orders, store.orders.c.reference.like("from %")
        )
