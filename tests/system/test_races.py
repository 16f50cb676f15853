"""Each pair of concurrent actions on one order: in either order, stock and money are correct at the
end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest
from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import reservation_service_pb2
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.rpc.client import ask
from chassis.values.errors import Failure
from devstack.stack import Stack
from simulator.staff import next_step
from tests.support import eventually
from tests.system.counter import PENNIES, TIMEOUT_S, Counter, new, open_counter

# How much sooner one of the two begins, in seconds. The scheduler decides their order, and each of
# these is tried.
LEADS_S = (-0.05, -0.01, 0.0, 0.01, 0.05)


@pytest.fixture
async def counter(stack: Stack) -> AsyncIterator[Counter]:
    async with open_counter(stack) as counter:
        yield counter


async def meet(first: Awaitable[Any], second: Awaitable[Any], lead_s: float = 0.0) -> Sequence[Any]:
    """Runs both at once, the first `lead_s` sooner (below zero: later). Returns each answer, or the
    raised Failure.
    """

    async def after(pause_s: float, what: Awaitable[Any]) -> Any:
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        return await what

    answers = await asyncio.gather(
        after(-lead_s, first), after(lead_s, second), return_exceptions=True
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Failure):
            raise answer
    return answers


@pytest.mark.parametrize("lead_s", LEADS_S)
async def test_cancel_meets_payment(counter: Counter, lead_s: float) -> None:
    """An order is cancelled and paid at once: it is cancelled, and neither its money nor its stock
    is kept.
    """
    order_id = await counter.place(2, 1)
    await meet(counter.cancel(order_id), counter.pay(order_id), lead_s)
    await counter.becomes(order_id, "CANCELLED")
    payments = (
        await ask(
            counter.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(order_id=order_id),
        )
    ).payments
    captured = sum(
        p.captured_amount.units * 100 + p.captured_amount.nanos // 10**7 for p in payments
    )
    assert captured in (0, 3 * PENNIES)
    await counter.records_agree(order_id, available=(10, 10), refunded=captured)


@pytest.mark.parametrize("manual", [False, True])
async def test_payment_right_after_a_cut_takes_the_reduced_total(
    counter: Counter, manual: bool
) -> None:
    """CancelOrderItems is answered (the order costs 5.00 of 7.50), then CreatePayment or
    CapturePayment follows at once, five times. It takes 5.00, and refunds nothing.
    """
    for _ in range(5):
        order_id = await counter.place(2, 1)
        authorized = await counter.authorize(order_id) if manual else None
        lines = [order_service_pb2.CancelledLine(line_number=2, quantity=1)]
        cut = order_service_pb2.CancelOrderItemsRequest(
            request_id=new(), order_id=order_id, lines=lines
        )
        remaining = (await ask(counter.orders.CancelOrderItems, cut)).order.total_amount
        if authorized:
            capture = payment_service_pb2.CapturePaymentRequest(
                request_id=new(), payment_id=authorized.payment_id, expected_amount=remaining
            )
            payment = (await ask(counter.payments.CapturePayment, capture)).payment
        else:
            payment = await counter.pay(order_id)
        assert (payment.captured_amount, payment.refunded_amount.units) == (remaining, 0)
        assert remaining == Money(currency_code="GBP", units=5)
        await counter.becomes(order_id, "CONFIRMED")
        await counter.cancel(order_id)
        await counter.work_until(order_id, ["CANCELLED"])
        await counter.records_agree(order_id, available=(10, 10), refunded=2 * PENNIES)


@pytest.mark.parametrize("lead_s", LEADS_S)
async def test_cancel_meets_shipping(counter: Counter, lead_s: float) -> None:
    """The last parcel is packed while the order is cancelled: it stays in the warehouse, or is
    recalled. The money is refunded once.
    """
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["PACKING"])
    await meet(
        counter.cancel(order_id), counter.work_until(order_id, ["SHIPPED", "CANCELLED"]), lead_s
    )
    await counter.becomes(order_id, "CANCELLED")
    await counter.work_until(order_id, ["SHIPPED", "CANCELLED"])
    await counter.returns_arrive(order_id, available=(10, 10), refunded=3 * PENNIES)


@pytest.mark.parametrize("lead_s", LEADS_S)
async def test_cancelled_items_meet_the_pick(counter: Counter, lead_s: float) -> None:
    """A unit is cancelled while the picklist is picked, packed and shipped: the customer pays for
    the remaining units, and no unit is lost.
    """
    order_id = await counter.place(2)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["PICKING"])
    lines = [order_service_pb2.CancelledLine(line_number=1, quantity=1)]
    cut = ask(
        counter.orders.CancelOrderItems,
        order_service_pb2.CancelOrderItemsRequest(request_id=new(), order_id=order_id, lines=lines),
    )
    cancelled, _ = await meet(cut, counter.work_until(order_id, ["SHIPPED"]), lead_s)
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, "DELIVERED")
    await counter.becomes(order_id, "DELIVERED")
    refused = isinstance(cancelled, Failure)
    # The unit comes back if it left in spite of the cut.
    await counter.returns_arrive(
        order_id, available=(8 if refused else 9, 10), refunded=0 if refused else PENNIES
    )


async def test_second_of_two_cancels_is_refused(counter: Counter) -> None:
    """One cancellation succeeds, the other is refused; the money is refunded once."""
    order_id = await counter.place(2, 1)
    await counter.pay(order_id)
    answers = await meet(counter.cancel(order_id), counter.cancel(order_id))
    reasons = [answer.reason for answer in answers if isinstance(answer, Failure)]
    assert reasons == ["ORDER_ALREADY_CANCELLED"]
    await counter.records_agree(order_id, available=(10, 10), refunded=3 * PENNIES)


async def test_second_of_two_refunds_exceeds_the_remaining_amount(counter: Counter) -> None:
    """Of two concurrent refunds of 5.00 of an order of 7.50, one succeeds, and the other exceeds
    the remaining amount.
    """
    order_id = await counter.place(2, 1)
    await delivered(counter, order_id)
    [payment] = (
        await ask(
            counter.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(order_id=order_id),
        )
    ).payments

    def refund() -> Awaitable[Any]:
        request = payment_service_pb2.RefundPaymentRequest(
            request_id=new(),
            payment_id=payment.payment_id,
            amount=Money(currency_code="GBP", units=5),
        )
        return ask(counter.payments.RefundPayment, request)

    answers = await meet(refund(), refund())
    assert [answer.reason for answer in answers if isinstance(answer, Failure)] == [
        "REFUND_EXCEEDS_CAPTURE"
    ]
    await counter.records_agree(order_id, available=(8, 9), refunded=500)


async def test_return_meets_refund(counter: Counter) -> None:
    """All goods are inspected while all money is refunded by request: it is refunded once, and the
    return is closed.
    """
    order_id = await counter.place(2, 1)
    await delivered(counter, order_id)
    [payment] = (
        await ask(
            counter.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(order_id=order_id),
        )
    ).payments
    lines = [
        return_service_pb2.NewReturnLine(line_number=n, quantity=units)
        for n, units in ((1, 2), (2, 1))
    ]
    await ask(
        counter.returns.CreateReturn,
        return_service_pb2.CreateReturnRequest(request_id=new(), order_id=order_id, lines=lines),
    )
    refund = payment_service_pb2.RefundPaymentRequest(
        request_id=new(), payment_id=payment.payment_id
    )
    await meet(counter.bring_back(order_id), ask(counter.payments.RefundPayment, refund))
    await counter.becomes(order_id, "REFUNDED")
    await counter.records_agree(order_id, available=(10, 10), refunded=3 * PENNIES)


async def test_second_return_of_the_same_units_is_refused(counter: Counter) -> None:
    """Both returns name all units: one is made, the other exceeds the customer's units."""
    order_id = await counter.place(2)
    await delivered(counter, order_id)

    def create() -> Awaitable[Any]:
        lines = [return_service_pb2.NewReturnLine(line_number=1, quantity=2)]
        return ask(
            counter.returns.CreateReturn,
            return_service_pb2.CreateReturnRequest(
                request_id=new(), order_id=order_id, lines=lines
            ),
        )

    answers = await meet(create(), create())
    assert [answer.reason for answer in answers if isinstance(answer, Failure)] == [
        "RETURN_EXCEEDS_DELIVERED"
    ]
    [made] = (
        await ask(
            counter.returns.ListReturns, return_service_pb2.ListReturnsRequest(order_id=order_id)
        )
    ).returns
    assert made.status == return_pb2.RETURN_STATUS_REQUESTED


async def test_two_retries_make_one_attempt(counter: Counter) -> None:
    """A failed order is retried twice at once: it is pending once, with one reservation. It is then
    paid and delivered.
    """
    order_id = await counter.place(2, 1)
    attempt = reservation_service_pb2.OrderAttempt(order_id=order_id, attempt=1)
    release = reservation_service_pb2.ReleaseReservationRequest(
        request_id=new(), order_attempt=attempt
    )
    await ask(ReservationServiceStub(counter.channels["warehouse"]).ReleaseReservation, release)
    await counter.pay(order_id)
    await counter.becomes(order_id, "FAILED")

    def retry() -> Awaitable[Any]:
        return ask(
            counter.orders.RetryOrder,
            order_service_pb2.RetryOrderRequest(request_id=new(), order_id=order_id),
        )

    answers = await meet(retry(), retry())
    assert [answer.reason for answer in answers if isinstance(answer, Failure)] == [
        "ILLEGAL_TRANSITION"
    ]
    order = await counter.becomes(order_id, "PENDING")
    assert (order.attempt, order.payment_status) == (2, order_pb2.PAYMENT_STATUS_PENDING)
    await delivered(counter, order_id)
    await counter.records_agree(
        order_id, available=(8, 9), refunded=3 * PENNIES
    )  # of the first attempt


async def delivered(counter: Counter, order_id: str) -> None:
    """The order is paid, and the staff do their work."""
    await counter.pay(order_id)
    await counter.work_until(order_id, ["SHIPPED"])
    await counter.becomes(order_id, "SHIPPED")
    await counter.carry(order_id, "DELIVERED")
    await counter.becomes(order_id, "DELIVERED")


async def report_first_label(counter: Counter, order_id: str) -> None:
    """The carrier reports the order's first parcel as delivered as soon as it has a label, for any
    result.
    """

    async def labelled() -> shipping_pb2.Shipment | None:
        return next(
            (each for each in await counter.shipments(order_id) if each.tracking_number), None
        )

    shipment = await eventually(labelled, timeout_s=TIMEOUT_S, what="a label is bought")
    report = shipping_service_pb2.RecordTrackingEventRequest(
        request_id=new(),
        carrier=shipment.carrier,
        tracking_number=shipment.tracking_number,
        carrier_event_id=new(),
        status=shipping_pb2.SHIPMENT_STATUS_DELIVERED,
        occur_time=shipment.update_time,
    )
    await ask(counter.shipping.RecordTrackingEvent, report)


@pytest.mark.parametrize("round_", range(8))
async def test_cut_meets_label_delivered_at_once(counter: Counter, round_: int) -> None:
    """A unit is cancelled during the packing, and each label is reported as delivered at once.
    Before the void, all its units have left, and the cut one is recalled. After the void, they have
    left from the shelf. The order is delivered, no fulfilment waits, and the audit finds nothing.
    """
    order_id = await counter.place(3)
    await counter.pay(order_id)
    await counter.work_until(order_id, ["PACKING"])
    listed = fulfillment_service_pb2.ListFulfillmentsRequest(order_id=order_id)
    [work] = (await ask(counter.fulfillments.ListFulfillments, listed)).fulfillments
    lines = [order_service_pb2.CancelledLine(line_number=1, quantity=1)]
    cut = ask(
        counter.orders.CancelOrderItems,
        order_service_pb2.CancelOrderItemsRequest(request_id=new(), order_id=order_id, lines=lines),
    )
    step = next_step(work)
    assert step
    pack = ask(counter.fulfillments.PackFulfillment, step)
    reporting = asyncio.create_task(report_first_label(counter, order_id))
    cancelled, _ = await meet(cut, pack, lead_s=(round_ - 4) * 0.005)
    await counter.work_until(order_id, ["SHIPPED", "COMPLETED"])
    await reporting

    async def arrived() -> bool:
        await counter.carry(order_id, "DELIVERED")
        return (await counter.order(order_id)).status == order_pb2.ORDER_STATUS_DELIVERED

    await eventually(arrived, timeout_s=TIMEOUT_S, what="the order is delivered")
    await counter.work_until(order_id, ["COMPLETED"])
    contradicted = sum(
        each.HasField("contradict_time") for each in await counter.shipments(order_id)
    )
    refused = isinstance(cancelled, Failure)
    shipped = (3 if refused else 2) + 3 * contradicted
    await counter.returns_arrive(
        order_id, available=(10 - shipped, 10), refunded=0 if refused else PENNIES
    )
