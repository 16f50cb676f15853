"""Packages and their items."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of
from fulfillment_svc.model.records import Fulfillment, Package, PackedItem
from fulfillment_svc.tables import items, packages

PACKAGE = RecordRows(Package, packages.c, keys=["fulfillment_id", "number"], loaded=["items"])
ITEM = RecordRows(PackedItem, items.c, keys=["fulfillment_id", "package_number"])
read_packages = (
    select(packages)
    .where(is_any_of(packages.c.fulfillment_id))
    .order_by(packages.c.fulfillment_id, packages.c.number)
)
read_items = (
    select(items)
    .where(is_any_of(items.c.fulfillment_id))
    .order_by(items.c.fulfillment_id, items.c.package_number, items.c.line_number)
)
insert_packages = insert_rows(*packages.c)
insert_items = insert_rows(*items.c)
delete_packages = delete(packages).where(is_any_of(packages.c.fulfillment_id))


async def load_packages(connection: AsyncConnection, ids: list[UUID]) -> dict[UUID, list[Package]]:
    """Returns the packages of these fulfilments, each with its items."""
    if not ids:
        return {}
    parameters = column_arrays(fulfillment_id=ids)
    contents: defaultdict[tuple[UUID, int], list[PackedItem]] = defaultdict(list)
    for row in await connection.execute(read_items, parameters):
        contents[row.fulfillment_id, row.package_number].append(ITEM.record(row))
    parcels: defaultdict[UUID, list[Package]] = defaultdict(list)
    for row in await connection.execute(read_packages, parameters):
        packed = tuple(contents[row.fulfillment_id, row.number])
        parcels[row.fulfillment_id].append(PACKAGE.record(row, items=packed))
    return parcels


async def save_packages(
    connection: AsyncConnection, repacked: Sequence[tuple[Fulfillment, Fulfillment]]
) -> None:
    """Replaces the stored packages of these fulfilments: the records before and after."""
    if unpacked := [old.id for old, _ in repacked if old.packages]:
        await connection.execute(delete_packages, column_arrays(fulfillment_id=unpacked))
    parcels = [
        (new.id, number, parcel)
        for _, new in repacked
        for number, parcel in enumerate(new.packages, 1)
    ]
    if parcels:
        rows = [PACKAGE.row(parcel, fulfillment_id=id, number=n) for id, n, parcel in parcels]
        await connection.execute(insert_packages, row_arrays(rows))
        contents = [
            ITEM.row(item, fulfillment_id=id, package_number=number)
            for id, number, parcel in parcels
            for item in parcel.items
        ]
        await connection.execute(insert_items, row_arrays(contents))
