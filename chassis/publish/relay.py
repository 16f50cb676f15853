"""The relay: publishes the waiting rows of the outbox, and marks each with its place in the stream.

The events of an aggregate are published one after the other, and aggregates at the same time. The
relay reads and marks on the connection that holds the locks of the shards (chassis.publish.shards):
if it loses the connection, it has lost the locks too. chassis.publish.stream_rebuild checks before
and after each round whether the stream still has the marked events. A round during which the stream
became another one marks nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NoReturn
from uuid import UUID

import structlog
from nats.errors import BadSubjectError, MaxPayloadError
from nats.js.errors import BadRequestError
from sqlalchemy import (
    ARRAY,
    Row,
    SmallInteger,
    Table,
    Uuid,
    all_,
    any_,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.observe import telemetry
from chassis.publish.shards import Shards
from chassis.publish.stream_rebuild import LOST_MAX, StreamRebuild
from chassis.values import crash_points
from chassis.write.database import Database, connect
from chassis.write.error_classification import LATER, TROUBLE, classify
from chassis.write.outbox import HEADER_COLUMNS, headers
from chassis.write.rows import column_arrays
from chassis.write.tables import is_any_of, unnest_rows

POLL_S = 1.0
# a replica that appends wakes its own relay, but another replica may own the shard
POLL_AMONG_OTHERS_S = 0.1
MEASURE_S = 15.0
COUNTED_MAX = 100_000  # of the events that wait
NAMED_MAX = 20  # of the aggregates whose events the stream refuses
REFUSAL_MAX = 200  # characters
PAUSE_MAX_S = 1.0
BLOCKED_MAX_S = 60.0
# the pause between two tries of an event that the broker takes for a repeat, until its window ends
REPEAT_RETRY_S = 5.0
# the bound of a round of publishing, and of one publication: the session is used again after it
ROUND_S = 3.0
DRAIN_S = 5.0

log = structlog.get_logger()


class Away(Exception):
    """The broker did not accept an event; the events that were published before are marked."""


class Changed(Exception):
    """The stream is not the one that was compared with the outbox; this round marks nothing."""


Waiting = Row[*tuple[Any, ...]]  # what `_read` returns


@dataclass(slots=True)
class Chain:
    """The result of publishing one aggregate's events: the rows that the stream has, with their
    places, and why it ended early.
    """

    done: list[tuple[Waiting, int]]
    repeats: bool = False  # the stream had the first of them already
    refused: tuple[Waiting, str] | None = None  # the row that the stream refuses, and why
    trouble: Exception | None = None


class Relay:
    """Publishes the outbox of one service on its stream. `source` is the service's name, for the
    events' ce-source.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        positions: Table,
        stream: str,
        source: str,
        poll_s: float = POLL_S,
        batch_size_max: int = 256,
        session_timeout_s: float = 10.0,
    ) -> None:
        """`session_timeout_s` bounds how long a frozen relay keeps its shards; `batch_size_max`
        bounds the events in flight. `positions` is the service's table of that name.
        """
        self._broker, self._stream, self._source = broker, stream, source
        self._poll_s, self._batch, self._session_timeout_s = (
            poll_s,
            batch_size_max,
            session_timeout_s,
        )
        self._url, self._appended = database.engine.url, database.outbox.appended
        self._rebuild = StreamRebuild(
            outbox=database.outbox.table,
            positions=positions,
            broker=broker,
            stream=stream,
            source=source,
        )
        self._contents = self._rebuild.contents
        # aggregate -> the time until which it is blocked, and the seconds of the next block
        self._blocked: dict[UUID, tuple[float, float]] = {}
        t = database.outbox.table.c
        waiting = t.stream_seq.is_(None)
        columns = (t.id, t.subject, t.payload, *(t[name] for name in HEADER_COLUMNS))
        mine = t.shard == any_(bindparam("shards", type_=ARRAY(SmallInteger)))
        free = t.aggregate != all_(bindparam("blocked", type_=ARRAY(Uuid)))
        self._read = (
            select(*columns).where(waiting, mine, free).order_by(t.id).limit(batch_size_max)
        )
        # A chain that has new rows at its beginning, up to the bound of one round.
        self._chains = (
            select(*columns)
            .where(waiting, is_any_of(t.aggregate))
            .order_by(t.id)
            .limit(4 * batch_size_max)
        )
        # The events of aggregates that are held back which come before an event that may be lost.
        below = unnest_rows(t.aggregate, t.id)
        earlier = (t.aggregate == below.c.aggregate) & (t.id < below.c.id)
        last_mark = func.max(t.stream_seq).label("last_mark")
        is_marked = t.stream_seq.is_not(None)
        self._last_marks = (
            select(t.aggregate, last_mark).where(earlier, is_marked).group_by(t.aggregate)
        )
        held = select(*columns).where(waiting, earlier)
        # As many as one step of the comparison may find lost.
        self._held = held.order_by(t.id).limit(2 * LOST_MAX)
        marks = unnest_rows(t.id, t.create_time, t.stream_seq)
        # so that only the partitions of these days are read
        span = t.create_time.between(bindparam("first"), bindparam("last"))
        same = (t.id == marks.c.id) & (t.create_time == marks.c.create_time)
        self._mark = (
            update(database.outbox.table)
            .values(stream_seq=marks.c.stream_seq, refusal=None)
            .where(same, span)
        )
        refused = unnest_rows(t.id, t.create_time, t.refusal)
        same_refused = (t.id == refused.c.id) & (t.create_time == refused.c.create_time)
        self._refuse = (
            update(database.outbox.table).values(refusal=refused.c.refusal).where(same_refused)
        )
        # The rows with the lowest ids, which are the oldest but for a moment. Not all rows: it is
        # read over the connection that publishes them.
        first = select(t.create_time).where(waiting).order_by(t.id).limit(COUNTED_MAX).subquery()
        age = func.coalesce(
            func.extract("epoch", func.clock_timestamp() - func.min(first.c.create_time)), 0
        )
        self._survey = select(func.count(), age).select_from(first)
        since = func.extract("epoch", func.clock_timestamp() - t.create_time)
        self._find_refused = (
            select(t.aggregate, since).where(t.refusal.is_not(None)).order_by(t.id).limit(NAMED_MAX)
        )
        self._waiting = telemetry.reading(
            "outbox_waiting", "Events that wait to be published: counted up to 100 000", "stream"
        ).labels(stream)
        self._oldest = telemetry.reading(
            "outbox_oldest_waiting_seconds", "How long the oldest of them waits", "stream"
        ).labels(stream)
        self._published = telemetry.counter(
            "outbox_published_total", "Events published and marked", "stream"
        ).labels(stream)
        blocked = telemetry.reading(
            "outbox_blocked_seconds",
            "How long an aggregate's events wait behind one that the stream refuses; the first 20"
            " aggregates: alert on it",
            "stream",
            "aggregate",
        )
        self._blocked_seconds = blocked.labels(stream)
        self._refused = telemetry.counter(
            "outbox_refused_total", "Events that the stream refuses: alert on it", "stream"
        ).labels(stream)

    async def run(self) -> NoReturn:
        """Publishes until it is cancelled. It survives an absence of the database and of the
        broker.
        """
        while True:
            try:
                readings = (
                    self._waiting,
                    self._oldest,
                    self._blocked_seconds,
                    *self._rebuild.readings,
                )
                with telemetry.reading_of(*readings):
                    async with self._session() as (connection, shards):
                        await self._serve(connection, shards)
            except TROUBLE as error:
                if classify(error) not in LATER:
                    raise
                log.warning(
                    "the relay lost its database session and starts another", error=repr(error)
                )
            await asyncio.sleep(PAUSE_MAX_S)

    async def drain(self, grace_s: float = DRAIN_S) -> None:
        """Publishes the events that still wait, after `run` has been cancelled: at most for
        `grace_s`, and none of a shard that another replica owns.
        """
        end = time.monotonic() + grace_s
        try:
            async with asyncio.timeout(grace_s), self._session() as (connection, shards):
                await shards.take_free()
                while time.monotonic() < end:  # nats-py may swallow the timeout's cancellation
                    try:
                        if not await self._turn(connection, shards):
                            return
                    except Away:
                        await asyncio.sleep(0.1)
        except TROUBLE as error:
            if classify(error) not in LATER:
                raise
        log.warning(
            "the process ends before all events are published: they wait in the outbox",
            stream=self._stream,
        )

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[AsyncConnection, Shards]]:
        """Yields a connection that the database ends, with its locks, after a time without a
        statement. It is never used again.
        """
        async with connect(
            self._url, name=f"{self._source} relay", pool_size=0
        ).connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            timeout = {"timeout": f"{int(self._session_timeout_s * 1000)}ms"}
            await connection.execute(
                text("select set_config('idle_session_timeout', :timeout, false)"), timeout
            )
            shards = Shards(connection)
            self._rebuild.begin()
            await shards.join()
            yield connection, shards

    async def _serve(self, connection: AsyncConnection, shards: Shards) -> NoReturn:
        balance = measure = float("-inf")
        pause = 0.0
        while True:
            self._appended.clear()
            now = time.monotonic()
            if now >= balance:
                await shards.balance()
                balance = now + self._poll_s
            if now >= measure:
                await self._measure(connection)
                # measured from its end: also when it is slow, most of the time is for publishing
                measure = time.monotonic() + MEASURE_S
            try:
                busy = await self._turn(connection, shards)
            except Away as away:
                pause = min(max(2 * pause, 0.05), PAUSE_MAX_S)
                log.warning(
                    "the broker does not accept events: they wait in the outbox",
                    stream=self._stream,
                    error=repr(away.__cause__),
                )
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            if busy < self._batch:
                poll_s = (
                    self._poll_s if shards.replicas == 1 else min(self._poll_s, POLL_AMONG_OTHERS_S)
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(
                        min(poll_s, max(0.0, self._rebuild.next_time - time.monotonic()))
                    ):
                        await self._appended.wait()

    async def _turn(self, connection: AsyncConnection, shards: Shards) -> int:
        """Compares the stream with the outbox if that is due, and publishes a round; returns the
        number of its events. Raises Away.
        """
        try:
            await self._rebuild.advance(connection, shards.owned)
            return await self._round(connection, shards)
        except Changed:
            self._rebuild.compare_now()
            return self._batch
        except Away:
            self._rebuild.compare_now()
            raise
        except BROKER_ERRORS as error:
            self._rebuild.compare_now()
            raise Away from error

    async def _round(self, connection: AsyncConnection, shards: Shards) -> int:
        """Publishes waiting events, a batch at most, and marks them; returns their number.

        Raises Away and Changed, and BROKER_ERRORS where the broker does not answer: then nothing is
        marked.
        """
        end = time.monotonic() + ROUND_S
        held = self._rebuild.held_back
        blocked = [*self._blocked_now(), *held]
        where = {"shards": sorted(shards.owned), "blocked": blocked}
        rows: Sequence[Waiting] = (await connection.execute(self._read, where)).all()
        if not rows and not held:
            return 0
        await self._same_stream()
        if not self._rebuild.complete:
            rows = await self._with_lost(connection, rows)
        chains = await asyncio.gather(
            *(self._publish(rows_of_one, end) for rows_of_one in by_aggregate(rows))
        )
        await self._same_stream()
        await self._end_overtaken(connection, [chain for chain in chains if chain.repeats])
        await self._marks(connection, [done for chain in chains for done in chain.done])
        await self._store_refusals(connection, [chain.refused for chain in chains if chain.refused])
        if away := next((chain.trouble for chain in chains if chain.trouble), None):
            raise Away from away
        return len(rows)

    async def _with_lost(
        self,
        connection: AsyncConnection,
        rows: Sequence[Waiting],
    ) -> Sequence[Waiting]:
        """Returns the rows, each aggregate's after its events that the stream has lost. Of an
        aggregate that is held back, it returns only the events before one that may still be lost.
        """
        aggregates = {row.aggregate for row in rows}
        some_lost = await self._rebuild.unmark_lost_of(connection, aggregates)
        held = self._rebuild.held_back
        if some_lost:
            free = column_arrays(aggregate=aggregates - held.keys())
            found = await connection.execute(self._chains, free)
            rows = found.all()
        else:
            rows = [row for row in rows if row.aggregate not in held]
        blocked = self._blocked_now()
        below = {aggregate: id for aggregate, id in held.items() if aggregate not in blocked}
        if below:
            wanted = column_arrays(aggregate=below, id=below.values())
            earlier = await connection.execute(self._held, wanted)
            rows = [*rows, *earlier.all()]
        return rows

    async def _same_stream(self) -> None:
        if not await self._rebuild.is_same_stream():
            raise Changed

    def _blocked_now(self) -> list[UUID]:
        now = time.monotonic()
        return [aggregate for aggregate, (until, _) in self._blocked.items() if until > now]

    async def _publish(self, rows: Sequence[Waiting], end: float) -> Chain:
        """Publishes one aggregate's events one after the other; the first that fails ends the
        chain.
        """
        chain, last = Chain([]), 0
        for row in rows:
            try:
                ack = await self._broker.publish(
                    row.subject, row.payload, headers(row, self._source), stream=self._stream
                )
                if ack.duplicate and (
                    ack.seq < last or not await self._contents.holds(ack.seq, row.event_id)
                ):
                    self._wait_for_window(row)
                    break
                chain.repeats |= ack.duplicate is True and not chain.done
            except (MaxPayloadError, BadSubjectError, BadRequestError) as error:
                self._block(row, error)
                chain.refused = row, f"{type(error).__name__}: {error}"[:REFUSAL_MAX]
                break
            except BROKER_ERRORS as error:
                chain.trouble = error
                break
            chain.done.append((row, ack.seq))
            last = ack.seq
            self._blocked.pop(row.aggregate, None)
            if time.monotonic() > end:
                break
        return chain

    async def _end_overtaken(self, connection: AsyncConnection, chains: Sequence[Chain]) -> None:
        """Removes all events of a chain whose first event is in the stream before an earlier event
        of its aggregate, which another round has marked.
        """
        if not chains:
            return
        firsts = {chain.done[0][0].aggregate: chain.done[0][0].id for chain in chains}
        asked = column_arrays(aggregate=firsts, id=firsts.values())
        found = (await connection.execute(self._last_marks, asked)).all()
        last_marks = {row.aggregate: row.last_mark for row in found}
        for chain in chains:
            row, seq = chain.done[0]
            if seq < last_marks.get(row.aggregate, 0):
                self._wait_for_window(row)
                chain.done = []

    def _wait_for_window(self, row: Waiting) -> None:
        """Blocks an aggregate until the broker's window for repeats has passed. The broker takes
        the event for a repeat, but its stream has lost it, or has it before an earlier event of its
        aggregate.
        """
        if row.aggregate not in self._blocked:
            log.info(
                "an event waits until the broker's window for repeats has passed",
                event_id=str(row.event_id),
                type=row.type,
            )
        self._blocked[row.aggregate] = (time.monotonic() + REPEAT_RETRY_S, REPEAT_RETRY_S)

    def _block(self, row: Waiting, error: Exception) -> None:
        """Blocks the aggregate of an event that the stream refuses; other aggregates are
        published.
        """
        _, wait_s = self._blocked.get(row.aggregate, (0.0, 1.0))
        self._blocked[row.aggregate] = (time.monotonic() + wait_s, min(2 * wait_s, BLOCKED_MAX_S))
        self._refused.inc()
        log.error(
            "the stream refuses an event: its aggregate's events wait",
            event_id=str(row.event_id),
            type=row.type,
            error=repr(error),
        )

    async def _marks(
        self, connection: AsyncConnection, done: Sequence[tuple[Waiting, int]]
    ) -> None:
        if not done:
            return
        crash_points.point("outbox.published")
        times = [row.create_time for row, _ in done]
        marks = column_arrays(
            id=[row.id for row, _ in done],
            create_time=times,
            stream_seq=[seq for _, seq in done],
        )
        await connection.execute(self._mark, marks | {"first": min(times), "last": max(times)})
        self._published.inc(len(done))

    async def _store_refusals(
        self, connection: AsyncConnection, refused: Sequence[tuple[Waiting, str]]
    ) -> None:
        if refused:
            rows = column_arrays(
                id=[row.id for row, _ in refused],
                create_time=[row.create_time for row, _ in refused],
                refusal=[why for _, why in refused],
            )
            await connection.execute(self._refuse, rows)

    async def _measure(self, connection: AsyncConnection) -> None:
        waiting, age_s = (await connection.execute(self._survey)).one()
        self._waiting.set(waiting)
        self._oldest.set(float(age_s))
        refused = (await connection.execute(self._find_refused)).all()
        self._blocked_seconds.drop()
        for aggregate, since_s in refused:
            self._blocked_seconds.labels(str(aggregate)).set(float(since_s))


def by_aggregate(rows: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """Yields the rows of each aggregate, in the order of their ids."""
    for _, of_one in groupby(
        sorted(rows, key=attrgetter("aggregate", "id")), key=attrgetter("aggregate")
    ):
        yield list(of_one)
