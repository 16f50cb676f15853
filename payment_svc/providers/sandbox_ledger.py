"""The ledger of the sandbox processor: its tables and all its SQL, in a schema of its own.

The sandbox stands for another system. The tables are in the payment service's database for
convenience: no other module of the service reads or writes them. The ledger has connections and
transactions of its own, and outlives the service's processes as a processor would.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    case,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.write.rows import RecordRows

EXCEEDS_REMAINING = "exceeds_remaining"

metadata = MetaData(
    schema="sandbox",
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    },
)

calls = Table(
    "calls",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("calls", Integer, nullable=False),
    comment=(
        "How often each key was sent: what a token does to the first request with a key depends"
        " on it."
    ),
)

operations = Table(
    "operations",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column(
        "kind",
        Text,
        CheckConstraint(
            "kind in ('authorize', 'charge', 'capture', 'void', 'refund', 'abandoned')", "kind"
        ),
        nullable=False,
    ),
    Column(
        "state",
        Text,
        CheckConstraint("state in ('pending', 'succeeded', 'declined')", "state"),
        nullable=False,
    ),
    # a hash of the request; null where the key was abandoned before the request came
    Column("request_hash", LargeBinary),
    Column("token", Text),
    Column("amount", BigInteger, nullable=False),
    Column("code", Text),  # the decline code of a declined or pending operation
    Column("final", Boolean, nullable=False),
    # the operation that it captures, voids or refunds
    Column("parent", Uuid, ForeignKey("sandbox.operations.key")),
    Column(
        "create_time",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.clock_timestamp(),
    ),
    Column("due_time", DateTime(timezone=True)),
    CheckConstraint("(state = 'pending') = (due_time is not null)", "due_while_pending"),
)
Index(None, operations.c.due_time, postgresql_where=operations.c.state == "pending")
Index(None, operations.c.parent, postgresql_where=operations.c.parent.is_not(None))

webhooks = Table(
    "webhooks",
    metadata,
    Column("key", Uuid, ForeignKey(operations.c.key), primary_key=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column(
        "due_time", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()
    ),
    Column("deliver_time", DateTime(timezone=True)),
)
Index(None, webhooks.c.due_time, postgresql_where=webhooks.c.deliver_time.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The stored operation of one key."""

    key: UUID
    kind: str
    state: str
    request_hash: bytes | None
    token: str | None
    amount: int
    code: str | None
    final: bool
    parent: UUID | None = None

    @property
    def reference(self) -> str:
        """The sandbox's own reference of it."""
        return f"sbx_{self.key.hex}"


COLUMNS = tuple(operations.c[field.name] for field in fields(Entry))
ENTRY = RecordRows(Entry, COLUMNS)
now = func.clock_timestamp()

count_call = (
    insert(calls)
    .values(key=bindparam("key"), calls=1)
    .on_conflict_do_update(index_elements=["key"], set_={"calls": calls.c.calls + 1})
).returning(calls.c.calls)
read_operation = select(*COLUMNS).where(operations.c.key == bindparam("wanted_key"))
lock_amount = (
    select(operations.c.amount).where(operations.c.key == bindparam("wanted_key")).with_for_update()
)
read_used_amount = select(func.coalesce(func.sum(operations.c.amount), 0)).where(
    operations.c.parent == bindparam("parent_key"),
    operations.c.key != bindparam("except_key"),
    operations.c.state != "declined",
)
read_declined = select(operations.c.key).where(
    operations.c.parent == bindparam("parent_key"),
    operations.c.key != bindparam("except_key"),
    operations.c.state == "declined",
)
settle_due = (
    update(operations)
    .where(operations.c.state == "pending", operations.c.due_time <= now)
    .values(state=case((operations.c.code.is_(None), "succeeded"), else_="declined"), due_time=None)
    .returning(operations.c.key)
)
due_webhooks = select(webhooks.c.key).where(
    webhooks.c.deliver_time.is_(None), webhooks.c.due_time <= now
)
pause_s = bindparam("lease_s", type_=Double) * (webhooks.c.attempts + 1)
lease_webhooks = (
    update(webhooks)
    .where(
        webhooks.c.key.in_(
            due_webhooks.order_by(webhooks.c.due_time).limit(100).with_for_update(skip_locked=True)
        )
    )
    .where(operations.c.key == webhooks.c.key)
    .values(
        attempts=webhooks.c.attempts + 1,
        due_time=now + func.make_interval(0, 0, 0, 0, 0, 0, pause_s),
    )
    .returning(*COLUMNS)
)
mark_delivered = (
    update(webhooks).where(webhooks.c.key == bindparam("delivered")).values(deliver_time=now)
)


class Ledger:
    """The sandbox's stored operations; each method is one transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. Raises TimeoutError where the database is unreachable: the outcome is then
        unknown, as when a processor does not answer.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolExhausted) as error:
            raise TimeoutError from error

    async def count_call(self, key: UUID) -> int:
        """The number of requests with the key, this one included."""
        async with self._open() as connection:
            return int((await connection.execute(count_call, {"key": key})).scalar_one())

    async def find(self, key: UUID) -> Entry | None:
        async with self._open() as connection:
            row = (await connection.execute(read_operation, {"wanted_key": key})).one_or_none()
        return ENTRY.record(row) if row else None

    async def has_declined(self, parent: UUID, *, except_key: UUID) -> bool:
        """Whether another operation on the parent was declined."""
        async with self._open() as connection:
            return (
                await connection.execute(
                    read_declined, {"parent_key": parent, "except_key": except_key}
                )
            ).first() is not None

    async def record(self, entry: Entry, pending_for: timedelta | None = None) -> Entry:
        """The stored entry of the key: this one, or the one that was stored before.

        With `pending_for` it is pending for that long. An operation of more than remains of its
        parent is declined, with the code EXCEEDS_REMAINING.
        """
        async with self._open() as connection:
            if entry.parent:
                parent_amount = (
                    await connection.execute(lock_amount, {"wanted_key": entry.parent})
                ).scalar_one()
                used_amount = (
                    await connection.execute(
                        read_used_amount, {"parent_key": entry.parent, "except_key": entry.key}
                    )
                ).scalar_one()
                if used_amount + entry.amount > parent_amount:
                    entry = replace(entry, state="declined", code=EXCEEDS_REMAINING)
            values = ENTRY.row(entry)
            if pending_for is not None:
                values |= {"state": "pending", "due_time": now + literal(pending_for, INTERVAL)}
            await connection.execute(insert(operations).values(values).on_conflict_do_nothing())
            row = (await connection.execute(read_operation, {"wanted_key": entry.key})).one()
        stored = ENTRY.record(row)
        hashes = {stored.request_hash, entry.request_hash}
        if len(hashes) > 1 and None not in hashes:
            raise ValueError(f"the key {entry.key} was used before, for another request")
        return stored

    async def settle_due(self) -> None:
        """Settles the pending operations that are due; each gets a webhook."""
        async with self._open() as connection:
            settled = (await connection.execute(settle_due)).scalars().all()
            if settled:
                await connection.execute(insert(webhooks), [{"key": key} for key in settled])

    async def lease_webhooks(self, lease_s: float) -> Sequence[Entry]:
        """The webhooks that are due, leased: no other replica gets them before the lease ends. Each
        attempt has a longer lease.
        """
        async with self._open() as connection:
            rows = await connection.execute(lease_webhooks, {"lease_s": lease_s})
            return [ENTRY.record(row) for row in rows]

    async def mark_delivered(self, key: UUID) -> None:
        async with self._open() as connection:
            await connection.execute(mark_delivered, {"delivered": key})


def request_hash(*content: object) -> bytes:
    """A hash of a request: another request with the same key has another hash."""
    return hashlib.sha256(repr(content).encode()).digest()
