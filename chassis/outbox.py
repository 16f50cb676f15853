"""Append: facts become rows of the outbox, in the order in which they came to be, in the transaction that they tell of.

Publishing them is the relay's work.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from sqlalchemy import Row, Table
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from chassis import telemetry
from chassis.stream import MESSAGE_BYTES_MAX, subject_of
from chassis.tables import SHARDS, arrays, insert_rows

# The largest payload of an event: what a message may have, less what its headers may have.
EVENT_BYTES_MAX = MESSAGE_BYTES_MAX - 16 * 2**10
# The columns of a row that `headers` reads.
HEADER_COLUMNS = ("aggregate", "event_id", "type", "create_time", "traceparent")
COLUMNS = ("shard", "aggregate", "event_id", "subject", "type", "payload", "traceparent")


class Outbox:
    """`encode` makes of a fact the aggregate's id and the event's message; the message's option names the subject.

    `appended` is set after each commit that has appended: the relay waits for it.
    """

    def __init__(self, table: Table, encode: Callable[[Any], tuple[UUID, Message]]) -> None:
        self.table, self.encode, self.appended = table, encode, asyncio.Event()
        self._insert = insert_rows(*(table.c[name] for name in COLUMNS))

    async def append(self, connection: AsyncConnection, facts: Sequence[object]) -> None:
        """Stores the facts' events; each has its id from here on, whatever happens to it.

        Raises ValueError for an event of more than EVENT_BYTES_MAX: it could never be published,
        and would hold back all later events of its aggregate.
        """
        traceparent = telemetry.traceparent()
        rows = [_row(*self.encode(fact), traceparent) for fact in facts]
        await connection.execute(self._insert, arrays(COLUMNS, rows))


def _row(aggregate: UUID, event: Message, traceparent: str | None) -> tuple[object, ...]:
    payload = event.SerializeToString(deterministic=True)
    if len(payload) > EVENT_BYTES_MAX:
        raise ValueError(f"{event.DESCRIPTOR.full_name} of {aggregate} has {len(payload)} bytes, and an event may have {EVENT_BYTES_MAX}")
    return shard_of(aggregate), aggregate, uuid7(), subject_of(type(event)), event.DESCRIPTOR.full_name, payload, traceparent


def shard_of(aggregate: UUID) -> int:
    """All events of an aggregate stand in one shard, and a shard has one publisher at a time."""
    return aggregate.int % SHARDS


def headers(row: Row[*tuple[Any, ...]], source: str) -> dict[str, str]:
    """The NATS headers of a row with HEADER_COLUMNS: CloudEvents attributes, the same at each
    publication. `source` is the name of the service. A second publication of a row may only
    replace `Nats-Msg-Id`, by which the stream recognises a repeat.
    """
    attributes = {
        "Nats-Msg-Id": str(row.event_id),
        "ce-specversion": "1.0",
        "ce-id": str(row.event_id),
        "ce-type": row.type,
        "ce-source": f"/ordermesh/{source}",
        "ce-subject": str(row.aggregate),
        "ce-time": row.create_time.isoformat(),
        "content-type": "application/protobuf",
    }
    return attributes | ({"traceparent": row.traceparent} if row.traceparent else {})
