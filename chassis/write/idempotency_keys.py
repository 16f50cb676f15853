"""The table of idempotency keys: each is stored in the transaction of its effect.

A write (chassis/write/writer.py) inserts the keys of its commands. The operators' requests that
change no record (chassis/publish/republish.py, chassis/consume/replays.py and others) insert their
own keys. A worker deletes old keys.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.envelope import Envelope
from chassis.values.request_context import KeyReused, RequestContext
from chassis.write.error_classification import Race, deferring_outages
from chassis.write.rows import column_arrays
from chassis.write.tables import insert_rows, is_any_of

# Longer than a stream keeps its messages (14 days) and the outbox its rows: a repeat from either
# must find its key.
RETENTION = timedelta(days=30)
SWEPT_MAX = 1_000
NO_TARGET = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key and its request hash, of a request without an envelope.

    `target` is NO_TARGET for a request that concerns no one record. The claimed actor and the note
    of an operator's request are stored here alone, because it has no history.
    """

    key: str
    request_hash: bytes = b""
    target: UUID = NO_TARGET
    claimed_actor: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, request: RequestContext, target: UUID = NO_TARGET) -> "IdempotencyKey":
        """Returns the key of an operator's request."""
        return cls(
            key=request.key,
            request_hash=request.request_hash,
            target=target,
            claimed_actor=request.claimed_actor,
            note=request.note,
        )


class IdempotencyKeys:
    """The statements over the table `idempotency_keys`, built once."""

    def __init__(self, table: Table) -> None:
        t = table.c
        columns = t.key, t.request_hash, t.target, t.claimed_actor, t.note
        self._insert = insert_rows(*columns).on_conflict_do_nothing().returning(t.key)
        self._find = select(t.key, t.request_hash, t.target).where(is_any_of(t.key))
        self._delete = delete(table).where(is_any_of(t.key))
        old = select(t.key).where(
            t.create_time < func.clock_timestamp() - bindparam("retention", type_=INTERVAL)
        )
        batch = (
            old.order_by(t.create_time).limit(bindparam("most")).with_for_update(skip_locked=True)
        )
        self._sweep = delete(table).where(t.key.in_(batch))

    async def insert(
        self, connection: AsyncConnection, commands: Sequence[Envelope[Any] | IdempotencyKey]
    ) -> Mapping[str, tuple[bytes, UUID]]:
        """Inserts the keys; returns the request hash and the target of each that was there before.

        Raises Race if a worker deletes such a key at the same time.
        """
        # Every write inserts in the same order, so writes wait for each other and never deadlock.
        ordered = sorted(commands, key=lambda c: c.key)
        # The history of a record has the actor and the note of an envelope.
        own = [c if isinstance(c, IdempotencyKey) else None for c in ordered]
        rows = column_arrays(
            key=[c.key for c in ordered],
            request_hash=[c.request_hash for c in ordered],
            target=[c.target for c in ordered],
            claimed_actor=[key and key.claimed_actor for key in own],
            note=[key and key.note for key in own],
        )
        inserted = set((await connection.execute(self._insert, rows)).scalars())
        if not (known := [c.key for c in commands if c.key not in inserted]):
            return {}
        found = await self.find(connection, known)
        if len(found) < len(known):
            raise Race("a key was deleted between the two statements")
        return found

    async def insert_one(self, connection: AsyncConnection, key: IdempotencyKey) -> bool:
        """Inserts the key; returns False if it was there before, with the same request hash.

        Raises Invalid REQUEST_ID_REUSED if it was there with another request hash.
        """
        known = (await self.insert(connection, [key])).get(key.key)
        if known and known[0] != key.request_hash:
            raise KeyReused(key.key)
        return known is None

    async def find(
        self, connection: AsyncConnection, keys: Collection[str]
    ) -> Mapping[str, tuple[bytes, UUID]]:
        """Returns the request hash and the target of each of these keys that the table has."""
        rows = await connection.execute(self._find, column_arrays(key=keys))
        return {key: (request_hash, target) for key, request_hash, target in rows}

    async def delete(self, connection: AsyncConnection, keys: Collection[str]) -> None:
        """Deletes the keys of commands that had no effect."""
        await connection.execute(self._delete, column_arrays(key=keys))

    async def sweep(self, engine: AsyncEngine) -> int:
        """Deletes the keys that are older than RETENTION; returns how many it has deleted.

        One transaction deletes SWEPT_MAX keys at most. Several replicas may sweep at once:
        each skips the rows that another one has locked. Raises Deferred if the database is away.
        """
        swept = 0
        while True:
            with deferring_outages():
                async with engine.begin() as connection:
                    gone = (
                        await connection.execute(
                            self._sweep, {"retention": RETENTION, "most": SWEPT_MAX}
                        )
                    ).rowcount
            swept += gone
            if gone < SWEPT_MAX:
                return swept
