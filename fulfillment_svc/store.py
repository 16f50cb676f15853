"""All the SQL of fulfilments, for sets, over one connection."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.paging import Page
from chassis.tables import among, arrays, given, insert_rows
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model import Cancel, Filter, Fulfillment, FulfillmentCommand, Line, Package, PackedItem, Plan, Transition, Work
from fulfillment_svc.tables import fulfillments, history, items, lines, packages

f = fulfillments.c
FULFILLMENT, LINE, PACKAGE, ITEM, STEP = (tuple(table.c.keys()) for table in (fulfillments, lines, packages, items, history))
WORK = ("order_id", "warehouse_id", "attempt")
FIELDS = tuple(f"work.{name}" if name in WORK else name for name in FULFILLMENT)  # where a column's value is found in a fulfilment
CHANGING = ("id", "status", "stock_committed", "inspection_rule", "shipment_id", "version", "update_time")
PICKED = ("fulfillment_id", "line_number", "picked")
# The statuses in which there may be packages: in the others nobody looks for them.
PACKED = frozenset({Status.PACKED, Status.READY, Status.SHIPPED, Status.COMPLETED, Status.CANCELLED})

read_by_id = select(fulfillments).where(among(f.id)).order_by(f.id)
lock_by_id = read_by_id.with_for_update(key_share=True)
wanted_works = given(f.order_id, f.warehouse_id, f.attempt)
read_by_work = select(f.id).join(
    wanted_works,
    and_(f.order_id == wanted_works.c.order_id, f.warehouse_id == wanted_works.c.warehouse_id, f.attempt == wanted_works.c.attempt),
)
read_works = select(f.order_id, f.warehouse_id, f.attempt).where(among(f.order_id))
read_owed = (
    select(fulfillments)
    .where(f.status == Status.PLANNING, not_(f.stock_committed), f.id > bindparam("after"))
    .order_by(f.id)
    .limit(bindparam("most"))
)
read_lines = select(lines).where(among(lines.c.fulfillment_id)).order_by(lines.c.fulfillment_id, lines.c.line_number)
read_packages = select(packages).where(among(packages.c.fulfillment_id)).order_by(packages.c.fulfillment_id, packages.c.number)
read_items = (
    select(items).where(among(items.c.fulfillment_id)).order_by(items.c.fulfillment_id, items.c.package_number, items.c.line_number)
)

insert_fulfillments, insert_lines, insert_packages, insert_items, insert_history = (
    insert_rows(*table.c) for table in (fulfillments, lines, packages, items, history)
)
changed_fulfillments = given(*(f[name] for name in CHANGING))
update_fulfillments = (
    update(fulfillments).values({name: changed_fulfillments.c[name] for name in CHANGING[1:]}).where(f.id == changed_fulfillments.c.id)
)
changed_lines = given(*(lines.c[name] for name in PICKED))
update_lines = (
    update(lines)
    .values(picked=changed_lines.c.picked)
    .where(lines.c.fulfillment_id == changed_lines.c.fulfillment_id, lines.c.line_number == changed_lines.c.line_number)
)
drop_lines = delete(lines).where(among(lines.c.fulfillment_id))
drop_packages = delete(packages).where(among(packages.c.fulfillment_id))


async def lock_fulfillments(
    connection: AsyncConnection, commands: Sequence[FulfillmentCommand], repeats: Collection[UUID]
) -> dict[UUID, Fulfillment]:
    """The fulfilments that the commands are about, by id; what is found by its work, also by the id that was proposed for it."""
    working = [c for c in commands if isinstance(c, Plan | Cancel)]
    ids = {*repeats, *(c.target for c in commands)}
    if working:
        ids.update((await connection.execute(read_by_work, _works({c.work for c in working}))).scalars())
    found = await _whole(connection, lock_by_id, arrays(["id"], [[id] for id in ids]))
    of_work = {each.work: each for each in found}
    return {each.id: each for each in found} | {c.target: of_work[c.work] for c in working if c.work in of_work}


async def save_fulfillments(
    connection: AsyncConnection, before: Mapping[UUID, Fulfillment], after: Mapping[UUID, Fulfillment], steps: Sequence[Transition]
) -> None:
    """Stores what changed; new ones sorted by their natural key, or two sets of rivals may deadlock."""
    created = sorted((each for id, each in after.items() if id not in before), key=attrgetter(*FIELDS[1:4]))
    changed = sorted(((before[id], each) for id, each in after.items() if id in before), key=lambda pair: pair[1].id)
    if created:
        await connection.execute(insert_fulfillments, arrays(FULFILLMENT, [attrgetter(*FIELDS)(each) for each in created]))
        await _insert_lines(connection, created)
    if changed:
        await connection.execute(update_fulfillments, arrays(CHANGING, [attrgetter(*CHANGING)(each) for _, each in changed]))
        await _save_lines(connection, changed)
        await _save_packages(connection, [(old, new) for old, new in changed if old.packages != new.packages])
    if steps:
        await connection.execute(insert_history, arrays(STEP, [attrgetter(*STEP)(step) for step in steps]))


async def find_fulfillments(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Fulfillment]:
    """The fulfilments as they stand, unlocked, by id; unknown ids are missing."""
    return {each.id: each for each in await _whole(connection, read_by_id, arrays(["id"], [[id] for id in ids]))}


async def works_of(connection: AsyncConnection, orders: Collection[UUID]) -> set[Work]:
    """What there is for these orders, whatever its attempt and status."""
    return {Work(*row) for row in await connection.execute(read_works, arrays(["order_id"], [[id] for id in orders]))}


async def find_owed(connection: AsyncConnection, after: UUID, most: int) -> list[Fulfillment]:
    """Those in planning whose stock is not committed, by id, from the one that follows `after`."""
    return await _whole(connection, read_owed, {"after": after, "most": most})


async def list_fulfillments(connection: AsyncConnection, wanted: Filter, page: Page) -> list[Fulfillment]:
    """The page's fulfilments and one more where there are more, oldest first."""
    conditions: list[ColumnElement[bool]] = [f.status.in_(wanted.statuses)] if wanted.statuses else []
    if wanted.order_id:
        conditions.append(f.order_id == wanted.order_id)
    if wanted.warehouse_id:
        conditions.append(f.warehouse_id == wanted.warehouse_id)
    if page.after:
        conditions.append(f.id > page.after[0])
    return await _whole(connection, select(fulfillments).where(*conditions).order_by(f.id).limit(page.size + 1), {})


async def _whole(connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]) -> list[Fulfillment]:
    """The fulfilments that the statement finds, in its order, each with its lines and packages."""
    rows = list(await connection.execute(statement, parameters))
    picklists: defaultdict[UUID, list[Line]] = defaultdict(list)
    if rows:
        for id, *line in await connection.execute(read_lines, {"given_fulfillment_id": [row.id for row in rows]}):
            picklists[id].append(Line(*line))
    parcels = await _packages(connection, [row.id for row in rows if row.status in PACKED])
    return [Fulfillment(row.id, Work(*row[1:4]), *(*row[4:], tuple(picklists[row.id]), tuple(parcels.get(row.id, ())))) for row in rows]


async def _packages(connection: AsyncConnection, ids: list[UUID]) -> dict[UUID, list[Package]]:
    """The packages of these fulfilments, each with its items."""
    if not ids:
        return {}
    contents: defaultdict[tuple[UUID, int], list[PackedItem]] = defaultdict(list)
    for id, number, line_number, quantity in await connection.execute(read_items, {"given_fulfillment_id": ids}):
        contents[id, number].append(PackedItem(line_number, quantity))
    parcels: defaultdict[UUID, list[Package]] = defaultdict(list)
    for id, number, *size in await connection.execute(read_packages, {"given_fulfillment_id": ids}):
        parcels[id].append(Package(number, *(*size, tuple(contents[id, number]))))
    return parcels


async def _insert_lines(connection: AsyncConnection, of: Sequence[Fulfillment]) -> None:
    rows = [(each.id, line.line_number, line.sku, line.quantity, line.picked) for each in of for line in each.lines]
    if rows:
        await connection.execute(insert_lines, arrays(LINE, rows))


async def _save_lines(connection: AsyncConnection, changed: Sequence[tuple[Fulfillment, Fulfillment]]) -> None:
    """New counts of lines that stay as they are; whole picklists where the lines themselves are others."""
    counted, replaced = [], []
    for old, new in changed:
        if [(line.line_number, line.sku, line.quantity) for line in old.lines] == [(x.line_number, x.sku, x.quantity) for x in new.lines]:
            counted += [
                (new.id, line.line_number, line.picked) for was, line in zip(old.lines, new.lines, strict=True) if line.picked != was.picked
            ]
        else:
            replaced.append(new)
    if counted:
        await connection.execute(update_lines, arrays(PICKED, counted))
    if replaced:
        await connection.execute(drop_lines, arrays(["fulfillment_id"], [[each.id] for each in replaced]))
        await _insert_lines(connection, replaced)


async def _save_packages(connection: AsyncConnection, repacked: Sequence[tuple[Fulfillment, Fulfillment]]) -> None:
    """The packages as they now are, in the place of those that were."""
    if emptied := [[old.id] for old, _ in repacked if old.packages]:
        await connection.execute(drop_packages, arrays(["fulfillment_id"], emptied))
    parcels = [(new.id, parcel) for _, new in repacked for parcel in new.packages]
    if parcels:
        rows = [(id, p.number, p.weight_grams, p.length_mm, p.width_mm, p.height_mm) for id, p in parcels]
        await connection.execute(insert_packages, arrays(PACKAGE, rows))
        contents = [(id, p.number, item.line_number, item.quantity) for id, p in parcels for item in p.items]
        await connection.execute(insert_items, arrays(ITEM, contents))


def _works(works: Collection[Work]) -> dict[str, list[Any]]:
    return arrays(WORK, [(work.order_id, work.warehouse_id, work.attempt) for work in works])
