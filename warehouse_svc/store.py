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
from chassis.write.tables import among, given, insert_rows
from warehouse_svc.lifecycle import Bucket, MovementKind, Status
from warehouse_svc.model import (
    AdjustStock,
    Back,
    Booked,
    BookReturn,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    FollowWork,
    Holding,
    KeepUnits,
    Lapsed,
    LevelFilter,
    Movement,
    MovementFilter,
    OrderLine,
    Picture,
    Place,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    Reservation,
    ReservationFilter,
    ReservationLine,
    ReserveStock,
    StockLevel,
    View,
    level_id,
)
from warehouse_svc.tables import (
    holdings,
    movements,
    order_lines,
    reservation_lines,
    reservations,
    stock_levels,
)

LEVEL = RecordRows(StockLevel, stock_levels.c)
MOVEMENT = RecordRows(Movement, movements.c, loaded=["warehouse_id", "sku"])
HOLDING = RecordRows(Holding, holdings.c, loaded=["reservations", "back"])
RESERVATION = RecordRows(Reservation, reservations.c, loaded=["lines"])
LINE = RecordRows(ReservationLine, reservation_lines.c, keys=["reservation_id"])
CHANGING = ("id", "status", "version", "expire_time", "update_time")
BALANCES = ("available", "reserved", "committed", "damaged", "version")
UNITS = ("quantity", *Bucket, "expired", "spoiled")
BACK = tuple(f.name for f in fields(OrderLine) if f.name not in ("number", "sku"))

levels = stock_levels.c
lock_holdings = (
    select(holdings)
    .where(among(holdings.c.order_id))
    .order_by(holdings.c.order_id)
    .with_for_update(key_share=True)
)
lock_levels = (
    select(stock_levels)
    .where(or_(among(levels.id), among(levels.sku)))
    .order_by(levels.id)
    .with_for_update(key_share=True)
)
booked_for = (
    movements.c.source_id,
    movements.c.order_id,
    movements.c.line_number,
    movements.c.kind,
)
read_booked = (
    select(*booked_for, cast(func.sum(movements.c.quantity), BigInteger))
    .where(among(movements.c.source_id))
    .group_by(*booked_for)
)
read_levels = select(stock_levels).where(among(levels.id))
read_sellable = (
    select(levels.sku, func.sum(levels.available - levels.reserved))
    .where(among(levels.sku))
    .group_by(levels.sku)
)
read_reservations = (
    select(reservations).where(among(reservations.c.order_id)).order_by(reservations.c.id)
)
read_by_id = select(reservations).where(among(reservations.c.id))
count_lines = (
    select(func.count())
    .where(reservation_lines.c.reservation_id == reservations.c.id)
    .scalar_subquery()
)
read_lines = (
    select(reservation_lines)
    .where(among(reservation_lines.c.reservation_id))
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
    .where(among(reservations.c.order_id))
    .subquery()
)
read_line_bytes = select(
    lines_of_orders.c.order_id, func.sum(func.octet_length(lines_of_orders.c.sku) + LINE_BYTES)
).group_by(lines_of_orders.c.order_id)
read_back = select(
    order_lines.c.order_id,
    order_lines.c.line_number,
    order_lines.c.restocked,
    order_lines.c.damaged,
).where(among(order_lines.c.order_id))
read_movements = select(movements, levels.warehouse_id, levels.sku).join_from(
    movements, stock_levels, levels.id == movements.c.level_id
)
read_clock = select(func.clock_timestamp())
by_time = (reservations.c.expire_time, reservations.c.id)
choose_lapsed = (
    select(*by_time, reservations.c.order_id)
    .join(holdings, holdings.c.order_id == reservations.c.order_id)
    .where(
        reservations.c.status == Status.ACTIVE,
        reservations.c.expire_time <= func.clock_timestamp(),
        tuple_(*by_time)
        > tuple_(*(bindparam(f"after_{column.name}", type_=column.type) for column in by_time)),
    )
    .order_by(*by_time)
    .limit(bindparam("most"))
    .with_for_update(key_share=True, of=holdings, skip_locked=True)
)

EVER = datetime.min.replace(tzinfo=UTC)

# In which status a reservation must stand for a command to move its units.
REACH: Mapping[type, frozenset[Status]] = {
    ReserveStock: frozenset({Status.ACTIVE}),
    RenewReservations: frozenset({Status.ACTIVE}),
    ConfirmReservations: frozenset({Status.ACTIVE}),
    ReleaseReservations: frozenset({Status.ACTIVE}),
    ExpireReservations: frozenset({Status.ACTIVE}),
    EndAttempt: frozenset({Status.ACTIVE, Status.CONFIRMED}),
    KeepUnits: frozenset({Status.ACTIVE, Status.CONFIRMED}),
    FollowWork: frozenset({Status.CONFIRMED}),
    ReplaceSpoiled: frozenset({Status.CONFIRMED}),
}
insert_holdings, insert_levels, insert_movements, insert_reservations, insert_lines = (
    insert_rows(*table.c)
    for table in (holdings, stock_levels, movements, reservations, reservation_lines)
)
insert_order_lines = insert_rows(
    order_lines.c.order_id,
    order_lines.c.line_number,
    order_lines.c.sku,
    *(order_lines.c[n] for n in BACK),
)
save_order_lines = insert_order_lines.on_conflict_do_update(
    index_elements=["order_id", "line_number"],
    set_={name: insert_order_lines.excluded[name] for name in BACK},
)
changed_holdings = given(*holdings.c)
update_holdings = (
    update(holdings)
    .values({name: changed_holdings.c[name] for name in ("closed_attempt", "version")})
    .where(holdings.c.order_id == changed_holdings.c.order_id)
)
changed_reservations = given(*(reservations.c[name] for name in CHANGING))
update_reservations = (
    update(reservations)
    .values({name: changed_reservations.c[name] for name in CHANGING[1:]})
    .where(reservations.c.id == changed_reservations.c.id)
)
changed_lines = given(*reservation_lines.c)
update_lines = (
    update(reservation_lines)
    .values({name: changed_lines.c[name] for name in UNITS})
    .where(
        reservation_lines.c.reservation_id == changed_lines.c.reservation_id,
        reservation_lines.c.number == changed_lines.c.number,
    )
)
moved = given(levels.id, *(levels[name] for name in BALANCES), levels.update_time)
update_levels = (
    update(stock_levels)
    .values(
        {name: levels[name] + moved.c[name] for name in BALANCES}
        | {"update_time": moved.c.update_time}
    )
    .where(levels.id == moved.c.id)
)

# --- load


async def lock_stock(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Picture:
    """What the commands share: what is held for their orders, then the stock that they may move,
    both locked in the order of ids.
    """
    commands = [each.command for each in envelopes]
    requests = {
        each.target for each in envelopes if isinstance(each.command, (ReceiveStock, AdjustStock))
    }
    sources = requests | {c.source for c in commands if isinstance(c, BookReturn)}
    sources |= {c.left.source for c in commands if isinstance(c, FollowWork) and c.left}
    held = await _lock_holdings(
        connection,
        {*repeats, *(each.target for each in envelopes)} - requests,
    )
    wanted = _places_and_skus(envelopes, held)
    rows = await connection.execute(lock_levels, wanted) if any(wanted.values()) else ()
    return Picture(
        levels=map(LEVEL.record, rows),
        holdings=held.values(),
        requests=requests,
        booked=await _booked(connection, sources),
    )


async def _booked(connection: AsyncConnection, sources: Collection[UUID]) -> dict[UUID, Booked]:
    """What the ledger has for each source, read once what its writers lock is locked."""
    of_source: defaultdict[UUID, dict[tuple[UUID | None, int | None, MovementKind], int]] = (
        defaultdict(dict)
    )
    for source, order_id, number, kind, units in (
        await connection.execute(read_booked, column_arrays(source_id=sources)) if sources else ()
    ):
        of_source[source][order_id, number, kind] = units
    return dict(of_source)


async def _lock_holdings(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, Holding]:
    if not ids:
        return {}
    rows = await connection.execute(lock_holdings, column_arrays(order_id=ids))
    return await _with_reservations(connection, list(map(HOLDING.record, rows)))


def _places_and_skus(
    envelopes: Sequence[Envelope[Any]],
    held: Mapping[UUID, Holding],
) -> dict[str, list[Any]]:
    """The places whose units the commands may move, and the SKUs that they may look for in every
    warehouse.

    Whatever a set moves, it has locked: a reservation that changes within the set was in the reach
    of the command that changed it. (No set both takes reservations back and confirms them: what
    takes back is a worker, and its sets are its own.)
    """
    places: set[Place] = set()
    skus: set[str] = set()
    for each in envelopes:
        command = each.command
        standing = held[each.target].reservations if each.target in held else ()
        reach = REACH.get(type(command), frozenset())
        places.update(
            (r.warehouse_id, line.sku) for r in standing if r.status in reach for line in r.lines
        )
        match command:
            case ReceiveStock():
                places.update((command.warehouse_id, sku) for sku in command.quantities)
            case AdjustStock():
                places.add((command.warehouse_id, command.sku))
            case BookReturn():
                wanted = command.restocked.keys() | command.damaged.keys()
                places.update(
                    (command.warehouse_id, line.sku)
                    for r in standing
                    for line in r.lines
                    if line.number in wanted
                )
            case FollowWork(left=left) if left:
                here = [r for r in standing if r.warehouse_id == command.warehouse_id]
                places.update(
                    (r.warehouse_id, line.sku)
                    for r in here
                    for line in r.lines
                    if line.number in left.units
                )
            case ReserveStock():
                skus.update(line.sku for line in command.lines)
            case ConfirmReservations() | RenewReservations():
                # What is past its time and still active can be had again where it is.
                lost = [
                    r
                    for r in standing
                    if r.attempt == command.attempt and r.status is Status.EXPIRED
                ]
                skus.update(line.sku for r in lost for line in r.lines)
    return column_arrays(id=map(level_id, places), sku=skus)


# --- save


async def save_stock(
    connection: AsyncConnection,
    before: Mapping[UUID, View],
    after: Mapping[UUID, View],
    booked: Sequence[Movement],
) -> None:
    """Stores what is held, the ledger's new rows, and their sums over the balances: these are
    never set, only moved.
    """
    old = {id: view.holding for id, view in before.items() if view.holding}
    new = {id: view.holding for id, view in after.items() if view.holding}
    await _save_holdings(connection, old, new)
    reserved = {r.id: r for holding in old.values() for r in holding.reservations}
    changed = [
        r for holding in new.values() for r in holding.reservations if r is not reserved.get(r.id)
    ]
    # first: a new one may replace them
    await _update_reservations(connection, reserved, [r for r in changed if r.id in reserved])
    await _insert_reservations(connection, [r for r in changed if r.id not in reserved])
    await _save_order_lines(connection, old, new)
    if booked:
        await _move_balances(connection, booked)
        await connection.execute(insert_movements, MOVEMENT.arrays(booked))


async def _save_holdings(
    connection: AsyncConnection, old: Mapping[UUID, Holding], new: Mapping[UUID, Holding]
) -> None:
    changed = [new[id] for id in sorted(new) if new[id] is not old.get(id)]
    if made := [each for each in changed if each.order_id not in old]:
        await connection.execute(insert_holdings, HOLDING.arrays(made))
    if kept := [each for each in changed if each.order_id in old]:
        await connection.execute(update_holdings, HOLDING.arrays(kept))


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
    await connection.execute(update_reservations, RESERVATION.arrays(changed, CHANGING))
    lines = [
        LINE.row(line, reservation_id=r.id)
        for r in changed
        for line, was in zip(r.lines, old[r.id].lines, strict=True)
        if line != was
    ]
    if lines:
        await connection.execute(update_lines, row_arrays(lines))


async def _save_order_lines(
    connection: AsyncConnection, old: Mapping[UUID, Holding], new: Mapping[UUID, Holding]
) -> None:
    """What has left, and what came back, where that has changed."""
    moved = [
        {"order_id": id, "line_number": line.number, "sku": line.sku}
        | {name: getattr(line, name) for name in BACK}
        for id, holding in sorted(new.items())
        if _has_left(holding.reservations)
        for was in [old[id].lines if id in old else {}]
        for line in holding.lines.values()
        if line.shipped and line != was.get(line.number)
    ]
    if moved:
        await connection.execute(save_order_lines, row_arrays(moved))


async def _move_balances(connection: AsyncConnection, booked: Sequence[Movement]) -> None:
    """Adds the rows up, level by level. A row that made its level's first version makes the
    level.
    """
    sums: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    last = {row.level_id: row for row in booked}
    for row in booked:
        sums[row.level_id].update(
            {name: getattr(row, name) for name in BALANCES[:-1]} | {"version": 1}
        )
    made = {row.level_id for row in booked if row.level_version == 1}
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
    """The reservations as they stand, unlocked, by id; unknown ids are missing."""
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
    """How many bytes the lines of the orders' reservations have in an answer at most; orders
    without any are missing.
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
    """What checkouts can still get, over all warehouses; an SKU that never was anywhere is left
    out.
    """
    rows = await connection.execute(read_sellable, column_arrays(sku=skus))
    return {sku: int(units) for sku, units in rows}


async def clock(connection: AsyncConnection) -> datetime:
    """The database's clock."""
    now: datetime = (await connection.execute(read_clock)).scalar_one()
    return now


async def lapsed(connection: AsyncConnection, after: Lapsed | None, most: int) -> list[Lapsed]:
    """What is active past its time and comes after that, the longest past first. What is just being
    written is left out.

    There may be more as long as as many come as were asked for; several may be of one order.
    """
    time, id = (after.expire_time, after.id) if after else (EVER, UUID(int=0))
    rows = await connection.execute(
        choose_lapsed, {"after_expire_time": time, "after_id": id, "most": most}
    )
    return [Lapsed(expire_time=row.expire_time, id=row.id, order_id=row.order_id) for row in rows]


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
    connection: AsyncConnection, found: Sequence[Holding]
) -> dict[UUID, Holding]:
    if not found:
        return {}
    rows = await connection.execute(
        read_reservations, column_arrays(order_id=[h.order_id for h in found])
    )
    of_order: defaultdict[UUID, list[Reservation]] = defaultdict(list)
    for reservation in await _with_lines(connection, list(map(RESERVATION.record, rows))):
        of_order[reservation.order_id].append(reservation)
    left = {id for id, its in of_order.items() if _has_left(its)}
    back = await _back(connection, left)
    return {
        h.order_id: replace(
            h, reservations=tuple(of_order[h.order_id]), back=back.get(h.order_id, {})
        )
        for h in found
    }


def _has_left(held: Sequence[Reservation]) -> bool:
    """Whether anything has left: most orders that are written have nothing to come back yet."""
    return any(line.shipped for reservation in held for line in reservation.lines)


async def _back(connection: AsyncConnection, left: Collection[UUID]) -> dict[UUID, dict[int, Back]]:
    """What came back by returns, of orders of which anything has left."""
    of_order: defaultdict[UUID, dict[int, Back]] = defaultdict(dict)
    for row in await connection.execute(read_back, column_arrays(order_id=left)) if left else ():
        of_order[row.order_id][row.line_number] = Back(row.restocked, row.damaged)
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
