"""RefundPayment, ListRefunds and ResolveContradiction over a real channel, a real PostgreSQL and
the sandbox processor.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.type.money_pb2 import Money
from ordermesh.payment.events.v1.payment_events_pb2 import (
    RefundCompleted,
)
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.rpc.client import ask, pages
from chassis.values.errors import Failure, Invalid, NotFound, Refused, Stale
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.calls import refund
from tests.integration.payment.world import (
    Payments,
    World,
    create_payment,
    pay,
    pounds,
    status_of,
)


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
    assert not await world.ledger.refunded_and_voided()


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
    assert await world.ledger.refunded_and_voided() == {"refund": 4250}
    results = [
        (e.refund.refund_id, e.refunded_amount)
        for e in await world.ledger.events()
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
    assert await world.ledger.refunded_and_voided() == {"refund": 4000}


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
