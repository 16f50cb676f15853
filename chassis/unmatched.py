"""An operator's look at outbox and stream beside each other: events that only one of them has.

Lost ones are published again by the relay (chassis.rebuild). Unknown ones tell that the database was
restored to an older state; `adopt` stores them.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from nats.js.errors import NotFoundError
from sqlalchemy import func, insert
from sqlalchemy.dialects.postgresql import insert as upsert

from chassis.blame import deferring
from chassis.claims import Claim
from chassis.contents import Bounds, Entry
from chassis.database import Database
from chassis.errors import Deferred
from chassis.outbox import shard_of
from chassis.rebuild import NO_END, Comparison, Marked
from chassis.stream import BROKER_ERRORS, Broker
from chassis.tables import EVENT_SEQUENCES, SHARDS

ADOPTED_MAX = 1000
ALL = frozenset(range(SHARDS))


@dataclass(frozen=True, slots=True)
class Unmatched:
    """The lost and the unknown events of a page. `after` is the place that the next one begins after;
    None: this was the last.
    """

    lost: Sequence[Marked]
    unknown: Sequence[Entry]
    after: int | None


class UnmatchedEvents:
    """The outbox of one service and its stream."""

    def __init__(self, database: Database, broker: Broker, stream: str, source: str) -> None:
        """`source` is the service's name."""
        self._engine, self._claims = database.engine, database.claims
        self._table = database.outbox.table
        self._broker, self._stream = broker, stream
        self._comparison = Comparison(self._table, broker, stream, source)
        sequences = self._table.metadata.tables[EVENT_SEQUENCES]
        count = upsert(sequences)
        highest = func.greatest(sequences.c.sequence, count.excluded.sequence)
        self._count = count.on_conflict_do_update(index_elements=["aggregate"], set_={"sequence": highest})

    async def page(self, after: int) -> Unmatched:
        """Compares what is marked, and what the stream has, behind a place: a part of it.

        Raises Deferred where the database or the broker is away.
        """
        with deferring(), _broker():
            found = await self._comparison.contents.bounds()
            bounds = found or Bounds(datetime.now(UTC), 1, 0, 0)
            async with self._engine.connect() as connection:
                page = await self._comparison.page(connection, ALL, bounds, after + 1)
                unknown = await self._comparison.unknown(connection, ALL, page.unexplained)
        return Unmatched(page.lost, unknown, None if page.high == NO_END else page.high)

    async def adopt(self, command: Claim) -> tuple[int, bool]:
        """Stores unknown events, once for each command: ADOPTED_MAX at most. Answers how many, and
        whether there are more. Raises Invalid REQUEST_ID_REUSED, Deferred as `page`.
        """
        found: list[Entry] = []
        async for entry in self._unknown():
            found.append(entry)
            if len(found) > ADOPTED_MAX:
                break
        with deferring(), _broker():
            rows = [row for entry in found[:ADOPTED_MAX] if (row := await self._row(entry))]
            async with self._engine.begin() as connection:
                if not await self._claims.first(connection, command):
                    return 0, len(found) > 0
                if rows:
                    await connection.execute(insert(self._table), rows)
                    await connection.execute(self._count, _highest(rows))
        return len(rows), len(found) > ADOPTED_MAX

    async def _unknown(self) -> AsyncIterator[Entry]:
        after: int | None = 0
        while after is not None:
            page = await self.page(after)
            for entry in page.unknown:
                yield entry
            after = page.after

    async def _row(self, entry: Entry) -> dict[str, Any] | None:
        """The message as a row of the outbox; None where the stream has let go of it meanwhile."""
        try:
            message = await self._broker.streams.get_msg(self._stream, entry.seq)
        except NotFoundError:
            return None
        aggregate, headers = UUID(entry.aggregate), message.headers or {}
        return {
            "shard": shard_of(aggregate),
            "aggregate": aggregate,
            "event_id": UUID(entry.event_id),
            "subject": message.subject,
            "type": entry.type,
            "payload": message.data or b"",
            "traceparent": headers.get("traceparent"),
            "create_time": datetime.fromisoformat(entry.time),
            "stream_seq": entry.seq,
            "sequence": int(headers.get("ce-sequence", "0")),
            "correlation_id": _uuid(headers.get("ce-correlationid")),
            "causation_id": unquote(headers["ce-causationid"]) if "ce-causationid" in headers else None,
        }


def _highest(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """How far the events of each aggregate were numbered: later ones are numbered from there."""
    found: dict[UUID, int] = {}
    for row in rows:
        found[row["aggregate"]] = max(found.get(row["aggregate"], 0), row["sequence"])
    return [{"aggregate": aggregate, "sequence": sequence} for aggregate, sequence in found.items()]


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None


@contextmanager
def _broker() -> Iterator[None]:
    """The broker's absence as a failure of the call."""
    try:
        yield
    except BROKER_ERRORS as error:
        raise Deferred("DEPENDENCY_UNAVAILABLE", "The broker is away.", dependency="broker") from error
