"""Compares the stream with the outbox: whether it has the events that the outbox marks as
published. Lost events wait again.

The outbox is the log of record. A mark is a place in the stream, and places repeat: a stream that
was wiped, rebuilt or replaced by an older copy of itself has other events at the same places. So
event ids are compared, page by page. A `Position` stores how far that came: the identity of the
stream, and the message up to which the marks are right. While the stream has that very message, it
has all that was stored before it. When it does not, the comparison starts again.

Only the owner of a shard writes the shard's marks, over the connection that is given here, and
never while a page is compared: so every new mark is above the position.

chassis.publish.stream_comparison compares a page.

Lost events wait again a few at a time, in the order of the old places. Where a new event's
aggregate has lost events, those go first (`unmark_lost_of`), so that its order holds: LOST_MAX of
them at most in one round of the relay. An aggregate with more of them is held back: its new events
wait, and those of other aggregates do not. An event that the stream still has waits again too if an
earlier event of its aggregate is behind it in the stream now.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.broker.stream import Broker
from chassis.observe import telemetry
from chassis.publish import stream_comparison
from chassis.publish.marks import Marks, OutboxRow
from chassis.publish.stream_comparison import NO_END, Comparison, Page, uncompared_rows
from chassis.publish.stream_contents import Bounds, Entry, event_id_of
from chassis.write.outbox import shard_of
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import is_any_of, upsert_rows

CHECK_S = 10.0
PLACES_RATE = 5000  # a second: reading them costs about 0.1 ms each
LOST_MAX = 100
LOST_RATE = 500  # a second, of each process: publishing one costs about 0.5 ms
UNKNOWN_MAX = 10_000  # events that are kept in memory

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Marks from `first_seq` to `seq` are those of the stream that was created at `create_time`.

    `message_seq` and `message_time` name the last message that was read (0: there was none). A
    message with another time is another one, also under the same id. `deleted` is Bounds.deleted.
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


@dataclass(slots=True, kw_only=True)
class UncomparedRows:
    """What is found about single aggregates before the comparison reaches their events. It holds
    for one stream.

    first_ids  the id from which the rows of an aggregate may be lost, where it is not the first.
               Rows below it are at their marks, as long as the stream has the place `relied_on`
    held       the aggregates that are held back
    position   the position at the last check of all of them
    """

    first_ids: dict[UUID, int] = field(default_factory=dict)
    held: set[UUID] = field(default_factory=set)
    relied_on: int = NO_END
    position: Position | None = None


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
        self._comparison = Comparison(outbox=outbox, broker=broker, stream=stream, source=source)
        self.contents, self._broker, self._stream = self._comparison.contents, broker, stream
        self._marks = Marks(outbox)
        self._select_uncompared = uncompared_rows(outbox)
        self._highest = select(func.max(outbox.c.stream_seq))
        self._positions = RecordRows(Position, positions.c, keys=["shard"])
        self._load = select(positions).where(is_any_of(positions.c.shard))
        self._store = upsert_rows(positions)
        self._unmarked = telemetry.counter(
            "outbox_republished_total",
            "Events that were published again after a loss",
            "stream",
        ).labels(stream)
        self._remaining = telemetry.reading(
            "outbox_comparison_remaining",
            "Places whose events are still to be compared with the stream",
            "stream",
        ).labels(stream)
        self._foreign = telemetry.reading(
            "outbox_unknown_events",
            "Events of this service that its stream has and its outbox has not: alert on it",
            "stream",
        ).labels(stream)
        # the gauges that are read from the database and the stream
        self.readings = (self._remaining, self._foreign)
        self.begin()

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
        self._uncompared = UncomparedRows()
        self.complete = False  # all marks are compared, at the last check
        self.next_time = float("-inf")  # the time of the next `advance`

    def compare_now(self) -> None:
        """Makes the next `advance` compare at once."""
        self.next_time = float("-inf")

    async def is_same_stream(self) -> bool:
        """Returns whether the stream is still the one that was compared, by its bounds and the
        connection: the files of a running server are not replaced. If it is not, the next `advance`
        compares at once.
        """
        is_same = (
            self._position is not None
            and self._broker.connection == self._connection
            and self._position.may_match(await self.contents.bounds())
        )
        if not is_same:
            self.compare_now()
        return is_same

    async def advance(self, connection: AsyncConnection, shards: frozenset[int]) -> None:
        """Compares the next page if it is due. Creates a stream that is missing."""
        gained, self._shards = shards - self._shards, shards
        if gained:
            self._position = self._stored_position = None
        changed = self._broker.connection != self._connection
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
        held = (each for each in self._uncompared.held if shard_of(each) in self._shards)
        return {aggregate: self._uncompared.first_ids[aggregate] for aggregate in held}

    async def unmark_lost_of(
        self, connection: AsyncConnection, aggregates: Collection[UUID]
    ) -> None:
        """Sets to wait again the lost events of these aggregates that the comparison has not
        reached yet, before new events of them are published. It checks LOST_MAX rows at most, first
        those of the aggregates that have the fewest.

        It holds back the aggregates that have more. Their next rows are checked after the next step
        of the comparison, so that LOST_RATE bounds them too.
        """
        position = self._position
        bounds = await self.contents.bounds()
        if position is None or bounds is None:
            return
        if bounds.first_seq > self._uncompared.relied_on:
            self._uncompared = UncomparedRows()
        uncompared = self._uncompared
        is_new = position is not uncompared.position
        uncompared.position = position
        checked = {*aggregates, *self.held_back} if is_new else {*aggregates} - uncompared.held
        where: dict[str, Any] = {"first": bounds.first_seq, "seq": position.seq, "most": LOST_MAX}
        first_ids = {aggregate: uncompared.first_ids.get(aggregate, 0) for aggregate in checked}
        where |= column_arrays(aggregate=first_ids, id=first_ids.values())
        rows = (await connection.execute(self._select_uncompared, where)).all()
        taken = [row for row in rows if row.place <= LOST_MAX and (is_new or row.fits)]
        lost = await self._comparison.missing(taken)
        await self._wait_again(connection, lost)
        overtaken = await self._comparison.overtaken(connection, taken)
        await self._wait_again(connection, overtaken)
        self._hold_back(checked, rows, {row.id for row in taken})
        # An event that is published again is behind all that the stream has.
        again = [*lost, *overtaken]
        places = {row.stream_seq for row in taken} - {row.stream_seq for row in again}
        uncompared.relied_on = min(uncompared.relied_on, bounds.last_seq + 1, *places)
        self.next_time += len(again) / LOST_RATE

    def _hold_back(
        self,
        checked: Collection[UUID],
        rows: Sequence[OutboxRow],
        taken: Collection[int],
    ) -> None:
        """Holds back those of the aggregates that have a row which was not taken."""
        uncompared = self._uncompared
        remaining = [row for row in rows if row.id not in taken]
        firsts = {row.aggregate: row.id for row in reversed(remaining)}
        ends = {row.aggregate: row.id + 1 for row in rows}
        for aggregate in uncompared.held & ends.keys() - firsts.keys():
            uncompared.first_ids[aggregate] = ends[aggregate]
        uncompared.first_ids |= firsts
        uncompared.held = (uncompared.held - set(checked)) | firsts.keys()

    async def _step(self, connection: AsyncConnection) -> float:
        """Compares up to a page. Returns the pause before the next one, in seconds."""
        is_same = self._broker.connection == self._connection
        if not is_same:
            self._uncompared = UncomparedRows()
        self._connection = self._broker.connection
        bounds = await self.contents.ensured()
        position = await self._resume_position(connection, bounds)
        # New marks are in order if no event is lost.
        in_order = (
            is_same and self.complete and self._position and position.seq == self._position.seq
        )
        self._lost_in_step, self.complete = 0, False
        places, budget = 0, stream_comparison.PAGE
        while budget > 0 and self._lost_in_step < LOST_MAX and not self.complete:
            low = position.first_seq if position.first_seq < bounds.first_seq else position.seq + 1
            remaining = LOST_MAX - self._lost_in_step
            page = await self._comparison.page(
                connection,
                self._shards,
                bounds,
                low,
                lost_max=remaining,
            )
            moved = await self._moved(position, bounds, page)
            if moved is None:
                self._position = None
                return 0.0
            await self._wait_again(connection, page.lost)
            if page.young and (self._lost_in_step or not in_order):
                overtaken = await self._comparison.overtaken(connection, page.young)
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
            self._uncompared = UncomparedRows()
        known = [self._position] if self._position else await self._stored(connection)
        for position in known:
            if not position.may_match(bounds) or not await self._has_message(position):
                log.error("the stream has changed: comparing all of it", stream=self._stream)
                self._uncompared = UncomparedRows()
                return _first_position(bounds)
        if not known:
            return _first_position(bounds)
        lowest = min(known, key=lambda position: position.seq)
        first_seq = min(position.first_seq for position in known)
        return replace(lowest, first_seq=first_seq, deleted=bounds.deleted)

    async def _stored(self, connection: AsyncConnection) -> list[Position]:
        """Returns the different positions of the owned shards; none where one of them has none."""
        rows = (await connection.execute(self._load, column_arrays(shard=self._shards))).all()
        if len(rows) < len(self._shards):
            return []
        return list({self._positions.record(row) for row in rows})

    async def _has_message(self, position: Position) -> bool:
        if not position.message_seq:
            return True
        message = await self.contents.message(position.message_seq)
        return message is not None and message.time == position.message_time

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
        last = page.entries[-1]
        message = await self.contents.message(last.seq)
        if message is None or event_id_of(message) != last.event_id:
            return None
        return replace(position, message_seq=last.seq, message_time=message.time)

    async def _wait_again(self, connection: AsyncConnection, lost: Sequence[OutboxRow]) -> None:
        if not lost:
            return
        if not self._lost:
            log.error("the stream has lost events: publishing them again", stream=self._stream)
        await self._marks.store(connection, [(row, None, None) for row in lost])
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
        remaining = await self._comparison.unknown(connection, self._shards, self._unknown.values())
        self._unknown = {entry.event_id: entry for entry in remaining}
        if self.complete:
            self._uncompared = UncomparedRows()
            self._counts_again = False
        if self.complete and self._more_unknown and len(remaining) < UNKNOWN_MAX:
            self._more_unknown, self._counts_again, self.complete = False, True, False
            position = _first_position(bounds)
        is_more = self._more_unknown or self._counts_again
        self._foreign.set(max(len(remaining), int(is_more)))
        highest = (await connection.execute(self._highest)).scalar_one() or 0
        self._remaining.set(0 if self.complete else max(highest, bounds.last_seq) - position.seq)
        if self.complete and self._lost:
            log.error(
                "events that the stream had lost are published again",
                stream=self._stream,
                events=self._lost,
            )
            self._lost = 0
        stored = _first_position(bounds) if remaining or is_more else position
        if stored != self._stored_position:
            rows = [self._positions.row(stored, shard=shard) for shard in sorted(self._shards)]
            await connection.execute(self._store, row_arrays(rows))
        self._position, self._stored_position = position, stored


def _first_position(bounds: Bounds) -> Position:
    """Returns the position from which nothing of this stream is compared yet."""
    return Position(create_time=bounds.create_time, first_seq=1, deleted=bounds.deleted, seq=0)
