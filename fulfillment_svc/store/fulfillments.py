"""Whole fulfilments: their load with all their parts, their save, their lists and their history."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter, eq, ge, gt, lt
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Select, bindparam, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import conditions, insert_rows, is_any_of, update_rows
from fulfillment_svc.lifecycle import FORWARD, Status
from fulfillment_svc.model.filters import FulfillmentFilter
from fulfillment_svc.model.records import Fulfillment, FulfillmentKey, Line, Transition
from fulfillment_svc.store.packages import load_packages, save_packages
from fulfillment_svc.store.picklists import LINE, read_lines, save_lines, save_new_lines
from fulfillment_svc.store.void_labels import load_void_labels, save_void_labels
from fulfillment_svc.tables import fulfillments, history, items, lines

f = fulfillments.c
FULFILLMENT = RecordRows(Fulfillment, fulfillments.c, loaded=["lines", "packages", "void_labels"])
TRANSITION = RecordRows(Transition, history.c)
KEY = RecordRows(FulfillmentKey, (f.order_id, f.warehouse_id, f.attempt))
MUTABLE_COLUMNS = (
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
# The statuses in which there may be packages: in the others none are read.
STATUSES_WITH_PACKAGES = frozenset(FORWARD[FORWARD.index(Status.PACKED) :])
read_by_id = select(fulfillments).where(is_any_of(f.id)).order_by(f.id)
read_by_order = select(fulfillments).where(is_any_of(f.order_id)).order_by(f.id)
read_orders = select(f.order_id).where(is_any_of(f.id)).distinct()
read_history = (
    select(history)
    .where(history.c.fulfillment_id == bindparam("fulfillment_id"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("most"))
)
count_lines = select(func.count()).where(lines.c.fulfillment_id == f.id).scalar_subquery()
count_items = select(func.count()).where(items.c.fulfillment_id == f.id).scalar_subquery()
read_keys = select(f.order_id, f.warehouse_id, f.attempt).where(is_any_of(f.order_id))
read_commit_pending = (
    select(fulfillments)
    .where(f.status == Status.PLANNING, not_(f.stock_committed), f.id > bindparam("after"))
    .order_by(f.id)
    .limit(bindparam("most"))
)
insert_fulfillments = insert_rows(*fulfillments.c)
insert_history = insert_rows(*history.c)
update_fulfillments = update_rows(*(f[name] for name in MUTABLE_COLUMNS))


async def find_fulfillments(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Fulfillment]:
    """Returns the fulfilments by id, unlocked; unknown ids are missing."""
    return {
        each.id: each
        for each in await load_fulfillments(connection, read_by_id, column_arrays(id=ids))
    }


async def find_keys(connection: AsyncConnection, orders: Collection[UUID]) -> set[FulfillmentKey]:
    """Returns the keys of these orders' fulfilments, of every attempt and status."""
    rows = await connection.execute(read_keys, column_arrays(order_id=orders))
    return {KEY.record(row) for row in rows}


async def find_commit_pending(
    connection: AsyncConnection, after: UUID, most: int
) -> list[Fulfillment]:
    """Returns fulfilments in planning whose commit is pending, by id, those after `after`."""
    return await load_fulfillments(connection, read_commit_pending, {"after": after, "most": most})


async def list_fulfillments(
    connection: AsyncConnection, wanted: FulfillmentFilter, page: Page
) -> list[Listed]:
    """Returns the page's fulfilments and one more where there are more, oldest first.

    Packed items count as lines.
    """
    filters = conditions(
        (f.status, Column.in_, wanted.statuses),
        (f.order_id, eq, wanted.order_id),
        (f.warehouse_id, eq, wanted.warehouse_id),
        (f.update_time, ge, wanted.update_time_from),
        (f.update_time, lt, wanted.update_time_before),
        (f.id, gt, page.after and page.after[0]),
    )
    statement = (
        select(f.id, count_lines + count_items).where(*filters).order_by(f.id).limit(page.size + 1)
    )
    return [Listed((id,), lines) for id, lines in await connection.execute(statement)]


async def list_history(
    connection: AsyncConnection,
    fulfillment_id: UUID,
    after: int,
    most: int,
) -> list[Transition]:
    """Returns the fulfilment's transitions after that version, oldest first."""
    parameters = {"fulfillment_id": fulfillment_id, "after": after, "most": most}
    rows = await connection.execute(read_history, parameters)
    return [TRANSITION.record(row) for row in rows]


async def load_fulfillments(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Fulfillment]:
    """Returns the fulfilments of the statement, in its order, each with its lines and packages."""
    rows = list(await connection.execute(statement, parameters))
    picklists: defaultdict[UUID, list[Line]] = defaultdict(list)
    if rows:
        ids = column_arrays(fulfillment_id=[row.id for row in rows])
        for line in await connection.execute(read_lines, ids):
            picklists[line.fulfillment_id].append(LINE.record(line))
    parcels = await load_packages(
        connection, [row.id for row in rows if row.status in STATUSES_WITH_PACKAGES]
    )
    void = await load_void_labels(connection, [row.id for row in rows if row.withdrawn_version])
    return [
        FULFILLMENT.record(
            row,
            lines=tuple(picklists[row.id]),
            packages=tuple(parcels.get(row.id, ())),
            void_labels=tuple(void.get(row.id, ())),
        )
        for row in rows
    ]


async def save_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, Fulfillment],
    after: Mapping[UUID, Fulfillment],
    transitions: Sequence[Transition],
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
        await save_new_lines(connection, created)
    if changed:
        await connection.execute(
            update_fulfillments, FULFILLMENT.arrays((each for _, each in changed), MUTABLE_COLUMNS)
        )
        await save_lines(connection, changed)
        await save_packages(
            connection, [(old, new) for old, new in changed if old.packages != new.packages]
        )
        await save_void_labels(
            connection, [new for old, new in changed if old.void_labels != new.void_labels]
        )
    if transitions:
        await connection.execute(insert_history, TRANSITION.arrays(transitions))
