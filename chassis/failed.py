"""The table of failed events: what a consumer could not handle, for the time being or until an operator looks at it. All its SQL."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, Table, bindparam, case, delete, exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.tables import FailedState, among, arrays, insert_rows

DEFERRAL_LIMIT = timedelta(minutes=15)
# Untouched for so long a deferred event does not come again: the longest delay and the server's patience are over several times.
ABANDONED = timedelta(seconds=60)
ABANDONED_BATCH = 100
# So long an event may come again that was discarded: it was published again when it was old, and its stream was lost when that was old.
KNOWN = timedelta(days=30)
OPEN = (FailedState.DEFERRED, FailedState.FAILED)
FIELDS = (
    *("consumer", "event_id", "state", "stream", "stream_seq", "subject", "type", "aggregate", "payload", "traceparent"),
    *("event_time", "reason", "error", "attempts"),
)
TIMES = ("first_time", "update_time")
Name = tuple[str, UUID]  # the consumer, and the event


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """An event with what went wrong, and all that a replay needs."""

    consumer: str
    event_id: UUID
    state: FailedState
    stream: str
    stream_seq: int
    subject: str
    type: str
    aggregate: str
    payload: bytes
    traceparent: str | None
    event_time: datetime
    reason: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as it stands: the event, when its consumer first had trouble with it, and when the row last changed."""

    event: FailedEvent
    first_time: datetime
    update_time: datetime

    @property
    def place(self) -> tuple[datetime, str, UUID]:
        """Where it stands in a list: the oldest trouble first."""
        return self.first_time, self.event.consumer, self.event.event_id


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows. What is given must all hold; the times are of the first trouble, `since` included and `before` not."""

    states: Collection[FailedState] = OPEN
    consumer: str | None = None
    subject: str | None = None
    reason: str | None = None
    aggregate: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    event_id: UUID | None = None


class FailedEvents:
    """One service's failed events, over sets. A method without a connection is a transaction of its own; with one it is part of that's."""

    def __init__(self, engine: AsyncEngine, table: Table, limit: timedelta = DEFERRAL_LIMIT) -> None:
        """`limit` is how long a consumer defers an event, from the first time that it did so."""
        self._engine, self._table, t = engine, table, table.c
        insert = insert_rows(*(t[name] for name in FIELDS))
        new, now = insert.excluded, func.clock_timestamp()
        over = t.first_time < now - bindparam("limit", limit, type_=INTERVAL)
        again = t.state == FailedState.REPLAYED  # it had its effect once; this is another story
        state = case(
            (t.state.in_((FailedState.FAILED, FailedState.DISCARDED)), t.state),
            ((t.state == FailedState.DEFERRED) & over, FailedState.FAILED),
            else_=new.state,
        )
        changes = {name: new[name] for name in ("stream_seq", "reason", "error", "attempts")}
        self._record = insert.on_conflict_do_update(
            index_elements=[t.consumer, t.event_id],
            set_=changes | {"state": state, "first_time": case((again, now), else_=t.first_time), "update_time": now},
        ).returning(t.event_id, t.state)
        # Whoever knows that it was given up knows less than who has handled it: nothing changes but that nobody waits any more.
        self._give_up = insert.on_conflict_do_update(
            index_elements=[t.consumer, t.event_id],
            set_={"state": FailedState.FAILED, "update_time": now},
            where=t.state == FailedState.DEFERRED,
        ).returning(t.event_id)
        of_consumer = t.consumer == bindparam("of")
        self._states = select(t.event_id, t.state).where(of_consumer, among(t.event_id))
        self._counts = select(t.state, func.count()).where(of_consumer, t.state.in_(OPEN)).group_by(t.state)
        recent = t.event_time > now - bindparam("known", KNOWN, type_=INTERVAL)
        self._any_discarded = select(exists().where(of_consumer, t.state == FailedState.DISCARDED, recent))
        self._forget = delete(table).where(of_consumer, among(t.event_id), t.state == FailedState.DEFERRED)
        base = update(table).where(of_consumer, among(t.event_id)).values(update_time=now)
        self._replay_given_up = base.where(t.state.in_((FailedState.FAILED, FailedState.DISCARDED))).values(state=FailedState.REPLAYED)
        self._replay_any = base.where(t.state != FailedState.REPLAYED).values(state=FailedState.REPLAYED)
        self._discarded = base.where(t.state.in_(OPEN)).values(state=FailedState.DISCARDED).returning(t.event_id)
        one = update(table).where(of_consumer, t.event_id == bindparam("of_event"), t.state != FailedState.REPLAYED)
        words = {"reason": bindparam("why", type_=t.reason.type), "error": bindparam("words", type_=t.error.type)}
        self._still = one.values(words | {"attempts": t.attempts + 1, "update_time": now})
        fields = select(*(t[name] for name in FIELDS))
        self._get = fields.where(of_consumer, among(t.event_id))
        idle = t.update_time < now - bindparam("idle", type_=INTERVAL)
        self._abandoned = fields.where(of_consumer, t.state == FailedState.DEFERRED, idle).order_by(t.first_time).limit(ABANDONED_BATCH)
        self._entries = select(*(t[name] for name in (*FIELDS, *TIMES))).where(of_consumer, among(t.event_id))
        self._page = select(*(t[name] for name in (*FIELDS, *TIMES) if name != "payload"))

    async def record(self, events: Sequence[FailedEvent]) -> Mapping[UUID, FailedState]:
        """Stores what went wrong, and answers how each stands now: one that is deferred for too long has failed.

        What has failed before, or was discarded, stays so.
        """
        async with self._engine.begin() as connection:
            found = await connection.execute(self._record, _rows(events))
            return {row.event_id: row.state for row in found}

    async def give_up(self, events: Sequence[FailedEvent]) -> int:
        """The broker will not bring these again: they have failed. Answers for how many that is news."""
        async with self._engine.begin() as connection:
            return len((await connection.execute(self._give_up, _rows(events))).all())

    async def states(self, consumer: str, event_ids: Collection[UUID]) -> Mapping[UUID, FailedState]:
        """How those of the events stand that have a row."""
        async with self._engine.connect() as connection:
            found = await connection.execute(self._states, _which(consumer, event_ids))
            return {row.event_id: row.state for row in found}

    async def counts(self, consumer: str) -> Mapping[FailedState, int]:
        """How many events of the consumer are deferred, and how many have failed; those of which there are none are left out."""
        async with self._engine.connect() as connection:
            return {row[0]: row[1] for row in await connection.execute(self._counts, {"of": consumer})}

    async def any_discarded(self, consumer: str) -> bool:
        """Whether an event was discarded that may still come again."""
        async with self._engine.connect() as connection:
            return bool((await connection.execute(self._any_discarded, {"of": consumer})).scalar_one())

    async def resolve(self, consumer: str, event_ids: Collection[UUID]) -> None:
        """The events have had their effect: those deferred are forgotten, those failed or discarded count as replayed."""
        which = _which(consumer, event_ids)
        async with self._engine.begin() as connection:
            await connection.execute(self._forget, which)
            await connection.execute(self._replay_given_up, which)

    async def replayed(self, consumer: str, event_ids: Collection[UUID]) -> None:
        """The events have had their effect because somebody wanted it: all count as replayed, and none is forgotten."""
        async with self._engine.begin() as connection:
            await connection.execute(self._replay_any, _which(consumer, event_ids))

    async def still(self, events: Sequence[FailedEvent]) -> None:
        """A replay did not help: each stays as it stands, with what went wrong this time. One that was replayed meanwhile is let alone."""
        rows = [{"of": e.consumer, "of_event": e.event_id, "why": e.reason, "words": e.error} for e in events]
        async with self._engine.begin() as connection:
            await connection.execute(self._still, sorted(rows, key=lambda row: (row["of"], row["of_event"])))

    async def discard(self, connection: AsyncConnection, consumer: str, event_id: UUID) -> bool:
        """An operator decides against the event. Answers whether it was open: deferred or failed."""
        return bool((await connection.execute(self._discarded, _which(consumer, [event_id]))).scalars().all())

    async def get(self, consumer: str, event_ids: Collection[UUID]) -> list[FailedEvent]:
        """Those of the events that have a row, in the order given."""
        async with self._engine.connect() as connection:
            found = {row.event_id: FailedEvent(*row) for row in await connection.execute(self._get, _which(consumer, event_ids))}
            return [found[event_id] for event_id in dict.fromkeys(event_ids) if event_id in found]

    async def abandoned(self, consumer: str, idle: timedelta = ABANDONED) -> list[FailedEvent]:
        """Events that are deferred, and that nobody has brought again for so long: some of them, the oldest first."""
        async with self._engine.connect() as connection:
            return [FailedEvent(*row) for row in await connection.execute(self._abandoned, {"of": consumer, "idle": idle})]

    async def entries(self, consumer: str, event_ids: Collection[UUID]) -> Mapping[UUID, Entry]:
        """The rows of those of the events that have one."""
        async with self._engine.connect() as connection:
            found = await connection.execute(self._entries, _which(consumer, event_ids))
            return {row.event_id: _entry(row, row.payload) for row in found}

    async def page(self, wanted: Wanted, after: tuple[datetime, str, UUID] | None, most: int) -> Sequence[Entry]:
        """Rows that are wanted, the oldest trouble first, without their payloads: at most so many, behind the place `after`."""
        t = self._table.c
        query = self._first(self._page, wanted, most)
        if after:
            query = query.where(tuple_(t.first_time, t.consumer, t.event_id) > tuple_(*after))
        async with self._engine.connect() as connection:
            return [_entry(row, b"") for row in await connection.execute(query)]

    async def choose(self, connection: AsyncConnection, wanted: Wanted, most: int) -> Sequence[Name]:
        """Which rows are wanted, the oldest trouble first: at most so many."""
        t = self._table.c
        return [(row[0], row[1]) for row in await connection.execute(self._first(select(t.consumer, t.event_id), wanted, most))]

    def _first(self, query: Select[Any], wanted: Wanted, most: int) -> Select[Any]:
        t = self._table.c
        return query.where(*self._conditions(wanted)).order_by(t.first_time, t.consumer, t.event_id).limit(most)

    def _conditions(self, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
        t = self._table.c
        yield t.state.in_(wanted.states)
        for column, value in (
            (t.consumer, wanted.consumer),
            (t.subject, wanted.subject),
            (t.reason, wanted.reason),
            (t.aggregate, wanted.aggregate),
            (t.event_id, wanted.event_id),
        ):
            if value is not None:
                yield column == value
        if wanted.since is not None:
            yield t.first_time >= wanted.since
        if wanted.before is not None:
            yield t.first_time < wanted.before


def _which(consumer: str, event_ids: Collection[UUID]) -> dict[str, Any]:
    return {"of": consumer} | arrays(["event_id"], [[e] for e in sorted(event_ids)])


def _rows(events: Sequence[FailedEvent]) -> dict[str, Any]:
    rows = {e.event_id: attrgetter(*FIELDS)(e) for e in events}  # an event that is here twice has one row
    return arrays(FIELDS, [rows[key] for key in sorted(rows)])


def _entry(row: Row[Any], payload: bytes) -> Entry:
    fields = {name: getattr(row, name) for name in FIELDS if name != "payload"}
    return Entry(FailedEvent(**fields, payload=payload), row.first_time, row.update_time)
