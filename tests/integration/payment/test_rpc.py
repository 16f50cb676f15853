"""The payment service's methods, over a real channel, a real PostgreSQL and the sandbox
processor.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.type.money_pb2 import Money
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
    RefundCompleted,
)
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api
from sqlalchemy import select

from chassis.rpc.client import ask, pages
from chassis.values.errors import Exists, Failure, Invalid, NotFound, Refused, Stale
from payment_svc import tables
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.world import (
    Payments,
    World,
    create_payment,
    pay,
    pounds,
    refused,
    status_of,
)


async def capture(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> payment_pb2.Payment:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return (
        await ask(payments.CapturePayment, api.CapturePaymentRequest(**(values | fields)))
    ).payment


# --- paying


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
    assert await world.books.charged() == {"charge": 4250}
    [event] = await world.books.events()
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
    assert len(await world.books.events()) == 1
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
    assert await world.books.processor_operations() == 0


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
    assert await world.books.calls() == 1
    reused = await refused(
        payments, create_payment(order, "tok_declined_stolen", request_id=request_id)
    )
    assert (type(reused), reused.reason) == (Invalid, "REQUEST_ID_REUSED")


async def test_repeat_after_key_deletion_charges_nothing(payments: Payments, world: World) -> None:
    """Keys are deleted in time; the operation's business key stays."""
    request = create_payment(await world.order())
    first = await pay(payments, request)
    await world.books.delete_keys()
    assert await pay(payments, request) == first
    assert await world.books.charged() == {"charge": 4250}


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
    events = await world.books.events()
    assert [(e.order_id, e.not_required) for e in events] == [
        (free.order_id, True),
        (overtaking.order_id, True),
    ]
    assert await world.books.processor_operations() == 0


# --- declines


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
    assert await world.books.calls() == 1
    assert await world.books.events() == []
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
    [event] = await world.books.events()
    assert isinstance(event, PaymentFailed)
    assert (event.order_id, event.decline_code) == (order.order_id, "expired_card")
    assert not await world.books.charged()


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
    assert [type(event) for event in await world.books.events()] == [PaymentFailed]


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


# --- manual capture


async def test_authorized_payment_is_captured_later(payments: Payments, world: World) -> None:
    """Authorised: nothing is captured and no event is published. Captured: the same payment, one
    event. A repeat captures nothing more.
    """
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    assert (status_of(authorized), authorized.authorized_amount, authorized.captured_amount) == (
        "authorized",
        pounds(42, 50),
        pounds(0),
    )
    assert await world.books.events() == []
    request_id = str(uuid4())
    captured = await capture(
        payments, authorized, request_id=request_id, expected_version=authorized.version
    )
    assert (status_of(captured), captured.captured_amount) == ("captured", pounds(42, 50))
    assert (
        await capture(
            payments, authorized, request_id=request_id, expected_version=authorized.version
        )
        == captured
    )
    assert await world.books.charged() == {"capture": 4250}
    assert [type(event) for event in await world.books.events()] == [PaymentConfirmed]


async def test_refused_capture_has_its_reason(payments: Payments, world: World) -> None:
    """A stale version, a captured payment and an unknown one each get their reason."""
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    with pytest.raises(Stale) as stale:
        await capture(payments, authorized, expected_version=1)
    assert stale.value.metadata == {"expected": "1", "actual": str(authorized.version)}
    await capture(payments, authorized)
    with pytest.raises(Refused) as illegal:
        await capture(payments, authorized)
    assert illegal.value.reason == "ILLEGAL_TRANSITION"
    assert (
        illegal.value.metadata.items()
        >= {"status": "captured", "allowed": "partially_refunded, refunded"}.items()
    )
    with pytest.raises(NotFound) as unknown:
        await capture(payments, authorized, payment_id=str(uuid4()))
    assert unknown.value.reason == "PAYMENT_NOT_FOUND"


async def test_declined_capture_leaves_the_payment_authorized(
    payments: Payments, world: World
) -> None:
    """The call and its repeat get the processor's decline; the payment stays authorised, and
    another capture can follow.
    """
    authorized = await pay(
        payments, create_payment(await world.order(), "tok_capture_declined", manual_capture=True)
    )
    request_id = str(uuid4())
    for _ in range(2):
        with pytest.raises(Refused) as declined:
            await capture(payments, authorized, request_id=request_id)
        assert (
            declined.value.metadata.items()
            >= {"decline_code": "insufficient_funds", "retryable": "true"}.items()
        )
    payment = (
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=authorized.payment_id))
    ).payment
    assert status_of(payment) == "authorized"
    with pytest.raises(Refused):
        await capture(payments, authorized)
    assert await world.books.events() == []


# --- voids and refunds


async def void(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> payment_pb2.Payment:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return (await ask(payments.VoidPayment, api.VoidPaymentRequest(**(values | fields)))).payment


async def refund(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> api.RefundPaymentResponse:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return await ask(payments.RefundPayment, api.RefundPaymentRequest(**(values | fields)))


async def test_authorization_is_voided(payments: Payments, world: World) -> None:
    """The payment goes from authorized to voided, once, and the repeat is answered with the same.
    Another payment can pay the order then.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(payments, create_payment(order, manual_capture=True))
    voided = await void(
        payments, authorized, request_id=request_id, expected_version=authorized.version
    )
    assert (status_of(voided), voided.captured_amount) == ("voided", pounds(0))
    assert (
        await void(payments, authorized, request_id=request_id, expected_version=authorized.version)
        == voided
    )
    assert await world.books.refunded_and_voided() == {"void": 4250}
    with pytest.raises(Refused) as again:
        await void(payments, authorized)
    assert again.value.reason == "ILLEGAL_TRANSITION"
    assert (await pay(payments, create_payment(order))).try_number == 2


async def test_refused_void_has_its_reason(payments: Payments, world: World) -> None:
    """A stale version and an unknown payment each get their reason; the payment stays
    authorised.
    """
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    with pytest.raises(Stale):
        await void(payments, authorized, expected_version=1)
    with pytest.raises(NotFound):
        await void(payments, authorized, payment_id=str(uuid4()))
    assert status_of(await capture(payments, authorized)) == "captured"


async def test_void_of_an_expired_authorization_frees_the_order(
    payments: Payments, world: World
) -> None:
    """The authorisation of tok_void_declined has expired: VoidPayment and its repeat answer voided,
    and another card pays at once.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(
        payments, create_payment(order, "tok_void_declined", manual_capture=True)
    )
    for _ in range(2):
        voided = await void(payments, authorized, request_id=request_id)
        assert (status_of(voided), voided.operations[1].failure_code) == (
            "voided",
            "authorization_expired",
        )
    paid = await pay(payments, create_payment(order))
    assert (status_of(paid), paid.try_number) == ("captured", 2)
    assert await world.books.charged() == {"charge": 4250}


async def test_capture_of_an_expired_authorization_frees_the_order(
    payments: Payments, world: World
) -> None:
    """With tok_void_declined, CapturePayment and its repeat are declined, the payment is voided,
    and another card pays at once.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(
        payments, create_payment(order, "tok_void_declined", manual_capture=True)
    )
    for _ in range(2):
        with pytest.raises(Refused) as declined:
            await capture(payments, authorized, request_id=request_id)
        assert (
            declined.value.metadata.items()
            >= {"decline_code": "authorization_expired", "retryable": "true"}.items()
        )
    payment = (
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=authorized.payment_id))
    ).payment
    assert status_of(payment) == "voided"
    assert status_of(await pay(payments, create_payment(order))) == "captured"
    assert await world.books.charged() == {"charge": 4250}


async def test_contradiction_is_shown_and_resolved(
    payments: Payments, world: World, sandbox: Sandbox
) -> None:
    """A signed webhook that contradicts an earlier answer is accepted. GetPayment shows it, and
    ResolveContradiction closes it, once.
    """
    payment = await pay(payments, create_payment(await world.order()))
    declined = Entry(
        key=UUID(payment.operations[0].operation_id),
        kind="charge",
        state="declined",
        request_hash=None,
        token=None,
        amount=4250,
        code="lost_card",
        final=False,
    )
    body, headers = sandbox.webhook(declined, datetime.now(UTC))
    report = api.IngestProviderWebhookRequest(processor="sandbox", body=body, headers=headers)
    taken = (await ask(payments.IngestProviderWebhook, report)).payment
    [stored] = taken.operations[0].contradictions
    assert (stored.failure_code, stored.report_id, stored.payload_sha256) == (
        "lost_card",
        headers["webhook-id"],
        hashlib.sha256(body).hexdigest(),
    )
    request = api.ResolveContradictionRequest(
        request_id=str(uuid4()),
        payment_id=payment.payment_id,
        contradiction_id=stored.contradiction_id,
        note="the charge stands",
        expected_version=taken.version,
    )
    resolved = (await ask(payments.ResolveContradiction, request)).payment
    assert resolved == (await ask(payments.ResolveContradiction, request)).payment
    assert resolved.operations[0].contradictions[0].resolve_note == "the charge stands"
    assert (status_of(resolved), resolved.captured_amount) == ("captured", pounds(42, 50))
    request.request_id = str(uuid4())
    with pytest.raises(Stale):
        await ask(payments.ResolveContradiction, request)


async def test_retry_of_a_return_without_a_decline_is_refused(
    payments: Payments, world: World
) -> None:
    """The request names a return whose refund was not declined: no money is refunded."""
    payment = await pay(payments, create_payment(await world.order()))
    with pytest.raises(Refused) as refused:
        await refund(payments, payment, return_id=str(uuid4()))
    assert (refused.value.reason, refused.value.metadata["status"]) == (
        "ILLEGAL_TRANSITION",
        "none",
    )
    assert not await world.books.refunded_and_voided()


async def test_payment_is_refunded_in_parts_and_then_in_full(
    payments: Payments, world: World
) -> None:
    """A part is refunded, and its repeat is answered the same; the rest is refunded by a request
    without an amount. The payment shows both, and each has an event.
    """
    payment = await pay(payments, create_payment(await world.order()))
    request_id = str(uuid4())
    part = await refund(
        payments,
        payment,
        request_id=request_id,
        amount=pounds(10),
        expected_version=payment.version,
    )
    assert part.refund.status == payment_pb2.REFUND_STATUS_COMPLETED
    assert (part.refund.amount, part.refund.cause, part.refund.cause_id) == (
        pounds(10),
        payment_pb2.REFUND_CAUSE_REQUEST,
        request_id,
    )
    assert (status_of(part.payment), part.payment.refunded_amount) == (
        "partially_refunded",
        pounds(10),
    )
    assert part.payment.refund_pending_amount == pounds(0)
    assert (
        await refund(
            payments,
            payment,
            request_id=request_id,
            amount=pounds(10),
            expected_version=payment.version,
        )
        == part
    )
    rest = await refund(payments, payment)
    assert (rest.refund.amount, status_of(rest.payment), rest.payment.refunded_amount) == (
        pounds(32, 50),
        "refunded",
        pounds(42, 50),
    )
    assert await world.books.refunded_and_voided() == {"refund": 4250}
    results = [
        (e.refund.refund_id, e.refunded_amount)
        for e in await world.books.events()
        if isinstance(e, RefundCompleted)
    ]
    assert results == [(part.refund.refund_id, pounds(10)), (rest.refund.refund_id, pounds(42, 50))]


async def test_refused_refund_has_its_reason(payments: Payments, world: World) -> None:
    """More than the rest, another currency, half a penny, no amount, a stale version, an unknown
    payment and an uncaptured one each get their reason.
    """
    payment = await pay(payments, create_payment(await world.order()))
    await refund(payments, payment, amount=pounds(40))
    cases: list[tuple[dict[str, Any], type[Failure], str]] = [
        ({"amount": pounds(2, 51)}, Refused, "REFUND_EXCEEDS_CAPTURE"),
        ({"amount": Money(currency_code="EUR", units=1)}, Refused, "PAYMENT_AMOUNT_MISMATCH"),
        ({"amount": Money(currency_code="GBP", nanos=5_000_000)}, Invalid, "VALIDATION_FAILED"),
        ({"amount": pounds(0)}, Invalid, "VALIDATION_FAILED"),
        ({"expected_version": 1}, Stale, "VERSION_MISMATCH"),
        ({"payment_id": str(uuid4())}, NotFound, "PAYMENT_NOT_FOUND"),
    ]
    for fields, kind, reason in cases:
        with pytest.raises(Failure) as failure:
            await refund(payments, payment, **fields)
        assert (type(failure.value), failure.value.reason) == (kind, reason)
        if reason == "REFUND_EXCEEDS_CAPTURE":
            assert failure.value.metadata["refundable"] == "2.50 GBP"
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    with pytest.raises(Refused) as illegal:
        await refund(payments, authorized)
    assert illegal.value.reason == "ILLEGAL_TRANSITION"
    assert await world.books.refunded_and_voided() == {"refund": 4000}


async def test_refunds_are_listed_by_page_and_filter(payments: Payments, world: World) -> None:
    """Refunds come newest first, each once over all pages; by order, payment and status. A token
    belongs to its filter.
    """
    made, refused_ones = [], 0
    paid = [
        await pay(payments, create_payment(await world.order(), token))
        for token in ("tok_ok", "tok_refund_declined", "tok_refund_late")
    ]
    for payment in (*paid, *paid):
        try:
            made.append((await refund(payments, payment, amount=pounds(1))).refund)
        except Refused:
            refused_ones += 1

    async def listed(**fields: Any) -> list[payment_pb2.Refund]:
        every = pages(payments.ListRefunds, api.ListRefundsRequest(**fields), "refunds", size=2)
        return [refund async for page in every for refund in page]

    failed = await listed(statuses=[payment_pb2.REFUND_STATUS_FAILED])
    assert (
        [each.failure_code for each in failed]
        == ["card_closed"] * refused_ones
        == ["card_closed"] * 2
    )
    assert [each for each in await listed() if each not in failed] == made[::-1]
    assert (
        await listed(payment_id=paid[0].payment_id)
        == await listed(order_id=paid[0].order_id)
        == [made[2], made[0]]
    )
    assert await listed(statuses=[payment_pb2.REFUND_STATUS_PENDING]) == [made[3], made[1]]
    first = await ask(payments.ListRefunds, api.ListRefundsRequest(page_size=2))
    with pytest.raises(Invalid) as foreign:
        await ask(
            payments.ListRefunds,
            api.ListRefundsRequest(page_token=first.next_page_token, order_id=paid[0].order_id),
        )
    assert foreign.value.reason == "PAGE_TOKEN_INVALID"


# --- reading


async def test_payments_are_listed_by_page_and_filter(payments: Payments, world: World) -> None:
    """Payments come newest first, each once over all pages; by order, by status, by time. A token
    belongs to its filter.
    """
    orders = [await world.order() for _ in range(3)]
    made = [await pay(payments, create_payment(order)) for order in orders]
    await refused(payments, create_payment(await world.order(), "tok_declined_stolen"))

    async def listed(**fields: Any) -> list[str]:
        every = pages(payments.ListPayments, api.ListPaymentsRequest(**fields), "payments", size=2)
        return [payment.payment_id async for page in every for payment in page]

    captured = [payment_pb2.PAYMENT_STATUS_CAPTURED]
    newest_first = [payment.payment_id for payment in reversed(made)]
    assert (await listed())[1:] == newest_first
    assert await listed(statuses=captured) == newest_first
    assert await listed(order_id=orders[1].order_id) == [made[1].payment_id]
    assert await listed(create_time_from=made[1].create_time, statuses=captured) == newest_first[:2]
    first = await ask(payments.ListPayments, api.ListPaymentsRequest(page_size=2))
    with pytest.raises(Invalid) as foreign:
        await ask(
            payments.ListPayments,
            api.ListPaymentsRequest(page_token=first.next_page_token, statuses=captured),
        )
    assert foreign.value.reason == "PAGE_TOKEN_INVALID"
    with pytest.raises(NotFound):
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=str(uuid4())))


async def test_invalid_request_gets_each_field_violation(payments: Payments) -> None:
    """The server refuses a request that breaks the contract's rules, with each field."""
    with pytest.raises(Invalid) as invalid:
        await ask(
            payments.CreatePayment, api.CreatePaymentRequest(request_id="no", order_id="neither")
        )
    assert {v.subject for v in invalid.value.violations} == {
        "request_id",
        "order_id",
        "payment_method_token",
    }


async def test_events_of_a_try_have_its_payment(payments: Payments, world: World) -> None:
    """A declined try, an authorisation and its capture each publish an event of the change of
    status. It has the payment's id as key, the order, the request as cause, and a sequence without
    a gap among the payment's events.

    So an analyst can compute the decline rate.
    """
    order = await world.order(pounds(42, 50))
    request = create_payment(order, "tok_declined_insufficient_funds")
    assert (await refused(payments, request)).reason == "PAYMENT_DECLINED"
    authorized = await pay(payments, create_payment(order, manual_capture=True))
    taking = str(uuid4())
    await capture(payments, authorized, request_id=taking)
    results = [
        (
            payment_pb2.PaymentStatus.Name(each.new_status),
            each.try_number,
            each.decline_code,
            each.payment_version,
        )
        for each in await world.books.status_changes()
    ]
    assert results == [
        ("PAYMENT_STATUS_DECLINED", 1, "insufficient_funds", 2),
        ("PAYMENT_STATUS_AUTHORIZED", 2, "", 2),
        ("PAYMENT_STATUS_CAPTURED", 2, "", 4),
    ]
    its = tables.outbox.c
    async with world.books.engine.connect() as connection:
        rows = (await connection.execute(select(tables.outbox).order_by(its.id))).all()
    declined = (await world.books.status_changes())[0].payment_id
    assert [(str(row.aggregate), row.sequence) for row in rows] == [
        (declined, 1),
        (authorized.payment_id, 1),
        (authorized.payment_id, 2),
        (authorized.payment_id, 3),  # confirmed
    ]
    assert {str(row.correlation_id) for row in rows} == {order.order_id}
    assert [row.causation_id for row in rows] == [
        request.request_id,
        rows[1].causation_id,
        taking,
        taking,
    ]
