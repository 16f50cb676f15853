"""The table `orders`: a row for each order, which a write of its fulfilments locks, and the order's
remaining units.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows
from fulfillment_svc.model.records import Allocation, OrderFulfillments
from fulfillment_svc.tables import orders, remaining_units

REMAINING_UNIT = RecordRows(Allocation, remaining_units.c, keys=["order_id"])
lock_orders = (
    select(orders)
    .where(is_any_of(orders.c.order_id))
    .order_by(orders.c.order_id)
    .with_for_update(key_share=True)
)
read_remaining = (
    select(remaining_units)
    .where(is_any_of(remaining_units.c.order_id))
    .order_by(*remaining_units.primary_key)
)
read_versions = select(orders.c.order_id, orders.c.remaining_version).where(
    is_any_of(orders.c.order_id), orders.c.remaining_version.is_not(None)
)
insert_orders = insert_rows(*orders.c)
insert_remaining = insert_rows(*remaining_units.c)
update_orders = update_rows(*orders.c)
delete_remaining = delete(remaining_units).where(is_any_of(remaining_units.c.order_id))


async def find_versions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """Returns the orders' stored versions; orders without one are missing."""
    rows = await connection.execute(read_versions, column_arrays(order_id=ids))
    return {row.order_id: row.remaining_version for row in rows}


async def save_orders(
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
        await connection.execute(insert_orders, row_arrays([_row(order) for order in created]))
    if changed:
        await connection.execute(update_orders, row_arrays([_row(order) for order in changed]))
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


def _row(order: OrderFulfillments) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "closed_attempt": order.closed_attempt,
        "remaining_attempt": order.remaining and order.remaining.attempt,
        "remaining_version": order.remaining and order.remaining.version,
    }
