"""The void labels of withdrawn fulfilments."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of
from fulfillment_svc.model.records import Fulfillment, VoidLabel
from fulfillment_svc.tables import void_labels

read_void_labels = (
    select(void_labels)
    .where(is_any_of(void_labels.c.fulfillment_id))
    .order_by(*void_labels.primary_key)
)
insert_void_labels = insert_rows(*void_labels.c)
delete_void_labels = delete(void_labels).where(is_any_of(void_labels.c.fulfillment_id))


async def load_void_labels(
    connection: AsyncConnection, ids: list[UUID]
) -> dict[UUID, list[VoidLabel]]:
    """The void labels of these fulfilments, each with the units in its parcels."""
    if not ids:
        return {}
    units: defaultdict[tuple[UUID, UUID, bool], dict[int, int]] = defaultdict(dict)
    for row in await connection.execute(read_void_labels, column_arrays(fulfillment_id=ids)):
        units[row.fulfillment_id, row.shipment_id, row.shipped][row.line_number] = row.quantity
    labels: defaultdict[UUID, list[VoidLabel]] = defaultdict(list)
    for (id, shipment_id, shipped), held in units.items():
        labels[id].append(VoidLabel(shipment_id, held, shipped))
    return labels


async def save_void_labels(connection: AsyncConnection, changed: Sequence[Fulfillment]) -> None:
    if not changed:
        return
    await connection.execute(
        delete_void_labels, column_arrays(fulfillment_id=[each.id for each in changed])
    )
    rows = [row for each in changed for row in _rows_of(each)]
    await connection.execute(insert_void_labels, row_arrays(rows))


def _rows_of(fulfillment: Fulfillment) -> Iterator[dict[str, Any]]:
    for label in fulfillment.void_labels:
        for number, quantity in label.units.items():
            yield {
                "fulfillment_id": fulfillment.id,
                "shipment_id": label.shipment_id,
                "line_number": number,
                "quantity": quantity,
                "shipped": label.shipped,
            }
