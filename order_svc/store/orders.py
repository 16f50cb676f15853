"""All the SQL of orders, for sets, over one connection."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    extract,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from chassis.write.workspace import Workspace
from order_svc.lifecycle import TERMINAL, Status, StockStatus
from order_svc.model.commands import PlaceOrder
from order_svc.model.filters import OrderFilter
from order_svc.model.records import (
    LATE_EVENTS_SHOWN,
    Allocation,
    LateEvent,
    Line,
    Order,
    Recipient,
    ReturnStep,
    Row,
    Transition,
    WarehouseFulfillment,
)
from order_svc.store.returns import returns_of, save_returns_of
from order_svc.tables import (
    REFERENCE_RELEASED,
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
    loaded=["lines", "fulfillments", "returns", "late_events", "recipient"],
    derived=["payment", "progress", "stock", "return_progress", "has_returns"],
)
LINE = RecordRows(Line, lines.c, keys=["order_id"], loaded=["allocations"])
ALLOCATION = RecordRows(Allocation, allocations.c, keys=["order_id", "line_number"])
FULFILLMENT = RecordRows(WarehouseFulfillment, warehouse_fulfillments.c, keys=["order_id"])
TRANSITION = RecordRows(Transition, history.c)
LATE = RecordRows(LateEvent, late_events.c)
RECIPIENT = RecordRows(Recipient, recipients.c, keys=["order_id"])
CHANGING = (
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

lock = select(orders).order_by(orders.c.id).with_for_update(key_share=True)
lock_by_id = lock.where(is_any_of(orders.c.id))
lock_by_checkout = lock.where(or_(is_any_of(orders.c.id), is_any_of(orders.c.checkout)))
read_by_id = select(orders).where(is_any_of(orders.c.id)).order_by(orders.c.id)
read_by_checkout = select(orders.c.id).where(orders.c.checkout == bindparam("checkout"))
read_holder = select(orders.c.id).where(
    orders.c.unique_external_reference,
    orders.c.status.not_in(REFERENCE_RELEASED),
    orders.c.customer_id.is_not_distinct_from(bindparam("customer_id", type_=Text)),
    orders.c.external_reference == bindparam("external_reference"),
)
microseconds = cast(extract("epoch", orders.c.update_time) * 1_000_000, BigInteger)
read_update_times = select(orders.c.id, microseconds.label("microseconds")).where(
    is_any_of(orders.c.id)
)
count_lines = select(func.count()).where(lines.c.order_id == orders.c.id).scalar_subquery()
read_line_counts = select(orders.c.id, count_lines.label("lines")).where(is_any_of(orders.c.id))
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

insert_orders, insert_lines, insert_allocations, insert_history = (
    insert_rows(*t.c) for t in (orders, lines, allocations, history)
)
changed_orders = unnest_rows(*(orders.c[name] for name in CHANGING))
update_orders = (
    update(orders)
    .values({n: changed_orders.c[n] for n in CHANGING[1:]})
    .where(orders.c.id == changed_orders.c.id)
)
changed_lines = unnest_rows(lines.c.order_id, lines.c.number, lines.c.cancelled)
update_lines = (
    update(lines)
    .values(cancelled=changed_lines.c.cancelled)
    .where(lines.c.order_id == changed_lines.c.order_id, lines.c.number == changed_lines.c.number)
)
new_late = (
    upsert(late_events)
    .from_select(list(late_events.c), select(*unnest_rows(*late_events.c).c))
    .on_conflict_do_nothing()
)
drop_allocations = delete(allocations).where(is_any_of(allocations.c.order_id))
new_fulfillments = upsert(warehouse_fulfillments).from_select(
    list(warehouse_fulfillments.c), select(*unnest_rows(*warehouse_fulfillments.c).c)
)
save_fulfillments = new_fulfillments.on_conflict_do_update(
    index_elements=list(warehouse_fulfillments.primary_key),
    set_={
        c.name: new_fulfillments.excluded[c.name]
        for c in warehouse_fulfillments.c
        if not c.primary_key
    },
)


async def lock_orders(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace[Order]:
    """The orders that are targets.

    An order that a checkout has already become is named by the checkout's target too.
    """
    parameters = column_arrays(id={*repeats, *(each.target for each in envelopes)})
    placing = {
        each.command.checkout_key: each.target
        for each in envelopes
        if isinstance(each.command, PlaceOrder)
    }
    if placing:
        parameters |= column_arrays(checkout=placing)
    found = await _load_orders(connection, lock_by_checkout if placing else lock_by_id, parameters)
    return Workspace(
        {o.id: o for o in found},
        {placing[o.checkout]: o.id for o in found if o.checkout in placing},
    )


async def save_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, Order],
    after: Mapping[UUID, Order],
    steps: Sequence[Row],
) -> None:
    """Stores what changed; new orders sorted by their natural key, or two sets of rivals may
    deadlock.
    """
    created = sorted((o for id, o in after.items() if id not in before), key=attrgetter("checkout"))
    changed = [o for id, o in after.items() if id in before]
    if created:
        await connection.execute(insert_orders, ORDER.arrays(created))
        placed = [LINE.row(line, order_id=o.id) for o in created for line in o.lines]
        await connection.execute(insert_lines, row_arrays(placed))
        await connection.execute(
            insert(recipients),
            [RECIPIENT.row(o.recipient, order_id=o.id) for o in created if o.recipient],
        )
    if changed:
        await connection.execute(update_orders, ORDER.arrays(changed, CHANGING))
    moved = [o for o in changed if o.lines != before[o.id].lines]
    cut = [
        {"order_id": o.id, "number": new.number, "cancelled": new.cancelled}
        for o in moved
        for old, new in _lines(before[o.id], o)
        if new.cancelled != old.cancelled
    ]
    if cut:
        await connection.execute(update_lines, row_arrays(cut))
    await _save_allocations(connection, created, moved)
    if rows := [
        FULFILLMENT.row(fulfillment, order_id=o.id)
        for o in sorted(after.values(), key=attrgetter("id"))
        for fulfillment in o.fulfillments
    ]:
        await connection.execute(save_fulfillments, row_arrays(rows))
    if own := [step for step in steps if isinstance(step, Transition)]:
        await connection.execute(insert_history, TRANSITION.arrays(own))
    if late := [step for step in steps if isinstance(step, LateEvent)]:
        await connection.execute(new_late, LATE.arrays(late))
    await save_returns_of(
        connection, before, after, [step for step in steps if isinstance(step, ReturnStep)]
    )


async def order_of_checkout(connection: AsyncConnection, checkout: str) -> UUID | None:
    """The order that this checkout has already become."""
    return (await connection.execute(read_by_checkout, {"checkout": checkout})).scalar_one_or_none()


async def holder_of_reference(
    connection: AsyncConnection, customer_id: str | None, external_reference: str
) -> UUID | None:
    """The order that holds this reference alone, of the customer's that are neither cancelled
    nor failed.
    """
    wanted = {"customer_id": customer_id, "external_reference": external_reference}
    return (await connection.execute(read_holder, wanted)).scalar_one_or_none()


async def find_orders(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Order]:
    """The orders as they stand, unlocked, by id; unknown ids are missing."""
    return {o.id: o for o in await _load_orders(connection, read_by_id, column_arrays(id=ids))}


async def update_times(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """When each order, or a return of it, last changed, in microseconds since 1970. Unknown ids are
    missing.
    """
    rows = await connection.execute(read_update_times, column_arrays(id=ids))
    return {row.id: row.microseconds for row in rows}


async def list_orders(connection: AsyncConnection, wanted: OrderFilter, page: Page) -> list[Listed]:
    """The page's orders and one more where there are more, newest first."""
    conditions: list[ColumnElement[bool]] = (
        [orders.c.status.in_(wanted.statuses)] if wanted.statuses else []
    )
    equal = {
        "customer_id": wanted.customer_id,
        "external_reference": wanted.external_reference,
        "number": wanted.number,
        "stock": wanted.stock,
    }
    conditions += [orders.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.create_time_from:
        conditions.append(orders.c.create_time >= wanted.create_time_from)
    if wanted.create_time_before:
        conditions.append(orders.c.create_time < wanted.create_time_before)
    if wanted.update_time_from:
        conditions.append(orders.c.update_time >= wanted.update_time_from)
    if wanted.update_time_before:
        conditions.append(orders.c.update_time < wanted.update_time_before)
    if page.after:
        conditions.append(orders.c.id < page.after[0])
    statement = (
        select(orders.c.id, count_lines)
        .where(*conditions)
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
    """The order's steps that came after that version, oldest first."""
    rows = await connection.execute(
        read_history, {"order_id": order_id, "after": after, "most": most}
    )
    return [TRANSITION.record(row) for row in rows]


async def find_expired(
    connection: AsyncConnection, after: tuple[datetime, UUID] | None, most: int
) -> list[tuple[datetime, UUID]]:
    """Orders whose time to pay is over, and since when, those after the given one, the longest
    over first. Those that are just being written, or chosen, are left out.
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


async def _load_orders(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Order]:
    """The orders that the statement finds, in its order, each with its lines, allocations,
    fulfilments, returns and late events.
    """
    rows = list(await connection.execute(statement, parameters))
    if not rows:
        return []
    ids = column_arrays(order_id=[row.id for row in rows])
    of_line: defaultdict[tuple[UUID, int], list[Allocation]] = defaultdict(list)
    for a in await connection.execute(read_allocations, ids):
        of_line[a.order_id, a.line_number].append(ALLOCATION.record(a))
    of_order: defaultdict[UUID, list[Line]] = defaultdict(list)
    for line in await connection.execute(read_lines, ids):
        allocated = tuple(of_line[line.order_id, line.number])
        of_order[line.order_id].append(LINE.record(line, allocations=allocated))
    fulfillments_of: defaultdict[UUID, list[WarehouseFulfillment]] = defaultdict(list)
    for fulfillment in await connection.execute(read_fulfillments, ids):
        fulfillments_of[fulfillment.order_id].append(FULFILLMENT.record(fulfillment))
    late: defaultdict[UUID, list[LateEvent]] = defaultdict(list)
    if ended := [row.id for row in rows if row.status in TERMINAL]:
        for event in await connection.execute(read_late, column_arrays(order_id=ended)):
            late[event.order_id].append(LATE.record(event))
    returns = await returns_of(connection, [row.id for row in rows if row.has_returns])
    return [
        ORDER.record(
            row,
            lines=tuple(of_order[row.id]),
            fulfillments=tuple(fulfillments_of[row.id]),
            returns=returns.get(row.id, ()),
            late_events=tuple(late[row.id][:LATE_EVENTS_SHOWN]),
        )
        for row in rows
    ]


async def _save_allocations(
    connection: AsyncConnection, created: Sequence[Order], moved: Sequence[Order]
) -> None:
    """Where the units come from: of a new order, and of one whose reservations were made anew."""
    if moved:
        await connection.execute(drop_allocations, column_arrays(order_id=[o.id for o in moved]))
    rows = [
        ALLOCATION.row(a, order_id=o.id, line_number=line.number)
        for o in (*created, *moved)
        for line in o.lines
        for a in line.allocations
    ]
    if rows:
        await connection.execute(insert_allocations, row_arrays(rows))


def _lines(before: Order, after: Order) -> Iterable[tuple[Line, Line]]:
    return zip(before.lines, after.lines, strict=True)
