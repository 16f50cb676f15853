"""Operators' requests about failed events, each carried out once.

The first transaction of a request chooses the events and stores its choice as idempotency keys:
`key` of the request, and `key:0`, `key:1` and so on of the events in their order. The target of an
event's key is the event id; its request hash is the digest and the consumer. A repeat has the same
events: none takes others. A discard is part of that transaction, and the discard of one event has
no `key:0`: the request names it. After a replay a last key, `key:done`, follows when all events
were handled. A repeat before that goes on with the same events; a later one handles none.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.consume.failed_event_records import FailedEventFilter, Name
from chassis.consume.failed_events import FailedEvents
from chassis.values.errors import NotFound, Refused
from chassis.values.request_context import RequestContext
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey

DIGEST_SIZE = sha256().digest_size


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events of a request, in their order; whether more match its filter, and whether a replay
    has handled them already.
    """

    names: Sequence[Name]
    more: bool
    handled: bool = False


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
        return await self._choose(request, partial(self._only, wanted=wanted), 1)

    async def some(
        self,
        request: RequestContext,
        wanted: FailedEventFilter,
        limit: int,
        *,
        discard: bool = False,
    ) -> Chosen:
        """Chooses the oldest events that are wanted, `limit` at most, and discards them if the
        request says so. Raises Invalid REQUEST_ID_REUSED.
        """
        choice = partial(self._failed.choose, wanted=wanted, most=limit + 1)
        return await self._choose(request, choice, limit, discard=discard)

    async def only(self, wanted: FailedEventFilter) -> Name:
        """Returns the row of one event. Raises NotFound FAILED_EVENT_NOT_FOUND, and Refused
        FAILED_EVENT_AMBIGUOUS where several rows match.
        """
        with deferring_outages():
            async with self._database.engine.connect() as connection:
                [name] = await self._only(connection, wanted)
                return name

    async def count(self, wanted: FailedEventFilter, most: int) -> int:
        """Returns how many events are wanted: `most` at most."""
        with deferring_outages():
            async with self._database.engine.connect() as connection:
                return len(await self._failed.choose(connection, wanted, most))

    async def over(self, request: RequestContext) -> None:
        """Records that the events of the request were handled."""
        with deferring_outages():
            async with self._database.engine.begin() as connection:
                done = IdempotencyKey(key=_step_key(request, "done"))
                await self._keys.insert(connection, [done])

    async def discard(self, request: RequestContext, wanted: FailedEventFilter) -> Name:
        """Discards the one event that a request names. Raises as `one` does."""
        with deferring_outages():
            async with self._database.engine.begin() as connection:
                first = await self._keys.insert_one(connection, IdempotencyKey.of(request))
                [name] = await self._only(connection, wanted)
                if first:
                    await self._failed.discard(connection, [name])
                return name

    async def _choose(
        self,
        request: RequestContext,
        choice: Callable[[AsyncConnection], Awaitable[Sequence[Name]]],
        limit: int,
        *,
        discard: bool = False,
    ) -> Chosen:
        """Chooses the events of a request, or finds those that it chose before. One event beyond
        the limit shows, to a repeat too, that there were more: it is chosen, and left alone.
        """
        with deferring_outages():
            async with self._database.engine.begin() as connection:
                if await self._keys.insert_one(connection, IdempotencyKey.of(request)):
                    names = await choice(connection)
                    steps = [_step(request, n, name) for n, name in enumerate(names)]
                    await self._keys.insert(connection, steps)
                    if discard:
                        await self._failed.discard(connection, names[:limit])
                    return Chosen(names[:limit], more=len(names) > limit)
                done = _step_key(request, "done")
                keys = [_step_key(request, n) for n in range(limit + 1)]
                found = await self._keys.find(connection, [*keys, done])
                names = [_named(*found[key]) for key in keys if key in found]
                return Chosen(names[:limit], more=len(names) > limit, handled=done in found)

    async def _only(self, connection: AsyncConnection, wanted: FailedEventFilter) -> Sequence[Name]:
        match await self._failed.choose(connection, wanted, 2):
            case [name]:
                return [name]
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


def _step(request: RequestContext, number: int, name: Name) -> IdempotencyKey:
    consumer, event_id, digest = name
    return IdempotencyKey(
        key=_step_key(request, number), request_hash=digest + consumer.encode(), target=event_id
    )


def _named(words: bytes, event_id: UUID) -> Name:
    """Returns the event that a step's key names."""
    return words[DIGEST_SIZE:].decode(), event_id, words[:DIGEST_SIZE]


def _step_key(request: RequestContext, step: int | str) -> str:
    return f"{request.key}:{step}"
