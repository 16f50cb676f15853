"""Whole returns, their lists and their history. Returns are saved with their orders, under these
orders' locks.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import eq, ge, lt
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Select,
    and_,
    bindparam,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import conditions, insert_rows, is_any_of, upsert_rows
from order_svc.model.filters import ReturnFilter
from order_svc.model.records import Order
from order_svc.model.returns import Return, ReturnLine, ReturnTransition
from order_svc.tables import lines, orders, return_history, return_lines, returns

RETURN = RecordRows(Return, returns.c, loaded=["order_number", "currency", "lines"])
LINE = RecordRows(ReturnLine, return_lines.c, keys=["return_id", "order_id"], loaded=["sku"])
TRANSITION = RecordRows(ReturnTransition, return_history.c)

read = select(returns, orders.c.number.label("order_number"), orders.c.currency).join(
    orders, orders.c.id == returns.c.order_id
)
read_by_id = read.where(is_any_of(returns.c.id))
read_by_order = read.where(is_any_of(returns.c.order_id)).order_by(
    returns.c.create_time, returns.c.id
)
read_order_id = select(returns.c.order_id).where(returns.c.id == bindparam("return_id"))
count_lines = select(func.count()).where(return_lines.c.return_id == returns.c.id).scalar_subquery()
read_lines = (
    select(return_lines, lines.c.sku)
    .join(
        lines,
        and_(lines.c.order_id == return_lines.c.order_id, lines.c.number == return_lines.c.number),
    )
    .where(is_any_of(return_lines.c.return_id))
    .order_by(return_lines.c.return_id, return_lines.c.number)
)
insert_transitions = insert_rows(*return_history.c)
save_returns = upsert_rows(returns)
save_lines = upsert_rows(return_lines)
read_steps = (
    select(return_history)
    .where(
        return_history.c.return_id == bindparam("return_id"),
        return_history.c.version > bindparam("after", type_=BigInteger),
    )
    .order_by(return_history.c.version)
    .limit(bindparam("most"))
)


async def returns_of(
    connection: AsyncConnection, order_ids: Collection[UUID]
) -> dict[UUID, tuple[Return, ...]]:
    """The returns of these orders, by order, oldest first."""
    found: defaultdict[UUID, tuple[Return, ...]] = defaultdict(tuple)
    for order_return in await _load_returns(
        connection, read_by_order, column_arrays(order_id=order_ids)
    ):
        found[order_return.order_id] += (order_return,)
    return found


async def save_returns_of(
    connection: AsyncConnection,
    before: Mapping[UUID, Order],
    after: Mapping[UUID, Order],
    transitions: Sequence[ReturnTransition],
) -> None:
    """Stores the returns that changed with their orders, and their history."""
    known = {
        order_return.id: order_return.version
        for order in before.values()
        for order_return in order.returns
    }
    changed = {
        order_return.id: order_return
        for order in after.values()
        for order_return in order.returns
        if known.get(order_return.id) != order_return.version
    }
    several = [changed[id] for id in sorted(changed)]
    await connection.execute(save_returns, RETURN.arrays(several))
    rows = [
        LINE.row(line, return_id=order_return.id, order_id=order_return.order_id)
        for order_return in several
        for line in order_return.lines
    ]
    await connection.execute(save_lines, row_arrays(rows))
    await connection.execute(insert_transitions, TRANSITION.arrays(transitions))


async def order_of_return(connection: AsyncConnection, return_id: UUID) -> UUID | None:
    """The order that the return is of: it never changes."""
    return (await connection.execute(read_order_id, {"return_id": return_id})).scalar_one_or_none()


async def find_returns(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Return]:
    """The returns as they stand, by id; unknown ids are missing."""
    return {
        order_return.id: order_return
        for order_return in await _load_returns(connection, read_by_id, column_arrays(id=ids))
    }


async def list_returns(
    connection: AsyncConnection, wanted: ReturnFilter, page: Page
) -> list[Listed]:
    """The page's returns and one more where there are more, newest first."""
    c = returns.c
    filters = conditions(
        (c.order_id, eq, wanted.order_id),
        (c.status, Column.in_, wanted.statuses),
        (c.create_time, ge, wanted.create_time_from),
        (c.create_time, lt, wanted.create_time_before),
        (c.update_time, ge, wanted.update_time_from),
        (c.update_time, lt, wanted.update_time_before),
    )
    if page.after:
        time, id = page.after
        filters.append(tuple_(c.create_time, c.id) < tuple_(literal(time), literal(id)))
    place = (returns.c.create_time, returns.c.id)
    statement = (
        select(*place, count_lines)
        .where(*filters)
        .order_by(*(column.desc() for column in place))
        .limit(page.size + 1)
    )
    return [Listed((time, id), lines) for time, id, lines in await connection.execute(statement)]


async def list_return_history(
    connection: AsyncConnection, return_id: UUID, after: int, most: int
) -> list[ReturnTransition]:
    """The return's transitions that came after that version, oldest first."""
    rows = await connection.execute(
        read_steps, {"return_id": return_id, "after": after, "most": most}
    )
    return [TRANSITION.record(row) for row in rows]


async def _load_returns(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Return]:
    """The returns that the statement finds, in its order, each with its lines."""
    rows = list(await connection.execute(statement, parameters))
    if not rows:
        return []
    of_return: defaultdict[UUID, list[ReturnLine]] = defaultdict(list)
    of = column_arrays(return_id=[row.id for row in rows])
    for line in await connection.execute(read_lines, of):
        of_return[line.return_id].append(LINE.record(line, sku=line.sku))
    return [
        RETURN.record(
            row,
            order_number=row.order_number,
            currency=row.currency,
            lines=tuple(of_return[row.id]),
        )
        for row in rows
    ]
