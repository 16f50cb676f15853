"""An operator corrects the version of an order that a forged event has stored."""

from uuid import UUID

from payment_svc import tables
from tests.integration.payment.world import World, create_payment
from tests.support import set_stored_version
from tests.unit.payment.samples import OrderStatus

FORGED = 9_000  # within the jump that a service accepts


async def test_true_order_event_counts_after_set_version(world: World) -> None:
    """After a forged version 9,000 of a paid order its true version 2 is skipped. An operator sets
    the version, and version 3, which ends the order, counts: its money is refunded.
    """
    order = await world.order()
    await world.pay(create_payment(order))
    for version in (FORGED, 2):
        confirmed = world.orders.place(
            order.total_amount, status="CONFIRMED", version=version, order_id=order.order_id
        )
        await world.apply_events(confirmed)
    account = await world.account(order.order_id)
    assert (account.order.version, account.order.status) == (FORGED, OrderStatus.CONFIRMED)
    database = world.operations.reading.database
    await set_stored_version(database, tables.stored_versions, UUID(order.order_id), 2)
    await world.close(order, version=3)
    account = await world.account(order.order_id)
    assert (account.order.version, account.order.status) == (3, OrderStatus.CANCELLED)
    assert account.payments[0].refundable == 0
