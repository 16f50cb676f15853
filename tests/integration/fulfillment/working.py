"""Work up to a status, the records then, and the published events. No tests here."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.money import Money
from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import (
    CompletePicking,
    Pack,
    Request,
    Scan,
    ScanItems,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.records import Fulfillment, Package, PackedItem
from fulfillment_svc.store.fulfillments import find_fulfillments
from tests.integration.fulfillment.events import Places, confirmed
from tests.unit.fulfillment.samples import envelope

EXPENSIVE = Money(5000_00, "GBP")
Units = dict[str, tuple[Status, list[tuple[int, int, int, int]]]]


async def units(engine: AsyncEngine) -> Units:
    """Returns each warehouse's status with, by line, the quantity and the cut, short and spoiled
    units.
    """
    async with engine.connect() as connection:
        ids = (await connection.execute(select(tables.fulfillments.c.id))).scalars().all()
        return {
            each.key.warehouse_id: (
                each.status,
                [(line.quantity, line.cut, line.short, line.spoiled) for line in each.lines],
            )
            for each in (await find_fulfillments(connection, ids)).values()
        }


async def published(
    engine: AsyncEngine, id: UUID | None = None
) -> list[FulfillmentStatusChanged | FulfillmentLinesChanged]:
    """Returns the events that wait to be published, oldest first: of all fulfilments, or of one."""
    kinds: dict[str, type[FulfillmentStatusChanged | FulfillmentLinesChanged]] = {
        kind.DESCRIPTOR.full_name: kind
        for kind in (FulfillmentStatusChanged, FulfillmentLinesChanged)
    }
    outbox = tables.outbox.c
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(outbox.type, outbox.payload, outbox.aggregate).order_by(outbox.id)
        )
        return [
            kinds[kind].FromString(payload)
            for kind, payload, aggregate in rows
            if id in (None, aggregate)
        ]


def reasons(
    events: list[FulfillmentStatusChanged | FulfillmentLinesChanged],
) -> list[tuple[str, int, str]]:
    """Returns the kind, the version and the reason of each event."""
    return [
        (type(each).__name__.removeprefix("Fulfillment"), each.fulfillment.version, each.reason)
        for each in events
    ]


async def planned(operations: Operations, places: Places, **order: Any) -> Fulfillment:
    """Returns the one fulfilment of a new order."""
    [outcome] = await operations.orders.apply_order_events([confirmed(uuid4(), places, **order)])
    [fulfillment] = unwrap(outcome).fulfillments
    return fulfillment


def packing(fulfillment: Fulfillment) -> Envelope[Pack]:
    """Returns the packing of all picked units in one package."""
    items = tuple(
        PackedItem(line.line_number, line.picked) for line in fulfillment.lines if line.picked
    )
    return envelope(
        Pack,
        target=fulfillment.id,
        packages=(
            Package(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100, items=items),
        ),
    )


async def worked(operations: Operations, fulfillment: Fulfillment, until: Status) -> Fulfillment:
    """Moves the fulfilment to the status by the usual steps."""
    steps: dict[Status, Callable[[Fulfillment], Envelope[Request]]] = {
        Status.PLANNING: lambda f: envelope(StartPicking, target=f.id),
        Status.PICKED: lambda f: envelope(StartPacking, target=f.id),
        Status.PACKING: packing,
    }
    while fulfillment.status is not until:
        if fulfillment.status is Status.PICKING:
            scans = tuple(Scan(line.sku, line.open) for line in fulfillment.lines if line.open)
            scanned = envelope(ScanItems, target=fulfillment.id, scans=scans)
            fulfillment = await operations.staff.change(scanned) if scans else fulfillment
            fulfillment = await operations.staff.change(
                envelope(CompletePicking, target=fulfillment.id)
            )
        else:
            fulfillment = await operations.staff.change(steps[fulfillment.status](fulfillment))
    return fulfillment
