"""All the SQL of shipments, for sets, over one connection."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from shipping_svc.lifecycle import LIVE, TERMINAL, Status
from shipping_svc.model.commands import CreateShipment, RecordLabel, RecordReport
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    BoughtLabel,
    ClosedFulfillment,
    ClosedOrder,
    ClosedOrders,
    Label,
    Parcel,
    RecallClosed,
    RecallOpened,
    Row,
    Shipment,
    TrackingEvent,
    Transition,
)
from shipping_svc.tables import (
    closed_fulfillments,
    closed_orders,
    history,
    label_tries,
    labels,
    parcels,
    recall_tries,
    shipments,
    tracking_events,
)

SHIPMENT = RecordRows(
    Shipment, shipments.c, loaded=["parcels", "recorded_reports", "tracking_number_holders"]
)
PARCEL = RecordRows(Parcel, parcels.c, keys=["shipment_id", "number"])
TRANSITION = RecordRows(Transition, history.c)
TRACKING_EVENT = RecordRows(TrackingEvent, tracking_events.c)
CLOSED_ORDER = RecordRows(ClosedOrder, closed_orders.c)
CLOSED_FULFILLMENT = RecordRows(ClosedFulfillment, closed_fulfillments.c)
MUTABLE_COLUMNS = (
    "id",
    "status",
    "reason",
    "carrier_code",
    "tracking_number",
    "version",
    "update_time",
    "report_time",
    "deliver_time",
    "recall_time",
    "fulfillment_version",
    "purchase",
    "withdraw_version",
    "contradict_time",
)
TRACKING_COLUMNS = (
    "shipment_id",
    "carrier_event_id",
    "status",
    "occur_time",
    "location",
    "record_time",
    "claimed_actor",
    "note",
)
OPEN_COLUMNS = ("id", "order_id", "attempt", "fulfillment_id")
LONGEST_PAUSE_S = 60.0

all_shipments = select(shipments).order_by(shipments.c.id)
read_by_id = all_shipments.where(is_any_of(shipments.c.id))
stated_version = func.greatest(shipments.c.fulfillment_version, shipments.c.withdraw_version)
highest_version = func.max(stated_version).label("highest")
highest_versions = select(shipments.c.fulfillment_id, highest_version).group_by(
    shipments.c.fulfillment_id
)
read_fulfillments = highest_versions.where(is_any_of(shipments.c.fulfillment_id))
lock_by_id = read_by_id.with_for_update(key_share=True)
lock_by_fulfillment = all_shipments.where(
    or_(is_any_of(shipments.c.id), is_any_of(shipments.c.fulfillment_id))
).with_for_update(key_share=True)
has_tracking_number = and_(
    shipments.c.carrier == bindparam("carrier"),
    shipments.c.tracking_number == bindparam("tracking_number"),
)
is_recorded = (
    select(tracking_events.c.sequence)
    .where(
        tracking_events.c.shipment_id == shipments.c.id,
        tracking_events.c.carrier_event_id == bindparam("carrier_event_id"),
    )
    .exists()
)
read_reported = (
    select(shipments.c.id)
    .where(has_tracking_number)
    .order_by(is_recorded.desc(), shipments.c.status.in_(LIVE).desc(), shipments.c.id.desc())
    .limit(1)
)
requested_numbers = unnest_rows(shipments.c.carrier, shipments.c.tracking_number)
read_number_holders = (
    select(shipments.c.carrier, shipments.c.tracking_number, shipments.c.id)
    .join(
        requested_numbers,
        and_(
            shipments.c.carrier == requested_numbers.c.carrier,
            shipments.c.tracking_number == requested_numbers.c.tracking_number,
        ),
    )
    .where(shipments.c.status.in_(LIVE))
)
read_versions = select(shipments.c.id, shipments.c.version).where(is_any_of(shipments.c.id))
read_parcels = (
    select(parcels)
    .where(is_any_of(parcels.c.shipment_id))
    .order_by(parcels.c.shipment_id, parcels.c.number)
)
read_label = (
    select(shipments.c.tracking_number, labels.c.content, labels.c.content_type)
    .join_from(shipments, labels)
    .where(shipments.c.id == bindparam("shipment_id"), shipments.c.status != Status.VOIDED)
)
read_open_shipments = (
    select(*(shipments.c[name] for name in OPEN_COLUMNS))
    .where(or_(is_any_of(shipments.c.order_id), is_any_of(shipments.c.fulfillment_id)))
    .where(shipments.c.status.not_in(TERMINAL), shipments.c.recall_time.is_(None))
)
open_recall_columns = (
    recall_tries.c.shipment_id,
    recall_tries.c.purchase,
    recall_tries.c.tracking_number,
    recall_tries.c.open_time.label("time"),
    recall_tries.c.bring_back,
)
read_recalls = select(*open_recall_columns).where(
    is_any_of(recall_tries.c.shipment_id), recall_tries.c.tracking_number.is_not(None)
)
read_is_reported = select(
    exists().where(
        has_tracking_number, shipments.c.status.in_(LIVE), shipments.c.report_time.is_not(None)
    )
)

requested_reports = unnest_rows(tracking_events.c.shipment_id, tracking_events.c.carrier_event_id)
read_recorded_reports = select(
    tracking_events.c.shipment_id, tracking_events.c.carrier_event_id
).join(
    requested_reports,
    and_(
        tracking_events.c.shipment_id == requested_reports.c.shipment_id,
        tracking_events.c.carrier_event_id == requested_reports.c.carrier_event_id,
    ),
)
read_tracking = (
    select(tracking_events)
    .where(
        tracking_events.c.shipment_id == bindparam("shipment_id"),
        tracking_events.c.sequence > bindparam("after"),
    )
    .order_by(tracking_events.c.sequence)
    .limit(bindparam("most"))
)
read_history = (
    select(history)
    .where(history.c.shipment_id == bindparam("shipment_id"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("most"))
)

insert_shipments, insert_parcels, insert_labels, insert_tries, insert_history = (
    insert_rows(*table.c) for table in (shipments, parcels, labels, label_tries, history)
)
new_recalls = upsert(recall_tries).from_select(
    list(recall_tries.c), select(*unnest_rows(*recall_tries.c).c)
)
upsert_recalls = new_recalls.on_conflict_do_update(
    index_elements=list(recall_tries.primary_key),
    set_={
        name: new_recalls.excluded[name]
        for name in ("tracking_number", "tries", "try_time", "bring_back")
    },
)
insert_tracking = insert_rows(*(tracking_events.c[name] for name in TRACKING_COLUMNS))
changed_shipments = unnest_rows(*(shipments.c[name] for name in MUTABLE_COLUMNS))
update_shipments = (
    update(shipments)
    .values({n: changed_shipments.c[n] for n in MUTABLE_COLUMNS[1:]})
    .where(shipments.c.id == changed_shipments.c.id)
)
delete_parcels = delete(parcels).where(is_any_of(parcels.c.shipment_id))
delete_label_tries = delete(label_tries).where(is_any_of(label_tries.c.shipment_id))
closed_recalls = unnest_rows(
    recall_tries.c.shipment_id, recall_tries.c.purchase, recall_tries.c.tracking_number
)
delete_recalls = delete(recall_tries).where(
    recall_tries.c.shipment_id == closed_recalls.c.shipment_id,
    recall_tries.c.purchase == closed_recalls.c.purchase,
    recall_tries.c.tracking_number.is_not_distinct_from(closed_recalls.c.tracking_number),
)


def _start_due_tries(tries: Table) -> Update:
    """Starts the next tries of the rows that are due, and counts them.

    A row is due after a pause that doubles with each try.
    """
    pause_s = func.least(
        bindparam("retry_s", type_=Float) * func.power(2, func.least(tries.c.tries - 1, 20)),
        LONGEST_PAUSE_S,
    )
    pause = func.make_interval(0, 0, 0, 0, 0, 0, pause_s, type_=INTERVAL)
    due = (
        select(*tries.primary_key)
        .where(tries.c.try_time < func.clock_timestamp() - pause)
        .order_by(tries.c.try_time)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    return (
        update(tries)
        .values(tries=tries.c.tries + 1, try_time=func.clock_timestamp())
        .where(tuple_(*tries.primary_key).in_(due))
    )


start_label_tries = _start_due_tries(label_tries).returning(label_tries.c.shipment_id)
start_recall_tries = _start_due_tries(recall_tries).returning(*open_recall_columns)

read_pending_labels = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(shipments.c.create_time))
).select_from(label_tries.join(shipments))
read_open_recalls = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(recall_tries.c.open_time))
)

read_orders = union(
    select(shipments.c.order_id).where(is_any_of(shipments.c.order_id)),
    select(closed_orders.c.order_id).where(is_any_of(closed_orders.c.order_id)),
)
read_closed_orders = select(closed_orders).where(is_any_of(closed_orders.c.order_id))
lock_closed_orders_by_id = read_closed_orders.order_by(closed_orders.c.order_id).with_for_update(
    key_share=True
)
insert_closed_orders = insert_rows(*closed_orders.c)
changed_closed_orders = unnest_rows(*closed_orders.c)
read_closed_fulfillments = select(closed_fulfillments).where(
    is_any_of(closed_fulfillments.c.fulfillment_id)
)
lock_closed_fulfillments_by_id = read_closed_fulfillments.order_by(
    closed_fulfillments.c.fulfillment_id
).with_for_update(key_share=True)
insert_closed_fulfillments = insert_rows(*closed_fulfillments.c)
update_closed_orders = (
    update(closed_orders)
    .values({each.name: each for each in changed_closed_orders.c if each.name != "order_id"})
    .where(closed_orders.c.order_id == changed_closed_orders.c.order_id)
)


async def lock_shipments(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> dict[UUID, Shipment]:
    """The shipments of the commands, by id.

    A fulfilment's shipment is also found by the id that its CreateShipment proposes, unless that
    command creates the next shipment of the fulfilment.
    """
    commands = [(each.target, each.command) for each in envelopes]
    parameters = column_arrays(id={*repeats, *(each.target for each in envelopes)})
    requests = [
        (id, command.request) for id, command in commands if isinstance(command, CreateShipment)
    ]
    if requests:
        parameters |= column_arrays(
            fulfillment_id=[request.fulfillment_id for _, request in requests]
        )
    found = {
        s.id: s
        for s in await _with_parcels(
            connection, lock_by_fulfillment if requests else lock_by_id, parameters
        )
    }
    if reports := [
        (id, command.report.carrier_event_id)
        for id, command in commands
        if isinstance(command, RecordReport)
    ]:
        await _load_recorded_reports(connection, found, reports)
    if sold := [
        (id, command.label.tracking_number)
        for id, command in commands
        if isinstance(command, RecordLabel) and id in found
    ]:
        await _load_number_holders(connection, found, sold)
    last = {
        s.fulfillment_id: s for s in sorted(found.values(), key=attrgetter("create_time", "id"))
    }
    existing = [(id, last.get(request.fulfillment_id), request) for id, request in requests]
    return found | {
        id: shipment
        for id, shipment, request in existing
        if shipment and not shipment.is_followed_by(request)
    }


async def save_shipments(
    connection: AsyncConnection,
    before: Mapping[UUID, Shipment],
    after: Mapping[UUID, Shipment],
    rows: Sequence[Row],
) -> None:
    """Stores the new and the changed shipments, and their rows.

    New shipments are sorted by their natural key: two sets with the same keys cannot deadlock.
    """
    created = sorted(
        (s for id, s in after.items() if id not in before), key=attrgetter("fulfillment_id")
    )
    changed = [s for id, s in after.items() if id in before]
    settled = [
        s.id
        for id, s in after.items()
        if id in before and before[id].status is Status.PENDING is not s.status
    ]
    if created:
        await connection.execute(insert_shipments, SHIPMENT.arrays(created))
        tries = [{"shipment_id": s.id, "tries": 1, "try_time": s.create_time} for s in created]
        await connection.execute(insert_tries, row_arrays(tries))
    if changed:
        await connection.execute(update_shipments, SHIPMENT.arrays(changed, MUTABLE_COLUMNS))
    await _save_parcels(
        connection, created, [s for s in changed if s.parcels != before[s.id].parcels]
    )
    if settled:
        await connection.execute(delete_label_tries, column_arrays(shipment_id=settled))
    await _save_rows(connection, rows)


async def find_shipments(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Shipment]:
    """The stored shipments, unlocked, by id; unknown ids are missing."""
    return {s.id: s for s in await _with_parcels(connection, read_by_id, column_arrays(id=ids))}


async def find_fulfillments(
    connection: AsyncConnection, fulfillment_ids: Collection[UUID]
) -> dict[UUID, int]:
    """Those of the fulfilments that have a shipment, with the highest version that one states."""
    found = await connection.execute(
        read_fulfillments, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return {row.fulfillment_id: row.highest for row in found}


async def find_known_orders(connection: AsyncConnection, order_ids: Collection[UUID]) -> set[UUID]:
    """Those of the orders that have a shipment or a closed attempt."""
    rows = await connection.execute(read_orders, column_arrays(order_id=order_ids))
    return set(rows.scalars())


async def find_reported(
    connection: AsyncConnection, carrier: str, tracking_number: str, carrier_event_id: str
) -> UUID | None:
    """The shipment that the carrier means by this number: the one that has recorded this report
    before, else the live one, else the latest.
    """
    named = {
        "carrier": carrier,
        "tracking_number": tracking_number,
        "carrier_event_id": carrier_event_id,
    }
    return (await connection.execute(read_reported, named)).scalar_one_or_none()


async def find_versions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """The shipments' versions, by id; unknown ids are missing."""
    rows = await connection.execute(read_versions, column_arrays(id=ids))
    return {row.id: row.version for row in rows}


async def list_shipments(
    connection: AsyncConnection, query: ShipmentFilter, page: Page
) -> list[Shipment]:
    """The page's shipments and one more where there are more, newest first."""
    conditions: list[ColumnElement[bool]] = (
        [shipments.c.status.in_(query.statuses)] if query.statuses else []
    )
    equal = {
        "order_id": query.order_id,
        "carrier": query.carrier,
        "tracking_number": query.tracking_number,
    }
    conditions += [shipments.c[name] == value for name, value in equal.items() if value is not None]
    if query.update_time_from:
        conditions.append(shipments.c.update_time >= query.update_time_from)
    if query.update_time_before:
        conditions.append(shipments.c.update_time < query.update_time_before)
    if page.after:
        conditions.append(shipments.c.id < page.after[0])
    return await _with_parcels(
        connection,
        select(shipments).where(*conditions).order_by(shipments.c.id.desc()).limit(page.size + 1),
        {},
    )


async def find_label(connection: AsyncConnection, shipment_id: UUID) -> Label | None:
    """The label of the shipment; None where none is bought yet, or it is void."""
    row = (await connection.execute(read_label, {"shipment_id": shipment_id})).one_or_none()
    return Label(**row._mapping) if row else None


async def list_tracking_events(
    connection: AsyncConnection, shipment_id: UUID, page: Page
) -> list[TrackingEvent]:
    """The page's tracking events and one more where there are more, in the order in which they
    were recorded.
    """
    after = page.after[0] if page.after else 0
    rows = await connection.execute(
        read_tracking, {"shipment_id": shipment_id, "after": after, "most": page.size + 1}
    )
    return [TRACKING_EVENT.record(row) for row in rows]


async def list_history(
    connection: AsyncConnection, shipment_id: UUID, page: Page
) -> list[Transition]:
    """The page's rows of history and one more where there are more, oldest first."""
    after = page.after[0] if page.after else 0
    parameters = {"shipment_id": shipment_id, "after": after, "most": page.size + 1}
    return [TRANSITION.record(row) for row in await connection.execute(read_history, parameters)]


async def start_due_label_tries(
    connection: AsyncConnection, retry_s: float, most: int
) -> list[UUID]:
    """Starts a try for the shipments whose label is still to be bought and whose last try is due
    for a repeat, the longest due first.

    A try is due for a repeat `retry_s` after the first one, twice that after the second, and so on
    up to LONGEST_PAUSE_S. Until then no other replica starts a try of that shipment.
    """
    found = await connection.execute(start_label_tries, {"retry_s": retry_s, "most": most})
    return list(found.scalars())


async def count_pending_labels(connection: AsyncConnection) -> tuple[int, float]:
    """How many shipments wait for their label, and for how many seconds the oldest of them has."""
    count, oldest_s = (await connection.execute(read_pending_labels)).one()
    return count, float(oldest_s or 0)


async def find_open_shipments(
    connection: AsyncConnection,
    *,
    order_ids: Collection[UUID] = (),
    fulfillment_ids: Collection[UUID] = (),
) -> Sequence[Any]:
    """The shipments of these orders and fulfilments that are neither at their end nor recalled:
    id, order_id, attempt, fulfillment_id.
    """
    parameters = column_arrays(order_id=order_ids, fulfillment_id=fulfillment_ids)
    return (await connection.execute(read_open_shipments, parameters)).all()


async def find_recalls(
    connection: AsyncConnection, shipment_ids: Collection[UUID]
) -> list[RecallOpened]:
    """The open recalls of these shipments that have a tracking number.

    A recall without one is requested once it is due: its purchase may still be in flight.
    """
    found = await connection.execute(read_recalls, column_arrays(shipment_id=shipment_ids))
    return [RecallOpened(**row) for row in found.mappings()]


async def start_due_recall_tries(
    connection: AsyncConnection, retry_s: float, most: int
) -> list[RecallOpened]:
    """Starts a try for the recalls that the carrier has not answered, as `start_due_label_tries`
    does for labels.
    """
    found = await connection.execute(start_recall_tries, {"retry_s": retry_s, "most": most})
    return [RecallOpened(**row) for row in found.mappings()]


async def count_open_recalls(connection: AsyncConnection) -> tuple[int, float]:
    """How many recalls the carrier has not answered, and for how many seconds the oldest of them
    has been open.
    """
    count, oldest_s = (await connection.execute(read_open_recalls)).one()
    return count, float(oldest_s or 0)


async def is_reported(connection: AsyncConnection, carrier: str, tracking_number: str) -> bool:
    """Whether the carrier has reported anything of the live shipment with this number."""
    return bool(
        (
            await connection.execute(
                read_is_reported, {"carrier": carrier, "tracking_number": tracking_number}
            )
        ).scalar_one()
    )


async def find_closed(
    connection: AsyncConnection, order_ids: Collection[UUID], fulfillment_ids: Collection[UUID]
) -> ClosedOrders:
    """The closed ones of the orders, with their latest closed attempt, and of the fulfilments."""
    orders = await connection.execute(read_closed_orders, column_arrays(order_id=order_ids))
    fulfillments = await connection.execute(
        read_closed_fulfillments, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return ClosedOrders(_closed_orders(orders), {row.fulfillment_id for row in fulfillments})


async def lock_closed_orders(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> dict[UUID, ClosedOrder]:
    """The orders among the targets that have a closed attempt, by id."""
    ids = column_arrays(order_id={*repeats, *(each.target for each in envelopes)})
    return _closed_orders(await connection.execute(lock_closed_orders_by_id, ids))


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
) -> dict[UUID, ClosedFulfillment]:
    """The cancelled fulfilments among the targets, by id."""
    targets = {*repeats, *(each.target for each in envelopes)}
    rows = await connection.execute(
        lock_closed_fulfillments_by_id, column_arrays(fulfillment_id=targets)
    )
    return {row.fulfillment_id: CLOSED_FULFILLMENT.record(row) for row in rows}


async def save_closed_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, ClosedFulfillment],
    after: Mapping[UUID, ClosedFulfillment],
    rows: Sequence[None],
) -> None:
    """Stores the new ones; a cancelled fulfilment does not change."""
    if created := sorted(
        (fulfillment for id, fulfillment in after.items() if id not in before),
        key=attrgetter("fulfillment_id"),
    ):
        await connection.execute(insert_closed_fulfillments, CLOSED_FULFILLMENT.arrays(created))


async def _with_parcels(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Shipment]:
    """The shipments that the statement finds, in its order, each with its parcels."""
    rows = list(await connection.execute(statement, parameters))
    parcels_of: defaultdict[UUID, list[Parcel]] = defaultdict(list)
    if rows:
        parameters = column_arrays(shipment_id=[row.id for row in rows])
        for parcel in await connection.execute(read_parcels, parameters):
            parcels_of[parcel.shipment_id].append(PARCEL.record(parcel))
    return [SHIPMENT.record(row, parcels=tuple(parcels_of[row.id])) for row in rows]


async def _save_parcels(
    connection: AsyncConnection, created: Sequence[Shipment], repacked: Sequence[Shipment]
) -> None:
    """Stores the parcels of new shipments, and replaces those of repacked ones."""
    if repacked:
        await connection.execute(
            delete_parcels, column_arrays(shipment_id=[s.id for s in repacked])
        )
    rows = [
        PARCEL.row(parcel, shipment_id=s.id, number=number)
        for s in (*created, *repacked)
        for number, parcel in enumerate(s.parcels, 1)
    ]
    if rows:
        await connection.execute(insert_parcels, row_arrays(rows))


async def _load_recorded_reports(
    connection: AsyncConnection, found: dict[UUID, Shipment], reports: Sequence[tuple[UUID, str]]
) -> None:
    """Sets `recorded_reports` of the shipments, which are locked by now, to those of these reports
    that are recorded already.
    """
    recorded: defaultdict[UUID, set[str]] = defaultdict(set)
    parameters = column_arrays(
        shipment_id=[id for id, _ in reports], carrier_event_id=[event for _, event in reports]
    )
    for shipment_id, carrier_event_id in await connection.execute(
        read_recorded_reports, parameters
    ):
        recorded[shipment_id].add(carrier_event_id)
    for shipment_id, carrier_event_ids in recorded.items():
        found[shipment_id] = replace(
            found[shipment_id], recorded_reports=frozenset(carrier_event_ids)
        )


async def _load_number_holders(
    connection: AsyncConnection, found: dict[UUID, Shipment], sold: Sequence[tuple[UUID, str]]
) -> None:
    """Sets `tracking_number_holders` of the shipments: other live shipments of their carrier that
    have the tracking numbers that were sold for them.
    """
    parameters = column_arrays(
        carrier=[found[target].carrier for target, _ in sold],
        tracking_number=[number for _, number in sold],
    )
    live = {
        (row.carrier, row.tracking_number): row.id
        for row in await connection.execute(read_number_holders, parameters)
    }
    for target, number in sold:
        other = live.get((found[target].carrier, number))
        if other not in (None, target):
            found[target] = replace(found[target], tracking_number_holders={number: other})


async def _save_rows(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Stores the rows of the decisions beside the shipments themselves."""
    if steps := [row for row in rows if isinstance(row, Transition)]:
        await connection.execute(insert_history, TRANSITION.arrays(steps))
    if bought := [row for row in rows if isinstance(row, BoughtLabel)]:
        await connection.execute(
            insert_labels,
            column_arrays(
                shipment_id=[each.shipment_id for each in bought],
                content=[each.label.content for each in bought],
                content_type=[each.label.content_type for each in bought],
            ),
        )
    if reported := [row for row in rows if isinstance(row, TrackingEvent)]:
        await connection.execute(insert_tracking, TRACKING_EVENT.arrays(reported, TRACKING_COLUMNS))
    if opened := [row for row in rows if isinstance(row, RecallOpened)]:
        last = {(row.shipment_id, row.purchase): _recall_row(row) for row in opened}
        await connection.execute(upsert_recalls, row_arrays(list(last.values())))
    if closed := [row for row in rows if isinstance(row, RecallClosed)]:
        await connection.execute(delete_recalls, row_arrays([asdict(row) for row in closed]))


def _recall_row(row: RecallOpened) -> dict[str, Any]:
    """The row of an open recall, at its first try."""
    return {
        "shipment_id": row.shipment_id,
        "purchase": row.purchase,
        "tracking_number": row.tracking_number,
        "open_time": row.time,
        "tries": 1,
        "try_time": row.time,
        "bring_back": row.bring_back,
    }


def _closed_orders(rows: Iterable[Any]) -> dict[UUID, ClosedOrder]:
    return {row.order_id: CLOSED_ORDER.record(row) for row in rows}
