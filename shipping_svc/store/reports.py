"""The carrier's reports."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import and_, bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays
from chassis.write.tables import insert_rows, unnest_rows
from shipping_svc.lifecycle import LIVE
from shipping_svc.model.records import Shipment, TrackingEvent
from shipping_svc.tables import shipments, tracking_events

TRACKING_EVENT = RecordRows(TrackingEvent, tracking_events.c)
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
insert_tracking = insert_rows(*(tracking_events.c[name] for name in TRACKING_COLUMNS))


async def find_reported(
    connection: AsyncConnection, carrier: str, tracking_number: str, carrier_event_id: str
) -> UUID | None:
    """Returns the shipment that the report is about; None where there is none.

    Of the carrier's shipments with this number it is the one that has recorded this report, else
    the live one, else the latest.
    """
    parameters = {
        "carrier": carrier,
        "tracking_number": tracking_number,
        "carrier_event_id": carrier_event_id,
    }
    return (await connection.execute(read_reported, parameters)).scalar_one_or_none()


async def list_tracking_events(
    connection: AsyncConnection, shipment_id: UUID, page: Page
) -> list[TrackingEvent]:
    """Returns the page's tracking events and one more where there are more, oldest first."""
    after = page.after[0] if page.after else 0
    rows = await connection.execute(
        read_tracking, {"shipment_id": shipment_id, "after": after, "most": page.size + 1}
    )
    return [TRACKING_EVENT.record(row) for row in rows]


async def is_reported(connection: AsyncConnection, carrier: str, tracking_number: str) -> bool:
    """Returns whether the live shipment with this number has a report."""
    return bool(
        (
            await connection.execute(
                read_is_reported, {"carrier": carrier, "tracking_number": tracking_number}
            )
        ).scalar_one()
    )


async def load_recorded_reports(
    connection: AsyncConnection, found: dict[UUID, Shipment], reports: Sequence[tuple[UUID, str]]
) -> None:
    """Sets `recorded_reports` of the locked shipments: those of these reports that are recorded."""
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
