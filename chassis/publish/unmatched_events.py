"""An operator's comparison of outbox and stream: events that only one of them has.

The relay publishes lost ones again (chassis.publish.stream_rebuild). Unknown ones mean that the
database was restored to an older state; `adopt` stores them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import structlog
from nats.js.api import RawStreamMsg
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from chassis.broker.stream import BROKER_ERRORS, Broker
from chassis.publish.marks import OutboxRow
from chassis.publish.stream_comparison import NO_END, Comparison
from chassis.publish.stream_contents import Bounds, Entry
from chassis.values.errors import Deferred
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey
from chassis.write.outbox import shard_of
from chassis.write.tables import EVENT_SEQUENCES, SHARDS

ADOPTED_MAX = 1000
ADOPT_PAGES = 20  # pages of chassis.publish.stream_comparison.PAGE places in one call: about 2 s
ALL = frozenset(range(SHARDS))

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unmatched:
    """The lost and the unknown events of a page. `after` is the place after which the next page
    begins; None: there is no next page.
    """

    lost: Sequence[OutboxRow]
    unknown: Sequence[Entry]
    after: int | None


@dataclass(frozen=True, slots=True)
class Adopted:
    """The result of one call. `after` is the place after which the next call begins; None: the
    stream was read to its end.
    """

    stored: int
    unreadable: int
    after: int | None


class UnmatchedEvents:
    """The outbox of one service and its stream."""

    def __init__(self, database: Database, broker: Broker, stream: str, source: str) -> None:
        """`source` is the service's name."""
        self._engine, self._keys = database.engine, database.idempotency_keys
        self._table = database.outbox.table
        self._stream = stream
        self._comparison = Comparison(
            outbox=self._table, broker=broker, stream=stream, source=source
        )
        sequences = self._table.metadata.tables[EVENT_SEQUENCES]
        count = insert(sequences)
        highest = func.greatest(sequences.c.sequence, count.excluded.sequence)
        self._count = count.on_conflict_do_update(
            index_elements=["aggregate"], set_={"sequence": highest}
        )

    async def page(self, after: int) -> Unmatched:
        """Compares a part of the marks and of the stream, after a place.

        Raises Deferred where the database or the broker is away.
        """
        with deferring_outages(), _broker():
            found = await self._comparison.contents.bounds()
            bounds = found or Bounds(
                create_time=datetime.now(UTC), first_seq=1, last_seq=0, deleted=0
            )
            async with self._engine.connect() as connection:
                page = await self._comparison.page(connection, ALL, bounds, after + 1)
                unknown = await self._comparison.unknown(connection, ALL, page.unexplained)
        return Unmatched(page.lost, unknown, None if page.high == NO_END else page.high)

    async def adopt(self, command: IdempotencyKey, after: int = 0) -> Adopted:
        """Stores unknown events after a place, once for each command: ADOPTED_MAX at most, of
        ADOPT_PAGES pages at most. It skips and counts messages that make no row.

        A repeat of the command stores nothing, and its `after` does not pass events that are still
        unknown. Raises Invalid REQUEST_ID_REUSED, Deferred as `page`.
        """
        found, end = await self._unknown(after)
        with deferring_outages(), _broker():
            rows, unreadable = await self._rows(found)
            async with self._engine.begin() as connection:
                if not await self._keys.insert_one(connection, command):
                    return Adopted(0, 0, found[0].seq - 1 if found else end)
                if rows:
                    await connection.execute(insert(self._table), rows)
                    # later events are numbered from the highest sequence
                    counts = [
                        {name: row[name] for name in ("aggregate", "sequence")} for row in rows
                    ]
                    await connection.execute(self._count, counts)
        return Adopted(len(rows), unreadable, end)

    async def _unknown(self, after: int) -> tuple[list[Entry], int | None]:
        """Returns the first unknown events after a place, and the place up to which there are no
        others.
        """
        found: list[Entry] = []
        end: int | None = after
        for _ in range(ADOPT_PAGES):
            if end is None or len(found) >= ADOPTED_MAX:
                break
            page = await self.page(end)
            found += page.unknown
            end = page.after
        if len(found) > ADOPTED_MAX:
            found = found[:ADOPTED_MAX]
            end = found[-1].seq
        return found, end

    async def _rows(self, entries: Sequence[Entry]) -> tuple[list[dict[str, Any]], int]:
        """Returns the rows of these messages, and the number of messages that make no row."""
        rows, unreadable = [], 0
        for entry in entries:
            message = await self._comparison.contents.message(entry.seq)
            if message is None:  # the stream has deleted it meanwhile
                continue
            try:
                rows.append(_row_of(entry, message))
            except ValueError as error:
                unreadable += 1
                log.error(
                    "an unknown event cannot be stored: a header is invalid",
                    stream=self._stream,
                    seq=entry.seq,
                    event_id=entry.event_id,
                    error=repr(error),
                )
        return rows, unreadable


def _row_of(entry: Entry, message: RawStreamMsg) -> dict[str, Any]:
    """Returns the row of a message. Raises ValueError where a header has no such value, or one that
    no column holds.
    """
    aggregate, headers = UUID(entry.aggregate), message.headers or {}
    correlation, causation = headers.get("ce-correlationid"), headers.get("ce-causationid")
    row: dict[str, Any] = {
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
        "correlation_id": UUID(correlation) if correlation else None,
        "causation_id": None if causation is None else unquote(causation),
    }
    if not 0 <= row["sequence"] < NO_END:
        raise ValueError("a sequence that is no place of an event")
    if any(b"\0" in value.encode() for value in row.values() if isinstance(value, str)):
        raise ValueError("a text with a NUL")
    return row


@contextmanager
def _broker() -> Iterator[None]:
    """Turns the broker's absence into a failure of the call."""
    try:
        yield
    except BROKER_ERRORS as error:
        raise Deferred(
            "DEPENDENCY_UNAVAILABLE", "The broker is away.", dependency="broker"
        ) from error
