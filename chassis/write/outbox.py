"""Appends events: stores domain events as rows of the outbox, in their order, in the transaction of
their change.

The relay publishes them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Column, Insert, Integer, Row, Table, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values.event_subjects import MESSAGE_BYTES_MAX, subject_of
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write.rows import row_arrays
from chassis.write.tables import EVENT_SEQUENCES, SHARDS, unnest_rows

# The largest payload of an event: the largest message less its headers.
EVENT_BYTES_MAX = MESSAGE_BYTES_MAX - 16 * 2**10
CAUSATION_MAX = 256  # characters; a request_id or an event's id has 36
SEQUENCE_DIGITS = 19  # of the highest bigint: CloudEvents asks that sequences sort as texts
# The columns of a row that `headers` reads.
HEADER_COLUMNS = (
    "aggregate",
    "event_id",
    "type",
    "create_time",
    "traceparent",
    "sequence",
    "correlation_id",
    "causation_id",
)
COLUMNS = (
    "shard",
    "aggregate",
    "event_id",
    "subject",
    "type",
    "payload",
    "traceparent",
    "correlation_id",
    "causation_id",
)


class Outbox:
    """The outbox of a service. `encode` makes the outgoing event of a domain event; an option of
    its message names the subject.

    `appended` is set after each commit that has appended: the relay waits for it.
    """

    def __init__(self, table: Table, encode: Callable[[Any], OutgoingEvent]) -> None:
        self.table, self.encode, self.appended = table, encode, asyncio.Event()
        self._insert = _insert(table, table.metadata.tables[EVENT_SEQUENCES])

    async def append(
        self, connection: AsyncConnection, events: Sequence[object], causes: Sequence[str]
    ) -> None:
        """Stores the events of domain events. Each has its id and its sequence from here on.

        `causes` has the cause of each domain event. The caller has locked the aggregates of the
        events, so their sequences have no gap and follow the order of the ids. Raises ValueError
        for an event of more than EVENT_BYTES_MAX: it could never be published, and would hold back
        all later events of its aggregate.
        """
        traceparent = telemetry.traceparent()
        rows = [
            _row(event, cause, traceparent) | {"place": place}
            for place, (event, cause) in enumerate(
                zip(map(self.encode, events), causes, strict=True)
            )
        ]
        await connection.execute(self._insert, row_arrays(rows))


def _insert(table: Table, sequences: Table) -> Insert:
    """Returns one statement: it raises the counter of each aggregate by its number of events, in
    one order, and inserts the rows.

    `place` is a row's place among the rows.
    """
    rows = unnest_rows(*(table.c[name] for name in COLUMNS), Column("place", Integer))
    of_aggregate = (
        select(rows.c.aggregate, func.count()).group_by(rows.c.aggregate).order_by(rows.c.aggregate)
    )
    count = insert(sequences).from_select(["aggregate", "sequence"], of_aggregate)
    count = count.on_conflict_do_update(
        index_elements=["aggregate"],
        set_={"sequence": sequences.c.sequence + count.excluded.sequence},
    )
    counted = count.returning(sequences.c.aggregate, sequences.c.sequence).cte("counted")
    # 1 for the last row of an aggregate, whose counter then has that row's sequence
    from_last = func.row_number().over(partition_by=rows.c.aggregate, order_by=rows.c.place.desc())
    numbered = (
        select(*(rows.c[name] for name in COLUMNS), counted.c.sequence + 1 - from_last)
        .select_from(rows.join(counted, rows.c.aggregate == counted.c.aggregate))
        .order_by(rows.c.place)
    )
    return insert(table).from_select([*COLUMNS, "sequence"], numbered)


def _row(event: OutgoingEvent, cause: str, traceparent: str | None) -> dict[str, object]:
    message = event.message
    payload = message.SerializeToString(deterministic=True)
    if len(payload) > EVENT_BYTES_MAX:
        raise ValueError(
            f"{message.DESCRIPTOR.full_name} of {event.aggregate} has {len(payload)} bytes, and an"
            f" event may have {EVENT_BYTES_MAX}"
        )
    # Some commands have as their cause the key of their request:
    # `/package.Service/Method:request_id`.
    causation = cause.rpartition(":")[2] if cause.startswith("/") else cause
    return {
        "shard": shard_of(event.aggregate),
        "aggregate": event.aggregate,
        "event_id": uuid7(),
        "subject": subject_of(type(message)),
        "type": message.DESCRIPTOR.full_name,
        "payload": payload,
        "traceparent": traceparent,
        "correlation_id": event.order_id,
        "causation_id": causation[:CAUSATION_MAX] or None,
    }


def shard_of(aggregate: UUID) -> int:
    """Returns the shard of an aggregate's events. A shard has one publisher at a time."""
    return aggregate.int % SHARDS


def headers(row: Row[*tuple[Any, ...]], source: str) -> dict[str, str]:
    """Returns the NATS headers of a row with HEADER_COLUMNS: CloudEvents attributes, the same at
    each publication. `source` is the name of the service. `Nats-Msg-Id`, by which the stream
    recognises a repeat, is the event's id.
    """
    attributes = {
        "Nats-Msg-Id": str(row.event_id),
        "ce-specversion": "1.0",
        "ce-id": str(row.event_id),
        "ce-type": row.type,
        "ce-source": f"/ordermesh/{source}",
        "ce-subject": str(row.aggregate),
        "ce-time": row.create_time.isoformat(),
        "ce-dataschema": f"urn:ordermesh:proto:{row.type}",
        "ce-partitionkey": str(row.aggregate),
        "ce-sequence": f"{row.sequence:0{SEQUENCE_DIGITS}}",
        "content-type": "application/protobuf",
    }
    optional = {
        "ce-correlationid": row.correlation_id and str(row.correlation_id),
        # A carrier's or a processor's id of its report may have any characters.
        "ce-causationid": row.causation_id and quote(row.causation_id, safe=":/"),
        "traceparent": row.traceparent,
    }
    return attributes | {name: value for name, value in optional.items() if value}
