"""The marks of the outbox's rows: the place of the event in the stream (none: it waits), or why the
stream refuses it.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Table, bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import column_arrays
from chassis.write.tables import unnest_rows

OutboxRow = Row[*tuple[Any, ...]]
Mark = tuple[OutboxRow, int | None, str | None]  # a row, its place, and why it is refused


class Marks:
    """Stores the marks of one outbox. Only the owner of a row's shard calls it."""

    def __init__(self, outbox: Table) -> None:
        t = outbox.c
        given = unnest_rows(t.id, t.create_time, t.stream_seq, t.refusal)
        same = (t.id == given.c.id) & (t.create_time == given.c.create_time)
        # so that only the partitions of these days are read
        span = t.create_time.between(bindparam("first"), bindparam("last"))
        self._update = (
            update(outbox)
            .values(stream_seq=given.c.stream_seq, refusal=given.c.refusal)
            .where(same, span)
        )

    async def store(self, connection: AsyncConnection, marks: Sequence[Mark]) -> None:
        """Stores the marks in one statement."""
        if not marks:
            return
        times = [row.create_time for row, _, _ in marks]
        arrays = column_arrays(
            id=[row.id for row, _, _ in marks],
            create_time=times,
            stream_seq=[place for _, place, _ in marks],
            refusal=[refusal for _, _, refusal in marks],
        )
        await connection.execute(self._update, arrays | {"first": min(times), "last": max(times)})
