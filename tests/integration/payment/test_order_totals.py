"""The service charges and captures the amount that the order service answers now. It refunds a
later reduction of the order, once.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1 import order_pb2
from uuid_utils.compat import uuid7

from chassis.values.errors import Deferred, NotFound, Refused
from chassis.values.money import Money
from payment_svc.app import Operations
from payment_svc.lifecycle import Cause, Kind
from payment_svc.model.answers import Answer
from payment_svc.model.commands import CaptureRequest
from payment_svc.model.records import Order, Payment
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox import Sandbox
from payment_svc.wire import events_in
from tests.integration.payment.conftest import Replica
from tests.integration.payment.paying import Line
from tests.integration.payment.refunding import settle
from tests.integration.payment.world import (
    World,
    create_payment,
    delivery,
    items_cancelled,
    pounds,
    request_envelope,
)
from tests.support import caller_deadline, measured

# what the order costs, in pence, before units of it are cancelled and afterwards
BEFORE, AFTER = 5_000, 3_000


async def placed(world: World) -> order_pb2.Order:
    """Places an order of 50.00, whose event has arrived."""
    return await world.order(pounds(50))


def cut(world: World, order: order_pb2.Order, pence: int = AFTER) -> order_pb2.Order:
    """Lowers the order's total as CancelOrderItems does; its event has not arrived yet."""
    total = pounds(*divmod(pence, 100))
    return world.orders.place(
        total, order_id=order.order_id, version=world.orders.orders[order.order_id].version + 1
    )


async def events_arrive(world: World, *orders: order_pb2.Order) -> None:
    """Hands over the events of these versions of an order, in this order."""
    for order in orders:
        event = items_cancelled(order)
        envelope = events_in.apply_order_version(event, delivery(event), uuid7())
        [outcome] = await world.operations.writer.write([envelope])
        assert not isinstance(outcome, Exception)


async def capture(world: World, payment: Payment, expected: int | None = None) -> Payment:
    money = None if expected is None else Money(expected, "GBP")
    envelope = request_envelope(CaptureRequest, f"capture:{uuid4()}", payment, expected=money)
    return await world.operations.payments.capture_payment(envelope)


async def kept(world: World, order: order_pb2.Order) -> tuple[int, Sequence[int]]:
    """Returns captured - refunded, by the sandbox's own ledger, and the amounts that were refunded
    because the order costs less.
    """
    await world.operations.settlement.settle_due()
    charged, given = await world.ledger.charged(), await world.ledger.refunded_and_voided()
    payment = await world.payment(order)
    remaining = charged["charge"] + charged["capture"] - given["refund"]
    assert remaining == payment.captured - payment.refunded
    return remaining, [
        o.amount for o in payment.operations if o.kind is Kind.REFUND and o.cause is Cause.ORDER
    ]


async def test_payment_after_a_cut_charges_the_remaining_amount(world: World) -> None:
    """Units are cancelled (order: 30.00), and CreatePayment follows at once: 30.00 are charged, for
    version 2.

    The event of version 2, the late event of version 1, and repeats of both change nothing.
    """
    order = await placed(world)
    less = cut(world, order)
    with pytest.raises(Refused) as other:
        await world.pay(create_payment(order, expected_amount=pounds(50)))
    assert (other.value.reason, other.value.metadata["expected"]) == (
        "PAYMENT_AMOUNT_MISMATCH",
        "30.00 GBP",
    )
    payment = await world.pay(create_payment(order, expected_amount=pounds(30)))
    assert (payment.amount, payment.captured, payment.order_version) == (AFTER, AFTER, 2)
    await events_arrive(world, less, order, less, order)
    assert await kept(world, order) == (AFTER, [])


async def test_capture_after_a_cut_takes_the_remaining_amount(world: World) -> None:
    """50.00 are authorised and units are cancelled (order: 30.00): CapturePayment at once captures
    30.00, for version 2.
    """
    order = await placed(world)
    payment = await world.pay(create_payment(order, manual_capture=True))
    assert (payment.authorized, payment.order_version) == (BEFORE, 1)
    less = cut(world, order)
    payment = await capture(world, payment)
    assert (payment.captured, payment.order_version) == (AFTER, 2)
    await events_arrive(world, less, order, less)
    assert await kept(world, order) == (AFTER, [])


async def test_expected_amount_of_a_capture_is_a_precondition(world: World) -> None:
    """An amount that differs from the order's current cost captures nothing."""
    order = await placed(world)
    payment = await world.pay(create_payment(order, manual_capture=True))
    cut(world, order)
    for wrong in (BEFORE, 1_000):
        with pytest.raises(Refused) as refused:
            await capture(world, payment, wrong)
        assert (refused.value.reason, refused.value.metadata["expected"]) == (
            "PAYMENT_AMOUNT_MISMATCH",
            "30.00 GBP",
        )
    assert await world.ledger.charged() == {}
    assert (await capture(world, payment, AFTER)).captured == AFTER


async def test_cancelled_order_is_neither_charged_nor_captured(world: World) -> None:
    """The order service answers that the order is cancelled, before the event arrives."""
    order, another = await placed(world), await placed(world)
    payment = await world.pay(create_payment(another, manual_capture=True))
    for each in (order, another):
        world.orders.place(pounds(50), order_id=each.order_id, version=2, status="CANCELLED")
    for call in (world.pay(create_payment(order)), capture(world, payment)):
        with pytest.raises(Refused) as refused:
            await call
        assert (refused.value.reason, refused.value.metadata["status"]) == (
            "ORDER_NOT_PAYABLE",
            "cancelled",
        )
    assert await world.ledger.charged() == {}


@pytest.mark.parametrize("lost", [False, True])
async def test_cut_during_the_charge_is_refunded_once(
    world: World, replica: Replica, sandbox: Sandbox, lost: bool
) -> None:
    """Units are cancelled during the call to the processor, whose answer can be lost. 20.00 are
    refunded once, for any number and order of the events.
    """
    order = await placed(world)

    async def reply(request: Authorization, question: Awaitable[Answer]) -> Answer:
        answer = await question
        cut(world, order)
        if lost:
            raise TimeoutError
        return answer

    at = replica(Line(sandbox, reply))
    if lost:
        with pytest.raises(Deferred):
            await world.pay(create_payment(order), at)
    else:
        await world.pay(create_payment(order), at)
    less = world.orders.orders[order.order_id]
    await events_arrive(world, less, order)
    await settle(world)
    await events_arrive(world, order, less)
    assert await kept(world, order) == (AFTER, [BEFORE - AFTER])
    assert (await world.payment(order)).order_version == 1


async def test_unreachable_order_service_is_replaced_by_the_copy(world: World) -> None:
    """The last event says 50.00: that amount is charged and counted.

    The cut is refunded once when its event arrives, twice and before an older one. The same goes
    for a capture.
    """
    counted = measured("payment_stored_orders_used_total")
    order, another = await placed(world), await placed(world)
    payment = await world.pay(create_payment(another, manual_capture=True))
    versions = [cut(world, each, 4_000) for each in (order, another)]
    last = [cut(world, each) for each in (order, another)]
    world.orders.away = True
    assert (await world.pay(create_payment(order))).captured == BEFORE
    assert (await capture(world, payment)).captured == BEFORE
    assert measured("payment_stored_orders_used_total") - counted == 2
    with pytest.raises(Deferred):
        await world.pay(create_payment(world.orders.place(pounds(1))))  # no event has arrived
    for older, newest in zip(versions, last, strict=True):
        await events_arrive(world, newest, older, newest, older)
    await world.operations.settlement.settle_due()
    for each in (order, another):
        after = await world.payment(each)
        refunds = [o.amount for o in after.operations if o.kind is Kind.REFUND]
        assert (after.captured - after.refunded, refunds) == (AFTER, [BEFORE - AFTER])


async def test_each_cut_is_refunded_by_its_own_version(world: World) -> None:
    """The payment is charged for version 2. Version 3 refunds its own difference, once, and so does
    version 4.
    """
    order = await placed(world)
    cut(world, order, 4_500)
    payment = await world.pay(create_payment(order))
    third, fourth = cut(world, order, 4_000), cut(world, order)
    await events_arrive(world, third, third, fourth, third, fourth)
    assert await kept(world, order) == (AFTER, [500, 1_000])
    causes = [o.cause_id for o in (await world.payment(order)).operations if o.cause is Cause.ORDER]
    assert (payment.order_version, causes) == (2, ["version:3", "version:4"])


async def test_order_service_without_answer_times_out_early(world: World) -> None:
    """The order service never answers. A call with four seconds left waits for one second, and uses
    the stored copy.
    """
    order = await placed(world)
    world.orders.gate.clear()
    with caller_deadline(4.0):
        payment = await world.pay(create_payment(order))
    world.orders.gate.set()
    assert payment.captured == BEFORE


async def test_orders_are_fetched_in_sets(world: World) -> None:
    """Forty existing orders and an unknown one are requested while a call is under way. One call
    asks for all of them, a second leaves the unknown one out; only that order is refused.
    """
    first, *others = [world.orders.place(pounds(10)) for _ in range(41)]
    get = world.operations.orders.peer.get
    world.orders.gate.clear()
    calls = [asyncio.ensure_future(get(UUID(first.order_id)))]
    await world.orders.reached.wait()
    calls += [
        asyncio.ensure_future(get(order_id))
        for order_id in (uuid7(), *(UUID(o.order_id) for o in others))
    ]
    await asyncio.sleep(0)
    world.orders.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in results] == [Order, NotFound, *[Order] * 40]
    assert world.orders.calls == 3


async def test_payments_at_once_charge_each_order(world: World) -> None:
    """Twenty payments and one for an unknown order come at once: each charges its own order, and
    only the unknown one is refused.
    """
    orders = [world.orders.place(pounds(number)) for number in range(1, 21)]
    unknown = order_pb2.Order(order_id=str(uuid7()))
    calls: list[Awaitable[Any]] = [world.pay(create_payment(order)) for order in (unknown, *orders)]
    refused, *results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, NotFound)
    assert [payment.captured for payment in results if isinstance(payment, Payment)] == [
        n * 100 for n in range(1, 21)
    ]


async def test_answer_is_never_older_than_its_question(world: World) -> None:
    """A call with the order's old total is under way; a payment that begins meanwhile waits for a
    call of its own.
    """
    order = await placed(world)
    world.orders.gate.clear()
    first = asyncio.ensure_future(world.pay(create_payment(order)))
    await world.orders.reached.wait()
    cut(world, order)
    second = asyncio.ensure_future(world.operations.orders.peer.get(UUID(order.order_id)))
    await asyncio.sleep(0)
    world.orders.gate.set()
    answered = await second
    assert (answered.total.minor, world.orders.calls) == (AFTER, 2)
    await first


async def test_cancelled_caller_leaves_other_callers_answers(world: World) -> None:
    """Two callers wait for one answer, and the first is cancelled: the second is answered."""
    order = await placed(world)
    orders = world.operations.orders.peer
    world.orders.gate.clear()
    first, second = (asyncio.ensure_future(orders.get(UUID(order.order_id))) for _ in range(2))
    await world.orders.reached.wait()
    first.cancel()
    world.orders.gate.set()
    assert (await second).total.minor == BEFORE


async def test_repeat_of_a_payment_fetches_no_order(world: World, replica: Replica) -> None:
    """The first call has made the decision: its repeat is answered with the payment as it stands,
    while the order service is unreachable.
    """
    order = await placed(world)
    request = create_payment(order)
    first = await world.pay(request)
    world.orders.away = True
    asked, again = world.orders.calls, replica()
    assert isinstance(again, Operations)
    assert (await world.pay(request, again), world.orders.calls) == (first, asked)
