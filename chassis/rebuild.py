"""Whether a stream still has what the outbox says it has. Where it was lost or rolled back, its events wait to be published again.

The outbox is the log of record: consumers know what they have had, so a repeat does no harm, and a gap would.
"""

from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
from nats.js.api import StreamState
from nats.js.errors import NotFoundError
from sqlalchemy import ARRAY, BigInteger, Select, Table, any_, bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import telemetry
from chassis.stream import MAX_AGE_S, Broker

LOOK_BACK = 1000
BATCH = 5000
PAGE = 20_000  # places that are looked through at once: more than a BATCH, and far from what a statement's time allows
# What is younger than this its stream still has: it keeps messages for longer, and an hour is more than two clocks differ.
YOUNG = timedelta(seconds=MAX_AGE_S) - timedelta(hours=1)

log = structlog.get_logger()


class Rebuild:
    """The comparison of one outbox with its stream, over the connection of whoever publishes."""

    def __init__(self, table: Table, broker: Broker, stream: str) -> None:
        t, self._broker, self._stream = table.c, broker, stream
        below = select(t.stream_seq, t.event_id).where(t.stream_seq <= bindparam("seq")).order_by(t.stream_seq.desc()).limit(LOOK_BACK)
        self._highest, self._below = select(func.max(t.stream_seq)), below
        rows = select(t.id, t.create_time).order_by(t.stream_seq).limit(BATCH)
        young = t.create_time > func.clock_timestamp() - bindparam("young", YOUNG, type_=INTERVAL)
        again = update(table).values(stream_seq=None)

        def unmark(which: Select[Any]) -> Any:
            return again.where(tuple_(t.id, t.create_time).in_(which))

        self._unmark_beyond = unmark(rows.where(t.stream_seq > bindparam("seq")))
        page = t.stream_seq >= bindparam("low"), t.stream_seq < bindparam("high")
        self._lowest = select(func.min(t.stream_seq)).where(*page)
        self._unmark_young = again.where(*page, young)
        self._unmark_these = unmark(rows.where(t.stream_seq == any_(bindparam("seqs", type_=ARRAY(BigInteger)))))
        self._gaps: tuple[int, int] | None = None  # (how many, the first message) when they were looked at
        self._looked = 0  # the stream has let go of what was marked below, and of that nothing is young
        self._unmarked = telemetry.counter("outbox_republished_total", "Events that were published again after a loss", "stream")

    async def check(self, connection: AsyncConnection) -> bool:
        """Creates the stream if it is missing, and lets what it has lost wait again. Answers whether that was all: if not, call it again
        soon. Raises one of BROKER_ERRORS where the broker is away.
        """
        highest = (await connection.execute(self._highest)).scalar_one() or 0  # before the stream is asked: it may only grow
        state = await self._broker.ensure_stream(self._stream)
        if state.last_seq < highest or (state.first_seq <= highest and not await self._stands(connection, highest)):
            await self.restore(connection, min(state.last_seq, highest))
            return True
        whole = await self._before(connection, state.first_seq)
        await self._fill(connection, state)
        return whole

    async def _before(self, connection: AsyncConnection, first_seq: int) -> bool:
        """What the stream has let go of because of its age is not lost; what is too young for that waits again.

        Only what was not looked at before is looked through, a page at a time, and page after page while there is something to find: a
        day's events that have merely grown old take longer than a statement may. Answers whether nothing is left to look at.
        """
        purged, going_on = 0, True
        self._looked = min(self._looked, first_seq)
        while going_on:
            low = self._looked - BATCH  # some again: another replica may have marked them since
            lowest = (await connection.execute(self._lowest, {"low": low, "high": first_seq})).scalar_one()
            high = first_seq if lowest is None else min(lowest + PAGE, first_seq)
            unmarked = await self._wait_again(connection, self._unmark_young, low=low, high=high)
            purged += unmarked
            going_on = unmarked > 0 and high < first_seq
            self._looked = high
        if purged:
            log.error("the stream was purged: publishing again", stream=self._stream, events=purged)
        return self._looked == first_seq

    async def _fill(self, connection: AsyncConnection, state: StreamState) -> None:
        """The end of the stream is as it was. What is gone from its middle waits again."""
        gaps = (state.num_deleted or 0, state.first_seq)
        if gaps[0] and gaps != self._gaps:
            missing = await self._broker.deleted(self._stream)
            if lost := await self._wait_again(connection, self._unmark_these, seqs=missing):
                log.error("the stream has gaps: publishing again", stream=self._stream, events=lost)
        self._gaps = gaps

    async def restore(self, connection: AsyncConnection, seq: int) -> None:
        """Lets every event wait again that was marked beyond the last one, at `seq` or before, which is where it was marked."""
        self._looked = 0  # another stream may let go of other messages
        intact = await self._intact(connection, seq)
        unmarked = await self._wait_again(connection, self._unmark_beyond, seq=intact)
        log.error("the stream was lost or rolled back: publishing again", stream=self._stream, from_seq=intact + 1, events=unmarked)

    async def holds(self, seq: int, event_id: UUID) -> bool:
        """Whether the stream has the event at this place."""
        return await self._event_at(seq) == str(event_id)

    async def _wait_again(self, connection: AsyncConnection, unmark: Any, **where: Any) -> int:
        unmarked = 0
        while gone := (await connection.execute(unmark, where)).rowcount:
            unmarked += gone
        self._unmarked.labels(self._stream).inc(unmarked)
        return unmarked

    async def _stands(self, connection: AsyncConnection, seq: int) -> bool:
        return await self._intact(connection, seq) == seq

    async def _intact(self, connection: AsyncConnection, seq: int) -> int:
        """The highest sequence number, `seq` at most, at which stream and outbox agree; 0 where there is none."""
        while rows := (await connection.execute(self._below, {"seq": seq})).all():
            for seq, marked in groupby(rows, key=lambda row: int(row.stream_seq)):
                if {str(row.event_id) for row in marked} == {await self._event_at(seq)}:
                    return seq
            seq -= 1
        return 0

    async def _event_at(self, seq: int) -> str | None:
        try:
            message = await self._broker.streams.get_msg(self._stream, seq)
        except NotFoundError:
            return None
        return (message.headers or {}).get("ce-id")
