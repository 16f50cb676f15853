"""Claims: a key stands in the table exactly when its effect is committed. A worker sweeps the old
ones.

`write` takes them; so do the few operators' requests that change no record (chassis.republish,
chassis.replays).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.blame import Race, deferring
from chassis.envelope import Envelope
from chassis.idempotency import Keyed, Reused
from chassis.tables import among, arrays, insert_rows

# Longer than a stream keeps its messages (14 days) and the outbox its rows: what may come again
# must find its claim.
KEPT = timedelta(days=30)
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Claim:
    """A key and its request hash, where there is no more to a command. `target` may be nobody's.

    An operator's request leaves its claimed actor and its note here alone: it has no history.
    """

    key: str
    request_hash: bytes = b""
    target: UUID = NOBODY
    claimed_actor: str | None = None
    note: str | None = None

    @classmethod
    def of(cls, request: Keyed, target: UUID = NOBODY) -> "Claim":
        """The claim of an operator's request."""
        return cls(request.key, request.request_hash, target, request.claimed_actor, request.note)


class Claims:
    """The statements over the table of claims, built once."""

    def __init__(self, table: Table) -> None:
        t = table.c
        columns = t.key, t.request_hash, t.target, t.claimed_actor, t.note
        self._insert = insert_rows(*columns).on_conflict_do_nothing().returning(t.key)
        self._find = select(t.key, t.request_hash, t.target).where(among(t.key))
        self._delete = delete(table).where(among(t.key))
        old = select(t.key).where(
            t.claim_time < func.clock_timestamp() - bindparam("kept", type_=INTERVAL)
        )
        batch = (
            old.order_by(t.claim_time).limit(bindparam("most")).with_for_update(skip_locked=True)
        )
        self._sweep = delete(table).where(t.key.in_(batch))

    async def take(
        self, connection: AsyncConnection, commands: Sequence[Envelope[Any] | Claim]
    ) -> Mapping[str, tuple[bytes, UUID]]:
        """Claims every key, and answers with the claims that were there before: their request
        hash and target.
        """
        # all writes in one order: they wait, and never deadlock
        ordered = sorted(commands, key=lambda c: c.key)
        rows = [
            (
                c.key,
                c.request_hash,
                c.target,
                *((c.claimed_actor, c.note) if isinstance(c, Claim) else (None, None)),
            )
            for c in ordered
        ]
        names = "key", "request_hash", "target", "claimed_actor", "note"
        won = set((await connection.execute(self._insert, arrays(names, rows))).scalars())
        if not (known := [c.key for c in commands if c.key not in won]):
            return {}
        found = await self.find(connection, known)
        if len(found) < len(known):
            raise Race("a claim was swept between the two statements")
        return found

    async def first(self, connection: AsyncConnection, command: Claim) -> bool:
        """Claims one key, and answers whether nobody had. Raises Invalid REQUEST_ID_REUSED where
        it stands for something else.
        """
        known = (await self.take(connection, [command])).get(command.key)
        if known and known[0] != command.request_hash:
            raise Reused(command.key)
        return known is None

    async def find(
        self, connection: AsyncConnection, keys: Collection[str]
    ) -> Mapping[str, tuple[bytes, UUID]]:
        """The claims that stand, of those keys: their request hash and target."""
        rows = await connection.execute(self._find, arrays(["key"], [[key] for key in keys]))
        return {key: (request_hash, target) for key, request_hash, target in rows}

    async def give_up(self, connection: AsyncConnection, keys: Collection[str]) -> None:
        """Leaves no claim where nothing was done."""
        await connection.execute(self._delete, arrays(["key"], [[key] for key in keys]))

    async def sweep(
        self, engine: AsyncEngine, kept: timedelta = KEPT, batch_size_max: int = 1000
    ) -> int:
        """Deletes what is older than `kept`, in transactions of `batch_size_max` rows at most;
        answers how many rows went.

        Several replicas may sweep at once: they step over each other's rows. Raises Deferred where
        the database is away.
        """
        swept = 0
        while True:
            with deferring():
                async with engine.begin() as connection:
                    gone = (
                        await connection.execute(
                            self._sweep, {"kept": kept, "most": batch_size_max}
                        )
                    ).rowcount
            swept += gone
            if gone < batch_size_max:
                return swept
