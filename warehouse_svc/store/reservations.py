"""The reservations of orders, with their lines."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from operator import eq, ge, lt
from uuid import UUID

from sqlalchemy import Column, bindparam, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import conditions, insert_rows, is_any_of, update_rows
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.filters import ReservationFilter
from warehouse_svc.model.records import (
    OrderLine,
    OrderReservations,
    OverdueReservation,
    Reservation,
    ReservationLine,
    ReturnedUnits,
)
from warehouse_svc.tables import order_lines, order_reservations, reservation_lines, reservations

ORDER_RESERVATIONS = RecordRows(
    OrderReservations, order_reservations.c, loaded=["reservations", "returned"]
)
RESERVATION = RecordRows(Reservation, reservations.c, loaded=["lines"], derived=["status"])
LINE = RecordRows(
    ReservationLine, reservation_lines.c, keys=["reservation_id"], derived=["quantity"]
)
MUTABLE_COLUMNS = ("id", "status", "version", "expire_time", "update_time")
SHIPPED_COUNTS = tuple(f.name for f in fields(OrderLine) if f.name not in ("number", "sku"))
lock_order_reservations = (
    select(order_reservations)
    .where(is_any_of(order_reservations.c.order_id))
    .order_by(order_reservations.c.order_id)
    .with_for_update(key_share=True)
)
read_reservations = (
    select(reservations).where(is_any_of(reservations.c.order_id)).order_by(reservations.c.id)
)
read_by_id = select(reservations).where(is_any_of(reservations.c.id))
count_lines = (
    select(func.count())
    .where(reservation_lines.c.reservation_id == reservations.c.id)
    .scalar_subquery()
)
read_lines = (
    select(reservation_lines)
    .where(is_any_of(reservation_lines.c.reservation_id))
    .order_by(reservation_lines.c.reservation_id, reservation_lines.c.number)
)
# The most bytes of a line in an answer, without its SKU.
LINE_BYTES = 80
# Each line once: its reservations in several warehouses, generations and attempts repeat it.
lines_of_orders = (
    select(reservations.c.order_id, reservation_lines.c.number, reservation_lines.c.sku)
    .distinct()
    .join_from(
        reservation_lines, reservations, reservations.c.id == reservation_lines.c.reservation_id
    )
    .where(is_any_of(reservations.c.order_id))
    .subquery()
)
read_line_bytes = select(
    lines_of_orders.c.order_id, func.sum(func.octet_length(lines_of_orders.c.sku) + LINE_BYTES)
).group_by(lines_of_orders.c.order_id)
read_returned = select(
    order_lines.c.order_id,
    order_lines.c.line_number,
    order_lines.c.restocked,
    order_lines.c.damaged,
).where(is_any_of(order_lines.c.order_id))
read_clock = select(func.clock_timestamp())
by_time = (reservations.c.expire_time, reservations.c.id)
choose_overdue = (
    select(*by_time, reservations.c.order_id)
    .join(order_reservations, order_reservations.c.order_id == reservations.c.order_id)
    .where(
        reservations.c.status == Status.ACTIVE,
        reservations.c.expire_time <= func.clock_timestamp(),
        tuple_(*by_time)
        > tuple_(*(bindparam(f"after_{column.name}", type_=column.type) for column in by_time)),
    )
    .order_by(*by_time)
    .limit(bindparam("most"))
    .with_for_update(key_share=True, of=order_reservations, skip_locked=True)
)
EARLIEST_TIME = datetime.min.replace(tzinfo=UTC)
insert_order_reservations = insert_rows(*order_reservations.c)
insert_reservations = insert_rows(*reservations.c)
insert_lines = insert_rows(*reservation_lines.c)
insert_order_lines = insert_rows(
    order_lines.c.order_id,
    order_lines.c.line_number,
    order_lines.c.sku,
    *(order_lines.c[n] for n in SHIPPED_COUNTS),
)
save_order_lines = insert_order_lines.on_conflict_do_update(
    index_elements=["order_id", "line_number"],
    set_={name: insert_order_lines.excluded[name] for name in SHIPPED_COUNTS},
)
update_order_reservations = update_rows(*order_reservations.c)
update_reservations = update_rows(*(reservations.c[name] for name in MUTABLE_COLUMNS))
update_lines = update_rows(*reservation_lines.c)


async def lock_reservations(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, OrderReservations]:
    if not ids:
        return {}
    rows = await connection.execute(lock_order_reservations, column_arrays(order_id=ids))
    return await _with_reservations(connection, list(map(ORDER_RESERVATIONS.record, rows)))


async def save_reservations(
    connection: AsyncConnection,
    old: Mapping[UUID, OrderReservations],
    new: Mapping[UUID, OrderReservations],
) -> None:
    """Stores the reservations that changed.

    Updates come first: a new reservation may replace an updated one.
    """
    await _save_order_reservations(connection, old, new)
    stored = {r.id: r for each in old.values() for r in each.reservations}
    changed = [r for each in new.values() for r in each.reservations if r is not stored.get(r.id)]
    await _update_reservations(connection, stored, [r for r in changed if r.id in stored])
    await _insert_reservations(connection, [r for r in changed if r.id not in stored])
    await _save_order_lines(connection, old, new)


async def _save_order_reservations(
    connection: AsyncConnection,
    old: Mapping[UUID, OrderReservations],
    new: Mapping[UUID, OrderReservations],
) -> None:
    changed = [new[id] for id in sorted(new) if new[id] is not old.get(id)]
    if made := [each for each in changed if each.order_id not in old]:
        await connection.execute(insert_order_reservations, ORDER_RESERVATIONS.arrays(made))
    if stored := [each for each in changed if each.order_id in old]:
        await connection.execute(update_order_reservations, ORDER_RESERVATIONS.arrays(stored))


async def _insert_reservations(connection: AsyncConnection, made: Sequence[Reservation]) -> None:
    if not made:
        return
    await connection.execute(insert_reservations, RESERVATION.arrays(made))
    lines = [LINE.row(line, reservation_id=r.id) for r in made for line in r.lines]
    await connection.execute(insert_lines, row_arrays(lines))


async def _update_reservations(
    connection: AsyncConnection, old: Mapping[UUID, Reservation], changed: Sequence[Reservation]
) -> None:
    if not changed:
        return
    await connection.execute(update_reservations, RESERVATION.arrays(changed, MUTABLE_COLUMNS))
    lines = [
        LINE.row(line, reservation_id=r.id)
        for r in changed
        for line, was in zip(r.lines, old[r.id].lines, strict=True)
        if line != was
    ]
    if lines:
        await connection.execute(update_lines, row_arrays(lines))


async def _save_order_lines(
    connection: AsyncConnection,
    old: Mapping[UUID, OrderReservations],
    new: Mapping[UUID, OrderReservations],
) -> None:
    """Stores the shipped and returned units of the order lines where they have changed."""
    rows = [
        {"order_id": id, "line_number": line.number, "sku": line.sku}
        | {name: getattr(line, name) for name in SHIPPED_COUNTS}
        for id, each in sorted(new.items())
        for line in _changed_lines(old.get(id), each)
    ]
    if rows:
        await connection.execute(save_order_lines, row_arrays(rows))


def _changed_lines(old: OrderReservations | None, new: OrderReservations) -> Iterator[OrderLine]:
    """Yields the order's lines of shipped units that have changed."""
    if _has_shipped(new.reservations):
        before = old.lines if old else {}
        for line in new.lines.values():
            if line.shipped and line != before.get(line.number):
                yield line


async def find_reservations(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Reservation]:
    """Returns the reservations by id, unlocked; unknown ids are missing."""
    rows = await connection.execute(read_by_id, column_arrays(id=ids))
    return {r.id: r for r in await _with_lines(connection, list(map(RESERVATION.record, rows)))}


async def list_reservations(
    connection: AsyncConnection, wanted: ReservationFilter, page: Page
) -> list[Listed]:
    """Returns reservations, newest first: the page, and one more where there are more."""
    r = reservations.c
    filters = conditions(
        (r.order_id, eq, wanted.order_id),
        (r.warehouse_id, eq, wanted.warehouse_id),
        (r.status, Column.in_, wanted.statuses),
        (r.update_time, ge, wanted.update_time_from),
        (r.update_time, lt, wanted.update_time_before),
        (r.id, lt, page.after and page.after[0]),
    )
    query = select(r.id, count_lines).where(*filters).order_by(r.id.desc()).limit(page.size + 1)
    return [Listed((id,), lines) for id, lines in await connection.execute(query)]


async def line_bytes_of(connection: AsyncConnection, orders: Collection[UUID]) -> dict[UUID, int]:
    """Returns the most bytes of each order's lines in an answer; orders without any are missing."""
    rows = await connection.execute(read_line_bytes, column_arrays(order_id=orders))
    return {order_id: int(size) for order_id, size in rows}


async def clock(connection: AsyncConnection) -> datetime:
    """Returns the time of the database's clock."""
    now: datetime = (await connection.execute(read_clock)).scalar_one()
    return now


async def find_overdue(
    connection: AsyncConnection, after: OverdueReservation | None, most: int
) -> list[OverdueReservation]:
    """Returns at most `most` reservations after `after` that are active past their expire_time.

    The longest past comes first, and several may be of one order. It skips orders that another
    transaction has locked. Where it returns `most`, there may be more.
    """
    time, id = (after.expire_time, after.id) if after else (EARLIEST_TIME, UUID(int=0))
    rows = await connection.execute(
        choose_overdue, {"after_expire_time": time, "after_id": id, "most": most}
    )
    return [OverdueReservation(**row) for row in rows.mappings()]


async def _with_reservations(
    connection: AsyncConnection, found: Sequence[OrderReservations]
) -> dict[UUID, OrderReservations]:
    if not found:
        return {}
    rows = await connection.execute(
        read_reservations, column_arrays(order_id=[each.order_id for each in found])
    )
    of_order: defaultdict[UUID, list[Reservation]] = defaultdict(list)
    for reservation in await _with_lines(connection, list(map(RESERVATION.record, rows))):
        of_order[reservation.order_id].append(reservation)
    shipped = {id for id, several in of_order.items() if _has_shipped(several)}
    returned = await _returned_units(connection, shipped)
    return {
        each.order_id: replace(
            each,
            reservations=tuple(of_order[each.order_id]),
            returned=returned.get(each.order_id, {}),
        )
        for each in found
    }


def _has_shipped(several: Sequence[Reservation]) -> bool:
    """Returns whether any unit has shipped: only then can returns have brought units back."""
    return any(line.shipped for reservation in several for line in reservation.lines)


async def _returned_units(
    connection: AsyncConnection, orders: Collection[UUID]
) -> dict[UUID, dict[int, ReturnedUnits]]:
    """Returns the units that returns of the orders brought back, by order and line number."""
    of_order: defaultdict[UUID, dict[int, ReturnedUnits]] = defaultdict(dict)
    for row in (
        await connection.execute(read_returned, column_arrays(order_id=orders)) if orders else ()
    ):
        of_order[row.order_id][row.line_number] = ReturnedUnits(row.restocked, row.damaged)
    return dict(of_order)


async def _with_lines(
    connection: AsyncConnection, found: Sequence[Reservation]
) -> list[Reservation]:
    if not found:
        return []
    rows = await connection.execute(read_lines, column_arrays(reservation_id=[r.id for r in found]))
    of_reservation: defaultdict[UUID, list[ReservationLine]] = defaultdict(list)
    for row in rows:
        of_reservation[row.reservation_id].append(LINE.record(row))
    return [replace(r, lines=tuple(of_reservation[r.id])) for r in found]
