"""All the SQL of orders and their fulfilments, for sets, over one connection."""

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
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from chassis.write.workspace import Workspace
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.records import (
    Allocation,
    Filter,
    Fulfillment,
    FulfillmentKey,
    Line,
    OrderFulfillments,
    Package,
    PackedItem,
    RemainingUnits,
    Transition,
    VoidLabel,
)
from fulfillment_svc.tables import (
    fulfillments,
    history,
    items,
    lines,
    orders,
    packages,
    remaining_units,
    void_labels,
)

f = fulfillments.c
FULFILLMENT = RecordRows(Fulfillment, fulfillments.c, loaded=["lines", "packages", "void_labels"])
LINE = RecordRows(Line, lines.c, keys=["fulfillment_id"])
PACKAGE = RecordRows(Package, packages.c, keys=["fulfillment_id"], loaded=["items"])
ITEM = RecordRows(PackedItem, items.c, keys=["fulfillment_id", "package_number"])
TRANSITION = RecordRows(Transition, history.c)
REMAINING_UNIT = RecordRows(Allocation, remaining_units.c, keys=["order_id"])
KEY = RecordRows(FulfillmentKey, (f.order_id, f.warehouse_id, f.attempt))
CHANGING = (
    "id",
    "status",
    "stock_committed",
    "inspection_rule",
    "shipment_id",
    "version",
    "update_time",
    "withdraw_reason",
    "withdrawn_version",
)
# A line's units; its number and SKU never change.
COUNTS = ("quantity", "picked", "cut", "short", "spoiled", "found_spoiled")
# The statuses in which there may be packages: in the others none are read.
STATUSES_WITH_PACKAGES = frozenset({Status.PACKED, Status.READY, Status.SHIPPED, Status.COMPLETED})

read_by_id = select(fulfillments).where(is_any_of(f.id)).order_by(f.id)
read_by_order = select(fulfillments).where(is_any_of(f.order_id)).order_by(f.id)
read_orders = select(f.order_id).where(is_any_of(f.id)).distinct()
lock_orders = (
    select(orders)
    .where(is_any_of(orders.c.order_id))
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
read_remaining = (
    select(remaining_units)
    .where(is_any_of(remaining_units.c.order_id))
    .order_by(*remaining_units.primary_key)
)
count_lines = select(func.count()).where(lines.c.fulfillment_id == f.id).scalar_subquery()
count_items = select(func.count()).where(items.c.fulfillment_id == f.id).scalar_subquery()
read_keys = select(f.order_id, f.warehouse_id, f.attempt).where(is_any_of(f.order_id))
read_versions = select(orders.c.order_id, orders.c.remaining_version).where(
    is_any_of(orders.c.order_id), orders.c.remaining_version.is_not(None)
)
read_commit_pending = (
    select(fulfillments)
    .where(f.status == Status.PLANNING, not_(f.stock_committed), f.id > bindparam("after"))
    .order_by(f.id)
    .limit(bindparam("most"))
)
read_lines = (
    select(lines)
    .where(is_any_of(lines.c.fulfillment_id))
    .order_by(lines.c.fulfillment_id, lines.c.line_number)
)
read_packages = (
    select(packages)
    .where(is_any_of(packages.c.fulfillment_id))
    .order_by(packages.c.fulfillment_id, packages.c.number)
)
read_items = (
    select(items)
    .where(is_any_of(items.c.fulfillment_id))
    .order_by(items.c.fulfillment_id, items.c.package_number, items.c.line_number)
)

read_void_labels = (
    select(void_labels)
    .where(is_any_of(void_labels.c.fulfillment_id))
    .order_by(*void_labels.primary_key)
)

(
    insert_fulfillments,
    insert_lines,
    insert_packages,
    insert_items,
    insert_history,
    insert_orders,
    insert_remaining,
    insert_void_labels,
) = (
    insert_rows(*table.c)
    for table in (
        fulfillments,
        lines,
        packages,
        items,
        history,
        orders,
        remaining_units,
        void_labels,
    )
)
insert_missing_orders = insert_orders.on_conflict_do_nothing()
changed_orders = unnest_rows(*orders.c)
update_orders = (
    update(orders)
    .values({each.name: each for each in changed_orders.c if each.name != "order_id"})
    .where(orders.c.order_id == changed_orders.c.order_id)
)
delete_remaining = delete(remaining_units).where(is_any_of(remaining_units.c.order_id))
changed_fulfillments = unnest_rows(*(f[name] for name in CHANGING))
update_fulfillments = (
    update(fulfillments)
    .values({name: changed_fulfillments.c[name] for name in CHANGING[1:]})
    .where(f.id == changed_fulfillments.c.id)
)
changed_lines = unnest_rows(*lines.c)
update_lines = (
    update(lines)
    .values({name: changed_lines.c[name] for name in COUNTS})
    .where(
        lines.c.fulfillment_id == changed_lines.c.fulfillment_id,
        lines.c.line_number == changed_lines.c.line_number,
    )
)
delete_lines = delete(lines).where(is_any_of(lines.c.fulfillment_id))
delete_void_labels = delete(void_labels).where(is_any_of(void_labels.c.fulfillment_id))
delete_packages = delete(packages).where(is_any_of(packages.c.fulfillment_id))


async def lock_order_fulfillments(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace[OrderFulfillments]:
    """The fulfilments of the targets' orders. The ids of its fulfilments name an order too.

    The lock of an order is that of all its fulfilments: every write of them takes it here.
    """
    named = {*repeats, *(each.target for each in envelopes)}
    of_fulfillments = (await connection.execute(read_orders, column_arrays(id=named))).scalars()
    wanted = column_arrays(order_id=[*named, *of_fulfillments])
    rows = list(await connection.execute(lock_orders, wanted))
    units, found = (
        defaultdict[UUID, list[Allocation]](list),
        defaultdict[UUID, list[Fulfillment]](list),
    )
    for each in await _load_fulfillments(connection, read_by_order, wanted):
        found[each.key.order_id].append(each)
    if unknown := found.keys() - {row.order_id for row in rows}:
        # The version before this one made them. The first writer inserts the order; the others find
        # it, and wait for its lock.
        await connection.execute(
            insert_missing_orders,
            row_arrays([_order(OrderFulfillments(id)) for id in sorted(unknown)]),
        )
        return await lock_order_fulfillments(connection, envelopes, repeats)
    if any(row.remaining_version for row in rows):
        for unit in await connection.execute(read_remaining, wanted):
            units[unit.order_id].append(REMAINING_UNIT.record(unit))
    orders: dict[UUID, OrderFulfillments] = {}
    for row in rows:
        id, version = row.order_id, row.remaining_version
        remaining = (
            RemainingUnits(row.remaining_attempt, version, tuple(units[id])) if version else None
        )
        orders[id] = OrderFulfillments(
            order_id=id,
            closed_attempt=row.closed_attempt,
            remaining=remaining,
            fulfillments=tuple(found[id]),
        )
    names = {each.id: id for id, order in orders.items() for each in order.fulfillments}
    return Workspace(orders, names)


async def save_order_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, OrderFulfillments],
    after: Mapping[UUID, OrderFulfillments],
    steps: Sequence[Transition],
) -> None:
    """Stores what changed; new orders sorted by their id, or two sets of rivals may deadlock."""
    now = {order.order_id: order for order in after.values()}
    await _save_orders(connection, before, [now[id] for id in sorted(now)])
    was = {each.id: each for id in now if id in before for each in before[id].fulfillments}
    changed = {
        each.id: each
        for order in now.values()
        for each in order.fulfillments
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
        key=attrgetter("key.order_id", "key.warehouse_id", "key.attempt"),
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
    return {
        each.id: each
        for each in await _load_fulfillments(connection, read_by_id, column_arrays(id=ids))
    }


async def find_keys(connection: AsyncConnection, orders: Collection[UUID]) -> set[FulfillmentKey]:
    """The keys of these orders' fulfilments, of every attempt and status."""
    rows = await connection.execute(read_keys, column_arrays(order_id=orders))
    return {KEY.record(row) for row in rows}


async def find_versions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """The orders' stored versions; orders without one are missing."""
    rows = await connection.execute(read_versions, column_arrays(order_id=ids))
    return {row.order_id: row.remaining_version for row in rows}


async def find_commit_pending(
    connection: AsyncConnection, after: UUID, most: int
) -> list[Fulfillment]:
    """Fulfilments in planning whose stock is not committed, by id, those that follow `after`."""
    return await _load_fulfillments(connection, read_commit_pending, {"after": after, "most": most})


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


async def _load_fulfillments(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Fulfillment]:
    """The fulfilments that the statement finds, in its order, each with its lines and packages."""
    rows = list(await connection.execute(statement, parameters))
    picklists: defaultdict[UUID, list[Line]] = defaultdict(list)
    if rows:
        of = column_arrays(fulfillment_id=[row.id for row in rows])
        for line in await connection.execute(read_lines, of):
            picklists[line.fulfillment_id].append(LINE.record(line))
    parcels = await _packages(
        connection, [row.id for row in rows if row.status in STATUSES_WITH_PACKAGES]
    )
    void = await _void_labels(connection, [row.id for row in rows if row.withdrawn_version])
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
    """The void labels of these fulfilments, each with the units in its parcels."""
    if not ids:
        return {}
    units: defaultdict[tuple[UUID, UUID, bool], dict[int, int]] = defaultdict(dict)
    for row in await connection.execute(read_void_labels, column_arrays(fulfillment_id=ids)):
        units[row.fulfillment_id, row.shipment_id, row.shipped][row.line_number] = row.quantity
    labels: defaultdict[UUID, list[VoidLabel]] = defaultdict(list)
    for (id, shipment_id, shipped), held in units.items():
        labels[id].append(VoidLabel(shipment_id, held, shipped))
    return labels


async def _save_void_labels(connection: AsyncConnection, changed: Sequence[Fulfillment]) -> None:
    if not changed:
        return
    await connection.execute(
        delete_void_labels, column_arrays(fulfillment_id=[each.id for each in changed])
    )
    rows = [
        {
            "fulfillment_id": each.id,
            "shipment_id": label.shipment_id,
            "line_number": number,
            "quantity": quantity,
            "shipped": label.shipped,
        }
        for each in changed
        for label in each.void_labels
        for number, quantity in label.units.items()
    ]
    await connection.execute(insert_void_labels, row_arrays(rows))


async def _save_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, OrderFulfillments],
    orders: Sequence[OrderFulfillments],
) -> None:
    created = [order for order in orders if order.order_id not in before]
    changed = [
        order
        for order in orders
        if (was := before.get(order.order_id))
        and (was.closed_attempt, was.remaining) != (order.closed_attempt, order.remaining)
    ]
    if created:
        await connection.execute(insert_orders, row_arrays([_order(order) for order in created]))
    if changed:
        await connection.execute(update_orders, row_arrays([_order(order) for order in changed]))
        await connection.execute(
            delete_remaining, column_arrays(order_id=[order.order_id for order in changed])
        )
    remaining = [
        REMAINING_UNIT.row(unit, order_id=order.order_id)
        for order in (*created, *changed)
        if order.remaining
        for unit in order.remaining.units
    ]
    if remaining:
        await connection.execute(insert_remaining, row_arrays(remaining))


def _order(order: OrderFulfillments) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "closed_attempt": order.closed_attempt,
        "remaining_attempt": order.remaining and order.remaining.attempt,
        "remaining_version": order.remaining and order.remaining.version,
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
            delete_lines, column_arrays(fulfillment_id=[each.id for each in replaced])
        )
        await _insert_lines(connection, replaced)


async def _save_packages(
    connection: AsyncConnection, repacked: Sequence[tuple[Fulfillment, Fulfillment]]
) -> None:
    """The packages as they now are, in the place of those that were."""
    if emptied := [old.id for old, _ in repacked if old.packages]:
        await connection.execute(delete_packages, column_arrays(fulfillment_id=emptied))
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
