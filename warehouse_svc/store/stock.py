"""Stock levels and the rows of the ledger."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from operator import eq, ge, gt, lt
from uuid import UUID

from sqlalchemy import BigInteger, Column, cast, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import conditions, insert_rows, is_any_of, unnest_rows
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.filters import LevelFilter, MovementFilter
from warehouse_svc.model.records import Movement, Place, PostedUnits, StockLevel, level_id
from warehouse_svc.tables import movements, stock_levels

LEVEL = RecordRows(StockLevel, stock_levels.c, derived=["id"])
MOVEMENT = RecordRows(
    Movement,
    movements.c,
    loaded=["warehouse_id", "sku"],
    derived=["level_id", "reserved", "committed", "damaged", "outside"],
)
BALANCES = ("available", "reserved", "committed", "damaged", "version")
levels = stock_levels.c
lock_levels = (
    select(stock_levels)
    .where(or_(is_any_of(levels.id), is_any_of(levels.sku)))
    .order_by(levels.id)
    .with_for_update(key_share=True)
)
posted_for = (
    movements.c.source_id,
    movements.c.order_id,
    movements.c.line_number,
    movements.c.kind,
)
read_posted = (
    select(*posted_for, cast(func.sum(movements.c.quantity), BigInteger))
    .where(is_any_of(movements.c.source_id))
    .group_by(*posted_for)
)
read_levels = select(stock_levels).where(is_any_of(levels.id))
read_sellable = (
    select(levels.sku, func.sum(levels.available - levels.reserved))
    .where(is_any_of(levels.sku))
    .group_by(levels.sku)
)
read_movements = select(movements, levels.warehouse_id, levels.sku).join_from(
    movements, stock_levels, levels.id == movements.c.level_id
)
insert_levels = insert_rows(*stock_levels.c)
insert_movements = insert_rows(*movements.c)
changed_levels = unnest_rows(levels.id, *(levels[name] for name in BALANCES), levels.update_time)
update_levels = (
    update(stock_levels)
    .values(
        {name: levels[name] + changed_levels.c[name] for name in BALANCES}
        | {"update_time": changed_levels.c.update_time}
    )
    .where(levels.id == changed_levels.c.id)
)


async def posted_units(
    connection: AsyncConnection, sources: Collection[UUID]
) -> dict[UUID, PostedUnits]:
    """Returns the units in the ledger by source.

    The caller holds the locks that every write about these sources takes.
    """
    of_source: defaultdict[UUID, dict[tuple[UUID | None, int | None, MovementKind], int]] = (
        defaultdict(dict)
    )
    for source, order_id, number, kind, units in (
        await connection.execute(read_posted, column_arrays(source_id=sources)) if sources else ()
    ):
        of_source[source][order_id, number, kind] = units
    return dict(of_source)


async def save_movements(connection: AsyncConnection, posted: Sequence[Movement]) -> None:
    """Inserts the rows of the ledger, and adds their sums to the balances."""
    await _move_balances(connection, posted)
    await connection.execute(insert_movements, MOVEMENT.arrays(posted))


async def _move_balances(connection: AsyncConnection, posted: Sequence[Movement]) -> None:
    """Adds the rows' sums to the stock levels.

    A row with the first version of its stock level inserts it.
    """
    sums: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    last = {row.level_id: row for row in posted}
    for row in posted:
        sums[row.level_id].update(
            {name: getattr(row, name) for name in BALANCES[:-1]} | {"version": 1}
        )
    made = {row.level_id for row in posted if row.level_version == 1}
    totals = {
        id: {name: sums[id][name] for name in BALANCES} | {"id": id, "update_time": last[id].time}
        for id in sorted(sums)
    }
    if moves := [total for id, total in totals.items() if id not in made]:
        await connection.execute(update_levels, row_arrays(moves))
    if new := [
        total | {"warehouse_id": last[id].warehouse_id, "sku": last[id].sku}
        for id, total in totals.items()
        if id in made
    ]:
        await connection.execute(insert_levels, row_arrays(new))


async def find_level(connection: AsyncConnection, place: Place) -> StockLevel | None:
    row = (await connection.execute(read_levels, column_arrays(id=[level_id(place)]))).one_or_none()
    return LEVEL.record(row) if row else None


async def list_levels(
    connection: AsyncConnection, wanted: LevelFilter, page: Page
) -> list[StockLevel]:
    """Returns stock levels by warehouse and SKU: the page, and one more where there are more."""
    filters = conditions(
        (levels.warehouse_id, eq, wanted.warehouse_id),
        (levels.sku, Column.in_, wanted.skus),
        (levels.update_time, ge, wanted.update_time_from),
        (levels.update_time, lt, wanted.update_time_before),
    )
    query = select(stock_levels).where(*filters)
    query = query.order_by(levels.warehouse_id, levels.sku).limit(page.size + 1)
    if page.after:
        query = query.where(tuple_(levels.warehouse_id, levels.sku) > tuple_(*page.after))
    return [LEVEL.record(row) for row in await connection.execute(query)]


async def list_movements(
    connection: AsyncConnection, wanted: MovementFilter, page: Page
) -> list[Movement]:
    """Returns rows of the ledger, oldest first: the page, and one more where there are more."""
    m = movements.c
    filters = conditions(
        (levels.warehouse_id, eq, wanted.warehouse_id),
        (levels.sku, eq, wanted.sku),
        (m.order_id, eq, wanted.order_id),
        (m.kind, Column.in_, wanted.kinds),
        (m.time, ge, wanted.time_from),
        (m.time, lt, wanted.time_before),
        (m.id, gt, page.after and page.after[0]),
    )
    query = read_movements.where(*filters)
    rows = await connection.execute(query.order_by(m.id).limit(page.size + 1))
    return [MOVEMENT.record(row, warehouse_id=row.warehouse_id, sku=row.sku) for row in rows]


async def sellable(connection: AsyncConnection, skus: Collection[str]) -> dict[str, int]:
    """Returns the sellable units over all warehouses, by SKU; unknown SKUs are missing."""
    rows = await connection.execute(read_sellable, column_arrays(sku=skus))
    return {sku: int(units) for sku, units in rows}
