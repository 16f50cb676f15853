"""An operator corrects the version of a fulfilment that a forged event has stored."""

from uuid import UUID

from ordermesh.shipping.v1 import shipping_pb2

from chassis.write.database import Database
from order_svc import tables
from order_svc.app import Operations
from order_svc.lifecycle import FulfillmentState
from order_svc.model.records import WarehouseFulfillment
from tests.integration.order.events import (
    delivery,
    paid,
    parcel_ended,
    shipped_and_delivered,
    working,
)
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import PATH, deliver, place
from tests.support import set_stored_version

FORGED = 9_000  # within the jump that a service accepts


async def fulfillment_of(operations: Operations, order_id: UUID) -> WarehouseFulfillment:
    """Returns the order's one fulfilment."""
    [order] = await operations.reading.get_orders([order_id])
    [fulfillment] = order.fulfillments
    return fulfillment


async def test_true_fulfilment_event_counts_after_set_version(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """After a forged version 9,000 of a fulfilment its version 2 is skipped. An operator sets the
    version, and version 3 counts.
    """
    order = await place(orders, operations, "london")
    pending, planning, picking, _ = working(order, "london", PATH)
    forged = type(pending)()
    forged.CopyFrom(pending)
    forged.fulfillment.version = FORGED
    await deliver(operations, [delivery(paid(order)), delivery(forged)])
    await deliver(operations, [delivery(planning)])
    fulfillment = await fulfillment_of(operations, order.id)
    assert (fulfillment.version, fulfillment.state) == (FORGED, FulfillmentState.PENDING)
    await set_stored_version(
        database, tables.stored_versions, order.id, 2, fulfillment.fulfillment_id
    )
    await deliver(operations, [delivery(picking)])
    fulfillment = await fulfillment_of(operations, order.id)
    assert (fulfillment.version, fulfillment.state) == (3, FulfillmentState.PICKING)


async def test_true_shipment_counts_after_set_version(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """After a forged withdrawal at version 9,000, the shipment of version 5 is skipped as
    withdrawn. An operator sets the version, and the shipment of version 7 counts.

    Another order's withdrawal stays.
    """
    order, other = [await place(orders, operations, "london") for _ in range(2)]
    for each in (order, other):
        void = parcel_ended(
            shipped_and_delivered(each, "london")[0].shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED
        )
        void.shipment.withdraw_version = FORGED
        events = [paid(each), *working(each, "london", PATH), void]
        await deliver(operations, [delivery(event) for event in events])
    skipped, created = [shipped_and_delivered(order, "london")[0] for _ in range(2)]
    skipped.shipment.fulfillment_version, created.shipment.fulfillment_version = 5, 7
    await deliver(operations, [delivery(skipped)])
    fulfillment = await fulfillment_of(operations, order.id)
    assert (fulfillment.version, fulfillment.withdraw_version, fulfillment.shipment_id) == (
        4,
        FORGED,
        None,
    )
    await set_stored_version(
        database, tables.stored_versions, order.id, 5, fulfillment.fulfillment_id
    )
    await deliver(operations, [delivery(created)])
    fulfillment = await fulfillment_of(operations, order.id)
    assert (fulfillment.withdraw_version, str(fulfillment.shipment_id)) == (
        5,
        created.shipment.shipment_id,
    )
    assert (await fulfillment_of(operations, other.id)).withdraw_version == FORGED


async def test_lower_withdrawal_stays_where_a_version_is_set(
    orders: Orders, operations: Operations, database: Database
) -> None:
    """A stored version above a true withdrawal leaves the withdrawal unchanged."""
    order = await place(orders, operations, "london")
    shipment = shipped_and_delivered(order, "london")[0].shipment
    void = parcel_ended(shipment, shipping_pb2.SHIPMENT_STATUS_VOIDED)
    void.shipment.withdraw_version = 3
    events = [paid(order), *working(order, "london", PATH), void]
    await deliver(operations, [delivery(event) for event in events])
    fulfillment = await fulfillment_of(operations, order.id)
    await set_stored_version(
        database, tables.stored_versions, order.id, 30_000, fulfillment.fulfillment_id
    )
    fulfillment = await fulfillment_of(operations, order.id)
    assert (fulfillment.version, fulfillment.withdraw_version) == (30_000, 3)
