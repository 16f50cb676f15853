"""Closed orders and cancelled fulfilments: reads, and the lock, load and save for a write."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows
from chassis.write.workspace import Workspace
from shipping_svc.model.records import ClosedFulfillment, ClosedOrder, ClosedOrders
from shipping_svc.tables import closed_fulfillments, closed_orders, shipments

CLOSED_ORDER = RecordRows(ClosedOrder, closed_orders.c)
CLOSED_FULFILLMENT = RecordRows(ClosedFulfillment, closed_fulfillments.c)
read_orders = union(
    select(shipments.c.order_id).where(is_any_of(shipments.c.order_id)),
    select(closed_orders.c.order_id).where(is_any_of(closed_orders.c.order_id)),
)
read_closed_orders = select(closed_orders).where(is_any_of(closed_orders.c.order_id))
lock_closed_orders_by_id = read_closed_orders.order_by(closed_orders.c.order_id).with_for_update(
    key_share=True
)
insert_closed_orders = insert_rows(*closed_orders.c)
read_closed_fulfillments = select(closed_fulfillments).where(
    is_any_of(closed_fulfillments.c.fulfillment_id)
)
lock_closed_fulfillments_by_id = read_closed_fulfillments.order_by(
    closed_fulfillments.c.fulfillment_id
).with_for_update(key_share=True)
insert_closed_fulfillments = insert_rows(*closed_fulfillments.c)
update_closed_orders = update_rows(*closed_orders.c)


async def find_known_orders(connection: AsyncConnection, order_ids: Collection[UUID]) -> set[UUID]:
    """Returns those of the orders that have a shipment or a closed attempt."""
    rows = await connection.execute(read_orders, column_arrays(order_id=order_ids))
    return set(rows.scalars())


async def find_closed(
    connection: AsyncConnection, order_ids: Collection[UUID], fulfillment_ids: Collection[UUID]
) -> ClosedOrders:
    """Returns the closed ones of the orders and fulfilments."""
    orders = await connection.execute(read_closed_orders, column_arrays(order_id=order_ids))
    fulfillments = await connection.execute(
        read_closed_fulfillments, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return ClosedOrders(_closed_orders(orders), {row.fulfillment_id for row in fulfillments})


async def lock_closed_orders(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> Workspace[ClosedOrder]:
    """Returns the targets that have a closed attempt, and locks them."""
    ids = column_arrays(order_id={*repeats, *(each.target for each in envelopes)})
    return Workspace(_closed_orders(await connection.execute(lock_closed_orders_by_id, ids)))


async def save_closed_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, ClosedOrder],
    after: Mapping[UUID, ClosedOrder],
    rows: Sequence[None],
) -> None:
    """Stores each order's latest closed attempt."""
    orders = sorted(after.values(), key=attrgetter("order_id"))
    created = [order for order in orders if order.order_id not in before]
    changed = [order for order in orders if order.order_id in before]
    if created:
        await connection.execute(insert_closed_orders, CLOSED_ORDER.arrays(created))
    if changed:
        await connection.execute(update_closed_orders, CLOSED_ORDER.arrays(changed))


async def lock_closed_fulfillments(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> Workspace[ClosedFulfillment]:
    """Returns the targets that are cancelled, and locks them."""
    targets = {*repeats, *(each.target for each in envelopes)}
    rows = await connection.execute(
        lock_closed_fulfillments_by_id, column_arrays(fulfillment_id=targets)
    )
    return Workspace({row.fulfillment_id: CLOSED_FULFILLMENT.record(row) for row in rows})


async def save_closed_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, ClosedFulfillment],
    after: Mapping[UUID, ClosedFulfillment],
    rows: Sequence[None],
) -> None:
    """Stores the new cancelled fulfilments; a stored one never changes."""
    if created := sorted(
        (fulfillment for id, fulfillment in after.items() if id not in before),
        key=attrgetter("fulfillment_id"),
    ):
        await connection.execute(insert_closed_fulfillments, CLOSED_FULFILLMENT.arrays(created))


def _closed_orders(rows: Iterable[Any]) -> dict[UUID, ClosedOrder]:
    return {row.order_id: CLOSED_ORDER.record(row) for row in rows}
