"""The tables of shipments, parcels and history: their statements, reads and lists."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from operator import eq, ge, lt
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Select, bindparam, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import conditions, insert_rows, is_any_of, update_rows
from shipping_svc.lifecycle import TERMINAL
from shipping_svc.model.filters import ShipmentFilter
from shipping_svc.model.records import Parcel, Shipment, Transition
from shipping_svc.tables import history, parcels, shipments

SHIPMENT = RecordRows(
    Shipment,
    shipments.c,
    loaded=["parcels", "recorded_reports", "tracking_number_holders"],
    derived=["deliver_time"],
)
PARCEL = RecordRows(Parcel, parcels.c, keys=["shipment_id", "number"])
TRANSITION = RecordRows(Transition, history.c)
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
OPEN_COLUMNS = ("id", "order_id", "attempt", "fulfillment_id")
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
read_versions = select(shipments.c.id, shipments.c.version).where(is_any_of(shipments.c.id))
read_parcels = (
    select(parcels)
    .where(is_any_of(parcels.c.shipment_id))
    .order_by(parcels.c.shipment_id, parcels.c.number)
)
read_open_shipments = (
    select(*(shipments.c[name] for name in OPEN_COLUMNS))
    .where(or_(is_any_of(shipments.c.order_id), is_any_of(shipments.c.fulfillment_id)))
    .where(shipments.c.status.not_in(TERMINAL), shipments.c.recall_time.is_(None))
)
read_history = (
    select(history)
    .where(history.c.shipment_id == bindparam("shipment_id"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("most"))
)
insert_shipments = insert_rows(*shipments.c)
insert_parcels = insert_rows(*parcels.c)
insert_history = insert_rows(*history.c)
update_shipments = update_rows(*(shipments.c[name] for name in MUTABLE_COLUMNS))
delete_parcels = delete(parcels).where(is_any_of(parcels.c.shipment_id))


async def find_shipments(
    connection: AsyncConnection, ids: Collection[UUID]
) -> dict[UUID, Shipment]:
    """Returns the shipments by id, unlocked; unknown ids are missing."""
    return {s.id: s for s in await with_parcels(connection, read_by_id, column_arrays(id=ids))}


async def find_fulfillments(
    connection: AsyncConnection, fulfillment_ids: Collection[UUID]
) -> dict[UUID, int]:
    """Returns the highest version of each fulfilment in its shipments; others are missing."""
    found = await connection.execute(
        read_fulfillments, column_arrays(fulfillment_id=fulfillment_ids)
    )
    return {row.fulfillment_id: row.highest for row in found}


async def find_versions(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, int]:
    """Returns the shipments' versions by id; unknown ids are missing."""
    rows = await connection.execute(read_versions, column_arrays(id=ids))
    return {row.id: row.version for row in rows}


async def list_shipments(
    connection: AsyncConnection, query: ShipmentFilter, page: Page
) -> list[Shipment]:
    """Returns the page's shipments and one more where there are more, newest first."""
    filters = conditions(
        (shipments.c.order_id, eq, query.order_id),
        (shipments.c.carrier, eq, query.carrier),
        (shipments.c.tracking_number, eq, query.tracking_number),
        (shipments.c.status, Column.in_, query.statuses),
        (shipments.c.update_time, ge, query.update_time_from),
        (shipments.c.update_time, lt, query.update_time_before),
        (shipments.c.id, lt, page.after and page.after[0]),
    )
    return await with_parcels(
        connection,
        select(shipments).where(*filters).order_by(shipments.c.id.desc()).limit(page.size + 1),
        {},
    )


async def list_history(
    connection: AsyncConnection, shipment_id: UUID, page: Page
) -> list[Transition]:
    """Returns the page's rows of history and one more where there are more, oldest first."""
    after = page.after[0] if page.after else 0
    parameters = {"shipment_id": shipment_id, "after": after, "most": page.size + 1}
    return [TRANSITION.record(row) for row in await connection.execute(read_history, parameters)]


async def find_open_shipments(
    connection: AsyncConnection,
    *,
    order_ids: Collection[UUID] = (),
    fulfillment_ids: Collection[UUID] = (),
) -> Sequence[Any]:
    """Returns OPEN_COLUMNS of the shipments of these orders and fulfilments that are not recalled.

    Shipments with a final status are missing.
    """
    parameters = column_arrays(order_id=order_ids, fulfillment_id=fulfillment_ids)
    return (await connection.execute(read_open_shipments, parameters)).all()


async def with_parcels(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Shipment]:
    """Returns the shipments of the statement, in its order, each with its parcels."""
    rows = list(await connection.execute(statement, parameters))
    parcels_of: defaultdict[UUID, list[Parcel]] = defaultdict(list)
    if rows:
        parameters = column_arrays(shipment_id=[row.id for row in rows])
        for parcel in await connection.execute(read_parcels, parameters):
            parcels_of[parcel.shipment_id].append(PARCEL.record(parcel))
    return [SHIPMENT.record(row, parcels=tuple(parcels_of[row.id])) for row in rows]
