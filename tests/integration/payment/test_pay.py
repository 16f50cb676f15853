"""CreatePayment over a real channel, a real PostgreSQL and the sandbox processor: payments and
declines.
"""

from uuid import uuid4

import pytest
from google.type.money_pb2 import Money
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
)
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.rpc.client import ask
from chassis.values.errors import Exists, Invalid, NotFound, Refused
from tests.integration.payment.world import (
    Payments,
    World,
    create_payment,
    pay,
    pounds,
    refused,
    status_of,
)


async def test_order_is_paid_in_one_call(payments: Payments, world: World) -> None:
    """The order's total is charged and captured, the payment reads back as it was answered, and one
    event is published.
    """
    order = await world.order(pounds(42, 50))
    payment = await pay(payments, create_payment(order, expected_amount=pounds(42, 50)))
    assert (status_of(payment), payment.try_number, payment.version, payment.processor) == (
        "captured",
        1,
        2,
        "sandbox",
    )
    assert payment.amount == payment.authorized_amount == payment.captured_amount == pounds(42, 50)
    assert (
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=payment.payment_id))
    ).payment == payment
    assert await world.ledger.charged() == {"charge": 4250}
    [event] = await world.ledger.events()
    assert isinstance(event, PaymentConfirmed)
    assert (event.order_id, event.payment_id, event.attempt) == (
        order.order_id,
        payment.payment_id,
        1,
    )
    assert (event.captured_amount, event.not_required) == (pounds(42, 50), False)
    assert (payment.order_version, world.orders.calls) == (order.version, 1)


@pytest.mark.parametrize(
    "total",
    [Money(currency_code="JPY", units=980), Money(currency_code="KWD", units=1, nanos=125_000_000)],
    ids=["JPY", "KWD"],
)
async def test_any_currency_is_charged_in_its_own_minor_units(
    payments: Payments, world: World, total: Money
) -> None:
    """Yen have no minor units, dinars have three digits: the captured amount is the order's total,
    to the last unit.
    """
    payment = await pay(payments, create_payment(await world.order(total)))
    assert payment.captured_amount == total


async def test_create_before_the_event_calls_the_order_service(
    payments: Payments, world: World
) -> None:
    """The storefront pays at once; the order's event comes later and changes nothing. An unknown
    order is NOT_FOUND.
    """
    order = world.orders.place(pounds(10))
    payment = await pay(payments, create_payment(order))
    assert (status_of(payment), payment.captured_amount, world.orders.calls) == (
        "captured",
        pounds(10),
        1,
    )
    await world.apply_events(order)
    assert len(await world.ledger.events()) == 1
    unknown = await refused(
        payments, create_payment(world.orders.place(pounds(1)), order_id=str(uuid4()))
    )
    assert (type(unknown), unknown.reason) == (NotFound, "ORDER_NOT_FOUND")


async def test_retried_order_is_paid_before_its_event(payments: Payments, world: World) -> None:
    """The account has the order as failed, and the order service answers that it is pending again:
    the new attempt is paid, for itself.
    """
    order = await world.order(status="FAILED", version=3)
    world.orders.place(pounds(42, 50), order_id=order.order_id, attempt=2, version=4)
    assert (await pay(payments, create_payment(order))).attempt == 2


@pytest.mark.parametrize("status", ["CONFIRMED", "CANCELLED", "FAILED", "DELIVERED"])
async def test_payment_of_an_ended_order_is_refused(
    payments: Payments, world: World, status: str
) -> None:
    """An order that has ended is not charged, and the refusal names its status."""
    order = await world.order(status=status)
    failure = await refused(payments, create_payment(order))
    assert (type(failure), failure.reason, failure.metadata["status"]) == (
        Refused,
        "ORDER_NOT_PAYABLE",
        status.lower(),
    )
    assert await world.ledger.processor_operations() == 0


async def test_create_with_another_expected_amount_is_refused(
    payments: Payments, world: World
) -> None:
    """The amount that the customer saw must be the order's total. Otherwise nothing is stored, and
    the corrected request can come under the same id.
    """
    order = await world.order(pounds(42, 50))
    failure = await refused(payments, create_payment(order, expected_amount=pounds(42)))
    assert (failure.reason, failure.metadata) == (
        "PAYMENT_AMOUNT_MISMATCH",
        {"expected": "42.50 GBP"},
    )
    half_a_penny = await refused(
        payments, create_payment(order, expected_amount=Money(currency_code="GBP", nanos=5_000_000))
    )
    assert [v.subject for v in half_a_penny.violations] == ["expected_amount"]
    assert status_of(await pay(payments, create_payment(order))) == "captured"


async def test_repeated_payment_answers_the_same_payment(payments: Payments, world: World) -> None:
    """A repeat is answered with the payment as it stands, without a call to the processor. The same
    request_id with another body is an error.
    """
    order, request_id = await world.order(), str(uuid4())
    request = create_payment(order, request_id=request_id)
    first = await pay(payments, request)
    assert await pay(payments, request) == first
    assert await world.ledger.calls() == 1
    reused = await refused(
        payments, create_payment(order, "tok_declined_stolen", request_id=request_id)
    )
    assert (type(reused), reused.reason) == (Invalid, "REQUEST_ID_REUSED")


async def test_repeat_after_key_deletion_charges_nothing(payments: Payments, world: World) -> None:
    """Keys are deleted in time; the operation's business key stays."""
    request = create_payment(await world.order())
    first = await pay(payments, request)
    await world.ledger.delete_keys()
    assert await pay(payments, request) == first
    assert await world.ledger.charged() == {"charge": 4250}


async def test_second_payment_of_an_attempt_is_refused(payments: Payments, world: World) -> None:
    """An attempt has one payment that is not final, before and after the order service has applied
    its confirmation.
    """
    order = await world.order()
    first = await pay(payments, create_payment(order))
    for status in ("PENDING", "CONFIRMED"):
        world.orders.place(pounds(42, 50), order_id=order.order_id, status=status, version=2)
        second = await refused(payments, create_payment(order))
        assert (type(second), second.reason) == (Exists, "PAYMENT_ALREADY_EXISTS")
        assert second.metadata["payment_id"] == first.payment_id
        await world.apply_events(world.orders.orders[order.order_id])


async def test_free_order_is_paid_automatically(payments: Payments, world: World) -> None:
    """The event alone is enough. A call is answered with that payment, whether it comes before or
    after, and one event is published.
    """
    free = await world.order(pounds(0))
    overtaking = world.orders.place(pounds(0))
    for order in (free, overtaking):
        payment = await pay(payments, create_payment(order, "tok_declined_stolen"))
        assert (status_of(payment), payment.processor, payment.captured_amount) == (
            "not_required",
            "",
            pounds(0),
        )
        assert await pay(payments, create_payment(order)) == payment
    await world.apply_events(overtaking)
    events = await world.ledger.events()
    assert [(e.order_id, e.not_required) for e in events] == [
        (free.order_id, True),
        (overtaking.order_id, True),
    ]
    assert await world.ledger.processor_operations() == 0


async def test_declined_try_leaves_the_order_payable(payments: Payments, world: World) -> None:
    """The answer and its repeat have the decline code. The order can still be paid, and no event is
    published before the attempt ends.
    """
    order, request_id = await world.order(), str(uuid4())
    declined = create_payment(order, "tok_declined_insufficient_funds", request_id=request_id)
    for _ in range(2):
        failure = await refused(payments, declined)
        assert (type(failure), failure.reason) == (Refused, "PAYMENT_DECLINED")
        assert (
            failure.metadata.items()
            >= {"decline_code": "insufficient_funds", "retryable": "true"}.items()
        )
    assert await world.ledger.calls() == 1
    assert await world.ledger.events() == []
    paid = await pay(payments, create_payment(order))
    assert (status_of(paid), paid.try_number) == ("captured", 2)


async def test_the_third_decline_is_final(payments: Payments, world: World) -> None:
    """After it the attempt has failed: one event is published, and the attempt is never charged
    again.
    """
    order = await world.order()
    retryable = [
        (await refused(payments, create_payment(order, "tok_declined_expired_card"))).metadata[
            "retryable"
        ]
        for _ in range(3)
    ]
    assert retryable == ["true", "true", "false"]
    closed = await refused(payments, create_payment(order))
    assert (closed.reason, closed.metadata["status"]) == ("ORDER_NOT_PAYABLE", "pending")
    [event] = await world.ledger.events()
    assert isinstance(event, PaymentFailed)
    assert (event.order_id, event.decline_code) == (order.order_id, "expired_card")
    assert not await world.ledger.charged()


async def test_stolen_card_ends_the_attempt_at_once(payments: Payments, world: World) -> None:
    """The decline is final by its code; the repeat is answered with the same, and one event is
    published.
    """
    request = create_payment(await world.order(), "tok_declined_stolen")
    for _ in range(2):
        failure = await refused(payments, request)
        assert (
            failure.metadata.items()
            >= {"decline_code": "stolen_card", "retryable": "false"}.items()
        )
    assert [type(event) for event in await world.ledger.events()] == [PaymentFailed]


async def test_unknown_token_is_refused_and_counts_no_try(payments: Payments, world: World) -> None:
    """Five mistyped tokens are each refused as invalid, also when repeated; the right one still has
    its three tries.
    """
    order = await world.order()
    for _ in range(5):
        request = create_payment(order, "tok_mistyped")
        for failure in (await refused(payments, request), await refused(payments, request)):
            assert (type(failure), failure.reason) == (Invalid, "PAYMENT_METHOD_INVALID")
            assert [v.subject for v in failure.violations] == ["payment_method_token"]
    assert (await refused(payments, create_payment(order, "tok_declined_expired_card"))).metadata[
        "retryable"
    ] == "true"
    assert status_of(await pay(payments, create_payment(order))) == "captured"
