"""The fulfilments of orders, for a write: their lock and load for a set of commands, and their
save. The statements are in the module of each part.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import column_arrays
from chassis.write.workspace import Workspace
from fulfillment_svc.model.records import (
    Allocation,
    Fulfillment,
    OrderFulfillments,
    RemainingUnits,
    Transition,
)
from fulfillment_svc.store.fulfillments import (
    load_fulfillments,
    read_by_order,
    read_orders,
    save_fulfillments,
)
from fulfillment_svc.store.orders import REMAINING_UNIT, lock_orders, read_remaining, save_orders


async def lock_order_fulfillments(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace[OrderFulfillments]:
    """The fulfilments of the targets' orders; a target is an order or one of its fulfilments.

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
    for each in await load_fulfillments(connection, read_by_order, wanted):
        found[each.key.order_id].append(each)
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
    transitions: Sequence[Transition],
) -> None:
    """Stores what changed; new orders by their ids, or two concurrent writes may deadlock."""
    now = {order.order_id: order for order in after.values()}
    await save_orders(connection, before, [now[id] for id in sorted(now)])
    was = {each.id: each for id in now if id in before for each in before[id].fulfillments}
    changed = {
        each.id: each
        for order in now.values()
        for each in order.fulfillments
        if each is not was.get(each.id)
    }
    await save_fulfillments(connection, was, changed, transitions)
