"""What operators ask of failed events, once for each request.

A request's first transaction chooses the events, and keeps what it chose: a claim of the request itself, and for each event one of a
step (`key:0`, `key:1`, ... in their order), whose target is the event and whose digest names its consumer. Another claim, `key:done`,
follows when all were handled. A repeat in between goes on with the same events; a later one handles none. No repeat takes others.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.blame import deferring
from chassis.claims import Claim
from chassis.database import Database
from chassis.errors import NotFound
from chassis.failed import FailedEvents, Name, Wanted
from chassis.idempotency import Keyed
from chassis.tables import FailedState

Choice = Callable[[AsyncConnection], Awaitable[Sequence[Name]]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events of a request, in their order, and whether they were handled already."""

    names: Sequence[Name]
    handled: bool = False


class Replays:
    """The requests of one service's operators about its failed events. Each method raises Deferred where the database is away."""

    def __init__(self, database: Database, failed: FailedEvents) -> None:
        self._database, self._claims, self._failed = database, database.claims, failed

    async def one(self, request: Keyed, name: Name) -> Chosen:
        """The event that a request names. Raises Invalid REQUEST_ID_REUSED, NotFound FAILED_EVENT_NOT_FOUND."""

        async def choice(connection: AsyncConnection) -> Sequence[Name]:
            await self._exists(connection, name)
            return [name]

        return await self._choose(request, choice, 1)

    async def some(self, request: Keyed, wanted: Wanted, most: int) -> Chosen:
        """The oldest events that are wanted: at most so many. Raises Invalid REQUEST_ID_REUSED."""
        return await self._choose(request, lambda connection: self._failed.choose(connection, wanted, most), most)

    async def over(self, request: Keyed) -> None:
        """What the request chose was handled."""
        with deferring():
            async with self._database.engine.begin() as connection:
                await self._claims.take(connection, [_done(request)])

    async def discard(self, request: Keyed, name: Name) -> None:
        """Gives the event up that a request names. Raises Invalid REQUEST_ID_REUSED, NotFound FAILED_EVENT_NOT_FOUND."""
        async with self._transaction(request) as (connection, first):
            if first:
                await self._exists(connection, name)
                await self._failed.discard(connection, *name)

    async def _choose(self, request: Keyed, choice: Choice, most: int) -> Chosen:
        async with self._transaction(request) as (connection, first):
            if first:
                names = await choice(connection)
                await self._claims.take(connection, [_step(request, n, name) for n, name in enumerate(names)])
                return Chosen(names)
            done = _done(request).key
            keys = [_step_key(request, n) for n in range(most)]
            found = await self._claims.find(connection, [*keys, done])
            steps = [found[key] for key in keys if key in found]
            return Chosen([(consumer.decode(), event_id) for consumer, event_id in steps], handled=done in found)

    @asynccontextmanager
    async def _transaction(self, request: Keyed) -> AsyncIterator[tuple[AsyncConnection, bool]]:
        """Claims the request, and tells whether it is the first of its key. Where it raises, nothing is claimed."""
        with deferring():
            async with self._database.engine.begin() as connection:
                yield connection, await self._claims.first(connection, Claim(request.key, request.digest))

    async def _exists(self, connection: AsyncConnection, name: Name) -> None:
        consumer, event_id = name
        if not await self._failed.choose(connection, Wanted(frozenset(FailedState), consumer, event_id=event_id), 1):
            raise not_found(name)


def not_found(name: Name) -> NotFound:
    """What is answered about an event of which there is no row."""
    consumer, event_id = name[0], str(name[1])
    return NotFound("FAILED_EVENT_NOT_FOUND", f"{consumer} has no failed event {event_id}.", consumer=consumer, event_id=event_id)


def _done(request: Keyed) -> Claim:
    return Claim(f"{request.key}:done")


def _step(request: Keyed, number: int, name: Name) -> Claim:
    consumer, event_id = name
    return Claim(_step_key(request, number), consumer.encode(), event_id)


def _step_key(request: Keyed, number: int) -> str:
    return f"{request.key}:{number}"
