"""Compares the stream with the outbox: whether it has the events that the outbox marks as
published. Lost events wait again.

The outbox is the log of record. A mark is a place in the stream, and places repeat: a stream that
was wiped, rebuilt or replaced by an older copy of itself has other events at the same places. So
event ids are compared, page by page. A `Position` stores how far that came: the identity of the
stream, and the message up to which the marks are right. While the stream has that very message, it
has all that was stored before it. When it does not, the comparison starts again.

Only the owner of a shard writes the shard's marks, over the connection that is given here, and
never while a page is compared: so every new mark is above the position.

A page may lack messages that the stream has: before a row waits again, the broker is asked for the
message at its place.

Lost events wait again a few at a time, in the order of the old places. Where a new event's
aggregate has lost events, those go first (`unmark_lost_of`), so that its order holds: LOST_MAX of
them at most in one round of the relay. An aggregate with more of them is held back: its new events
wait, and those of other aggregates do not. An event that the stream still has waits again too if an
earlier event of its aggregate is behind it in the stream now.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    SmallInteger,
    Table,
    any_,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.broker.stream import MAX_AGE_S, Broker
from chassis.observe import telemetry
from chassis.publish.stream_contents import Bounds, Entry, StreamContents
from chassis.write.outbox import shard_of
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import is_any_of, unnest_rows

CHECK_S = 10.0
PAGE = 1000  # marks, and places of the stream, that are compared at once
PLACES_RATE = 5000  # a second: reading them costs about 0.1 ms each
LOST_MAX = 100
LOST_RATE = 500  # a second, of each process: publishing one costs about 0.5 ms
UNKNOWN_MAX = 10_000  # events that are kept in memory
ASKED_AT_ONCE = 16  # requests for single messages at the same time
# The stream still has every event that is younger: it keeps messages for longer, and an hour is
# more than the difference of two clocks.
YOUNG = timedelta(seconds=MAX_AGE_S) - timedelta(hours=1)
NO_END = 2**63 - 1

log = structlog.get_logger()

Marked = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Position:
    """Marks from `first_seq` to `seq` are those of the stream that was created at `create_time`.

    `message_seq` and `message_time` name the last message that was read (0: there was none). A
    message with another time is another message, whatever its id. `deleted` is Bounds.deleted.
    """

    create_time: datetime
    first_seq: int
    deleted: int
    seq: int
    message_seq: int = 0
    message_time: datetime | None = None

    def may_match(self, bounds: Bounds | None) -> bool:
        """Returns whether a stream with these bounds may still have the compared messages."""
        if bounds is None or bounds.create_time != self.create_time:
            return False
        if bounds.last_seq < self.seq or bounds.deleted > self.deleted:
            return False
        if not self.message_seq:
            return bounds.first_seq > self.seq
        return bounds.first_seq <= self.message_seq


@dataclass(frozen=True, slots=True)
class Page:
    """Marks and messages up to the place `high`: the rows whose event is not at its mark, those
    whose event is, and the messages without a mark.
    """

    high: int
    rows: int
    lost: Sequence[Marked]
    present: Sequence[Marked]
    entries: Mapping[int, Entry]
    unexplained: Sequence[Entry]


class Comparison:
    """Compares an outbox with its stream. It only reads."""

    def __init__(self, outbox: Table, broker: Broker, stream: str, source: str) -> None:
        """`source` is the service's name: the outbox has only messages that this service has
        published.
        """
        t, self.contents, self._source = (
            outbox.c,
            StreamContents(broker, stream),
            f"/ordermesh/{source}",
        )
        young = bindparam("young", YOUNG, type_=INTERVAL)
        # The first day that may have young rows, so that no older partition is read. A row of that
        # day that is no longer young is compared page by page.
        day = func.date_trunc("day", func.now() - young, "UTC")
        columns = (t.id, t.create_time, t.aggregate, t.event_id, t.type, t.stream_seq)
        mine = t.shard == any_(bindparam("shards", type_=ARRAY(SmallInteger)))
        here = t.stream_seq.between(bindparam("low"), bindparam("high"))
        self._page = (
            select(*columns, (t.create_time > func.now() - young).label("young"))
            .where(here, mine, t.create_time >= day)
            .order_by(t.stream_seq)
            .fetch(PAGE, with_ties=True)
        )
        last = unnest_rows(t.aggregate, t.id, t.stream_seq)
        before = (t.aggregate == last.c.aggregate) & (t.id < last.c.id)
        behind = t.stream_seq.is_(None) | (t.stream_seq > last.c.stream_seq)
        self._earlier = select(t.id, t.aggregate, t.stream_seq).where(before, behind)
        self._known = select(t.event_id).where(is_any_of(t.aggregate), is_any_of(t.event_id))

    async def page(
        self,
        connection: AsyncConnection,
        shards: Collection[int],
        bounds: Bounds,
        low: int,
        *,
        lost_max: int = PAGE,
    ) -> Page:
        """Compares one page from the place `low` on; beyond the stream, up to NO_END."""
        if low < bounds.first_seq:
            high = bounds.first_seq - 1
        else:
            high = min(low + PAGE - 1, bounds.last_seq) if low <= bounds.last_seq else NO_END
        where = {"shards": sorted(shards), "low": low, "high": high}
        rows = (await connection.execute(self._page, where)).all()
        if len(rows) >= PAGE:
            high = rows[-1].stream_seq
        held: Mapping[int, Entry] = {}
        if bounds.first_seq <= low <= bounds.last_seq:
            held = await self.contents.between(low, min(high, bounds.last_seq))
        lost = [row for row in rows if row.young and not _is_at(held, row)]
        if len(lost) > lost_max:
            high = lost[lost_max - 1].stream_seq
            lost = [row for row in lost if row.stream_seq <= high]
        lost = await self.missing(lost)
        entries = {seq: entry for seq, entry in held.items() if seq <= high}
        explained = {(row.stream_seq, str(row.event_id)) for row in rows}
        unexplained = [e for e in entries.values() if (e.seq, e.event_id) not in explained]
        lost_ids = {row.id for row in lost}
        present = [
            row for row in rows if row.young and row.stream_seq <= high and row.id not in lost_ids
        ]
        return Page(
            high=high,
            rows=len(rows),
            lost=lost,
            present=present,
            entries=entries,
            unexplained=unexplained,
        )

    async def missing(self, rows: Sequence[Marked]) -> list[Marked]:
        """Returns the rows whose event the broker does not have at its mark. It asks the broker for
        each message.
        """
        bounds = await self.contents.bounds() if rows else None
        if bounds is None:
            return list(rows)
        at_once = asyncio.Semaphore(ASKED_AT_ONCE)

        async def is_held(row: Marked) -> bool:
            if not bounds.first_seq <= row.stream_seq <= bounds.last_seq:
                return False
            async with at_once:
                return await self.contents.holds(row.stream_seq, row.event_id)

        held = await asyncio.gather(*map(is_held, rows))
        return [row for row, is_there in zip(rows, held, strict=True) if not is_there]

    async def overtaken(self, connection: AsyncConnection, rows: Sequence[Marked]) -> list[Marked]:
        """Returns the rows of which an earlier event of the same aggregate waits, or has a higher
        mark.
        """
        ends: dict[UUID, Marked] = {
            row.aggregate: row for row in sorted(rows, key=attrgetter("id"))
        }
        starts = {row.aggregate: row.stream_seq for row in sorted(rows, key=_place, reverse=True)}
        asked = column_arrays(
            aggregate=ends,
            id=[row.id for row in ends.values()],
            stream_seq=[starts[aggregate] for aggregate in ends],
        )
        earlier = (await connection.execute(self._earlier, asked)).all()
        highest: dict[UUID, int] = {}
        overtaken = {}
        for row in sorted([*earlier, *rows], key=attrgetter("id")):
            place = _place(row)
            if place < highest.get(row.aggregate, 0):
                overtaken[row.id] = row
            else:
                highest[row.aggregate] = place
        return [row for row in rows if row.id in overtaken]

    async def unknown(
        self,
        connection: AsyncConnection,
        shards: Collection[int],
        entries: Iterable[Entry],
    ) -> list[Entry]:
        """Returns those of the messages that this service has published and that its outbox should
        have and lacks.
        """
        now = datetime.now(UTC)
        ours = [entry for entry in entries if self._is_ours(entry, shards, now)]
        if not ours:
            return []
        rows = column_arrays(
            aggregate=[UUID(entry.aggregate) for entry in ours],
            event_id=[UUID(entry.event_id) for entry in ours],
        )
        found = await connection.execute(self._known, rows)
        known = {str(event_id) for event_id in found.scalars()}
        return [entry for entry in ours if entry.event_id not in known]

    def _is_ours(self, entry: Entry, shards: Collection[int], now: datetime) -> bool:
        if entry.source != self._source:
            return False
        try:
            UUID(entry.event_id)
            mine = shard_of(UUID(entry.aggregate)) in shards
            return mine and datetime.fromisoformat(entry.time) > now - YOUNG
        except (ValueError, TypeError):  # not a message of this service: consumers refuse it
            return False


class StreamRebuild:
    """Compares the shards that one relay owns, and sets to wait again the events that the stream
    has lost.
    """

    def __init__(
        self,
        outbox: Table,
        positions: Table,
        broker: Broker,
        stream: str,
        source: str,
    ) -> None:
        t, p = outbox.c, positions.c
        self._comparison = Comparison(outbox=outbox, broker=broker, stream=stream, source=source)
        self.contents, self._stream = self._comparison.contents, stream
        lost = unnest_rows(t.id, t.create_time)
        span = t.create_time.between(bindparam("first"), bindparam("last"))
        same = (t.id == lost.c.id) & (t.create_time == lost.c.create_time)
        self._unmark = update(outbox).values(stream_seq=None).where(same, span)
        self._of_aggregates = _suspects(outbox)
        self._highest = select(func.max(t.stream_seq))
        shards = bindparam("shards", type_=ARRAY(SmallInteger))
        self._load = select(positions).where(p.shard == any_(shards))
        facts = [column for column in positions.c if column is not p.shard]
        self._positions = RecordRows(Position, positions.c, keys=["shard"])
        values = [bindparam(f"at_{column.name}", type_=column.type) for column in facts]
        shard = func.unnest(shards).column_valued("shard")
        store = insert(positions).from_select([p.shard, *facts], select(shard, *values))
        changes = {column.name: store.excluded[column.name] for column in facts}
        self._store = store.on_conflict_do_update(index_elements=[p.shard], set_=changes)
        self._unmarked = telemetry.counter(
            "outbox_republished_total",
            "Events that were published again after a loss",
            "stream",
        ).labels(stream)
        self._left = telemetry.reading(
            "outbox_comparison_remaining",
            "Places whose events are still to be compared with the stream",
            "stream",
        ).labels(stream)
        self._foreign = telemetry.reading(
            "outbox_unknown_events",
            "Events of this service that its stream has and its outbox has not: alert on it",
            "stream",
        ).labels(stream)
        self.begin()

    @property
    def readings(self) -> tuple[telemetry.Reading, ...]:
        """The gauges that are read from the database and the stream."""
        return self._left, self._foreign

    def begin(self) -> None:
        """Starts a new session of the relay: another relay may have stored marks meanwhile."""
        self._shards: frozenset[int] = frozenset()
        self._position: Position | None = None
        self._stored_position: Position | None = None  # the position in the database
        self._connection = (-1, -1)
        self._lost, self._lost_in_step = 0, 0
        self._unknown: dict[str, Entry] = {}
        self._more_unknown = False  # more than UNKNOWN_MAX were found: the rest is not kept
        self._counts_again = False  # the comparison looks for the rest again
        # The id from which the rows of an aggregate may be lost, where it is not the first. Rows
        # below it are at their marks, as long as the stream has the place `_relied_on`.
        self._suspect_from: dict[UUID, int] = {}
        self._relied_on = NO_END
        self._held: set[UUID] = set()
        self._checked_position: Position | None = (
            None  # the position at the last check of all of them
        )
        self.complete = False  # all marks are compared, at the last check
        self.next_time = float("-inf")  # the time of the next `advance`

    def compare_now(self) -> None:
        """Makes the next `advance` compare at once."""
        self.next_time = float("-inf")

    async def is_same_stream(self) -> bool:
        """Returns whether the stream is still the one that was compared, by its bounds and the
        connection: the files of a running server are not replaced.
        """
        if self._position is None or self.contents.connection != self._connection:
            return False
        return self._position.may_match(await self.contents.bounds())

    async def advance(self, connection: AsyncConnection, shards: frozenset[int]) -> None:
        """Compares the next page if it is due. Creates a stream that is missing."""
        gained, self._shards = shards - self._shards, shards
        if gained:
            self._position = self._stored_position = None
        changed = self.contents.connection != self._connection
        if not shards or not (gained or changed or time.monotonic() >= self.next_time):
            return
        started = time.monotonic()
        with telemetry.reading_of(*self.readings):
            pause_s = await self._step(connection)
        self.next_time = started + (CHECK_S if self.complete else pause_s)

    @property
    def held_back(self) -> dict[UUID, int]:
        """The aggregates that are held back. Of each, only events below that id may be published:
        the row with that id is marked, and may be lost.
        """
        if self.complete:
            return {}
        held = (aggregate for aggregate in self._held if shard_of(aggregate) in self._shards)
        return {aggregate: self._suspect_from[aggregate] for aggregate in held}

    async def unmark_lost_of(
        self, connection: AsyncConnection, aggregates: Collection[UUID]
    ) -> bool:
        """Sets to wait again the lost events of these aggregates that the comparison has not
        reached yet, before new events of them are published. It checks LOST_MAX rows at most, first
        those of the aggregates that have the fewest. Returns whether any are lost.

        It holds back the aggregates that have more. Their next rows are checked after the next step
        of the comparison, so that LOST_RATE bounds them too.
        """
        position = self._position
        bounds = await self.contents.bounds()
        if position is None or bounds is None:
            return False
        if bounds.first_seq > self._relied_on:
            self._drop_findings()
        is_new = position is not self._checked_position
        self._checked_position = position
        asked = {*aggregates, *self.held_back} if is_new else {*aggregates} - self._held
        where: dict[str, Any] = {"first": bounds.first_seq, "seq": position.seq, "most": LOST_MAX}
        suspects = {aggregate: self._suspect_from.get(aggregate, 0) for aggregate in asked}
        where |= column_arrays(aggregate=suspects, id=suspects.values())
        rows = (await connection.execute(self._of_aggregates, where)).all()
        taken = [row for row in rows if row.place <= LOST_MAX and (is_new or row.fits)]
        lost = await self._comparison.missing(taken)
        await self._wait_again(connection, lost)
        ids = {row.id for row in lost}
        present = [row for row in taken if row.id not in ids]
        overtaken = await self._comparison.overtaken(connection, present)
        await self._wait_again(connection, overtaken)
        lost += overtaken
        self._hold_back(asked, rows, {row.id for row in taken})
        # An event that is published again is behind all that the stream has.
        places = {row.stream_seq for row in taken} - {row.stream_seq for row in lost}
        self._relied_on = min(self._relied_on, bounds.last_seq + 1, *places)
        self.next_time += len(lost) / LOST_RATE
        return bool(lost)

    def _hold_back(
        self,
        asked: Collection[UUID],
        rows: Sequence[Marked],
        taken: Collection[int],
    ) -> None:
        """Holds back those of the aggregates that have a row which was not taken."""
        left = [row for row in rows if row.id not in taken]
        firsts = {row.aggregate: row.id for row in reversed(left)}
        ends = {row.aggregate: row.id + 1 for row in rows}
        for aggregate in self._held & ends.keys() - firsts.keys():
            self._suspect_from[aggregate] = ends[aggregate]
        self._suspect_from |= firsts
        self._held = (self._held - set(asked)) | firsts.keys()

    async def _step(self, connection: AsyncConnection) -> float:
        """Compares up to a page. Returns the pause before the next one, in seconds."""
        is_same = self.contents.connection == self._connection
        if not is_same:
            self._drop_findings()
        self._connection = self.contents.connection
        bounds = await self.contents.ensured()
        position = await self._resume_position(connection, bounds)
        # New marks are in order if no event is lost.
        in_order = (
            is_same and self.complete and self._position and position.seq == self._position.seq
        )
        self._lost_in_step, places, budget, self.complete = 0, 0, PAGE, False
        while budget > 0 and self._lost_in_step < LOST_MAX and not self.complete:
            low = position.first_seq if position.first_seq < bounds.first_seq else position.seq + 1
            left = LOST_MAX - self._lost_in_step
            page = await self._comparison.page(
                connection,
                self._shards,
                bounds,
                low,
                lost_max=left,
            )
            moved = await self._moved(position, bounds, page)
            if moved is None:
                self._position = None
                return 0.0
            await self._wait_again(connection, page.lost)
            if page.present and (self._lost_in_step or not in_order):
                overtaken = await self._comparison.overtaken(connection, page.present)
                await self._wait_again(connection, overtaken)
            await self._keep_unknown(connection, page.unexplained)
            position, self.complete = moved, page.high == NO_END
            places += len(page.entries)
            budget -= max(1, page.rows, len(page.entries))
        await self._store_position(connection, position, bounds)
        return max(self._lost_in_step / LOST_RATE, places / PLACES_RATE)

    async def _resume_position(self, connection: AsyncConnection, bounds: Bounds) -> Position:
        """Returns the position from which to go on: the first, where the compared stream is
        gone.
        """
        if self._position is None:
            self._drop_findings()
        known = [self._position] if self._position else await self._stored(connection)
        for position in known:
            if not position.may_match(bounds) or not await self._has_message(position):
                log.error("the stream has changed: comparing all of it", stream=self._stream)
                known = []
                break
        if not known:
            self._drop_findings()
            return _first_position(bounds)
        lowest = min(known, key=lambda position: position.seq)
        first_seq = min(position.first_seq for position in known)
        return replace(lowest, first_seq=first_seq, deleted=bounds.deleted)

    def _drop_findings(self) -> None:
        """Drops the findings about single aggregates: the stream may be another one."""
        self._suspect_from, self._held, self._checked_position = {}, set(), None
        self._relied_on = NO_END

    async def _stored(self, connection: AsyncConnection) -> list[Position]:
        """Returns the different positions of the owned shards; none where one of them has none."""
        rows = (await connection.execute(self._load, {"shards": sorted(self._shards)})).all()
        if len(rows) < len(self._shards):
            return []
        return list({self._positions.record(row) for row in rows})

    async def _has_message(self, position: Position) -> bool:
        if not position.message_seq:
            return True
        found = await self.contents.at(position.message_seq)
        return found is not None and found[1] == position.message_time

    async def _moved(self, position: Position, bounds: Bounds, page: Page) -> Position | None:
        """Returns the position after a page; None where the stream has changed while it was
        read.
        """
        seq = max(position.seq, min(page.high, bounds.last_seq))
        if page.high < bounds.first_seq:
            return replace(position, first_seq=page.high + 1, seq=seq)
        position = replace(position, first_seq=bounds.first_seq, seq=seq)
        if not page.entries:
            return position
        last = page.entries[max(page.entries)]
        found = await self.contents.at(last.seq)
        if found is None or found[0] != last.event_id:
            return None
        return replace(position, message_seq=last.seq, message_time=found[1])

    async def _wait_again(self, connection: AsyncConnection, lost: Sequence[Marked]) -> None:
        if not lost:
            return
        if not self._lost:
            log.error("the stream has lost events: publishing them again", stream=self._stream)
        times = [row.create_time for row in lost]
        rows = column_arrays(id=[row.id for row in lost], create_time=times)
        await connection.execute(self._unmark, rows | {"first": min(times), "last": max(times)})
        self._lost += len(lost)
        self._lost_in_step += len(lost)
        self._unmarked.inc(len(lost))

    async def _keep_unknown(self, connection: AsyncConnection, entries: Sequence[Entry]) -> None:
        """Keeps those of the messages that the outbox lacks: it was restored to a time before
        them.
        """
        found = await self._comparison.unknown(connection, self._shards, entries)
        new = [entry for entry in found if entry.event_id not in self._unknown]
        if not new:
            return
        if not self._unknown:
            log.error(
                "the database was restored to an older state: the stream has events that the "
                "outbox lacks. `omctl audit` says what to do",
                stream=self._stream,
                events=len(new),
                first_seq=new[0].seq,
                first_time=new[0].time,
            )
        kept = new[: UNKNOWN_MAX - len(self._unknown)]
        self._more_unknown |= len(kept) < len(new)
        self._unknown |= {entry.event_id: entry for entry in kept}

    async def _store_position(
        self, connection: AsyncConnection, position: Position, bounds: Bounds
    ) -> None:
        """Stores the position. The database gets the first position where the outbox lacks events
        of the stream, so that the next process finds them again.

        Where more than UNKNOWN_MAX were found and some of them are stored now, the comparison
        starts again, to find the others. The gauge is not 0 before that comparison has ended.
        """
        left = await self._comparison.unknown(connection, self._shards, self._unknown.values())
        self._unknown = {entry.event_id: entry for entry in left}
        if self.complete:
            self._drop_findings()
            self._counts_again = False
        if self.complete and self._more_unknown and len(left) < UNKNOWN_MAX:
            self._more_unknown, self._counts_again, self.complete = False, True, False
            position = _first_position(bounds)
        is_more = self._more_unknown or self._counts_again
        self._foreign.set(max(len(left), int(is_more)))
        highest = (await connection.execute(self._highest)).scalar_one() or 0
        self._left.set(0 if self.complete else max(highest, bounds.last_seq) - position.seq)
        if self.complete and self._lost:
            log.error(
                "events that the stream had lost are published again",
                stream=self._stream,
                events=self._lost,
            )
            self._lost = 0
        stored = _first_position(bounds) if left or is_more else position
        if stored != self._stored_position:
            values = {f"at_{name}": getattr(stored, name) for name in Position.__slots__}
            await connection.execute(self._store, values | {"shards": sorted(self._shards)})
        self._position, self._stored_position = position, stored


def _first_position(bounds: Bounds) -> Position:
    """Returns the position from which nothing of this stream is compared yet."""
    return Position(create_time=bounds.create_time, first_seq=1, deleted=bounds.deleted, seq=0)


def _suspects(outbox: Table) -> Select[*tuple[Any, ...]]:
    """Returns the query of the young rows of the given aggregates, each from the given id on, that
    are marked and not compared. They are numbered by `place`: first those of the aggregates that
    have the fewest, each aggregate's in the order of their ids. The query returns only the first
    `most` rows, the next one, and the first row of each aggregate. `fits` is true where the
    aggregate's last row is among the first `most`.
    """
    t = outbox.c
    of = unnest_rows(t.aggregate, t.id)
    young = t.create_time > func.now() - bindparam("young", YOUNG, type_=INTERVAL)
    compared = t.stream_seq.between(bindparam("first"), bindparam("seq"))
    columns: tuple[ColumnElement[Any], ...] = (t.id, t.create_time, t.event_id, t.stream_seq)
    rank = func.row_number().over(partition_by=t.aggregate, order_by=t.id).label("rank")
    number = func.count().over(partition_by=t.aggregate).label("number")
    rows = (
        select(*columns, t.aggregate, rank, number)
        .join(of, (of.c.aggregate == t.aggregate) & (t.id >= of.c.id))
        .where(~compared, young)
        .subquery()
    )
    order = (rows.c.number, rows.c.aggregate, rows.c.id)
    numbered = select(rows, func.row_number().over(order_by=order).label("place")).subquery()
    most = bindparam("most", type_=BigInteger)
    last = numbered.c.place + numbered.c.number - numbered.c.rank
    return (
        select(numbered, (last <= most).label("fits"))
        .where((numbered.c.place <= most + 1) | (numbered.c.rank == 1))
        .order_by(numbered.c.place)
    )


def _place(row: Marked) -> int:
    return NO_END if row.stream_seq is None else int(row.stream_seq)


def _is_at(held: Mapping[int, Entry], row: Marked) -> bool:
    entry = held.get(row.stream_seq)
    return entry is not None and entry.event_id == str(row.event_id)
