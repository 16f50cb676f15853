"""Concurrent writers: each key has one effect, each new record is made once, and no writer
deadlocks.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from tests.sample import store
from tests.sample.model import ConfirmPayment, ShipmentCreated, Status
from tests.sample.store import history, idempotency_keys, orders, outbox
from tests.sample.writes import count, create, envelope, placed, retried, write


class Together:
    """A load that returns only after this number of loads: all of them have read the same state."""

    def __init__(self, parties: int) -> None:
        self.barrier, self.loads = asyncio.Barrier(parties), 0

    async def __call__(
        self, connection: AsyncConnection, commands: Sequence[Envelope[Any]], repeats: Any
    ) -> Any:
        found = await store.lock_orders(connection, commands, repeats)
        self.loads += 1
        if self.loads <= self.barrier.parties:
            await self.barrier.wait()
        return found


async def test_concurrent_creations_make_one_order(database: Database, engine: AsyncEngine) -> None:
    """Five writers create the same order under different keys, and all have read that it does not
    exist: one succeeds, the others find it.
    """
    together = Together(5)
    rivals = [create(reference="cart-7") for _ in range(5)]
    outcomes = [
        o for [o] in await asyncio.gather(*(write(database, c, load=together) for c in rivals))
    ]
    assert sorted(type(o).__name__ for o in outcomes) == ["Done"] + ["Exists"] * 4
    assert [await count(engine, orders), await count(engine, idempotency_keys)] == [1, 1]
    assert together.loads >= 9


async def test_fifty_writers_with_one_key(database: Database, engine: AsyncEngine) -> None:
    """One write has the effect, forty-nine are repeats, and all get the same order."""
    first = create()
    rivals = [create(key=first.key, reference=first.command.reference) for _ in range(50)]
    outcomes = [o for [o] in await asyncio.gather(*(write(database, c) for c in rivals))]
    assert Counter(o.repeat for o in outcomes if isinstance(o, Done)) == {False: 1, True: 49}
    assert len({unwrap(o).id for o in outcomes}) == 1
    assert [await count(engine, t) for t in (orders, idempotency_keys, history, outbox)] == [
        1,
        1,
        1,
        1,
    ]


async def test_concurrent_sets_of_new_orders_do_not_deadlock(
    database: Database, engine: AsyncEngine
) -> None:
    """New rows are inserted sorted by their natural key: sets that make the same orders in any
    order wait for each other.
    """
    before, carts, together = retried("race"), [f"cart-{i}" for i in range(30)], Together(6)
    async with engine.begin() as connection:  # each row takes a while, so that the sets overlap
        body = "begin perform pg_sleep(0.003); return new; end"
        await connection.execute(
            text(f"create function slow() returns trigger language plpgsql as '{body}'")
        )
        await connection.execute(
            text("create trigger slow before insert on orders for each row execute function slow()")
        )
    sets = [[create(reference=r) for r in random.sample(carts, 30)] for _ in range(6)]
    outcomes = [
        o
        for r in await asyncio.gather(*(write(database, *s, load=together) for s in sets))
        for o in r
    ]
    assert Counter(type(o).__name__ for o in outcomes) == {"Done": 30, "Exists": 150}
    assert retried("race") == before


async def test_overlapping_sets_in_random_order_do_not_deadlock(
    database: Database, engine: AsyncEngine
) -> None:
    """Sets share keys and records, each in its own order: all take rows and locks in one order."""
    ids, before = await placed(database, 30), retried("race")
    shared: list[Envelope[Any]] = [envelope(ConfirmPayment(), order) for order in ids]
    sets = [
        random.sample([*shared, *(envelope(ShipmentCreated(), order) for order in ids)], 40)
        for _ in range(20)
    ]
    results = await asyncio.gather(*(write(database, *s) for s in sets))
    assert not [
        o
        for r in results
        for o in r
        if isinstance(o, Failure) and o.reason != "PAYMENT_OUTSTANDING"
    ]
    assert retried("race") == before
    assert await count(engine, history, history.c.new == Status.CONFIRMED) <= 30
