"""The relay: publishes the waiting rows of the outbox, and marks each with its place in the stream.

The events of an aggregate are published one after the other, and aggregates at the same time. The
relay reads and marks on the connection that holds the locks of the shards (chassis.publish.shards):
if it loses the connection, it has lost the locks too. chassis.publish.stream_rebuild checks before
and after each round whether the stream still has the marked events. A round during which the stream
became another one marks nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
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
    Select,
    SmallInteger,
    Table,
    Uuid,
    all_,
    any_,
    bindparam,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.observe import telemetry
from chassis.publish.backlog import Backlog
from chassis.publish.marks import Marks, OutboxRow
from chassis.publish.shards import Shards
from chassis.publish.stream_rebuild import StreamRebuild
from chassis.values import crash_points
from chassis.values.errors import Deferred
from chassis.write.database import Database, connect
from chassis.write.error_classification import deferring_outages
from chassis.write.outbox import HEADER_COLUMNS, headers
from chassis.write.rows import column_arrays
from chassis.write.tables import unnest_rows

POLL_S = 1.0
# a replica that appends wakes its own relay, but another replica may own the shard
POLL_AMONG_OTHERS_S = 0.1
# the bound of the events in flight
BATCH_MAX = 256
# how long a frozen relay keeps its shards
SESSION_TIMEOUT_S = 10.0
MEASURE_S = 15.0
REFUSAL_MAX = 200  # characters
PAUSE_MAX_S = 1.0
BLOCKED_MAX_S = 60.0
# the pause between two tries of an event that the broker takes for a repeat, until its window ends
REPEAT_RETRY_S = 5.0
# the bound of a round of publishing, and of one publication: the session is used again after it
ROUND_S = 3.0
DRAIN_S = 5.0

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Chain:
    """The result of publishing one aggregate's events: the rows that the stream has, with their
    places, and why it ended early.
    """

    done: list[tuple[OutboxRow, int]]
    repeats: bool = False  # the stream had the first of them already
    refused: tuple[OutboxRow, None, str] | None = None  # the mark of the refused row
    waiting: OutboxRow | None = None  # the row that waits for the broker's window for repeats
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
    ) -> None:
        """`positions` is the service's table of that name."""
        outbox = database.outbox.table
        self._broker, self._stream, self._source = broker, stream, source
        self._url, self._appended = database.engine.url, database.outbox.appended
        self._rebuild = StreamRebuild(
            outbox=outbox, positions=positions, broker=broker, stream=stream, source=source
        )
        # aggregate -> the time until which it is blocked, and the seconds of the next block
        self._blocked: dict[UUID, tuple[float, float]] = {}
        self._read, self._last_marks = select_waiting(outbox), select_last_marks(outbox)
        self._marks, self._backlog = Marks(outbox), Backlog(outbox, stream)
        self._published = telemetry.counter(
            "outbox_published_total", "Events published and marked", "stream"
        ).labels(stream)
        self._refused = telemetry.counter(
            "outbox_refused_total", "Events that the stream refuses: alert on it", "stream"
        ).labels(stream)

    async def run(self) -> NoReturn:
        """Publishes until it is cancelled. It survives an absence of the database and of the
        broker.
        """
        readings = (*self._backlog.readings, *self._rebuild.readings)
        while True:
            try:
                with deferring_outages(), telemetry.reading_of(*readings):
                    async with self._session() as (connection, shards):
                        await self._serve(connection, shards)
            except Deferred as away:
                log.warning(
                    "the relay lost its database session and starts another",
                    error=repr(away.__cause__),
                )
            await asyncio.sleep(PAUSE_MAX_S)

    async def drain(self) -> None:
        """Publishes the events that still wait, after `run` has been cancelled: at most for
        DRAIN_S, and none of a shard that another replica owns.
        """
        end = time.monotonic() + DRAIN_S
        with suppress(Deferred), deferring_outages():
            async with asyncio.timeout(DRAIN_S), self._session() as (connection, shards):
                await shards.take_free()
                while time.monotonic() < end:  # nats-py may swallow the timeout's cancellation
                    try:
                        if not await self._turn(connection, shards):
                            return
                    except BROKER_ERRORS:
                        await asyncio.sleep(0.1)
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
            timeout = {"timeout": f"{int(SESSION_TIMEOUT_S * 1000)}ms"}
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
                balance = now + POLL_S
            if now >= measure:
                await self._backlog.measure(connection)
                # measured from its end: also when it is slow, most of the time is for publishing
                measure = time.monotonic() + MEASURE_S
            try:
                busy = await self._turn(connection, shards)
            except BROKER_ERRORS as error:
                pause = min(max(2 * pause, 0.05), PAUSE_MAX_S)
                log.warning(
                    "the broker does not accept events: they wait in the outbox",
                    stream=self._stream,
                    error=repr(error),
                )
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            if busy < BATCH_MAX:
                poll_s = POLL_S if shards.replicas == 1 else min(POLL_S, POLL_AMONG_OTHERS_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(
                        min(poll_s, max(0.0, self._rebuild.next_time - time.monotonic()))
                    ):
                        await self._appended.wait()

    async def _turn(self, connection: AsyncConnection, shards: Shards) -> int:
        """Compares the stream with the outbox if that is due, and publishes a round; returns the
        number of its events. Raises one of BROKER_ERRORS.
        """
        try:
            await self._rebuild.advance(connection, shards.owned)
            return await self._round(connection, shards)
        except BROKER_ERRORS:
            self._rebuild.compare_now()
            raise

    async def _round(self, connection: AsyncConnection, shards: Shards) -> int:
        """Publishes waiting events, a batch at most, and marks them; returns their number. It marks
        nothing where the stream is another one before or after: then the number is a batch's.

        Raises one of BROKER_ERRORS: where the broker has accepted some events, they are marked.
        """
        end = time.monotonic() + ROUND_S
        rows = await self._waiting_rows(connection, shards)
        if not rows and not self._rebuild.held_back:
            return 0
        if not await self._rebuild.is_same_stream():
            return BATCH_MAX
        if not self._rebuild.complete:
            aggregates = {row.aggregate for row in rows}
            await self._rebuild.unmark_lost_of(connection, aggregates)
            aggregates |= self._rebuild.held_back.keys()
            rows = await self._waiting_rows(connection, shards)
            rows = [row for row in rows if row.aggregate in aggregates]
        ordered = sorted(rows, key=attrgetter("aggregate", "id"))
        chains = await asyncio.gather(
            *(self._publish(list(of), end) for _, of in groupby(ordered, attrgetter("aggregate")))
        )
        if not await self._rebuild.is_same_stream():
            return BATCH_MAX
        await self._end_overtaken(connection, [chain for chain in chains if chain.repeats])
        for chain in chains:
            self._block_after(chain)
        await self._store(connection, chains)
        if trouble := next((chain.trouble for chain in chains if chain.trouble), None):
            raise trouble
        return len(rows)

    async def _waiting_rows(
        self, connection: AsyncConnection, shards: Shards
    ) -> Sequence[OutboxRow]:
        """Returns the next waiting rows, a batch at most: none of a blocked aggregate, and of one
        that is held back only those before the first that may still be lost.
        """
        now = time.monotonic()
        blocked = [aggregate for aggregate, (until, _) in self._blocked.items() if until > now]
        held = self._rebuild.held_back
        where = column_arrays(aggregate=held, id=held.values())
        where |= {"shards": sorted(shards.owned), "blocked": blocked}
        return (await connection.execute(self._read, where)).all()

    async def _publish(self, rows: Sequence[OutboxRow], end: float) -> Chain:
        """Publishes one aggregate's events one after the other; the first that fails ends the
        chain.
        """
        chain, last = Chain(done=[]), 0
        for row in rows:
            try:
                ack = await self._broker.publish(
                    row.subject, row.payload, headers(row, self._source), stream=self._stream
                )
                if ack.duplicate and (
                    ack.seq < last or not await self._rebuild.contents.holds(ack.seq, row.event_id)
                ):
                    chain.waiting = row
                    break
                chain.repeats |= ack.duplicate is True and not chain.done
            except (MaxPayloadError, BadSubjectError, BadRequestError) as error:
                chain.refused = row, None, f"{type(error).__name__}: {error}"[:REFUSAL_MAX]
                break
            except BROKER_ERRORS as error:
                chain.trouble = error
                break
            chain.done.append((row, ack.seq))
            last = ack.seq
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
        rows = column_arrays(aggregate=firsts, id=firsts.values())
        found = (await connection.execute(self._last_marks, rows)).all()
        last_marks = {row.aggregate: row.last_mark for row in found}
        for chain in chains:
            row, seq = chain.done[0]
            if seq < last_marks.get(row.aggregate, 0):
                chain.done, chain.refused, chain.waiting = [], None, row

    def _block_after(self, chain: Chain) -> None:
        """Ends the block of an aggregate whose events the stream has, and blocks it again where an
        event waits or is refused. So an event that still waits is not a new wait.
        """
        if chain.done:
            self._blocked.pop(chain.done[0][0].aggregate, None)
        if chain.waiting:
            self._wait_for_window(chain.waiting)
        if chain.refused:
            row, _, error = chain.refused
            self._block(row, error)

    def _wait_for_window(self, row: OutboxRow) -> None:
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

    def _block(self, row: OutboxRow, error: str) -> None:
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
            error=error,
        )

    async def _store(self, connection: AsyncConnection, chains: Sequence[Chain]) -> None:
        """Marks the published rows, and stores why the others are refused."""
        published = [(row, seq, None) for chain in chains for row, seq in chain.done]
        refused = [chain.refused for chain in chains if chain.refused]
        if published:
            crash_points.point("outbox.published")
        await self._marks.store(connection, [*published, *refused])
        self._published.inc(len(published))


def select_waiting(outbox: Table) -> Select[*tuple[Any, ...]]:
    """Returns the query of the next waiting rows of the owned shards, a batch at most. Its
    parameters name the blocked aggregates, and for those that are held back the id from which on
    their rows are left out.
    """
    t = outbox.c
    columns = (t.id, t.subject, t.payload, *(t[name] for name in HEADER_COLUMNS))
    mine = t.shard == any_(bindparam("shards", type_=ARRAY(SmallInteger)))
    free = t.aggregate != all_(bindparam("blocked", type_=ARRAY(Uuid)))
    ends = unnest_rows(t.aggregate, t.id)
    held = exists().where(ends.c.aggregate == t.aggregate, ends.c.id <= t.id)
    waiting = select(*columns).where(t.stream_seq.is_(None), mine, free, ~held)
    return waiting.order_by(t.id).limit(BATCH_MAX)


def select_last_marks(outbox: Table) -> Select[*tuple[Any, ...]]:
    """Returns the query of the last place in the stream of the events of each aggregate before an
    id.
    """
    t = outbox.c
    ends = unnest_rows(t.aggregate, t.id)
    return (
        select(t.aggregate, func.max(t.stream_seq).label("last_mark"))
        .where(t.aggregate == ends.c.aggregate, t.id < ends.c.id, t.stream_seq.is_not(None))
        .group_by(t.aggregate)
    )
