"""Operators' requests about failed events, each carried out once.

The first transaction of a replay chooses the events and stores its choice as idempotency keys:
`key` of the request, and `key:0`, `key:1` and so on of the events in their order. The target of an
event's key is the event id; its request hash is the digest and the consumer. A last key,
`key:done`, follows when all events were handled. A repeat before that goes on with the same events;
a later one handles none. No repeat takes other events. A discard is one transaction; the request
hash of its key `key:done` is the number of rows that it has discarded, and whether more match.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.consume.failed_events import FailedEventFilter, FailedEvents, Name
from chassis.values.errors import NotFound, Refused
from chassis.values.request_context import RequestContext
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey

DIGEST_SIZE = sha256().digest_size
Choice = Callable[[AsyncConnection], Awaitable[Sequence[Name]]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events of a request, in their order, and whether they were handled already."""

    names: Sequence[Name]
    handled: bool = False


@dataclass(frozen=True, slots=True)
class Discarded:
    """How many events a request has discarded, and whether more match its filter."""

    count: int
    more: bool

    def written(self) -> bytes:
        """Returns the text that the key `key:done` has as its request hash."""
        return f"{self.count} {self.more:d}".encode()

    @classmethod
    def read(cls, words: bytes) -> "Discarded":
        """Returns what `written` has encoded."""
        count, more = words.split()
        return cls(int(count), more == b"1")


class Replays:
    """The requests of one service's operators about its failed events. Each method raises Deferred
    where the database is away.
    """

    def __init__(self, database: Database, failed: FailedEvents) -> None:
        self._database, self._keys, self._failed = database, database.idempotency_keys, failed

    async def one(self, request: RequestContext, wanted: FailedEventFilter) -> Chosen:
        """Chooses the one event that a request names. Raises as `only` does, and Invalid
        REQUEST_ID_REUSED.
        """

        async def choice(connection: AsyncConnection) -> Sequence[Name]:
            return [await self._only(connection, wanted)]

        return await self._choose(request, choice, 1)

    async def some(self, request: RequestContext, wanted: FailedEventFilter, most: int) -> Chosen:
        """Chooses the oldest events that are wanted: at most so many. Raises Invalid
        REQUEST_ID_REUSED.
        """
        return await self._choose(
            request, lambda connection: self._failed.choose(connection, wanted, most), most
        )

    async def only(self, wanted: FailedEventFilter) -> Name:
        """Returns the row of one event. Raises NotFound FAILED_EVENT_NOT_FOUND, and Refused
        FAILED_EVENT_AMBIGUOUS where several rows match.
        """
        with deferring_outages():
            async with self._database.engine.connect() as connection:
                return await self._only(connection, wanted)

    async def count(self, wanted: FailedEventFilter, most: int) -> int:
        """Returns how many events are wanted: `most` at most."""
        with deferring_outages():
            async with self._database.engine.connect() as connection:
                return len(await self._failed.choose(connection, wanted, most))

    async def over(self, request: RequestContext) -> None:
        """Records that the events of the request were handled."""
        with deferring_outages():
            async with self._database.engine.begin() as connection:
                await self._keys.insert(connection, [_done(request)])

    async def discard(self, request: RequestContext, wanted: FailedEventFilter) -> Name:
        """Discards the one event that a request names. Raises as `one` does."""
        async with self._transaction(request) as (connection, first):
            name = await self._only(connection, wanted)
            if first:
                await self._failed.discard(connection, name)
            return name

    async def discard_all(
        self, request: RequestContext, wanted: FailedEventFilter, most: int
    ) -> Discarded:
        """Discards the oldest events that are wanted, at most so many. Raises Invalid
        REQUEST_ID_REUSED.
        """
        async with self._transaction(request) as (connection, first):
            done = f"{request.key}:done"
            if not first:
                found = await self._keys.find(connection, [done])
                return Discarded.read(found[done][0])
            count = await self._failed.discard_all(connection, wanted, most)
            more = bool(await self._failed.choose(connection, wanted, 1))
            discarded = Discarded(count, more)
            await self._keys.insert(
                connection, [IdempotencyKey(key=done, request_hash=discarded.written())]
            )
            return discarded

    async def _choose(self, request: RequestContext, choice: Choice, most: int) -> Chosen:
        async with self._transaction(request) as (connection, first):
            if first:
                names = await choice(connection)
                await self._keys.insert(
                    connection, [_step(request, n, name) for n, name in enumerate(names)]
                )
                return Chosen(names)
            done = _done(request).key
            keys = [_step_key(request, n) for n in range(most)]
            found = await self._keys.find(connection, [*keys, done])
            steps = [found[key] for key in keys if key in found]
            return Chosen(
                [_named(words, event_id) for words, event_id in steps], handled=done in found
            )

    @asynccontextmanager
    async def _transaction(
        self, request: RequestContext
    ) -> AsyncIterator[tuple[AsyncConnection, bool]]:
        """Opens a transaction that inserts the request's key; yields whether the key is new.

        An error inside rolls the key back.
        """
        with deferring_outages():
            async with self._database.engine.begin() as connection:
                yield (
                    connection,
                    await self._keys.insert_one(connection, IdempotencyKey.of(request)),
                )

    async def _only(self, connection: AsyncConnection, wanted: FailedEventFilter) -> Name:
        match await self._failed.choose(connection, wanted, 2):
            case [name]:
                return name
            case []:
                raise not_found(str(wanted.consumer), wanted.event_id)
            case found:
                digests = ", ".join(digest.hex() for *_, digest in found)
                text = (
                    f"Different bodies came under event {wanted.event_id}. Name one by its digest:"
                    f" {digests}."
                )
                raise Refused(
                    "FAILED_EVENT_AMBIGUOUS", text, event_id=str(wanted.event_id), digests=digests
                )


def not_found(consumer: str, event_id: UUID | None) -> NotFound:
    """Returns the refusal of an event that has no row."""
    text = f"{consumer} has no failed event {event_id}."
    return NotFound("FAILED_EVENT_NOT_FOUND", text, consumer=consumer, event_id=str(event_id))


def _done(request: RequestContext) -> IdempotencyKey:
    return IdempotencyKey(key=f"{request.key}:done")


def _step(request: RequestContext, number: int, name: Name) -> IdempotencyKey:
    consumer, event_id, digest = name
    return IdempotencyKey(
        key=_step_key(request, number), request_hash=digest + consumer.encode(), target=event_id
    )


def _named(words: bytes, event_id: UUID) -> Name:
    """Returns the event that a step's key names."""
    return words[DIGEST_SIZE:].decode(), event_id, words[:DIGEST_SIZE]


def _step_key(request: RequestContext, number: int) -> str:
    return f"{request.key}:{number}"
