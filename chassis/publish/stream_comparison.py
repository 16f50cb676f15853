"""Compares an outbox with its stream, page by page, and only reads.

A page may lack messages that the stream has: before a row counts as lost, the broker is asked for
the message at its place.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    SmallInteger,
    Table,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.broker.stream import MAX_AGE_S, Broker
from chassis.publish.marks import OutboxRow
from chassis.publish.stream_contents import Bounds, Entry, StreamContents
from chassis.write.outbox import shard_of
from chassis.write.rows import column_arrays
from chassis.write.tables import is_any_of, unnest_rows

PAGE = 1000  # marks, and places of the stream, that are compared at once
ASKED_AT_ONCE = 16  # requests for single messages at the same time
# The stream still has every event that is younger: it keeps messages for longer, and an hour is
# more than the difference of two clocks.
YOUNG = timedelta(seconds=MAX_AGE_S) - timedelta(hours=1)
NO_END = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Marks and messages up to the place `high`: the number of rows, those whose event is not at
    its mark, the young ones (lost or not), the messages in their order, and those without a mark.
    """

    high: int
    rows: int
    lost: Sequence[OutboxRow]
    young: Sequence[OutboxRow]
    entries: Sequence[Entry]
    unexplained: Sequence[Entry]


class Comparison:
    """Compares an outbox with its stream."""

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
        place = func.coalesce(t.stream_seq, NO_END)  # an event that waits comes after all others
        highest = func.max(place).over(partition_by=t.aggregate, order_by=t.id).label("highest")
        events = (
            select(t.id, t.stream_seq, highest)
            # other events overtake none of those that are asked for
            .where(is_any_of(t.aggregate), t.id <= bindparam("last"), place >= bindparam("lowest"))
            .subquery()
        )
        named = events.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
        self._overtaken = select(events.c.id).where(named, events.c.stream_seq < events.c.highest)
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
        entries: Sequence[Entry] = ()
        if bounds.first_seq <= low <= bounds.last_seq:
            found = await self.contents.between(low, min(high, bounds.last_seq))
            entries = list(found.values())
        held = {(entry.seq, entry.event_id) for entry in entries}
        marks = {(row.stream_seq, str(row.event_id)): row for row in rows}
        lost = [row for mark, row in marks.items() if row.young and mark not in held]
        if len(lost) > lost_max:
            high = lost[lost_max - 1].stream_seq
            lost = [row for row in lost if row.stream_seq <= high]
        entries = [entry for entry in entries if entry.seq <= high]
        return Page(
            high=high,
            rows=len(rows),
            lost=await self.missing(lost),
            young=[row for row in rows if row.young and row.stream_seq <= high],
            entries=entries,
            unexplained=[entry for entry in entries if (entry.seq, entry.event_id) not in marks],
        )

    async def missing(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Returns the rows whose event the broker does not have at its mark. It asks the broker for
        each message.
        """
        bounds = await self.contents.bounds() if rows else None
        if bounds is None:
            return list(rows)
        at_once = asyncio.Semaphore(ASKED_AT_ONCE)

        async def is_held(row: OutboxRow) -> bool:
            if not bounds.first_seq <= row.stream_seq <= bounds.last_seq:
                return False
            async with at_once:
                return await self.contents.holds(row.stream_seq, row.event_id)

        held = await asyncio.gather(*map(is_held, rows))
        return [row for row, is_there in zip(rows, held, strict=True) if not is_there]

    async def overtaken(
        self, connection: AsyncConnection, rows: Sequence[OutboxRow]
    ) -> list[OutboxRow]:
        """Returns those of the rows that are marked, and of which an earlier event of the same
        aggregate waits, or has a higher mark.
        """
        ids = [row.id for row in rows]
        where = column_arrays(aggregate={row.aggregate for row in rows}) | {
            "ids": ids,
            "last": max(ids, default=0),
            "lowest": min((row.stream_seq for row in rows), default=0),
        }
        overtaken = set((await connection.execute(self._overtaken, where)).scalars())
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


def uncompared_rows(outbox: Table) -> Select[*tuple[Any, ...]]:
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
