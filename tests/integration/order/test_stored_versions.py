"""An operator corrects the version of a fulfilment that a forged event has stored."""

from uuid import UUID

from ordermesh.shipping.v1 import shipping_pb2

from chassis.write.database import Database
from order_svc import tables
from order_svc.lifecycle import Work
from order_svc.model import Part
from order_svc.operations import Operations
from tests.integration.order.events import (
    delivery,
    paid,
    parcel_ended,
    shipped_and_delivered,
    working,
)
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import PATH, place, tell
from tests.support import set_stored_version

FORGED = 9_000  # within the jump that a service accepts


async def part_of(operations: Operations, order_id: UUID) -> Part:
    """The order's one part."""
    [order] = await operations.get_orders([order_id])
    [part] = order.parts
    return part


async def test_true_fulfilment_event_counts_after_set_version(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """A forged version 9,000 of a fulfilment: its version 2 is skipped. An operator sets
    it, and version 3 counts.
    """
    order = await place(orders, operations, "london")
    pending, planning, picking, _ = working(order, "london", PATH)
    forged = type(pending)()
    forged.CopyFrom(pending)
    forged.fulfillment.version = FORGED
    await tell(operations, [delivery(paid(order)), delivery(forged)])
    await tell(operations, [delivery(planning)])
    its = await part_of(operations, order.id)
    assert (its.version, its.work) == (FORGED, Work.PENDING)
    await set_stored_version(database, tables.stored_versions, order.id, 2, its.fulfillment_id)
    await tell(operations, [delivery(picking)])
    its = await part_of(operations, order.id)
    assert (its.version, its.work) == (3, Work.PICKING)


async def test_true_shipment_counts_after_set_version(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """A forged withdrawal at version 9,000: the shipment of version 5 is skipped as withdrawn. An
    operator sets it, and the shipment of version 7 counts. Another order's withdrawal stays.
    """
    order, other = [await place(orders, operations, "london") for _ in range(2)]
    for each in (order, other):
        void = parcel_ended(
            shipped_and_delivered(each, "london")[0].shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED
        )
        void.shipment.withdraw_version = FORGED
        events = [paid(each), *working(each, "london", PATH), void]
        await tell(operations, [delivery(event) for event in events])
    skipped, created = [shipped_and_delivered(order, "london")[0] for _ in range(2)]
    skipped.shipment.fulfillment_version, created.shipment.fulfillment_version = 5, 7
    await tell(operations, [delivery(skipped)])
    its = await part_of(operations, order.id)
    assert (its.version, its.withdraw_version, its.shipment_id) == (4, FORGED, None)
    await set_stored_version(database, tables.stored_versions, order.id, 5, its.fulfillment_id)
    await tell(operations, [delivery(created)])
    its = await part_of(operations, order.id)
    assert (its.withdraw_version, str(its.shipment_id)) == (5, created.shipment.shipment_id)
    assert (await part_of(operations, other.id)).withdraw_version == FORGED


async def test_lower_withdrawal_stays_where_a_version_is_set(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """A version that is set above a true withdrawal leaves that as it is."""
    order = await place(orders, operations, "london")
    shipment = shipped_and_delivered(order, "london")[0].shipment
    void = parcel_ended(shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED)
    void.shipment.withdraw_version = 3
    events = [paid(order), *working(order, "london", PATH), void]
    await tell(operations, [delivery(event) for event in events])
    its = await part_of(operations, order.id)
    await set_stored_version(database, tables.stored_versions, order.id, 30_000, its.fulfillment_id)
    its = await part_of(operations, order.id)
    assert (its.version, its.withdraw_version) == (30_000, 3)
