"""Whether a stream still has what the outbox says it has. Where it was lost or rolled back, its events wait to be published again.

The outbox is the log of record: consumers know what they have had, so a repeat does no harm, and a gap would.
"""

from itertools import groupby

import structlog
from nats.js.errors import NotFoundError
from sqlalchemy import Table, bindparam, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import telemetry
from chassis.stream import Broker

LOOK_BACK = 1000
BATCH = 5000

log = structlog.get_logger()


class Rebuild:
    """The comparison of one outbox with its stream, over the connection of whoever publishes."""

    def __init__(self, table: Table, broker: Broker, stream: str) -> None:
        t, self._broker, self._stream = table.c, broker, stream
        below = select(t.stream_seq, t.event_id).where(t.stream_seq <= bindparam("seq")).order_by(t.stream_seq.desc()).limit(LOOK_BACK)
        beyond = select(t.id, t.create_time).where(t.stream_seq > bindparam("seq")).order_by(t.stream_seq).limit(BATCH)
        self._highest, self._below = select(func.max(t.stream_seq)), below
        self._unmark = update(table).values(stream_seq=None).where(tuple_(t.id, t.create_time).in_(beyond))
        self._unmarked = telemetry.counter("outbox_republished_total", "Events that were published again after a loss", "stream")

    async def check(self, connection: AsyncConnection) -> None:
        """Creates the stream if it is missing, and lets what it has lost wait again. Raises one of BROKER_ERRORS where it is away."""
        highest = (await connection.execute(self._highest)).scalar_one() or 0  # before the stream is asked: it may only grow
        state = await self._broker.ensure_stream(self._stream)
        # Messages that were taken out because of their age are not lost.
        if state.last_seq < highest or (state.first_seq <= highest and not await self._stands(connection, highest)):
            await self.restore(connection, min(state.last_seq, highest))

    async def restore(self, connection: AsyncConnection, seq: int) -> None:
        """Lets every event wait again that was marked beyond the last one, at `seq` or before, which is where it was marked."""
        intact, unmarked = await self._intact(connection, seq), 0
        while gone := (await connection.execute(self._unmark, {"seq": intact})).rowcount:
            unmarked += gone
        self._unmarked.labels(self._stream).inc(unmarked)
        log.error("the stream was lost or rolled back: publishing again", stream=self._stream, from_seq=intact + 1, events=unmarked)

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
        return (message.headers or {}).get("Nats-Msg-Id")
