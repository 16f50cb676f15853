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
from chassis.write.tables import among, given, insert_rows
from shipping_svc.lifecycle import LIVE, TERMINAL, Status
from shipping_svc.model.commands import AskForShipment, KeepLabel, RecordReport
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import (
    DeadFulfillment,
    DeadOrder,
    Graves,
    KeptLabel,
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
    dead_fulfillments,
    dead_orders,
    history,
    label_tries,
    labels,
    parcels,
    recall_tries,
    shipments,
    tracking_events,
)

SHIPMENT = RecordRows(Shipment, shipments.c, loaded=["parcels", "known_reports", "rivals"])
PARCEL = RecordRows(Parcel, parcels.c, keys=["shipment_id", "number"])
TRANSITION = RecordRows(Transition, history.c)
TRACKING_EVENT = RecordRows(TrackingEvent, tracking_events.c)
DEAD_ORDER = RecordRows(DeadOrder, dead_orders.c)
DEAD_FULFILLMENT = RecordRows(DeadFulfillment, dead_fulfillments.c)
CHANGING = (
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
TRACKING = (
    "shipment_id",
    "carrier_event_id",
    "status",
    "occur_time",
    "location",
    "record_time",
    "claimed_actor",
    "note",
)
LIVING = ("id", "order_id", "attempt", "fulfillment_id")
LONGEST_PAUSE_S = 60.0

all_shipments = select(shipments).order_by(shipments.c.id)
read_by_id = all_shipments.where(among(shipments.c.id))
stated_version = func.greatest(shipments.c.fulfillment_version, shipments.c.withdraw_version)
highest_version = func.max(stated_version).label("highest")
highest_versions = select(shipments.c.fulfillment_id, highest_version).group_by(
    shipments.c.fulfillment_id
)
read_fulfillments = highest_versions.where(among(shipments.c.fulfillment_id))
lock_by_id = read_by_id.with_for_update(key_share=True)
lock_by_fulfillment = all_shipments.where(
    or_(among(shipments.c.id), among(shipments.c.fulfillment_id))
).with_for_update(key_share=True)
named_so = and_(
    shipments.c.carrier == bindparam("carrier"),
    shipments.c.tracking_number == bindparam("tracking_number"),
)
recorded_before = (
    select(tracking_events.c.sequence)
    .where(
        tracking_events.c.shipment_id == shipments.c.id,
        tracking_events.c.carrier_event_id == bindparam("carrier_event_id"),
    )
    .exists()
)
read_reported = (
    select(shipments.c.id)
    .where(named_so)
    .order_by(recorded_before.desc(), shipments.c.status.in_(LIVE).desc(), shipments.c.id.desc())
    .limit(1)
)
asked_numbers = given(shipments.c.carrier, shipments.c.tracking_number)
read_rivals = (
    select(shipments.c.carrier, shipments.c.tracking_number, shipments.c.id)
    .join(
        asked_numbers,
        and_(
            shipments.c.carrier == asked_numbers.c.carrier,
            shipments.c.tracking_number == asked_numbers.c.tracking_number,
        ),
    )
    .where(shipments.c.status.in_(LIVE))
)
read_versions = select(shipments.c.id, shipments.c.version).where(among(shipments.c.id))
read_parcels = (
    select(parcels)
    .where(among(parcels.c.shipment_id))
    .order_by(parcels.c.shipment_id, parcels.c.number)
)
read_label = (
    select(shipments.c.tracking_number, labels.c.content, labels.c.content_type)
    .join_from(shipments, labels)
    .where(shipments.c.id == bindparam("shipment_id"), shipments.c.status != Status.VOIDED)
)
read_living = (
    select(*(shipments.c[name] for name in LIVING))
    .where(or_(among(shipments.c.order_id), among(shipments.c.fulfillment_id)))
    .where(shipments.c.status.not_in(TERMINAL), shipments.c.recall_time.is_(None))
)
an_open_recall = (
    recall_tries.c.shipment_id,
    recall_tries.c.purchase,
    recall_tries.c.tracking_number,
    recall_tries.c.open_time.label("time"),
    recall_tries.c.bring_back,
)
read_recalls = select(*an_open_recall).where(
    among(recall_tries.c.shipment_id), recall_tries.c.tracking_number.is_not(None)
)
read_is_reported = select(
    exists().where(named_so, shipments.c.status.in_(LIVE), shipments.c.report_time.is_not(None))
)

asked_reports = given(tracking_events.c.shipment_id, tracking_events.c.carrier_event_id)
read_known_reports = select(tracking_events.c.shipment_id, tracking_events.c.carrier_event_id).join(
    asked_reports,
    and_(
        tracking_events.c.shipment_id == asked_reports.c.shipment_id,
        tracking_events.c.carrier_event_id == asked_reports.c.carrier_event_id,
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
    list(recall_tries.c), select(*given(*recall_tries.c).c)
)
open_recalls_anew = new_recalls.on_conflict_do_update(
    index_elements=list(recall_tries.primary_key),
    set_={
        name: new_recalls.excluded[name]
        for name in ("tracking_number", "tries", "try_time", "bring_back")
    },
)
insert_tracking = insert_rows(*(tracking_events.c[name] for name in TRACKING))
changed_shipments = given(*(shipments.c[name] for name in CHANGING))
update_shipments = (
    update(shipments)
    .values({n: changed_shipments.c[n] for n in CHANGING[1:]})
    .where(shipments.c.id == changed_shipments.c.id)
)
drop_parcels = delete(parcels).where(among(parcels.c.shipment_id))
settle_labels = delete(label_tries).where(among(label_tries.c.shipment_id))
closed_recalls = given(
    recall_tries.c.shipment_id, recall_tries.c.purchase, recall_tries.c.tracking_number
)
close_recalls = delete(recall_tries).where(
    recall_tries.c.shipment_id == closed_recalls.c.shipment_id,
    recall_tries.c.purchase == closed_recalls.c.purchase,
    recall_tries.c.tracking_number.is_not_distinct_from(closed_recalls.c.tracking_number),
)


def _begin(tries: Table) -> Update:
    """A try that has told nothing is given up after a pause that doubles with each: then the
    next one may begin.
    """
    pause_s = func.least(
        bindparam("patience_s", type_=Float) * func.power(2, func.least(tries.c.tries - 1, 20)),
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


begin_tries = _begin(label_tries).returning(label_tries.c.shipment_id)
begin_recalls = _begin(recall_tries).returning(*an_open_recall)

read_waiting = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(shipments.c.create_time))
).select_from(label_tries.join(shipments))
read_open_recalls = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(recall_tries.c.open_time))
)

read_orders = union(
    select(shipments.c.order_id).where(among(shipments.c.order_id)),
    select(dead_orders.c.order_id).where(among(dead_orders.c.order_id)),
)
read_dead = select(dead_orders).where(among(dead_orders.c.order_id))
lock_dead = read_dead.order_by(dead_orders.c.order_id).with_for_update(key_share=True)
insert_dead = insert_rows(*dead_orders.c)
changed_dead = given(*dead_orders.c)
read_gone = select(dead_fulfillments).where(among(dead_fulfillments.c.fulfillment_id))
lock_gone = read_gone.order_by(dead_fulfillments.c.fulfillment_id).with_for_update(key_share=True)
insert_gone = insert_rows(*dead_fulfillments.c)
update_dead = (
    update(dead_orders)
    .values({each.name: each for each in changed_dead.c if each.name != "order_id"})
    .where(dead_orders.c.order_id == changed_dead.c.order_id)
)


async def lock_shipments(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> dict[UUID, Shipment]:
    """The shipments of the commands, by id.

    A fulfilment's shipment is also found by the id that its AskForShipment proposes, unless that
    command creates the next shipment of the fulfilment.
    """
    commands = [(each.target, each.command) for each in envelopes]
    parameters = column_arrays(id={*repeats, *(each.target for each in envelopes)})
    asked = [(id, its.wanted) for id, its in commands if isinstance(its, AskForShipment)]
    if asked:
        parameters |= column_arrays(fulfillment_id=[wanted.fulfillment_id for _, wanted in asked])
    found = {
        s.id: s
        for s in await _whole(connection, lock_by_fulfillment if asked else lock_by_id, parameters)
    }
    if reports := [
        (id, its.report.carrier_event_id) for id, its in commands if isinstance(its, RecordReport)
    ]:
        await _mark_known(connection, found, reports)
    if sold := [
        (id, its.label.tracking_number)
        for id, its in commands
        if isinstance(its, KeepLabel) and id in found
    ]:
        await _mark_rivals(connection, found, sold)
    last = {
        s.fulfillment_id: s for s in sorted(found.values(), key=attrgetter("create_time", "id"))
    }
    known = [(id, last.get(wanted.fulfillment_id), wanted) for id, wanted in asked]
    return found | {id: its for id, its, wanted in known if its and not its.followed_by(wanted)}


async def save_shipments(
    connection: AsyncConnection,
    before: Mapping[UUID, Shipment],
    after: Mapping[UUID, Shipment],
    rows: Sequence[Row],
) -> None:
    """Stores what changed; new shipments sorted by their natural key, or two sets of rivals may
    deadlock.
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
        await connection.execute(update_shipments, SHIPMENT.arrays(changed, CHANGING))
    await _save_parcels(
        connection, created, [s for s in changed if s.parcels != before[s.id].parcels]
    )
    if settled:
        await connection.execute(settle_labels, column_arrays(shipment_id=settled))
    await _save_rows(connection, rows)


async def find_shipments(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Shipment]:
    """The shipments as they stand, unlocked, by id; unknown ids are missing."""
    return {s.id: s for s in await _whole(connection, read_by_id, column_arrays(id=ids))}


async def find_fulfillments(
    connection: AsyncConnection, fulfillment_ids: Collection[UUID]
) -> dict[UUID, int]:
    """Those of the fulfilments that have a shipment, with the highest version that one states."""
    found = await connection.execute(
        read_fulfillments, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return {row.fulfillment_id: row.highest for row in found}


async def find_orders(connection: AsyncConnection, order_ids: Collection[UUID]) -> set[UUID]:
    """Those of the orders that have a shipment, or are known to be dead."""
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


async def versions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """The shipments' versions, by id; unknown ids are missing."""
    rows = await connection.execute(read_versions, column_arrays(id=ids))
    return {row.id: row.version for row in rows}


async def list_shipments(
    connection: AsyncConnection, wanted: ShipmentFilter, page: Page
) -> list[Shipment]:
    """The page's shipments and one more where there are more, newest first."""
    conditions: list[ColumnElement[bool]] = (
        [shipments.c.status.in_(wanted.statuses)] if wanted.statuses else []
    )
    equal = {
        "order_id": wanted.order_id,
        "carrier": wanted.carrier,
        "tracking_number": wanted.tracking_number,
    }
    conditions += [shipments.c[name] == value for name, value in equal.items() if value is not None]
    if wanted.update_time_from:
        conditions.append(shipments.c.update_time >= wanted.update_time_from)
    if wanted.update_time_before:
        conditions.append(shipments.c.update_time < wanted.update_time_before)
    if page.after:
        conditions.append(shipments.c.id < page.after[0])
    return await _whole(
        connection,
        select(shipments).where(*conditions).order_by(shipments.c.id.desc()).limit(page.size + 1),
        {},
    )


async def find_label(connection: AsyncConnection, shipment_id: UUID) -> Label | None:
    """The label that was bought; None where there is none (yet), or it is void."""
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
    asked = {"shipment_id": shipment_id, "after": after, "most": page.size + 1}
    return [TRANSITION.record(row) for row in await connection.execute(read_history, asked)]


async def begin_tries_due(connection: AsyncConnection, patience_s: float, most: int) -> list[UUID]:
    """Takes on shipments whose label is still to be bought and whose last try has told nothing for
    too long, longest first.

    Too long is `patience_s` after the first try, twice that after the second, and so on up to
    LONGEST_PAUSE_S. Who takes one on has it for as long: several replicas step over each other's.
    """
    return list(
        (await connection.execute(begin_tries, {"patience_s": patience_s, "most": most})).scalars()
    )


async def waiting_labels(connection: AsyncConnection) -> tuple[int, float]:
    """How many shipments wait for their label, and for how many seconds the oldest of them has."""
    count, oldest_s = (await connection.execute(read_waiting)).one()
    return count, float(oldest_s or 0)


async def find_living(
    connection: AsyncConnection,
    *,
    order_ids: Collection[UUID] = (),
    fulfillment_ids: Collection[UUID] = (),
) -> Sequence[Any]:
    """The shipments of these orders and fulfilments that are neither at their end nor recalled:
    id, order_id, attempt, fulfillment_id.
    """
    wanted = column_arrays(order_id=order_ids, fulfillment_id=fulfillment_ids)
    return (await connection.execute(read_living, wanted)).all()


async def find_recalls(
    connection: AsyncConnection, shipment_ids: Collection[UUID]
) -> list[RecallOpened]:
    """What the carrier is still to be asked to take back of these shipments, and calls by a
    tracking number.

    What it may have sold unheard of is asked for once it is due: the purchase may still be on its
    way.
    """
    found = await connection.execute(read_recalls, column_arrays(shipment_id=shipment_ids))
    return [RecallOpened(**row) for row in found.mappings()]


async def begin_recalls_due(
    connection: AsyncConnection, patience_s: float, most: int
) -> list[RecallOpened]:
    """Takes on recalls that the carrier has not answered for too long, as `begin_tries_due` does
    labels.
    """
    found = await connection.execute(begin_recalls, {"patience_s": patience_s, "most": most})
    return [RecallOpened(**row) for row in found.mappings()]


async def open_recalls(connection: AsyncConnection) -> tuple[int, float]:
    """How many recalls the carrier has not answered, and for how many seconds the oldest of them
    has been open.
    """
    count, oldest_s = (await connection.execute(read_open_recalls)).one()
    return count, float(oldest_s or 0)


async def is_reported(connection: AsyncConnection, carrier: str, tracking_number: str) -> bool:
    """Whether the carrier has reported anything of the live shipment that it calls so."""
    return bool(
        (
            await connection.execute(
                read_is_reported, {"carrier": carrier, "tracking_number": tracking_number}
            )
        ).scalar_one()
    )


async def find_graves(
    connection: AsyncConnection, order_ids: Collection[UUID], fulfillment_ids: Collection[UUID]
) -> Graves:
    """Those of the orders that have died, with their last death, and those of the fulfilments."""
    orders = await connection.execute(read_dead, column_arrays(order_id=order_ids))
    fulfillments = await connection.execute(
        read_gone, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return Graves(_dead(orders), {row.fulfillment_id for row in fulfillments})


async def lock_dead_orders(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> dict[UUID, DeadOrder]:
    """The orders among the targets that have a closed attempt, by id."""
    ids = column_arrays(order_id={*repeats, *(each.target for each in envelopes)})
    return _dead(await connection.execute(lock_dead, ids))


async def save_dead_orders(
    connection: AsyncConnection,
    before: Mapping[UUID, DeadOrder],
    after: Mapping[UUID, DeadOrder],
    rows: Sequence[None],
) -> None:
    """Stores each order's last death."""
    died = sorted(after.values(), key=attrgetter("order_id"))
    created = [order for order in died if order.order_id not in before]
    changed = [order for order in died if order.order_id in before]
    if created:
        await connection.execute(insert_dead, DEAD_ORDER.arrays(created))
    if changed:
        await connection.execute(update_dead, DEAD_ORDER.arrays(changed))


async def lock_dead_fulfillments(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> dict[UUID, DeadFulfillment]:
    """The cancelled fulfilments among the targets, by id."""
    targets = {*repeats, *(each.target for each in envelopes)}
    rows = await connection.execute(lock_gone, column_arrays(fulfillment_id=targets))
    return {row.fulfillment_id: DEAD_FULFILLMENT.record(row) for row in rows}


async def save_dead_fulfillments(
    connection: AsyncConnection,
    before: Mapping[UUID, DeadFulfillment],
    after: Mapping[UUID, DeadFulfillment],
    rows: Sequence[None],
) -> None:
    """Stores those that are new."""
    if gone := sorted(
        (its for id, its in after.items() if id not in before), key=attrgetter("fulfillment_id")
    ):
        await connection.execute(insert_gone, DEAD_FULFILLMENT.arrays(gone))


async def _whole(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Shipment]:
    """The shipments that the statement finds, in its order, each with its parcels."""
    rows = list(await connection.execute(statement, parameters))
    packed: defaultdict[UUID, list[Parcel]] = defaultdict(list)
    if rows:
        of = column_arrays(shipment_id=[row.id for row in rows])
        for parcel in await connection.execute(read_parcels, of):
            packed[parcel.shipment_id].append(PARCEL.record(parcel))
    return [SHIPMENT.record(row, parcels=tuple(packed[row.id])) for row in rows]


async def _save_parcels(
    connection: AsyncConnection, created: Sequence[Shipment], repacked: Sequence[Shipment]
) -> None:
    """The parcels of new shipments, and others in the place of those that were packed anew."""
    if repacked:
        await connection.execute(drop_parcels, column_arrays(shipment_id=[s.id for s in repacked]))
    packed = [
        PARCEL.row(parcel, shipment_id=s.id, number=number)
        for s in (*created, *repacked)
        for number, parcel in enumerate(s.parcels, 1)
    ]
    if packed:
        await connection.execute(insert_parcels, row_arrays(packed))


async def _mark_known(
    connection: AsyncConnection, found: dict[UUID, Shipment], reports: Sequence[tuple[UUID, str]]
) -> None:
    """Tells the shipments (which are locked by now) which of these reports they have recorded
    already.
    """
    known: defaultdict[UUID, set[str]] = defaultdict(set)
    asked = column_arrays(
        shipment_id=[id for id, _ in reports], carrier_event_id=[event for _, event in reports]
    )
    for shipment_id, carrier_event_id in await connection.execute(read_known_reports, asked):
        known[shipment_id].add(carrier_event_id)
    for shipment_id, carrier_event_ids in known.items():
        found[shipment_id] = replace(found[shipment_id], known_reports=frozenset(carrier_event_ids))


async def _mark_rivals(
    connection: AsyncConnection, found: dict[UUID, Shipment], sold: Sequence[tuple[UUID, str]]
) -> None:
    """Tells the shipments which other live shipments of their carrier have the tracking numbers
    that were sold for them.
    """
    asked = column_arrays(
        carrier=[found[target].carrier for target, _ in sold],
        tracking_number=[number for _, number in sold],
    )
    live = {
        (row.carrier, row.tracking_number): row.id
        for row in await connection.execute(read_rivals, asked)
    }
    for target, number in sold:
        other = live.get((found[target].carrier, number))
        if other not in (None, target):
            found[target] = replace(found[target], rivals={number: other})


async def _save_rows(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Stores what the decisions have left beside the shipments themselves."""
    if steps := [row for row in rows if isinstance(row, Transition)]:
        await connection.execute(insert_history, TRANSITION.arrays(steps))
    if bought := [row for row in rows if isinstance(row, KeptLabel)]:
        await connection.execute(
            insert_labels,
            column_arrays(
                shipment_id=[each.shipment_id for each in bought],
                content=[each.label.content for each in bought],
                content_type=[each.label.content_type for each in bought],
            ),
        )
    if heard := [row for row in rows if isinstance(row, TrackingEvent)]:
        await connection.execute(insert_tracking, TRACKING_EVENT.arrays(heard, TRACKING))
    if opened := [row for row in rows if isinstance(row, RecallOpened)]:
        last = {(row.shipment_id, row.purchase): _recall_row(row) for row in opened}
        await connection.execute(open_recalls_anew, row_arrays(list(last.values())))
    if closed := [row for row in rows if isinstance(row, RecallClosed)]:
        await connection.execute(close_recalls, row_arrays([asdict(row) for row in closed]))


def _recall_row(row: RecallOpened) -> dict[str, Any]:
    """The row of a recall: it is open, and asked for the first time."""
    return {
        "shipment_id": row.shipment_id,
        "purchase": row.purchase,
        "tracking_number": row.tracking_number,
        "open_time": row.time,
        "tries": 1,
        "try_time": row.time,
        "bring_back": row.bring_back,
    }


def _dead(rows: Iterable[Any]) -> dict[UUID, DeadOrder]:
    return {row.order_id: DEAD_ORDER.record(row) for row in rows}
