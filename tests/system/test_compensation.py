"""Compensation over all five services: stock, money and goods are restored after each failure, and
the audit finds nothing.
"""

from collections.abc import AsyncIterator

import pytest
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_service_pb2

from chassis.rpc.client import ask
from chassis.values.errors import Refused
from devstack.stack import Stack
from tests.system.counter import PENNIES, Counter, new, open_counter


@pytest.fixture
async def counter(stack: Stack) -> AsyncIterator[Counter]:
    async with open_counter(stack) as counter:
        yield counter


async def test_payment_failure_releases_and_cancels(counter: Counter) -> None:
    """A card that is finally declined: the order is cancelled with the reason, its stock is free
    again, and nothing is charged.
    """
    order_id = await counter.place(2, 1)
    with pytest.raises(Refused, match="declined"):
        await counter.pay(order_id, "tok_declined_stolen")
    assert (await counter.becomes(order_id, "CANCELLED")).status_reason == "PAYMENT_FAILED"
    await counter.records_agree(order_id, available=(10, 10), refunded=0)


async def test_cancel_of_an_unpaid_order_frees_its_stock(counter: Counter) -> None:
    """The stock is free at once. A second cancellation is refused."""
    order_id = await counter.place(2, 1)
    await counter.cancel(order_id)
    with pytest.raises(Refused) as refused:
        await counter.cancel(order_id)
    assert refused.value.reason == "ORDER_ALREADY_CANCELLED"
    await counter.records_agree(order_id, available=(10, 10), refunded=0)


@pytest.mark.parametrize("stage", ["PLANNING", "PICKING", "PICKED", "PACKING"])
async def test_cancel_of_a_paid_order_restocks_and_refunds_it(counter: Counter, stage: str) -> None:
    """At each stage in the warehouse the goods return to the shelf, and every penny to the
    customer, once.
    """
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, [stage])
    await counter.cancel(order_id)
    await counter.records_agree(order_id, available=(10, 10), refunded=3 * PENNIES)


@pytest.mark.parametrize("on_its_way", [False, True])
async def test_cancel_of_a_shipped_order_recalls_it(counter: Counter, on_its_way: bool) -> None:
    """The money is refunded at once. The goods come back by a return and are inspected, without a
    second refund.
    """
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    if on_its_way:
        await counter.carry(order_id, "IN_TRANSIT")
    await counter.cancel(order_id)
    if on_its_way:
        await counter.carry(order_id, "RETURNED_TO_SENDER")
    await counter.returns_arrive(order_id, available=(10, 10), refunded=3 * PENNIES)


async def test_cancelled_unit_is_refunded_and_the_rest_delivered(counter: Counter) -> None:
    """One unit is cut during the picking: its share is refunded, and the others are delivered at
    unchanged prices.
    """
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["PICKING"])
    lines = [order_service_pb2.CancelledLine(line_number=1, quantity=1)]
    request = order_service_pb2.CancelOrderItemsRequest(
        request_id=new(), order_id=order_id, lines=lines
    )
    order = (await ask(counter.orders.CancelOrderItems, request)).order
    assert (order.total_amount.units, order.total_amount.nanos) == (5, 0)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, "DELIVERED")
    await counter.becomes(order_id, "DELIVERED")
    await counter.records_agree(order_id, available=(9, 9), refunded=PENNIES)


async def test_short_unit_is_refunded_and_the_rest_delivered(counter: Counter) -> None:
    """A unit that is not on the shelf is written off, cancelled and refunded; the rest is
    delivered.
    """
    order_id = await counter.place(2)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["PICKING"])
    listed = fulfillment_service_pb2.ListFulfillmentsRequest(order_id=order_id)
    [work] = (await ask(counter.fulfillments.ListFulfillments, listed)).fulfillments
    scan = fulfillment_service_pb2.ScanItemRequest(
        request_id=new(),
        fulfillment_id=work.fulfillment_id,
        scans=[fulfillment_service_pb2.Scan(sku=counter.skus[0], quantity=1)],
    )
    await ask(counter.fulfillments.ScanItem, scan)
    short = fulfillment_service_pb2.CompletePickingRequest(
        request_id=new(), fulfillment_id=work.fulfillment_id, short_line_numbers=[1]
    )
    await ask(counter.fulfillments.CompletePicking, short)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, "DELIVERED")
    await counter.becomes(order_id, "DELIVERED")
    await counter.records_agree(order_id, available=(8, 10), refunded=PENNIES)


async def test_full_return_of_a_delivered_order_refunds_it(counter: Counter) -> None:
    """All units return and pass: they are on the shelf again, and the order is refunded."""
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, "DELIVERED")
    await counter.becomes(order_id, "DELIVERED")
    lines = [
        return_service_pb2.NewReturnLine(line_number=n, quantity=units)
        for n, units in ((1, 2), (2, 1))
    ]
    await ask(
        counter.returns.CreateReturn,
        return_service_pb2.CreateReturnRequest(request_id=new(), order_id=order_id, lines=lines),
    )
    await counter.bring_back(order_id)
    order = await counter.becomes(order_id, "REFUNDED")
    assert order.return_progress == order_pb2.RETURN_PROGRESS_FULL
    await counter.records_agree(order_id, available=(10, 10), refunded=3 * PENNIES)


@pytest.mark.parametrize("end", ["LOST", "RETURNED_TO_SENDER"])
async def test_parcels_that_do_not_arrive_are_refunded(counter: Counter, end: str) -> None:
    """All parcels are lost or returned: their units count as cancelled, and with the last one the
    order. Returned parcels are inspected.
    """
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, end)
    await counter.becomes(order_id, "CANCELLED")
    available = (8, 9) if end == "LOST" else (10, 10)
    await counter.returns_arrive(order_id, available=available, refunded=3 * PENNIES)
