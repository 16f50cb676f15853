"""All the SQL of jobs and their fulfilments, for sets, over one connection."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    delete,
    func,
    not_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import among, given, insert_rows
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model import (
    Allocation,
    Filter,
    Fulfillment,
    Job,
    Kept,
    Line,
    Package,
    PackedItem,
    Transition,
    VoidLabel,
    Work,
)
from fulfillment_svc.tables import (
    fulfillments,
    history,
    items,
    kept_units,
    lines,
    orders,
    packages,
    void_labels,
)

f = fulfillments.c
FULFILLMENT = RecordRows(Fulfillment, fulfillments.c, loaded=["lines", "packages", "void_labels"])
LINE = RecordRows(Line, lines.c, keys=["fulfillment_id"])
PACKAGE = RecordRows(Package, packages.c, keys=["fulfillment_id"], loaded=["items"])
ITEM = RecordRows(PackedItem, items.c, keys=["fulfillment_id", "package_number"])
TRANSITION = RecordRows(Transition, history.c)
KEPT_UNIT = RecordRows(Allocation, kept_units.c, keys=["order_id"])
WORK = RecordRows(Work, (f.order_id, f.warehouse_id, f.attempt))
CHANGING = (
    "id",
    "status",
    "stock_committed",
    "inspection_rule",
    "shipment_id",
    "version",
    "update_time",
    "withdraw_reason",
    "released_version",
)
# A line's units; its number and SKU never change.
COUNTS = ("quantity", "picked", "cut", "short", "spoiled", "found")
# The statuses in which there may be packages: in the others nobody looks for them.
PACKED = frozenset({Status.PACKED, Status.READY, Status.SHIPPED, Status.COMPLETED})

read_by_id = select(fulfillments).where(among(f.id)).order_by(f.id)
read_by_order = select(fulfillments).where(among(f.order_id)).order_by(f.id)
read_orders = select(f.order_id).where(among(f.id)).distinct()
lock_orders = (
    select(orders)
    .where(among(orders.c.order_id))
    .order_by(orders.c.order_id)
    .with_for_update(key_share=True)
)
read_history = (
    select(history)
    .where(history.c.fulfillment_id == bindparam("of"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("most"))
)
read_kept = select(kept_units).where(among(kept_units.c.order_id)).order_by(*kept_units.primary_key)
count_lines = select(func.count()).where(lines.c.fulfillment_id == f.id).scalar_subquery()
count_items = select(func.count()).where(items.c.fulfillment_id == f.id).scalar_subquery()
read_works = select(f.order_id, f.warehouse_id, f.attempt).where(among(f.order_id))
read_versions = select(orders.c.order_id, orders.c.kept_version).where(
    among(orders.c.order_id), orders.c.kept_version.is_not(None)
)
read_owed = (
    select(fulfillments)
    .where(f.status == Status.PLANNING, not_(f.stock_committed), f.id > bindparam("after"))
    .order_by(f.id)
    .limit(bindparam("most"))
)
read_lines = (
    select(lines)
    .where(among(lines.c.fulfillment_id))
    .order_by(lines.c.fulfillment_id, lines.c.line_number)
)
read_packages = (
    select(packages)
    .where(among(packages.c.fulfillment_id))
    .order_by(packages.c.fulfillment_id, packages.c.number)
)
read_items = (
    select(items)
    .where(among(items.c.fulfillment_id))
    .order_by(items.c.fulfillment_id, items.c.package_number, items.c.line_number)
)

read_void = (
    select(void_labels)
    .where(among(void_labels.c.fulfillment_id))
    .order_by(*void_labels.primary_key)
)

(
    insert_fulfillments,
    insert_lines,
    insert_packages,
    insert_items,
    insert_history,
    insert_orders,
    insert_kept,
    insert_void,
) = (
    insert_rows(*table.c)
    for table in (fulfillments, lines, packages, items, history, orders, kept_units, void_labels)
)
note_orders = insert_orders.on_conflict_do_nothing()
changed_orders = given(*orders.c)
update_orders = (
    update(orders)
    .values({each.name: each for each in changed_orders.c if each.name != "order_id"})
    .where(orders.c.order_id == changed_orders.c.order_id)
)
drop_kept = delete(kept_units).where(among(kept_units.c.order_id))
changed_fulfillments = given(*(f[name] for name in CHANGING))
update_fulfillments = (
    update(fulfillments)
    .values({name: changed_fulfillments.c[name] for name in CHANGING[1:]})
    .where(f.id == changed_fulfillments.c.id)
)
changed_lines = given(*lines.c)
update_lines = (
    update(lines)
    .values({name: changed_lines.c[name] for name in COUNTS})
    .where(
        lines.c.fulfillment_id == changed_lines.c.fulfillment_id,
        lines.c.line_number == changed_lines.c.line_number,
    )
)
drop_lines = delete(lines).where(among(lines.c.fulfillment_id))
drop_void = delete(void_labels).where(among(void_labels.c.fulfillment_id))
drop_packages = delete(packages).where(among(packages.c.fulfillment_id))


async def lock_jobs(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> dict[UUID, Job]:
    """The jobs of the targets, each under its order's id and those of its fulfilments.

    The lock of an order is that of all its fulfilments: every write of them takes it here.
    """
    named = {*repeats, *(each.target for each in envelopes)}
    of_fulfillments = (await connection.execute(read_orders, column_arrays(id=named))).scalars()
    wanted = column_arrays(order_id=[*named, *of_fulfillments])
    rows = list(await connection.execute(lock_orders, wanted))
    units, works = (
        defaultdict[UUID, list[Allocation]](list),
        defaultdict[UUID, list[Fulfillment]](list),
    )
    for each in await _whole(connection, read_by_order, wanted):
        works[each.work.order_id].append(each)
    if unknown := works.keys() - {row.order_id for row in rows}:
        # The version before this one made them. Whoever is first writes the order down; then all
        # find it, and wait for each other.
        await connection.execute(
            note_orders, row_arrays([_order(Job(id)) for id in sorted(unknown)])
        )
        return await lock_jobs(connection, envelopes, repeats)
    if any(row.kept_version for row in rows):
        for unit in await connection.execute(read_kept, wanted):
            units[unit.order_id].append(KEPT_UNIT.record(unit))
    picture: dict[UUID, Job] = {}
    for row in rows:
        id, version = row.order_id, row.kept_version
        kept = Kept(row.kept_attempt, version, tuple(units[id])) if version else None
        job = Job(
            order_id=id,
            closed_attempt=row.closed_attempt,
            kept=kept,
            fulfillments=tuple(works[id]),
        )
        picture |= dict.fromkeys([id, *(each.id for each in job.fulfillments)], job)
    return picture


async def save_jobs(
    connection: AsyncConnection,
    before: Mapping[UUID, Job],
    after: Mapping[UUID, Job],
    steps: Sequence[Transition],
) -> None:
    """Stores what changed; new orders sorted by their id, or two sets of rivals may deadlock."""
    now = {job.order_id: job for job in after.values()}
    await _save_orders(connection, before, [now[id] for id in sorted(now)])
    was = {each.id: each for id in now if id in before for each in before[id].fulfillments}
    changed = {
        each.id: each
        for job in now.values()
        for each in job.fulfillments
        if each is not was.get(each.id)
    }
    await save_fulfillments(connection, was, changed, steps)


async def save_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, Fulfillment],
    after: Mapping[UUID, Fulfillment],
    steps: Sequence[Transition],
) -> None:
    """Stores the fulfilments that changed, under the locks of their orders."""
    created = sorted(
        (each for id, each in after.items() if id not in before),
        key=attrgetter("work.order_id", "work.warehouse_id", "work.attempt"),
    )
    changed = sorted(
        ((before[id], each) for id, each in after.items() if id in before),
        key=lambda pair: pair[1].id,
    )
    if created:
        await connection.execute(insert_fulfillments, FULFILLMENT.arrays(created))
        await _insert_lines(connection, created)
    if changed:
        await connection.execute(
            update_fulfillments, FULFILLMENT.arrays((each for _, each in changed), CHANGING)
        )
        await _save_lines(connection, changed)
        await _save_packages(
            connection, [(old, new) for old, new in changed if old.packages != new.packages]
        )
        await _save_void_labels(
            connection, [new for old, new in changed if old.void_labels != new.void_labels]
        )
    if steps:
        await connection.execute(insert_history, TRANSITION.arrays(steps))


async def find_fulfillments(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Fulfillment]:
    """The fulfilments as they stand, unlocked, by id; unknown ids are missing."""
    return {each.id: each for each in await _whole(connection, read_by_id, column_arrays(id=ids))}


async def works_of(connection: AsyncConnection, orders: Collection[UUID]) -> set[Work]:
    """What there is for these orders, whatever its attempt and status."""
    rows = await connection.execute(read_works, column_arrays(order_id=orders))
    return {WORK.record(row) for row in rows}


async def versions_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """The orders' stored versions; those without one are left out."""
    rows = await connection.execute(read_versions, column_arrays(order_id=ids))
    return {row.order_id: row.kept_version for row in rows}


async def find_owed(connection: AsyncConnection, after: UUID, most: int) -> list[Fulfillment]:
    """Those in planning whose stock is not committed, by id, from the one that follows `after`."""
    return await _whole(connection, read_owed, {"after": after, "most": most})


async def list_fulfillments(
    connection: AsyncConnection, wanted: Filter, page: Page
) -> list[Listed]:
    """The page's fulfilments and one more where there are more, oldest first; packed items count
    as lines.
    """
    conditions: list[ColumnElement[bool]] = (
        [f.status.in_(wanted.statuses)] if wanted.statuses else []
    )
    if wanted.order_id:
        conditions.append(f.order_id == wanted.order_id)
    if wanted.warehouse_id:
        conditions.append(f.warehouse_id == wanted.warehouse_id)
    if wanted.update_time_from:
        conditions.append(f.update_time >= wanted.update_time_from)
    if wanted.update_time_before:
        conditions.append(f.update_time < wanted.update_time_before)
    if page.after:
        conditions.append(f.id > page.after[0])
    statement = (
        select(f.id, count_lines + count_items)
        .where(*conditions)
        .order_by(f.id)
        .limit(page.size + 1)
    )
    return [Listed((id,), lines) for id, lines in await connection.execute(statement)]


async def list_history(
    connection: AsyncConnection,
    of: UUID,
    after: int,
    most: int,
) -> list[Transition]:
    """The fulfilment's transitions after that version, oldest first."""
    rows = await connection.execute(read_history, {"of": of, "after": after, "most": most})
    return [TRANSITION.record(row) for row in rows]


async def _whole(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Fulfillment]:
    """The fulfilments that the statement finds, in its order, each with its lines and packages."""
    rows = list(await connection.execute(statement, parameters))
    picklists: defaultdict[UUID, list[Line]] = defaultdict(list)
    if rows:
        of = column_arrays(fulfillment_id=[row.id for row in rows])
        for line in await connection.execute(read_lines, of):
            picklists[line.fulfillment_id].append(LINE.record(line))
    parcels = await _packages(connection, [row.id for row in rows if row.status in PACKED])
    void = await _void_labels(connection, [row.id for row in rows if row.released_version])
    return [
        FULFILLMENT.record(
            row,
            lines=tuple(picklists[row.id]),
            packages=tuple(parcels.get(row.id, ())),
            void_labels=tuple(void.get(row.id, ())),
        )
        for row in rows
    ]


async def _packages(connection: AsyncConnection, ids: list[UUID]) -> dict[UUID, list[Package]]:
    """The packages of these fulfilments, each with its items."""
    if not ids:
        return {}
    of = column_arrays(fulfillment_id=ids)
    contents: defaultdict[tuple[UUID, int], list[PackedItem]] = defaultdict(list)
    for row in await connection.execute(read_items, of):
        contents[row.fulfillment_id, row.package_number].append(ITEM.record(row))
    parcels: defaultdict[UUID, list[Package]] = defaultdict(list)
    for row in await connection.execute(read_packages, of):
        packed = tuple(contents[row.fulfillment_id, row.number])
        parcels[row.fulfillment_id].append(PACKAGE.record(row, items=packed))
    return parcels


async def _void_labels(connection: AsyncConnection, ids: list[UUID]) -> dict[UUID, list[VoidLabel]]:
    """The void labels of these fulfilments, each with what its parcels held."""
    if not ids:
        return {}
    units: defaultdict[tuple[UUID, UUID, bool], dict[int, int]] = defaultdict(dict)
    for row in await connection.execute(read_void, column_arrays(fulfillment_id=ids)):
        units[row.fulfillment_id, row.shipment_id, row.left][row.line_number] = row.quantity
    labels: defaultdict[UUID, list[VoidLabel]] = defaultdict(list)
    for (id, shipment_id, left), held in units.items():
        labels[id].append(VoidLabel(shipment_id, held, left))
    return labels


async def _save_void_labels(connection: AsyncConnection, changed: Sequence[Fulfillment]) -> None:
    if not changed:
        return
    await connection.execute(drop_void, column_arrays(fulfillment_id=[each.id for each in changed]))
    rows = [
        {
            "fulfillment_id": each.id,
            "shipment_id": label.shipment_id,
            "line_number": number,
            "quantity": quantity,
            "left": label.left,
        }
        for each in changed
        for label in each.void_labels
        for number, quantity in label.units.items()
    ]
    await connection.execute(insert_void, row_arrays(rows))


async def _save_orders(
    connection: AsyncConnection, before: Mapping[UUID, Job], jobs: Sequence[Job]
) -> None:
    created = [job for job in jobs if job.order_id not in before]
    changed = [
        job
        for job in jobs
        if (was := before.get(job.order_id))
        and (was.closed_attempt, was.kept) != (job.closed_attempt, job.kept)
    ]
    if created:
        await connection.execute(insert_orders, row_arrays([_order(job) for job in created]))
    if changed:
        await connection.execute(update_orders, row_arrays([_order(job) for job in changed]))
        await connection.execute(
            drop_kept, column_arrays(order_id=[job.order_id for job in changed])
        )
    kept = [
        KEPT_UNIT.row(unit, order_id=job.order_id)
        for job in (*created, *changed)
        if job.kept
        for unit in job.kept.units
    ]
    if kept:
        await connection.execute(insert_kept, row_arrays(kept))


def _order(job: Job) -> dict[str, Any]:
    return {
        "order_id": job.order_id,
        "closed_attempt": job.closed_attempt,
        "kept_attempt": job.kept and job.kept.attempt,
        "kept_version": job.kept and job.kept.version,
    }


async def _insert_lines(connection: AsyncConnection, of: Sequence[Fulfillment]) -> None:
    rows = [LINE.row(line, fulfillment_id=each.id) for each in of for line in each.lines]
    if rows:
        await connection.execute(insert_lines, row_arrays(rows))


async def _save_lines(
    connection: AsyncConnection, changed: Sequence[tuple[Fulfillment, Fulfillment]]
) -> None:
    """New counts of lines that stay; whole picklists where the lines themselves are others."""
    counted, replaced = [], []
    for old, new in changed:
        names = [[(line.line_number, line.sku) for line in each.lines] for each in (old, new)]
        if names[0] == names[1]:
            counted += [
                LINE.row(line, fulfillment_id=new.id)
                for was, line in zip(old.lines, new.lines, strict=True)
                if line != was
            ]
        else:
            replaced.append(new)
    if counted:
        await connection.execute(update_lines, row_arrays(counted))
    if replaced:
        await connection.execute(
            drop_lines, column_arrays(fulfillment_id=[each.id for each in replaced])
        )
        await _insert_lines(connection, replaced)


async def _save_packages(
    connection: AsyncConnection, repacked: Sequence[tuple[Fulfillment, Fulfillment]]
) -> None:
    """The packages as they now are, in the place of those that were."""
    if emptied := [old.id for old, _ in repacked if old.packages]:
        await connection.execute(drop_packages, column_arrays(fulfillment_id=emptied))
    parcels = [(new.id, parcel) for _, new in repacked for parcel in new.packages]
    if parcels:
        rows = [PACKAGE.row(parcel, fulfillment_id=id) for id, parcel in parcels]
        await connection.execute(insert_packages, row_arrays(rows))
        contents = [
            ITEM.row(item, fulfillment_id=id, package_number=parcel.number)
            for id, parcel in parcels
            for item in parcel.items
        ]
        await connection.execute(insert_items, row_arrays(contents))
