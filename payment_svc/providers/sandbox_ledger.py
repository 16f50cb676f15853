"""The memory of the sandbox processor: its tables and all its SQL, in a schema of its own.

The sandbox stands for a system that is not ours. That its memory lies in the payment service's
database is for convenience: nothing of the service reads or writes it, it has connections and
transactions of its own, and it outlives the service's processes as a processor would.
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

OVERDRAWN = "exceeds_what_is_left"

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

KINDS = "kind in ('authorize', 'charge', 'capture', 'void', 'refund', 'abandoned')"
operations = Table(
    "operations",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("kind", Text, CheckConstraint(KINDS, "kind"), nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state in ('pending', 'succeeded', 'declined')", "state"),
        nullable=False,
    ),
    # a hash of what was asked for; none where the key was abandoned before it came
    Column("request", LargeBinary),
    Column("token", Text),
    Column("amount", BigInteger, nullable=False),
    Column("code", Text),  # why it is declined, or will be
    Column("final", Boolean, nullable=False),
    # whose money it takes or gives back
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


@dataclass(frozen=True, slots=True)
class Entry:
    """What the sandbox remembers of one key."""

    key: UUID
    kind: str
    state: str
    request: bytes | None
    token: str | None
    amount: int
    code: str | None
    final: bool
    parent: UUID | None = None

    @property
    def reference(self) -> str:
        """The sandbox's own name for it."""
        return f"sbx_{self.key.hex}"


COLUMNS = tuple(operations.c[field.name] for field in fields(Entry))
ENTRY = RecordRows(Entry, COLUMNS)
now = func.clock_timestamp()

count_call = (
    insert(calls)
    .values(key=bindparam("key"), calls=1)
    .on_conflict_do_update(index_elements=["key"], set_={"calls": calls.c.calls + 1})
).returning(calls.c.calls)
find = select(*COLUMNS).where(operations.c.key == bindparam("sought"))
lock = select(operations.c.amount).where(operations.c.key == bindparam("sought")).with_for_update()
used = select(func.coalesce(func.sum(operations.c.amount), 0)).where(
    operations.c.parent == bindparam("of"),
    operations.c.key != bindparam("but"),
    operations.c.state != "declined",
)
refused = select(operations.c.key).where(
    operations.c.parent == bindparam("of"),
    operations.c.key != bindparam("but"),
    operations.c.state == "declined",
)
settle_due = (
    update(operations)
    .where(operations.c.state == "pending", operations.c.due_time <= now)
    .values(state=case((operations.c.code.is_(None), "succeeded"), else_="declined"), due_time=None)
    .returning(operations.c.key)
)
waiting = select(webhooks.c.key).where(
    webhooks.c.deliver_time.is_(None), webhooks.c.due_time <= now
)
pause_s = bindparam("lease_s", type_=Double) * (webhooks.c.attempts + 1)
take_webhooks = (
    update(webhooks)
    .where(
        webhooks.c.key.in_(
            waiting.order_by(webhooks.c.due_time).limit(100).with_for_update(skip_locked=True)
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
    """The sandbox's memory; each method is one transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. Where the memory is out of reach the processor is silent, TimeoutError:
        what it has done nobody knows.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolExhausted) as error:
            raise TimeoutError from error

    async def count(self, key: UUID) -> int:
        """How often the key was sent, this time included."""
        async with self._open() as connection:
            return int((await connection.execute(count_call, {"key": key})).scalar_one())

    async def find(self, key: UUID) -> Entry | None:
        async with self._open() as connection:
            row = (await connection.execute(find, {"sought": key})).one_or_none()
        return ENTRY.record(row) if row else None

    async def declined(self, parent: UUID, *, besides: UUID) -> bool:
        """Whether anything else that was asked about the parent's money was declined."""
        async with self._open() as connection:
            return (
                await connection.execute(refused, {"of": parent, "but": besides})
            ).first() is not None

    async def record(self, entry: Entry, late: timedelta | None = None) -> Entry:
        """What the key stands for: the entry, or the one that was there before. `late`: it is
        pending for that long.

        What would take or give back more of its parent than there is left is declined, with the
        code OVERDRAWN.
        """
        async with self._open() as connection:
            if entry.parent:
                there = (await connection.execute(lock, {"sought": entry.parent})).scalar_one()
                taken = (
                    await connection.execute(used, {"of": entry.parent, "but": entry.key})
                ).scalar_one()
                if taken + entry.amount > there:
                    entry = replace(entry, state="declined", code=OVERDRAWN)
            values = ENTRY.row(entry)
            if late is not None:
                values |= {"state": "pending", "due_time": now + literal(late, INTERVAL)}
            await connection.execute(insert(operations).values(values).on_conflict_do_nothing())
            row = (await connection.execute(find, {"sought": entry.key})).one()
        known = ENTRY.record(row)
        if known.request != entry.request and None not in (known.request, entry.request):
            raise ValueError(f"the key {entry.key} was used before, to ask for something else")
        return known

    async def settle_due(self) -> None:
        """Ends what was pending and is due; each gets its webhook."""
        async with self._open() as connection:
            settled = (await connection.execute(settle_due)).scalars().all()
            if settled:
                await connection.execute(insert(webhooks), [{"key": key} for key in settled])

    async def take_webhooks(self, lease_s: float) -> Sequence[Entry]:
        """Webhooks to be delivered now; nobody else takes them before the lease is over (longer
        with each attempt).
        """
        async with self._open() as connection:
            rows = await connection.execute(take_webhooks, {"lease_s": lease_s})
            return [ENTRY.record(row) for row in rows]

    async def delivered(self, key: UUID) -> None:
        async with self._open() as connection:
            await connection.execute(mark_delivered, {"delivered": key})


def fingerprint(*asked: object) -> bytes:
    """A hash of what was asked for, to tell a repeat from another request under the same key."""
    return hashlib.sha256(repr(asked).encode()).digest()
