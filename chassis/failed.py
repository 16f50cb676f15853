"""The table of failed events: what a consumer could not handle, for the time being or until an operator looks at it. All its SQL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from uuid import UUID

from sqlalchemy import Table, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.tables import FailedState, among, arrays, insert_rows

DEFERRAL_LIMIT = timedelta(minutes=15)
OPEN = (FailedState.DEFERRED, FailedState.FAILED)
FIELDS = (
    *("consumer", "event_id", "state", "stream", "stream_seq", "subject", "type", "aggregate", "payload", "traceparent"),
    *("event_time", "reason", "error", "attempts"),
)


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


class FailedEvents:
    """One service's failed events. Each method is a transaction of its own, over sets."""

    def __init__(self, engine: AsyncEngine, table: Table, limit: timedelta = DEFERRAL_LIMIT) -> None:
        """`limit` is how long a consumer defers an event, from the first time that it did so."""
        self._engine, t = engine, table.c
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
        of_consumer = t.consumer == bindparam("of")
        self._states = select(t.event_id, t.state).where(of_consumer, among(t.event_id))
        self._counts = select(t.state, func.count()).where(of_consumer, t.state.in_(OPEN)).group_by(t.state)
        self._forget = delete(table).where(of_consumer, among(t.event_id), t.state == FailedState.DEFERRED)
        close = update(table).where(of_consumer, among(t.event_id)).values(update_time=now)
        self._replayed = close.where(t.state.in_((FailedState.FAILED, FailedState.DISCARDED))).values(state=FailedState.REPLAYED)
        self._discarded = close.where(t.state.in_(OPEN)).values(state=FailedState.DISCARDED).returning(t.event_id)
        self._get = select(*(t[name] for name in FIELDS)).where(of_consumer, among(t.event_id))

    async def record(self, events: Sequence[FailedEvent]) -> Mapping[UUID, FailedState]:
        """Stores what went wrong, and answers how each stands now: one that is deferred for too long has failed.

        What has failed before, or was discarded, stays so.
        """
        rows = {e.event_id: attrgetter(*FIELDS)(e) for e in events}  # an event that is here twice has one row
        async with self._engine.begin() as connection:
            found = await connection.execute(self._record, arrays(FIELDS, [rows[key] for key in sorted(rows)]))
            return {row.event_id: row.state for row in found}

    async def states(self, consumer: str, event_ids: Collection[UUID]) -> Mapping[UUID, FailedState]:
        """How those of the events stand that have a row."""
        async with self._engine.connect() as connection:
            found = await connection.execute(self._states, {"of": consumer} | arrays(["event_id"], [[e] for e in event_ids]))
            return {row.event_id: row.state for row in found}

    async def counts(self, consumer: str) -> Mapping[FailedState, int]:
        """How many events of the consumer are deferred, and how many have failed; those of which there are none are left out."""
        async with self._engine.connect() as connection:
            return {row[0]: row[1] for row in await connection.execute(self._counts, {"of": consumer})}

    async def resolve(self, consumer: str, event_ids: Collection[UUID]) -> None:
        """The events have had their effect: those deferred are forgotten, those failed or discarded count as replayed."""
        which = {"of": consumer} | arrays(["event_id"], [[e] for e in sorted(event_ids)])
        async with self._engine.begin() as connection:
            await connection.execute(self._forget, which)
            await connection.execute(self._replayed, which)

    async def discard(self, consumer: str, event_ids: Collection[UUID]) -> set[UUID]:
        """An operator decides against the events. Answers which were open: deferred or failed."""
        async with self._engine.begin() as connection:
            which = {"of": consumer} | arrays(["event_id"], [[e] for e in sorted(event_ids)])
            return set((await connection.execute(self._discarded, which)).scalars())

    async def get(self, consumer: str, event_ids: Collection[UUID]) -> list[FailedEvent]:
        """Those of the events that have a row."""
        async with self._engine.connect() as connection:
            found = await connection.execute(self._get, {"of": consumer} | arrays(["event_id"], [[e] for e in event_ids]))
            return [FailedEvent(*row) for row in found]
