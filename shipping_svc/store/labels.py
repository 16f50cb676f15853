"""Labels, and the shipments whose label is still to be bought."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import column_arrays
from chassis.write.tables import insert_rows, is_any_of
from shipping_svc.lifecycle import LIVE, Status
from shipping_svc.model.records import Label
from shipping_svc.store.tries import start_due_tries
from shipping_svc.tables import label_tries, labels, shipments

read_number_holders = select(
    shipments.c.carrier, shipments.c.tracking_number, shipments.c.id
).where(is_any_of(shipments.c.tracking_number), shipments.c.status.in_(LIVE))
read_label = (
    select(shipments.c.tracking_number, labels.c.content, labels.c.content_type)
    .join_from(shipments, labels)
    .where(shipments.c.id == bindparam("shipment_id"), shipments.c.status != Status.VOIDED)
)
insert_labels = insert_rows(*labels.c)
insert_tries = insert_rows(*label_tries.c)
delete_label_tries = delete(label_tries).where(is_any_of(label_tries.c.shipment_id))
start_label_tries = start_due_tries(label_tries).returning(label_tries.c.shipment_id)
read_pending_labels = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(shipments.c.create_time))
).select_from(label_tries.join(shipments))


async def find_label(connection: AsyncConnection, shipment_id: UUID) -> Label | None:
    """Returns the label of the shipment; None where none is bought yet, or it is void."""
    row = (await connection.execute(read_label, {"shipment_id": shipment_id})).one_or_none()
    return Label(**row._mapping) if row else None


async def start_due_label_tries(
    connection: AsyncConnection, retry_s: float, most: int
) -> list[UUID]:
    """Starts tries of at most `most` labels that are due, and returns their shipments' ids.

    The longest due come first. A label that is still to be bought is due `retry_s` after its first
    try, twice that after the second, and so on up to LONGEST_PAUSE_S. Until then no other replica
    starts a try of it.
    """
    found = await connection.execute(start_label_tries, {"retry_s": retry_s, "most": most})
    return list(found.scalars())


async def count_pending_labels(connection: AsyncConnection) -> tuple[int, float]:
    """Returns the number of shipments whose label is still to be bought, and the age of the oldest.

    The age is in seconds.
    """
    count, oldest_s = (await connection.execute(read_pending_labels)).one()
    return count, float(oldest_s or 0)


async def find_number_holders(
    connection: AsyncConnection, numbers: Collection[str]
) -> dict[tuple[str, str], UUID]:
    """Returns the live shipments with these tracking numbers, by carrier and number."""
    rows = await connection.execute(read_number_holders, column_arrays(tracking_number=numbers))
    return {(row.carrier, row.tracking_number): row.id for row in rows}
