"""Writes over a workspace that commands share: stock is locked, applied, and saved as summed
deltas.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chassis.values.decision import Decision, Done
from chassis.values.envelope import Context, Decider, Envelope, decider
from chassis.values.errors import Refused
from chassis.write.database import Database
from chassis.write.rows import column_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from chassis.write.workspace import Workspace
from chassis.write.writer import Writer
from tests.sample.writes import envelope, retried

metadata = MetaData()
stock = Table(
    "stock",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("free", Integer, CheckConstraint("free >= 0")),
)
reservations = Table(
    "reservations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("sku", Text),
    Column("quantity", Integer),
)
lock = (
    select(stock)
    .where(is_any_of(stock.c.sku))
    .order_by(stock.c.sku)
    .with_for_update(key_share=True)
)
read = select(reservations).where(is_any_of(reservations.c.id))
insert_reservations = insert_rows(*reservations.c)
deltas = unnest_rows(stock.c.sku, stock.c.free)
take = update(stock).values(free=stock.c.free - deltas.c.free).where(stock.c.sku == deltas.c.sku)


@dataclass(frozen=True, slots=True)
class Reserve:
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reservation:
    id: UUID
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class View:
    """The input of one decision: its reservation, and all the stock that the set has locked."""

    free: Mapping[str, int]
    reservation: Reservation | None = None


class StockWorkspace(Workspace[View]):
    """Views by reservation, over one stock."""

    def __init__(self, free: Mapping[str, int], held: Mapping[UUID, View]) -> None:
        super().__init__(held)
        self.free = free

    # a new reservation sees the stock too
    def get(self, target: UUID) -> View:
        return replace(super().get(target) or View({}), free=self.free)

    def put(self, target: UUID, record: View) -> None:
        super().put(target, record)
        self.free = record.free


async def load(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Reserve]],
    repeats: Collection[UUID],
) -> StockWorkspace:
    found = await connection.execute(read, column_arrays(id=repeats))
    held = {r.id: View({}, Reservation(id=r.id, sku=r.sku, quantity=r.quantity)) for r in found}
    skus = [each.command.sku for each in envelopes]
    rows = await connection.execute(lock, column_arrays(sku=skus))
    return StockWorkspace({r.sku: r.free for r in rows}, held)


def reserve(view: View | None, command: Reserve, context: Context) -> Decision[View, int]:
    assert view
    if view.free[command.sku] < command.quantity:
        raise Refused("INSUFFICIENT_STOCK", free=str(view.free[command.sku]))
    free = {**view.free, command.sku: view.free[command.sku] - command.quantity}
    return Decision(View(free, Reservation(context.target, command.sku, command.quantity)))


DECIDERS: Mapping[type[Any], Decider[View, int]] = {Reserve: reserve}
decide = decider(DECIDERS)


async def save(
    connection: AsyncConnection,
    before: Mapping[UUID, View],
    after: Mapping[UUID, View],
    _: Sequence[int],
) -> None:
    made = [v.reservation for v in after.values() if v.reservation]
    await connection.execute(
        insert_reservations,
        column_arrays(
            id=[r.id for r in made], sku=[r.sku for r in made], quantity=[r.quantity for r in made]
        ),
    )
    summed: Counter[str] = Counter()
    for r in made:
        summed[r.sku] += r.quantity
    await connection.execute(take, column_arrays(sku=summed, free=summed.values()))


@pytest.fixture
async def shelf(engine: AsyncEngine) -> AsyncEngine:
    """Inserts fifty units of each of three SKUs."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(insert(stock), [{"sku": sku, "free": 50} for sku in "abc"])
    return engine


async def balances(engine: AsyncEngine) -> list[int | None]:
    async with engine.connect() as connection:
        return list(
            (await connection.execute(select(stock.c.free).order_by(stock.c.sku))).scalars()
        )


async def test_stock_is_never_sold_twice(database: Database, shelf: AsyncEngine) -> None:
    """Twenty concurrent sets reserve more than the stock: exactly the stock is reserved, without a
    deadlock.
    """
    before, writer = retried("race"), Writer(database, load=load, decide=decide, save=save)
    sets = [
        [envelope(Reserve("abc"[(s + i) % 3], 1), uuid4(), key=f"r:{s}:{i}") for i in range(12)]
        for s in range(20)
    ]
    outcomes = [o for r in await asyncio.gather(*(writer.write(s) for s in sets)) for o in r]
    assert Counter(type(o).__name__ for o in outcomes) == {"Done": 150, "Refused": 90}
    assert await balances(shelf) == [0, 0, 0]
    assert retried("race") == before


async def test_commands_of_a_set_share_the_stock(database: Database, shelf: AsyncEngine) -> None:
    """Units that one command of a set takes are not available to the next, for any reservation; a
    repeat takes none again.
    """
    commands = [
        envelope(Reserve("a", 30), uuid4(), key="r:1"),
        envelope(Reserve("a", 30), uuid4(), key="r:2"),
        envelope(Reserve("a", 20), uuid4(), key="r:3"),
    ]
    writer = Writer(database, load=load, decide=decide, save=save)
    first, second, third = await writer.write(commands)
    assert [type(o).__name__ for o in (first, second, third)] == ["Done", "Refused", "Done"]
    assert isinstance(second, Refused)
    assert second.metadata == {"free": "20"}
    again, *_ = await writer.write(commands)
    assert isinstance(again, Done)
    assert again.repeat
    assert await balances(shelf) == [0, 50, 50]
