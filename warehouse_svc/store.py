"""All the SQL of the warehouse, for sets, over one connection."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Select, bindparam, cast, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.paging import Listed, Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from warehouse_svc.lifecycle import Bucket, MovementKind, Status
from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.filters import LevelFilter, MovementFilter, ReservationFilter
from warehouse_svc.model.records import (
    Movement,
    OrderLine,
    OrderReservations,
    OrderStock,
    OverdueReservation,
    Place,
    PostedUnits,
    Reservation,
    ReservationLine,
    ReturnedUnits,
    StockLevel,
    level_id,
)
from warehouse_svc.model.workspace import Workspace
from warehouse_svc.tables import (
    movements,
    order_lines,
    order_reservations,
    reservation_lines,
    reservations,
    stock_levels,
)

LEVEL = RecordRows(StockLevel, stock_levels.c)
MOVEMENT = RecordRows(Movement, movements.c, loaded=["warehouse_id", "sku"])
ORDER_RESERVATIONS = RecordRows(
    OrderReservations, order_reservations.c, loaded=["reservations", "returned"]
)
RESERVATION = RecordRows(Reservation, reservations.c, loaded=["lines"])
LINE = RecordRows(ReservationLine, reservation_lines.c, keys=["reservation_id"])
MUTABLE_COLUMNS = ("id", "status", "version", "expire_time", "update_time")
BALANCES = ("available", "reserved", "committed", "damaged", "version")
LINE_COUNTS = ("quantity", *Bucket, "expired", "spoiled")
SHIPPED_COUNTS = tuple(f.name for f in fields(OrderLine) if f.name not in ("number", "sku"))

levels = stock_levels.c
lock_order_reservations = (
    select(order_reservations)
    .where(is_any_of(order_reservations.c.order_id))
    .order_by(order_reservations.c.order_id)
    .with_for_update(key_share=True)
)
lock_levels = (
    select(stock_levels)
    .where(or_(is_any_of(levels.id), is_any_of(levels.sku)))
    .order_by(levels.id)
    .with_for_update(key_share=True)
)
posted_for = (
    movements.c.source_id,
    movements.c.order_id,
    movements.c.line_number,
    movements.c.kind,
)
read_posted = (
    select(*posted_for, cast(func.sum(movements.c.quantity), BigInteger))
    .where(is_any_of(movements.c.source_id))
    .group_by(*posted_for)
)
read_levels = select(stock_levels).where(is_any_of(levels.id))
read_sellable = (
    select(levels.sku, func.sum(levels.available - levels.reserved))
    .where(is_any_of(levels.sku))
    .group_by(levels.sku)
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
# What a line has in an answer at most, its SKU left out.
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
read_movements = select(movements, levels.warehouse_id, levels.sku).join_from(
    movements, stock_levels, levels.id == movements.c.level_id
)
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

# The statuses in which a command can move the units of a reservation.
MOVABLE_STATUSES: Mapping[type, frozenset[Status]] = {
    ReserveStock: frozenset({Status.ACTIVE}),
    RenewReservations: frozenset({Status.ACTIVE}),
    ConfirmReservations: frozenset({Status.ACTIVE}),
    ReleaseReservations: frozenset({Status.ACTIVE}),
    ExpireReservations: frozenset({Status.ACTIVE}),
    CloseAttempt: frozenset({Status.ACTIVE, Status.CONFIRMED}),
    ApplyAllocations: frozenset({Status.ACTIVE, Status.CONFIRMED}),
    ApplyFulfillment: frozenset({Status.CONFIRMED}),
    ReplaceSpoiled: frozenset({Status.CONFIRMED}),
}
insert_order_reservations, insert_levels, insert_movements, insert_reservations, insert_lines = (
    insert_rows(*table.c)
    for table in (order_reservations, stock_levels, movements, reservations, reservation_lines)
)
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
changed_order_reservations = unnest_rows(*order_reservations.c)
update_order_reservations = (
    update(order_reservations)
    .values({name: changed_order_reservations.c[name] for name in ("closed_attempt", "version")})
    .where(order_reservations.c.order_id == changed_order_reservations.c.order_id)
)
changed_reservations = unnest_rows(*(reservations.c[name] for name in MUTABLE_COLUMNS))
update_reservations = (
    update(reservations)
    .values({name: changed_reservations.c[name] for name in MUTABLE_COLUMNS[1:]})
    .where(reservations.c.id == changed_reservations.c.id)
)
changed_lines = unnest_rows(*reservation_lines.c)
update_lines = (
    update(reservation_lines)
    .values({name: changed_lines.c[name] for name in LINE_COUNTS})
    .where(
        reservation_lines.c.reservation_id == changed_lines.c.reservation_id,
        reservation_lines.c.number == changed_lines.c.number,
    )
)
changed_levels = unnest_rows(levels.id, *(levels[name] for name in BALANCES), levels.update_time)
update_levels = (
    update(stock_levels)
    .values(
        {name: levels[name] + changed_levels.c[name] for name in BALANCES}
        | {"update_time": changed_levels.c.update_time}
    )
    .where(levels.id == changed_levels.c.id)
)

# --- load


async def lock_stock(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace:
    """Loads the workspace of the commands: the reservations of their orders, then the stock levels
    that they may move, both locked in the order of ids.
    """
    commands = [each.command for each in envelopes]
    requests = {
        each.target for each in envelopes if isinstance(each.command, (ReceiveStock, AdjustStock))
    }
    sources = requests | {c.source for c in commands if isinstance(c, PostReturn)}
    sources |= {
        c.left_after_void.source
        for c in commands
        if isinstance(c, ApplyFulfillment) and c.left_after_void
    }
    by_order = await _lock_order_reservations(
        connection,
        {*repeats, *(each.target for each in envelopes)} - requests,
    )
    wanted = _places_and_skus(envelopes, by_order)
    rows = await connection.execute(lock_levels, wanted) if any(wanted.values()) else ()
    return Workspace(
        levels=map(LEVEL.record, rows),
        order_reservations=by_order.values(),
        requests=requests,
        posted=await _posted_units(connection, sources),
    )


async def _posted_units(
    connection: AsyncConnection, sources: Collection[UUID]
) -> dict[UUID, PostedUnits]:
    """Returns the units in the ledger by source. The caller has locked the rows that its writers
    lock.
    """
    of_source: defaultdict[UUID, dict[tuple[UUID | None, int | None, MovementKind], int]] = (
        defaultdict(dict)
    )
    for source, order_id, number, kind, units in (
        await connection.execute(read_posted, column_arrays(source_id=sources)) if sources else ()
    ):
        of_source[source][order_id, number, kind] = units
    return dict(of_source)


async def _lock_order_reservations(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, OrderReservations]:
    if not ids:
        return {}
    rows = await connection.execute(lock_order_reservations, column_arrays(order_id=ids))
    return await _with_reservations(connection, list(map(ORDER_RESERVATIONS.record, rows)))


def _places_and_skus(
    envelopes: Sequence[Envelope[Any]],
    by_order: Mapping[UUID, OrderReservations],
) -> dict[str, list[Any]]:
    """Returns the ids of the stock levels that the commands may move, and the SKUs that they may
    need from any warehouse.

    A set locks all stock levels that it moves: a reservation that changes within the set was in a
    status of MOVABLE_STATUSES for the command that changed it. (No set both expires reservations
    and confirms them: the expiry worker writes sets of its own.)
    """
    places: set[Place] = set()
    skus: set[str] = set()
    for each in envelopes:
        command = each.command
        of_order = by_order[each.target].reservations if each.target in by_order else ()
        movable = MOVABLE_STATUSES.get(type(command), frozenset())
        places.update(
            (r.warehouse_id, line.sku) for r in of_order if r.status in movable for line in r.lines
        )
        match command:
            case ReceiveStock():
                places.update((command.warehouse_id, sku) for sku in command.quantities)
            case AdjustStock():
                places.add((command.warehouse_id, command.sku))
            case PostReturn():
                wanted = command.restocked.keys() | command.damaged.keys()
                places.update(
                    (command.warehouse_id, line.sku)
                    for r in of_order
                    for line in r.lines
                    if line.number in wanted
                )
            case ApplyFulfillment(left_after_void=left) if left:
                here = [r for r in of_order if r.warehouse_id == command.warehouse_id]
                places.update(
                    (r.warehouse_id, line.sku)
                    for r in here
                    for line in r.lines
                    if line.number in left.units
                )
            case ReserveStock():
                skus.update(line.sku for line in command.lines)
            case ConfirmReservations() | RenewReservations():
                # An active reservation past its expire_time still has its units reserved.
                expired = [
                    r
                    for r in of_order
                    if r.attempt == command.attempt and r.status is Status.EXPIRED
                ]
                skus.update(line.sku for r in expired for line in r.lines)
    return column_arrays(id=map(level_id, places), sku=skus)


# --- save


async def save_stock(
    connection: AsyncConnection,
    before: Mapping[UUID, OrderStock],
    after: Mapping[UUID, OrderStock],
    posted: Sequence[Movement],
) -> None:
    """Stores the reservations and the new rows of the ledger, and adds the rows' sums to the
    balances.
    """
    old = {id: each.order_reservations for id, each in before.items() if each.order_reservations}
    new = {id: each.order_reservations for id, each in after.items() if each.order_reservations}
    await _save_order_reservations(connection, old, new)
    known = {r.id: r for each in old.values() for r in each.reservations}
    changed = [r for each in new.values() for r in each.reservations if r is not known.get(r.id)]
    # Updates come first: a new reservation may replace an updated one.
    await _update_reservations(connection, known, [r for r in changed if r.id in known])
    await _insert_reservations(connection, [r for r in changed if r.id not in known])
    await _save_order_lines(connection, old, new)
    if posted:
        await _move_balances(connection, posted)
        await connection.execute(insert_movements, MOVEMENT.arrays(posted))


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
        if _has_shipped(each.reservations)
        for was in [old[id].lines if id in old else {}]
        for line in each.lines.values()
        if line.shipped and line != was.get(line.number)
    ]
    if rows:
        await connection.execute(save_order_lines, row_arrays(rows))


async def _move_balances(connection: AsyncConnection, posted: Sequence[Movement]) -> None:
    """Adds the rows' sums to the stock levels. A row with the first version of its stock level
    inserts it.
    """
    sums: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    last = {row.level_id: row for row in posted}
    for row in posted:
        sums[row.level_id].update(
            {name: getattr(row, name) for name in BALANCES[:-1]} | {"version": 1}
        )
    made = {row.level_id for row in posted if row.level_version == 1}
    totals = {
        id: {name: sums[id][name] for name in BALANCES} | {"id": id, "update_time": last[id].time}
        for id in sorted(sums)
    }
    if moves := [total for id, total in totals.items() if id not in made]:
        await connection.execute(update_levels, row_arrays(moves))
    if new := [
        total | {"warehouse_id": last[id].warehouse_id, "sku": last[id].sku}
        for id, total in totals.items()
        if id in made
    ]:
        await connection.execute(insert_levels, row_arrays(new))


# --- read


async def find_reservations(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Reservation]:
    """Returns the reservations by id, unlocked; unknown ids are missing."""
    rows = await connection.execute(read_by_id, column_arrays(id=ids))
    return {r.id: r for r in await _with_lines(connection, list(map(RESERVATION.record, rows)))}


async def list_reservations(
    connection: AsyncConnection, wanted: ReservationFilter, page: Page
) -> list[Listed]:
    """Newest first, one more than the page where there are more."""
    r = reservations.c
    query = select(r.id, count_lines).order_by(r.id.desc()).limit(page.size + 1)
    if wanted.order_id:
        query = query.where(r.order_id == wanted.order_id)
    if wanted.warehouse_id:
        query = query.where(r.warehouse_id == wanted.warehouse_id)
    if wanted.statuses:
        query = query.where(r.status.in_(wanted.statuses))
    if wanted.update_time_from:
        query = query.where(r.update_time >= wanted.update_time_from)
    if wanted.update_time_before:
        query = query.where(r.update_time < wanted.update_time_before)
    if page.after:
        query = query.where(r.id < page.after[0])
    return [Listed((id,), lines) for id, lines in await connection.execute(query)]


async def line_bytes_of(connection: AsyncConnection, orders: Collection[UUID]) -> dict[UUID, int]:
    """Returns how many bytes the lines of the orders' reservations have in an answer at most;
    orders without any are missing.
    """
    rows = await connection.execute(read_line_bytes, column_arrays(order_id=orders))
    return {order_id: int(size) for order_id, size in rows}


async def find_level(connection: AsyncConnection, place: Place) -> StockLevel | None:
    row = (await connection.execute(read_levels, column_arrays(id=[level_id(place)]))).one_or_none()
    return LEVEL.record(row) if row else None


async def list_levels(
    connection: AsyncConnection, wanted: LevelFilter, page: Page
) -> list[StockLevel]:
    """By warehouse and SKU, one more than the page where there are more."""
    query = select(stock_levels).order_by(levels.warehouse_id, levels.sku).limit(page.size + 1)
    if wanted.warehouse_id:
        query = query.where(levels.warehouse_id == wanted.warehouse_id)
    if wanted.skus:
        query = query.where(levels.sku.in_(wanted.skus))
    if wanted.update_time_from:
        query = query.where(levels.update_time >= wanted.update_time_from)
    if wanted.update_time_before:
        query = query.where(levels.update_time < wanted.update_time_before)
    if page.after:
        query = query.where(tuple_(levels.warehouse_id, levels.sku) > tuple_(*page.after))
    return [LEVEL.record(row) for row in await connection.execute(query)]


async def list_movements(
    connection: AsyncConnection, wanted: MovementFilter, page: Page
) -> list[Movement]:
    """Oldest first, one more than the page where there are more."""
    query = _filtered(read_movements, wanted)
    if page.after:
        query = query.where(movements.c.id > page.after[0])
    rows = await connection.execute(query.order_by(movements.c.id).limit(page.size + 1))
    return [MOVEMENT.record(row, warehouse_id=row.warehouse_id, sku=row.sku) for row in rows]


async def sellable(connection: AsyncConnection, skus: Collection[str]) -> dict[str, int]:
    """Returns the sellable units over all warehouses, by SKU; unknown SKUs are missing."""
    rows = await connection.execute(read_sellable, column_arrays(sku=skus))
    return {sku: int(units) for sku, units in rows}


async def clock(connection: AsyncConnection) -> datetime:
    """The database's clock."""
    now: datetime = (await connection.execute(read_clock)).scalar_one()
    return now


async def find_overdue(
    connection: AsyncConnection, after: OverdueReservation | None, most: int
) -> list[OverdueReservation]:
    """Returns at most `most` reservations that are active past their expire_time and come after
    `after`, the longest past first. It skips orders that another transaction has locked.

    Several may be of one order. Where it returns `most`, there may be more.
    """
    time, id = (after.expire_time, after.id) if after else (EARLIEST_TIME, UUID(int=0))
    rows = await connection.execute(
        choose_overdue, {"after_expire_time": time, "after_id": id, "most": most}
    )
    return [
        OverdueReservation(expire_time=row.expire_time, id=row.id, order_id=row.order_id)
        for row in rows
    ]


def _filtered(query: Select[Any], wanted: MovementFilter) -> Select[Any]:
    m = movements.c
    if wanted.warehouse_id:
        query = query.where(levels.warehouse_id == wanted.warehouse_id)
    if wanted.sku:
        query = query.where(levels.sku == wanted.sku)
    if wanted.order_id:
        query = query.where(m.order_id == wanted.order_id)
    if wanted.kinds:
        query = query.where(m.kind.in_(wanted.kinds))
    if wanted.time_before:
        query = query.where(m.time < wanted.time_before)
    return query.where(m.time >= wanted.time_from) if wanted.time_from else query


async def _with_reservations(
    connection: AsyncConnection, found: Sequence[OrderReservations]
) -> dict[UUID, OrderReservations]:
    if not found:
        return {}
    rows = await connection.execute(
        read_reservations, column_arrays(order_id=[h.order_id for h in found])
    )
    of_order: defaultdict[UUID, list[Reservation]] = defaultdict(list)
    for reservation in await _with_lines(connection, list(map(RESERVATION.record, rows))):
        of_order[reservation.order_id].append(reservation)
    shipped = {id for id, several in of_order.items() if _has_shipped(several)}
    returned = await _returned_units(connection, shipped)
    return {
        h.order_id: replace(
            h, reservations=tuple(of_order[h.order_id]), returned=returned.get(h.order_id, {})
        )
        for h in found
    }


def _has_shipped(several: Sequence[Reservation]) -> bool:
    """Whether any unit has shipped: before that, no return can have brought units back."""
    return any(line.shipped for reservation in several for line in reservation.lines)


async def _returned_units(
    connection: AsyncConnection, orders: Collection[UUID]
) -> dict[UUID, dict[int, ReturnedUnits]]:
    """Returns the units that returns brought back, by order and line number, of orders of which
    units have shipped.
    """
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
