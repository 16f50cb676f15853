"""Orders: a write locks and loads them here for a set of commands, and saves them after it. A read
loads them without a lock, whole or with their lines only. The queries that precede a write (the
order of a checkout, the holder of a reference) are here; orders.py has the other ones.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, and_, bindparam, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows, upsert_rows
from chassis.write.workspace import Workspace
from order_svc.lifecycle import CANCELLED_OR_FAILED, TERMINAL, Status
from order_svc.model.commands import PlaceOrder
from order_svc.model.records import (
    LATE_EVENTS_SHOWN,
    Allocation,
    LateEvent,
    Line,
    Order,
    Recipient,
    Row,
    Transition,
    WarehouseFulfillment,
)
from order_svc.model.returns import ReturnTransition
from order_svc.store.returns import returns_of, save_returns_of
from order_svc.tables import (
    allocations,
    history,
    late_events,
    lines,
    orders,
    recipients,
    warehouse_fulfillments,
)

ORDER = RecordRows(
    Order,
    orders.c,
    loaded=[
        "lines",
        "fulfillments",
        "earlier_fulfillments",
        "returns",
        "late_events",
        "recipient",
    ],
    derived=["payment", "progress", "stock", "return_progress", "has_returns"],
)
LINE = RecordRows(Line, lines.c, keys=["order_id"], loaded=["allocations"])
ALLOCATION = RecordRows(Allocation, allocations.c, keys=["order_id", "line_number"])
FULFILLMENT = RecordRows(WarehouseFulfillment, warehouse_fulfillments.c, keys=["order_id"])
TRANSITION = RecordRows(Transition, history.c)
LATE = RecordRows(LateEvent, late_events.c)
RECIPIENT = RecordRows(Recipient, recipients.c, keys=["order_id"])
MUTABLE_COLUMNS = (
    "id",
    "status",
    "reason",
    "attempt",
    "version",
    "payment_outcome",
    "commit",
    "payment",
    "progress",
    "stock",
    "return_progress",
    "captured",
    "refunded",
    "has_returns",
    "update_time",
    "expire_time",
)

read_holder = select(orders.c.id).where(
    orders.c.unique_external_reference,
    orders.c.status.not_in(sorted(CANCELLED_OR_FAILED)),
    orders.c.customer_id.is_not_distinct_from(bindparam("customer_id", type_=Text)),
    orders.c.external_reference == bindparam("external_reference"),
)
read_by_checkout = select(orders.c.id).where(orders.c.checkout_key == bindparam("checkout_key"))
lock = select(orders).order_by(orders.c.id).with_for_update(key_share=True)
lock_by_id = lock.where(is_any_of(orders.c.id))
lock_by_checkout = lock.where(or_(is_any_of(orders.c.id), is_any_of(orders.c.checkout_key)))
read_by_id = select(orders).where(is_any_of(orders.c.id)).order_by(orders.c.id)
read_pending = read_by_id.where(orders.c.status == Status.PENDING)
read_lines = (
    select(lines).where(is_any_of(lines.c.order_id)).order_by(lines.c.order_id, lines.c.number)
)
read_allocations = (
    select(allocations)
    .where(is_any_of(allocations.c.order_id))
    .order_by(allocations.c.order_id, allocations.c.warehouse_id)
)
read_fulfillments = (
    select(warehouse_fulfillments)
    .join(
        orders,
        and_(
            orders.c.id == warehouse_fulfillments.c.order_id,
            orders.c.attempt == warehouse_fulfillments.c.attempt,
        ),
    )
    .where(is_any_of(warehouse_fulfillments.c.order_id))
    .order_by(warehouse_fulfillments.c.order_id, warehouse_fulfillments.c.warehouse_id)
)
read_late = (
    select(late_events)
    .where(is_any_of(late_events.c.order_id))
    .order_by(late_events.c.time, late_events.c.cause)
)

insert_orders, insert_lines, insert_allocations, insert_history = (
    insert_rows(*t.c) for t in (orders, lines, allocations, history)
)
update_orders = update_rows(*(orders.c[name] for name in MUTABLE_COLUMNS))
update_lines = update_rows(lines.c.order_id, lines.c.number, lines.c.cancelled)
new_late = insert_rows(*late_events.c).on_conflict_do_nothing()
drop_allocations = delete(allocations).where(is_any_of(allocations.c.order_id))
save_fulfillments = upsert_rows(warehouse_fulfillments)


class OrderWorkspace(Workspace[Order]):
    """The orders of a set of commands.

    `placing` has the targets of the set's checkouts, by checkout key. Once one of them is an order,
    loaded or placed in the set, the others name that order too.
    """

    def __init__(self, orders: Sequence[Order], placing: Mapping[str, Collection[UUID]]) -> None:
        self._placing, self._placed = placing, dict[UUID, UUID]()
        super().__init__({order.id: order for order in orders}, self._placed)
        for order in orders:
            self._name(order)

    def put(self, target: UUID, record: Order) -> None:
        super().put(target, record)
        self._name(record)

    def _name(self, order: Order) -> None:
        others = set(self._placing.get(order.checkout_key, ())) - {order.id}
        self._placed.update(dict.fromkeys(others, order.id))


def placing_targets(envelopes: Sequence[Envelope[Any]]) -> dict[str, set[UUID]]:
    """Returns the targets of the checkouts among the commands, by checkout key."""
    placing: defaultdict[str, set[UUID]] = defaultdict(set)
    for each in envelopes:
        if isinstance(each.command, PlaceOrder):
            placing[each.command.checkout_key].add(each.target)
    return dict(placing)


async def lock_orders(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> OrderWorkspace:
    """Loads and locks the orders that are targets, and those that a checkout of the set is
    already.
    """
    parameters = column_arrays(id={*repeats, *(each.target for each in envelopes)})
    placing = placing_targets(envelopes)
    if placing:
        parameters |= column_arrays(checkout_key=placing)
    found = await _load_orders(connection, lock_by_checkout if placing else lock_by_id, parameters)
    return OrderWorkspace(found, placing)


async def save_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, Order],
    after: Mapping[UUID, Order],
    rows: Sequence[Row],
) -> None:
    """Stores the new and the changed orders, and the rows of the decisions.

    New orders are sorted by their natural key: two sets with the same keys cannot deadlock.
    """
    new = (order for id, order in after.items() if id not in before)
    created = sorted(new, key=attrgetter("checkout_key"))
    changed = [o for id, o in after.items() if id in before]
    if created:
        await _insert_orders(connection, created)
    if changed:
        await connection.execute(update_orders, ORDER.arrays(changed, MUTABLE_COLUMNS))
    await _save_lines(connection, created, before, changed)
    if fulfillments := [
        FULFILLMENT.row(fulfillment, order_id=o.id)
        for o in sorted(after.values(), key=attrgetter("id"))
        for fulfillment in (*o.earlier_fulfillments, *o.fulfillments)
    ]:
        await connection.execute(save_fulfillments, row_arrays(fulfillments))
    if transitions := [row for row in rows if isinstance(row, Transition)]:
        await connection.execute(insert_history, TRANSITION.arrays(transitions))
    if late := [row for row in rows if isinstance(row, LateEvent)]:
        await connection.execute(new_late, LATE.arrays(late))
    if return_transitions := [row for row in rows if isinstance(row, ReturnTransition)]:
        await save_returns_of(connection, before, after, return_transitions)


async def _insert_orders(connection: AsyncConnection, created: Sequence[Order]) -> None:
    await connection.execute(insert_orders, ORDER.arrays(created))
    placed = [LINE.row(line, order_id=o.id) for o in created for line in o.lines]
    await connection.execute(insert_lines, row_arrays(placed))
    await connection.execute(
        insert(recipients),
        [RECIPIENT.row(o.recipient, order_id=o.id) for o in created if o.recipient],
    )


async def _save_lines(
    connection: AsyncConnection,
    created: Sequence[Order],
    before: Mapping[UUID, Order],
    changed: Sequence[Order],
) -> None:
    """Stores the cancelled units of changed orders, and the allocations of new and changed ones."""
    moved = [o for o in changed if o.lines != before[o.id].lines]
    cut = [
        {"order_id": o.id, "number": new.number, "cancelled": new.cancelled}
        for o in moved
        for old, new in zip(before[o.id].lines, o.lines, strict=True)
        if new.cancelled != old.cancelled
    ]
    if cut:
        await connection.execute(update_lines, row_arrays(cut))
    if moved:
        await connection.execute(drop_allocations, column_arrays(order_id=[o.id for o in moved]))
    if allocated := [row for o in (*created, *moved) for row in _allocation_rows(o)]:
        await connection.execute(insert_allocations, row_arrays(allocated))


def _allocation_rows(order: Order) -> Iterator[dict[str, Any]]:
    for line in order.lines:
        for allocation in line.allocations:
            yield ALLOCATION.row(allocation, order_id=order.id, line_number=line.number)


async def find_orders(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Order]:
    """Returns the orders as they stand, unlocked, by id; unknown ids are missing."""
    return {o.id: o for o in await _load_orders(connection, read_by_id, column_arrays(id=ids))}


async def find_pending_orders(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Order]:
    """Returns the pending ones of these orders by id, with their amounts and lines, without
    allocations, fulfilments, returns and late events.
    """
    rows = list(await connection.execute(read_pending, column_arrays(id=ids)))
    lines_of = await _load_lines(connection, [row.id for row in rows], {})
    return {row.id: ORDER.record(row, lines=tuple(lines_of[row.id])) for row in rows}


async def _load_orders(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Order]:
    """Returns the orders that the statement finds, in its order, each with its lines, allocations,
    fulfilments, returns and late events.
    """
    rows = list(await connection.execute(statement, parameters))
    if not rows:
        return []
    ids = column_arrays(order_id=[row.id for row in rows])
    of_line: defaultdict[tuple[UUID, int], list[Allocation]] = defaultdict(list)
    for a in await connection.execute(read_allocations, ids):
        of_line[a.order_id, a.line_number].append(ALLOCATION.record(a))
    lines_of = await _load_lines(connection, [row.id for row in rows], of_line)
    fulfillments_of: defaultdict[UUID, list[WarehouseFulfillment]] = defaultdict(list)
    for fulfillment in await connection.execute(read_fulfillments, ids):
        fulfillments_of[fulfillment.order_id].append(FULFILLMENT.record(fulfillment))
    late: defaultdict[UUID, list[LateEvent]] = defaultdict(list)
    if ended := [row.id for row in rows if row.status in TERMINAL]:
        for event in await connection.execute(read_late, column_arrays(order_id=ended)):
            late[event.order_id].append(LATE.record(event))
    with_returns = [row.id for row in rows if row.has_returns]
    returns = await returns_of(connection, with_returns) if with_returns else {}
    return [
        ORDER.record(
            row,
            lines=tuple(lines_of[row.id]),
            fulfillments=tuple(fulfillments_of[row.id]),
            returns=returns.get(row.id, ()),
            late_events=tuple(late[row.id][:LATE_EVENTS_SHOWN]),
        )
        for row in rows
    ]


async def _load_lines(
    connection: AsyncConnection,
    order_ids: Collection[UUID],
    allocations_of: Mapping[tuple[UUID, int], Sequence[Allocation]],
) -> Mapping[UUID, Sequence[Line]]:
    """Returns the lines of the orders with these allocations, by order, in the order of numbers."""
    lines_of: defaultdict[UUID, list[Line]] = defaultdict(list)
    for row in await connection.execute(read_lines, column_arrays(order_id=order_ids)):
        allocated = tuple(allocations_of.get((row.order_id, row.number), ()))
        lines_of[row.order_id].append(LINE.record(row, allocations=allocated))
    return lines_of


async def order_of_checkout(connection: AsyncConnection, checkout_key: str) -> UUID | None:
    """Returns the id of the order that a checkout with this key has become, or None."""
    rows = await connection.execute(read_by_checkout, {"checkout_key": checkout_key})
    return rows.scalar_one_or_none()


async def holder_of_reference(
    connection: AsyncConnection, customer_id: str | None, external_reference: str
) -> UUID | None:
    """Returns the id of the order that has this unique external reference, or None.

    A reference is unique among the orders of one customer; the orders without a customer count as
    one customer's. A cancelled or failed order gives up its reference.
    """
    wanted = {"customer_id": customer_id, "external_reference": external_reference}
    return (await connection.execute(read_holder, wanted)).scalar_one_or_none()
