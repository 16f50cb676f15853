"""The owner of each shard of an outbox: one at a time, by advisory locks of its session, and equal
shares among replicas.

The locks end with the connection. Nothing is published here.
"""

import random
from collections.abc import Sequence

from sqlalchemy import ARRAY, Integer, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.tables import SHARDS

# The first of the two numbers of an advisory lock: "outb". The second is 0 for a present replica
# (shared), and a shard + 1 for its owner.
OUTBOX = 0x6F757462

JOIN = text("select pg_advisory_lock_shared(:outbox, 0)").bindparams(outbox=OUTBOX)
LOCKS = text(
    """
    select objid::int as lock, pid, pid = pg_backend_pid() as mine
    from pg_locks
    where locktype = 'advisory' and classid = :outbox and objsubid = 2 and granted
      and database = (select oid from pg_database where datname = current_database())
    """
).bindparams(outbox=OUTBOX)
_shards = bindparam("shards", type_=ARRAY(Integer))
TAKE = text(
    "select shard from unnest(:shards) shard where pg_try_advisory_lock(:outbox, shard + 1)"
).bindparams(_shards, outbox=OUTBOX)
GIVE = text("select pg_advisory_unlock(:outbox, shard + 1) from unnest(:shards) shard").bindparams(
    _shards, outbox=OUTBOX
)


class Shards:
    """The shards that one connection owns, and the number of replicas that share them."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.owned: frozenset[int] = frozenset()
        self.replicas = 1

    async def join(self) -> None:
        """Adds this replica to those that share the shards. It owns none yet."""
        await self._connection.execute(JOIN)

    async def balance(self) -> None:
        """Takes free shards up to this replica's share, and releases those beyond it. The caller
        calls it when nothing is being published.
        """
        present, before, taken, owned = await self._look()
        self.replicas = present
        # the first few replicas have one more, and all compute the same order
        share = SHARDS // present + (before < SHARDS % present)
        if surplus := sorted(owned)[share:]:
            await self._connection.execute(GIVE, {"shards": surplus})
        free = sorted(set(range(SHARDS)) - taken)
        await self._take(
            owned - set(surplus), random.sample(free, min(len(free), max(0, share - len(owned))))
        )

    async def take_free(self) -> None:
        """Takes all shards without an owner: the last act of a replica before it ends."""
        _, _, taken, owned = await self._look()
        await self._take(owned, sorted(set(range(SHARDS)) - taken))

    async def _look(self) -> tuple[int, int, set[int], set[int]]:
        """Returns the number of replicas, the number of them before this one in order, the shards
        that have an owner, and the shards of this replica.
        """
        rows = (await self._connection.execute(LOCKS)).all()
        present = sorted((row.pid, row.mine) for row in rows if row.lock == 0)
        taken = {row.lock - 1 for row in rows if row.lock}
        return (
            len(present),
            [mine for _, mine in present].index(True),
            taken,
            {row.lock - 1 for row in rows if row.lock and row.mine},
        )

    async def _take(self, owned: set[int], wanted: Sequence[int]) -> None:
        taken = (
            (await self._connection.execute(TAKE, {"shards": list(wanted)})).scalars()
            if wanted
            else ()
        )
        self.owned = frozenset(owned.union(taken))
