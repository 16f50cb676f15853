"""Queries for reads and timers that load no order: ids for a list or for the expiry; counts, update
times, history, recipients. workspace.py loads orders, and has the queries that precede a write.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from operator import eq, ge, lt
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    bindparam,
    cast,
    extract,
    func,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Listed, Page
from chassis.write.rows import column_arrays
from chassis.write.tables import conditions, is_any_of
from order_svc.lifecycle import Status, StockStatus
from order_svc.model.filters import OrderFilter
from order_svc.model.records import Recipient, Transition
from order_svc.store.workspace import RECIPIENT, TRANSITION
from order_svc.tables import history, lines, orders, recipients

microseconds = cast(extract("epoch", orders.c.update_time) * 1_000_000, BigInteger)
read_update_times = select(orders.c.id, microseconds.label("microseconds")).where(
    is_any_of(orders.c.id)
)
count_lines = select(func.count()).where(lines.c.order_id == orders.c.id).scalar_subquery()
read_line_counts = select(orders.c.id, count_lines.label("lines")).where(is_any_of(orders.c.id))
read_recipient = select(recipients).where(recipients.c.order_id == bindparam("order_id"))
read_history = (
    select(history)
    .where(
        history.c.order_id == bindparam("order_id"),
        history.c.version > bindparam("after", type_=BigInteger),
    )
    .order_by(history.c.version)
    .limit(bindparam("most"))
)
by_time = (orders.c.expire_time, orders.c.id)
choose_expired = (
    select(*by_time)
    .where(
        orders.c.status == Status.PENDING,
        orders.c.expire_time <= func.clock_timestamp(),
        tuple_(*by_time)
        > tuple_(*(bindparam(f"after_{column.name}", type_=column.type) for column in by_time)),
    )
    .order_by(*by_time)
    .limit(bindparam("most"))
    .with_for_update(key_share=True, skip_locked=True)
)
EARLIEST = datetime.min.replace(tzinfo=UTC)
count_commit_pending = select(func.count()).where(orders.c.stock == StockStatus.COMMIT_PENDING)


async def update_times(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """When each order, or a return of it, last changed, in microseconds since 1970. Unknown ids are
    missing.
    """
    rows = await connection.execute(read_update_times, column_arrays(id=ids))
    return {row.id: row.microseconds for row in rows}


async def list_orders(connection: AsyncConnection, wanted: OrderFilter, page: Page) -> list[Listed]:
    """The page's orders and one more where there are more, newest first."""
    c = orders.c
    filters = conditions(
        (c.status, Column.in_, wanted.statuses),
        (c.customer_id, eq, wanted.customer_id),
        (c.external_reference, eq, wanted.external_reference),
        (c.number, eq, wanted.number),
        (c.stock, eq, wanted.stock),
        (c.create_time, ge, wanted.create_time_from),
        (c.create_time, lt, wanted.create_time_before),
        (c.update_time, ge, wanted.update_time_from),
        (c.update_time, lt, wanted.update_time_before),
        (c.id, lt, page.after and page.after[0]),
    )
    statement = (
        select(orders.c.id, count_lines)
        .where(*filters)
        .order_by(orders.c.id.desc())
        .limit(page.size + 1)
    )
    return [Listed((id,), lines) for id, lines in await connection.execute(statement)]


async def count_lines_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """How many lines the orders have; unknown ids are missing."""
    rows = await connection.execute(read_line_counts, column_arrays(id=ids))
    return {row.id: row.lines for row in rows}


async def list_history(
    connection: AsyncConnection, order_id: UUID, after: int, most: int
) -> list[Transition]:
    """The order's transitions that came after that version, oldest first."""
    rows = await connection.execute(
        read_history, {"order_id": order_id, "after": after, "most": most}
    )
    return [TRANSITION.record(row) for row in rows]


async def find_expired(
    connection: AsyncConnection, after: tuple[datetime, UUID] | None, most: int
) -> list[tuple[datetime, UUID]]:
    """Returns the next expired orders, earliest first, `most` at most: each one's expire time and
    id.

    `after` is the last pair of the previous page; None returns the first page. An order that
    another transaction has locked is skipped.
    """
    time, id = after or (EARLIEST, UUID(int=0))
    return [
        (time, id)
        for time, id in await connection.execute(
            choose_expired, {"after_expire_time": time, "after_id": id, "most": most}
        )
    ]


async def count_commit_pending_orders(connection: AsyncConnection) -> int:
    """Returns how many orders have a pending stock commit."""
    return (await connection.execute(count_commit_pending)).scalar_one()


async def find_recipient(connection: AsyncConnection, order_id: UUID) -> Recipient | None:
    row = (await connection.execute(read_recipient, {"order_id": order_id})).one_or_none()
    return replace(RECIPIENT.record(row), address_lines=tuple(row.address_lines)) if row else None
