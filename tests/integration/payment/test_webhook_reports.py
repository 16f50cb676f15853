"""The reports of webhooks are applied once; contradictions are stored."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed, PaymentFailed
from structlog.testing import capture_logs

from chassis.values.errors import (
    Failure,
    Invalid,
    NotFound,
    Refused,
    Unauthenticated,
)
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.answers import Answer
from payment_svc.model.commands import ResolveContradiction
from payment_svc.model.records import Payment
from payment_svc.providers import webhooks
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox import Sandbox
from tests.integration.payment.conftest import WEBHOOK_KEY, Replica
from tests.integration.payment.paying import Line, body_of, the_payment
from tests.integration.payment.refunding import settle
from tests.integration.payment.world import World, create_payment, request_envelope
from tests.support import Eventually, measured


async def test_late_success_is_recorded_from_the_webhook(
    world: World, sandbox: Sandbox, eventually: Eventually
) -> None:
    """The call answers pending, and the sandbox's webhook captures the payment. The repeat of the
    call shows it, and the event is published once.
    """
    request = create_payment(await world.order(), "tok_ok_late")
    assert (await world.pay(request)).status is Status.PENDING

    async def captured() -> bool:
        await sandbox.run_once(
            lambda body, headers: world.operations.settlement.ingest_webhook(
                "sandbox", body, headers
            )
        )
        return (await world.pay(request)).status is Status.CAPTURED

    await eventually(captured)
    assert [type(event) for event in await world.ledger.events()] == [PaymentConfirmed]


async def test_late_decline_is_recorded_from_the_webhook(
    world: World, sandbox: Sandbox, eventually: Eventually
) -> None:
    """After the webhook the repeat of the call answers with the decline, and another try can pay
    the order.
    """
    order = await world.order()
    request = create_payment(order, "tok_declined_late")
    await world.pay(request)

    async def has_declined() -> bool:
        await sandbox.run_once(
            lambda body, headers: world.operations.settlement.ingest_webhook(
                "sandbox", body, headers
            )
        )
        return (await the_payment(world, order.order_id)).status is Status.DECLINED

    await eventually(has_declined)
    with pytest.raises(Refused) as refused:
        await world.pay(request)
    assert refused.value.metadata["decline_code"] == "insufficient_funds"
    assert (await world.pay(create_payment(order))).try_number == 2


async def test_missing_webhook_is_replaced_by_a_lookup(
    world: World, eventually: Eventually, sandbox: Sandbox
) -> None:
    """The worker looks pending payments up: a lost webhook only delays the result."""
    order = await world.order()
    await world.pay(create_payment(order, "tok_ok_late"))

    async def captured() -> bool:
        await sandbox.ledger.settle_due()  # the sandbox is done, and its webhook is lost
        await settle(world)
        return (await the_payment(world, order.order_id)).status is Status.CAPTURED

    await eventually(captured)
    assert len(await world.ledger.events()) == 1


async def test_webhook_before_the_answer_is_applied(
    world: World, replica: Replica, sandbox: Sandbox
) -> None:
    """The webhook comes while the call still waits: it settles the payment, and the answer that
    follows changes nothing.
    """
    seen: list[Payment] = []

    async def late(request: Authorization, question: Awaitable[Answer]) -> Answer:
        answer = await question
        seen.append(
            await world.operations.settlement.ingest_webhook(
                "sandbox", *body_of(sandbox, request.key)
            )
        )
        return answer

    payment = await world.pay(create_payment(await world.order()), replica(Line(sandbox, late)))
    assert seen == [payment]
    assert (payment.status, payment.version) == (Status.CAPTURED, 2)
    assert len(await world.ledger.events()) == 1


async def test_webhook_settles_a_call_whose_answer_is_lost(
    world: World, replica: Replica, sandbox: Sandbox
) -> None:
    """Where the webhook has settled the payment, the caller gets its result instead of an unknown
    outcome.
    """

    async def lost(request: Authorization, question: Awaitable[Answer]) -> Answer:
        await question
        await world.operations.settlement.ingest_webhook("sandbox", *body_of(sandbox, request.key))
        raise TimeoutError

    payment = await world.pay(create_payment(await world.order()), replica(Line(sandbox, lost)))
    assert (payment.status, payment.version) == (Status.CAPTURED, 2)


async def test_repeated_and_late_webhooks_change_nothing(world: World, sandbox: Sandbox) -> None:
    """The same event comes twenty times, and again under another id, for a payment that is captured
    already: nothing changes.
    """
    payment = await world.pay(create_payment(await world.order()))
    before = await world.ledger.dump()
    body, headers = body_of(sandbox, payment.operations[0].id)
    results = await asyncio.gather(
        *(world.operations.settlement.ingest_webhook("sandbox", body, headers) for _ in range(20))
    )
    other = webhooks.sign(WEBHOOK_KEY, "evt_other", datetime.now(UTC), body)
    results.append(await world.operations.settlement.ingest_webhook("sandbox", body, other))
    assert set(map(str, results)) == {str(payment)}
    assert await world.ledger.dump() == before


async def test_report_in_other_bytes_is_a_repeat(world: World, sandbox: Sandbox) -> None:
    """The processor sends the same event again, in other bytes with the same content: it is
    accepted, and changes nothing.
    """
    payment = await world.pay(create_payment(await world.order()))
    body, headers = body_of(sandbox, payment.operations[0].id)
    first = await world.operations.settlement.ingest_webhook("sandbox", body, headers)
    before = await world.ledger.dump()
    rewritten = json.dumps(dict(reversed(json.loads(body).items())), indent=1).encode()
    assert rewritten != body
    again = webhooks.sign(WEBHOOK_KEY, headers["webhook-id"], datetime.now(UTC), rewritten)
    assert await world.operations.settlement.ingest_webhook("sandbox", rewritten, again) == first
    assert await world.ledger.dump() == before


async def test_invalid_webhook_is_refused_with_its_reason(world: World, sandbox: Sandbox) -> None:
    """An unsigned webhook, one of an unknown processor and one about an unknown operation each get
    their reason, and nothing changes.
    """
    payment = await world.pay(create_payment(await world.order()))
    before = await world.ledger.dump()
    operation = payment.operations[0].id
    body, headers = body_of(sandbox, operation)
    for processor, (results, signed), kind, reason in [
        ("sandbox", (body + b" ", headers), Unauthenticated, "WEBHOOK_SIGNATURE_INVALID"),
        ("stripes", (body, headers), Invalid, "VALIDATION_FAILED"),
        ("sandbox", body_of(sandbox, uuid4()), NotFound, "PAYMENT_NOT_FOUND"),
    ]:
        with pytest.raises(Failure) as refused:
            await world.operations.settlement.ingest_webhook(processor, results, signed)
        assert (type(refused.value), refused.value.reason) == (kind, reason)
    assert await world.ledger.dump() == before


@pytest.mark.parametrize("field", ["webhook-id", "reference", "code"])
async def test_webhook_with_a_long_text_is_refused(
    world: World, sandbox: Sandbox, field: str
) -> None:
    """The service would store the signed text of 256 characters in the payment: WEBHOOK_MALFORMED
    names it, and nothing changes.
    """
    payment = await world.pay(create_payment(await world.order()))
    before = await world.ledger.dump()
    body, headers = body_of(sandbox, payment.operations[0].id, "stolen_card")
    texts = {**json.loads(body), **headers} | {field: "x" * 256}
    rewritten = json.dumps({name: texts[name] for name in json.loads(body)}).encode()
    signed = webhooks.sign(WEBHOOK_KEY, texts["webhook-id"], datetime.now(UTC), rewritten)
    with pytest.raises(Invalid, match="256 characters") as caught:
        await world.operations.settlement.ingest_webhook("sandbox", rewritten, signed)
    assert caught.value.reason == "WEBHOOK_MALFORMED"
    assert await world.ledger.dump() == before


async def test_declined_then_signed_success_is_stored(world: World, sandbox: Sandbox) -> None:
    """A charge is declined, and then a signed webhook reports a success twice. It is accepted,
    stored once with the SHA-256 of its body, counted once and logged once.

    No money is posted. Once resolved, it no longer counts as open.
    """
    order = await world.order()
    with pytest.raises(Refused):
        await world.pay(create_payment(order, "tok_declined_insufficient_funds"))
    payment = await the_payment(world, order.order_id)
    body, headers = body_of(sandbox, payment.operations[0].id)
    counted = measured("processor_contradictions_total", processor="sandbox")
    with capture_logs() as log:
        taken = await world.operations.settlement.ingest_webhook("sandbox", body, headers)
        assert await world.operations.settlement.ingest_webhook("sandbox", body, headers) == taken
    [stored] = taken.operations[0].contradictions
    assert (stored.outcome, stored.report_id, stored.payload_sha256) == (
        Outcome.SUCCEEDED,
        headers["webhook-id"],
        hashlib.sha256(body).digest(),
    )
    assert (taken.status, taken.captured) == (Status.DECLINED, 0)
    assert measured("processor_contradictions_total", processor="sandbox") - counted == 1
    seen = [
        line["operation_id"]
        for line in log
        if line["event"] == "a processor contradicts an earlier report"
    ]
    assert seen == [str(taken.operations[0].id)]
    await world.operations.reading.measure()
    assert measured("processor_contradictions_open") == 1
    resolving = request_envelope(
        ResolveContradiction,
        "resolve:1",
        payment,
        contradiction_id=stored.id,
        note="given back there",
    )
    await world.operations.payments.resolve_contradiction(resolving)
    await world.operations.reading.measure()
    assert measured("processor_contradictions_open") == 0
    assert await the_payment(world, order.order_id) == await world.operations.reading.get_payment(
        payment.id
    )
    assert [type(event) for event in await world.ledger.events()] == []


async def test_report_under_a_reused_event_id_is_evidence(world: World, sandbox: Sandbox) -> None:
    """The event id came before with another report: the answer is REQUEST_ID_REUSED each time, and
    the second report is stored once.
    """
    payment = await world.pay(create_payment(await world.order()))
    body, headers = body_of(sandbox, payment.operations[0].id)
    await world.operations.settlement.ingest_webhook("sandbox", body, headers)
    against, _ = body_of(sandbox, payment.operations[0].id, "insufficient_funds")
    reused = webhooks.sign(WEBHOOK_KEY, headers["webhook-id"], datetime.now(UTC), against)
    for _ in range(2):
        with pytest.raises(Invalid) as refused:
            await world.operations.settlement.ingest_webhook("sandbox", against, reused)
        assert refused.value.reason == "REQUEST_ID_REUSED"
    stored = await world.operations.reading.get_payment(payment.id)
    assert [c.payload_sha256 for c in stored.operations[0].contradictions] == [
        hashlib.sha256(against).digest()
    ]
    assert (stored.status, stored.version) == (Status.CAPTURED, payment.version + 1)


async def test_final_decline_by_webhook_is_published_once(
    world: World, sandbox: Sandbox, eventually: Eventually
) -> None:
    """Two calls are declined, and a webhook declines the third, which comes twice: one
    PaymentFailed is published.
    """
    order = await world.order()
    for _ in range(2):
        with pytest.raises(Refused):
            await world.pay(create_payment(order, "tok_declined_expired_card"))
    await world.pay(create_payment(order, "tok_declined_late"))

    async def failed() -> bool:
        await sandbox.run_once(
            lambda body, headers: world.operations.settlement.ingest_webhook(
                "sandbox", body, headers
            )
        )
        return bool(await world.ledger.events())

    await eventually(failed)
    operation = (await world.account(order.order_id)).payments[-1].operations[0]
    await world.operations.settlement.ingest_webhook(
        "sandbox", *body_of(sandbox, operation.id, "insufficient_funds")
    )
    assert [type(event) for event in await world.ledger.events()] == [PaymentFailed]
