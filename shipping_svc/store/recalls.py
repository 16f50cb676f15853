"""Recalls that the carrier has not answered."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.write.rows import column_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from shipping_svc.model.records import RecallOpened
from shipping_svc.store.tries import start_due_tries
from shipping_svc.tables import recall_tries

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
new_recalls = insert_rows(*recall_tries.c)
upsert_recalls = new_recalls.on_conflict_do_update(
    index_elements=list(recall_tries.primary_key),
    set_={
        name: new_recalls.excluded[name]
        for name in ("tracking_number", "tries", "try_time", "bring_back")
    },
)
closed_recalls = unnest_rows(
    recall_tries.c.shipment_id, recall_tries.c.purchase, recall_tries.c.tracking_number
)
delete_recalls = delete(recall_tries).where(
    recall_tries.c.shipment_id == closed_recalls.c.shipment_id,
    recall_tries.c.purchase == closed_recalls.c.purchase,
    recall_tries.c.tracking_number.is_not_distinct_from(closed_recalls.c.tracking_number),
)
start_recall_tries = start_due_tries(recall_tries).returning(*open_recall_columns)
read_open_recalls = select(
    func.count(), func.extract("epoch", func.clock_timestamp() - func.min(recall_tries.c.open_time))
)


async def find_recalls(
    connection: AsyncConnection, shipment_ids: Collection[UUID]
) -> list[RecallOpened]:
    """Returns the open recalls of these shipments that have a tracking number.

    A recall without one waits until it is due: its purchase may still be in flight.
    """
    found = await connection.execute(read_recalls, column_arrays(shipment_id=shipment_ids))
    return [RecallOpened(**row) for row in found.mappings()]


async def start_due_recall_tries(
    connection: AsyncConnection, retry_s: float, most: int
) -> list[RecallOpened]:
    """Starts tries of at most `most` open recalls that are due, and returns them.

    `start_due_label_tries` defines when a try is due.
    """
    found = await connection.execute(start_recall_tries, {"retry_s": retry_s, "most": most})
    return [RecallOpened(**row) for row in found.mappings()]


async def count_open_recalls(connection: AsyncConnection) -> tuple[int, float]:
    """Returns the number of open recalls, and the age of the oldest in seconds."""
    count, oldest_s = (await connection.execute(read_open_recalls)).one()
    return count, float(oldest_s or 0)


def recall_row(row: RecallOpened) -> dict[str, Any]:
    """Returns the row of a recall at its first try."""
    return {
        "shipment_id": row.shipment_id,
        "purchase": row.purchase,
        "tracking_number": row.tracking_number,
        "open_time": row.time,
        "tries": 1,
        "try_time": row.time,
        "bring_back": row.bring_back,
    }
