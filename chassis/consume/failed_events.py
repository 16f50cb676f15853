"""The table of failed events, and all its SQL: the events that a consumer could not handle.

A deferred event is parked here: its message is acknowledged, and chassis.consume.parked_events
tries it again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from operator import attrgetter, eq, ge, lt
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    Select,
    Table,
    UnaryExpression,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.consume.failed_event_records import (
    OPEN,
    ConsumerEvent,
    FailedEventFilter,
    FailedEventRow,
    Name,
)
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import FailedState, conditions, is_any_of, unnest_rows

DEFERRAL_LIMIT = timedelta(minutes=15)
# A parked event waits for its next try as long as it has waited so far, within these bounds: each
# time twice as long.
WAIT_MIN, WAIT_MAX = timedelta(seconds=1), timedelta(seconds=60)
# How long a discarded event may come again: its stream was lost, and the relay publishes it again.
DISCARD_RETENTION = timedelta(days=30)
FAILED_OR_DISCARDED = (FailedState.FAILED, FailedState.DISCARDED)
KEY = ("consumer", "event_id", "digest")
TRIED = (*KEY, "state", "reason", "error", "waits_for")
FIELDS = tuple(field.name for field in fields(ConsumerEvent))


class FailedEvents:
    """The failed events of one service, in sets.

    A method without a connection is a transaction of its own; one with a connection is part of that
    transaction.
    """

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        self._engine, self._table, t = engine, table, table.c
        self._events = RecordRows(ConsumerEvent, (t[name] for name in FIELDS))
        self._rows = RecordRows(FailedEventRow, t)
        now = func.clock_timestamp()
        self._now, self._end = now, t.first_time + literal(DEFERRAL_LIMIT, INTERVAL)
        self._over = self._end <= now
        self._record = self._insert(now + literal(WAIT_MIN, INTERVAL))
        self._parked = select(exists().where(t.state == FailedState.DEFERRED), now)
        due = t.next_try_time <= now
        self._due = self._fetch_statement(due, t.next_try_time)
        self._fewest_tries = self._fetch_statement(due, t.attempts, t.next_try_time)
        untried = t.update_time < bindparam("before", type_=t.update_time.type)
        self._waiting = self._fetch_statement(
            and_(is_any_of(t.waits_for), untried), t.attempts, t.next_try_time
        )
        self._tried = self._record_try()
        names = unnest_rows(*(t[name] for name in KEY))
        named = and_(*(t[name] == names.c[name] for name in KEY))
        of_state = t.state.in_(bindparam("states", expanding=True))
        self._states = select(*(t[name] for name in KEY), t.state).where(named)
        self._delete = delete(table).where(named, of_state)
        self._settle = (
            update(table)
            .where(named, of_state)
            .values(state=bindparam("becomes"), update_time=now, next_try_time=null())
        )
        again = unnest_rows(*(t[name] for name in (*KEY, "reason", "error")))
        words = {"reason": again.c.reason, "error": again.c.error, "attempts": t.attempts + 1}
        self._still = (
            update(table)
            .where(*(t[name] == again.c[name] for name in KEY), t.state != FailedState.REPLAYED)
            .values(words | {"update_time": now})
        )
        recent = t.event_time > now - literal(DISCARD_RETENTION, INTERVAL)
        discarded = and_(t.state == FailedState.DISCARDED, recent)
        self._counts = (
            select(t.state, func.count())
            .where(t.consumer == bindparam("of"), or_(t.state.in_(OPEN), discarded))
            .group_by(t.state)
        )
        self._entries = select(table).where(named)
        columns = (column for column in t if column is not t.payload)
        self._page = select(*columns, literal(b"").label("payload"))

    def _insert(self, soon: ColumnElement[datetime]) -> Executable:
        """Returns the statement that stores events with the errors of their handling."""
        t = self._table.c
        rows = unnest_rows(*(t[name] for name in FIELDS))
        first_try = case((rows.c.state == FailedState.DEFERRED, soon))
        into = insert(self._table).from_select(
            [*FIELDS, "next_try_time"], select(*rows.c, first_try)
        )
        new, was_done = into.excluded, t.state == FailedState.REPLAYED
        state = case(
            (t.state.in_(FAILED_OR_DISCARDED), t.state),
            (and_(t.state == FailedState.DEFERRED, self._over), FailedState.FAILED),
            else_=new.state,
        )
        next_try = case((state == FailedState.DEFERRED, func.coalesce(t.next_try_time, soon)))
        said = ("stream_seq", "reason", "error", "attempts", "waits_for")
        return into.on_conflict_do_update(
            index_elements=[t[name] for name in KEY],
            set_={name: new[name] for name in said}
            | {
                "state": state,
                "first_time": case((was_done, self._now), else_=t.first_time),
                "update_time": self._now,
                "next_try_time": next_try,
            },
        ).returning(*(t[name] for name in KEY), t.state)

    def _fetch_statement(
        self, condition: ColumnElement[bool], *order: ColumnElement[Any] | UnaryExpression[Any]
    ) -> Update:
        """Returns the statement that takes parked events for one more try and sets their next one,
        so that another replica does not take them meanwhile.

        A process that ends during the try has only delayed them. An event whose time is up has
        failed before its last try.
        """
        t = self._table.c
        which = (
            select(*(t[name] for name in KEY))
            .where(t.state == FailedState.DEFERRED, condition)
            .order_by(*order)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
            .cte("which")
        )
        age = self._now - t.first_time
        shortest = literal(WAIT_MIN, INTERVAL)
        longest = literal(WAIT_MAX, INTERVAL)
        spread = 0.8 + 0.4 * func.random()
        wait = func.least(func.greatest(age, shortest), longest) * spread
        return (
            update(self._table)
            .where(*(t[name] == which.c[name] for name in KEY))
            .values(
                state=case((self._over, FailedState.FAILED), else_=t.state),
                attempts=t.attempts + 1,
                update_time=self._now,
                next_try_time=case(
                    (self._over, null()), else_=func.least(self._now + wait, self._end)
                ),
            )
            .returning(*(t[name] for name in FIELDS))
        )

    def _record_try(self) -> Update:
        """Returns the statement that stores the results of tries, for rows that are still open and
        that a try has changed. The fetch has counted the try.
        """
        t = self._table.c
        rows = unnest_rows(*(t[name] for name in TRIED))
        over = FailedState.FAILED
        failed = (t.state == over) | (rows.c.state == over)
        fails = (t.state != over) & (rows.c.state == over)
        words = ("reason", "error", "waits_for")
        changes = fails | or_(*(t[name].is_distinct_from(rows.c[name]) for name in words))
        return (
            update(self._table)
            .where(*(t[name] == rows.c[name] for name in KEY), t.state.in_(OPEN), changes)
            .values(
                state=case((failed, over), else_=t.state),
                **{name: rows.c[name] for name in words},
                update_time=self._now,
                next_try_time=case((failed, null()), else_=t.next_try_time),
            )
        )

    async def record(self, events: Sequence[ConsumerEvent]) -> Mapping[Name, FailedState]:
        """Stores the events with their errors; returns the state of each row. An event that is
        deferred for too long has failed.

        An event that has failed before, or was discarded, keeps that state.
        """
        # an event that is here twice has one row
        last = {event.name: event for event in events}
        rows = self._events.arrays(last[name] for name in sorted(last))
        return {_name(row): row.state for row in await self._fetch(self._record, rows)}

    async def parked(self) -> tuple[bool, datetime]:
        """Returns whether any event is parked, and the database's clock."""
        [(found, now)] = await self._fetch(self._parked)
        return found, now

    async def fetch_due(self, most: int, *, fewest_tries: bool) -> list[ConsumerEvent]:
        """Takes events whose next try is due: those with the fewest tries, or those that have been
        due for longest.

        A caller that alternates between the two delays neither new rows nor old ones without end.
        """
        return await self._fetch_events(
            self._fewest_tries if fewest_tries else self._due, {"most": most}
        )

    async def fetch_waiting(
        self, records: Collection[UUID], before: datetime, most: int
    ) -> list[ConsumerEvent]:
        """Takes events that wait for one of these records, due or not, unless they were tried at
        `before` or later.
        """
        which = column_arrays(waits_for=records)
        return await self._fetch_events(self._waiting, which | {"before": before, "most": most})

    async def _fetch_events(
        self, statement: Update, parameters: dict[str, Any]
    ) -> list[ConsumerEvent]:
        found = map(self._events.record, await self._fetch(statement, parameters))
        return sorted(found, key=attrgetter("event_time", "stream_seq"))

    async def _fetch(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Returns the rows of the statement, in a transaction of its own."""
        async with self._engine.begin() as connection:
            return (await connection.execute(statement, parameters)).all()

    async def record_tries(self, events: Sequence[ConsumerEvent]) -> None:
        """Stores the results of tries of fetched events."""
        async with self._engine.begin() as connection:
            await connection.execute(self._tried, self._events.arrays(events, TRIED))

    async def states(self, names: Collection[Name]) -> Mapping[Name, FailedState]:
        """Returns the states of those of the events that have a row."""
        return {_name(row): row.state for row in await self._fetch(self._states, _named(names))}

    async def counts(self, consumer: str) -> Mapping[FailedState, int]:
        """Returns how many events of the consumer are deferred, have failed, or were discarded and
        may still come again. A state without events is left out.
        """
        return {row[0]: row[1] for row in await self._fetch(self._counts, {"of": consumer})}

    async def resolve(self, names: Collection[Name]) -> None:
        """Records that the events have had their effect: it deletes the rows of deferred ones, and
        sets failed or discarded ones to replayed.
        """
        rows = _named(names)
        async with self._engine.begin() as connection:
            await connection.execute(self._delete, rows | {"states": [FailedState.DEFERRED]})
            await connection.execute(
                self._settle,
                rows | {"states": FAILED_OR_DISCARDED, "becomes": FailedState.REPLAYED},
            )

    async def delete_failed(self, name: Name) -> None:
        """Deletes the row of a failed event. A row that an operator replayed or discarded stays."""
        async with self._engine.begin() as connection:
            await connection.execute(
                self._delete, _named([name]) | {"states": [FailedState.FAILED]}
            )

    async def replayed(self, names: Collection[Name]) -> None:
        """Records that the events have had their effect in an operator's replay: all rows stay, as
        replayed.
        """
        states = [state for state in FailedState if state is not FailedState.REPLAYED]
        settled = {"states": states, "becomes": FailedState.REPLAYED}
        async with self._engine.begin() as connection:
            await connection.execute(self._settle, _named(names) | settled)

    async def record_failed_replays(self, events: Sequence[ConsumerEvent]) -> None:
        """Stores the new error of events whose replay failed. Each row keeps its state, and one
        that was replayed meanwhile does not change.
        """
        rows = self._events.arrays(events, (*KEY, "reason", "error"))
        async with self._engine.begin() as connection:
            await connection.execute(self._still, rows)

    async def discard(self, connection: AsyncConnection, names: Collection[Name]) -> None:
        """Discards the events for an operator: deferred or failed becomes discarded."""
        settled = {"states": OPEN, "becomes": FailedState.DISCARDED}
        await connection.execute(self._settle, _named(names) | settled)

    async def entries(self, names: Collection[Name]) -> Mapping[Name, FailedEventRow]:
        """Returns the rows of those of the events that have one, in the order given."""
        rows = map(self._rows.record, await self._fetch(self._entries, _named(names)))
        found = {row.event.name: row for row in rows}
        return {name: found[name] for name in names if name in found}

    async def page(
        self, wanted: FailedEventFilter, after: tuple[datetime, str, UUID, str] | None, most: int
    ) -> Sequence[FailedEventRow]:
        """Returns rows that are wanted, the oldest failure first, without payloads: at most so
        many, after the place `after`.
        """
        t = self._table.c
        query = self._first(self._page, wanted, most)
        if after:
            *place, digest = after
            behind = tuple_(t.first_time, t.consumer, t.event_id, t.digest)
            query = query.where(behind > tuple_(*place, bytes.fromhex(digest)))
        return list(map(self._rows.record, await self._fetch(query)))

    async def choose(
        self, connection: AsyncConnection, wanted: FailedEventFilter, most: int
    ) -> Sequence[Name]:
        """Returns the names of rows that are wanted, the oldest failure first: at most so many."""
        names = select(*(self._table.c[name] for name in KEY))
        return [_name(row) for row in await connection.execute(self._first(names, wanted, most))]

    def _first(self, query: Select[Any], wanted: FailedEventFilter, most: int) -> Select[Any]:
        """Returns the query of the rows that are wanted, the oldest failure first."""
        t = self._table.c
        where = conditions(
            (t.consumer, eq, wanted.consumer),
            (t.subject, eq, wanted.subject),
            (t.type, eq, wanted.type),
            (t.reason, eq, wanted.reason),
            (t.aggregate, eq, wanted.aggregate),
            (t.event_id, eq, wanted.event_id),
            (t.digest, eq, wanted.digest),
            (t.first_time, ge, wanted.since),
            (t.first_time, lt, wanted.before),
            (t.update_time, ge, wanted.updated_since),
            (t.update_time, lt, wanted.updated_before),
        )
        order = (t.first_time, t.consumer, t.event_id, t.digest)
        return query.where(t.state.in_(wanted.states), *where).order_by(*order).limit(most)


def _named(names: Collection[Name]) -> dict[str, Any]:
    ordered = sorted(set(names))
    return column_arrays(
        consumer=[consumer for consumer, _, _ in ordered],
        event_id=[event_id for _, event_id, _ in ordered],
        digest=[digest for _, _, digest in ordered],
    )


def _name(row: Row[*tuple[Any, ...]]) -> Name:
    return row.consumer, row.event_id, row.digest
