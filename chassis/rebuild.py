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

        def unmark(which: Select[Any]) -> Any:
            return update(table).values(stream_seq=None).where(tuple_(t.id, t.create_time).in_(which))

        self._unmark_beyond = unmark(rows.where(t.stream_seq > bindparam("seq")))
        self._unmark_before = unmark(rows.where(t.stream_seq < bindparam("seq"), young))
        self._unmark_these = unmark(rows.where(t.stream_seq == any_(bindparam("seqs", type_=ARRAY(BigInteger)))))
        self._gaps: tuple[int, int] | None = None  # (how many, the first message) when they were looked at
        self._unmarked = telemetry.counter("outbox_republished_total", "Events that were published again after a loss", "stream")

    async def check(self, connection: AsyncConnection) -> None:
        """Creates the stream if it is missing, and lets what it has lost wait again. Raises one of BROKER_ERRORS where it is away."""
        highest = (await connection.execute(self._highest)).scalar_one() or 0  # before the stream is asked: it may only grow
        state = await self._broker.ensure_stream(self._stream)
        if state.last_seq < highest or (state.first_seq <= highest and not await self._stands(connection, highest)):
            await self.restore(connection, min(state.last_seq, highest))
        else:
            await self._fill(connection, state)

    async def _fill(self, connection: AsyncConnection, state: StreamState) -> None:
        """The end of the stream is as it was. What it has lost before that waits again; what it let go of because of its age does not."""
        purged = await self._wait_again(connection, self._unmark_before, seq=state.first_seq)
        if purged:
            log.error("the stream was purged: publishing again", stream=self._stream, events=purged)
        gaps = (state.num_deleted or 0, state.first_seq)
        if gaps[0] and gaps != self._gaps:
            missing = await self._broker.deleted(self._stream)
            if lost := await self._wait_again(connection, self._unmark_these, seqs=missing):
                log.error("the stream has gaps: publishing again", stream=self._stream, events=lost)
        self._gaps = gaps

    async def restore(self, connection: AsyncConnection, seq: int) -> None:
        """Lets every event wait again that was marked beyond the last one, at `seq` or before, which is where it was marked."""
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
