"""Each payment is charged once and recorded: concurrent calls, repeats, webhooks and the settling
worker, and lost answers.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed, PaymentFailed
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from chassis.values import deadline
from chassis.values.errors import (
    Deferred,
    Exists,
    Failure,
    Invalid,
    NotFound,
    Refused,
    Unauthenticated,
)
from payment_svc.app import Operations
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.answers import NOT_PROCESSED, Answer
from payment_svc.model.commands import CaptureRequest, ResolveContradiction
from payment_svc.model.records import Payment
from payment_svc.operations.settlement import LOOKUPS_BEFORE_ABANDONING
from payment_svc.providers import webhooks
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry, Ledger
from tests.integration.payment.conftest import WEBHOOK_KEY, Replica
from tests.integration.payment.world import World, create_payment, pounds, request_envelope
from tests.support import Eventually, measured

Reply = Callable[[Authorization, Awaitable[Answer]], Awaitable[Answer]]


@dataclass
class Line:
    """The connection to the sandbox, which a test controls: `reply` decides when and whether the
    processor's answer arrives.
    """

    sandbox: Sandbox
    reply: Reply

    async def authorize(self, request: Authorization) -> Answer:
        return await self.reply(request, self.sandbox.authorize(request))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sandbox, name)


async def outcomes(*calls: Awaitable[Payment]) -> list[Payment | BaseException]:
    return list(await asyncio.gather(*calls, return_exceptions=True))


async def settle(world: World, *, at: Operations | None = None) -> None:
    """Runs the settling worker once, after all open operations have become due."""
    await world.books.make_due()
    await (at or world.operations).settlement.settle_due()


async def the_payment(world: World, order_id: str) -> Payment:
    [payment] = (await world.account(order_id)).payments
    return payment


def body_of(
    sandbox: Sandbox, operation_id: UUID, code: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Returns the webhook that the sandbox would send about an operation."""
    state = "declined" if code else "succeeded"
    return sandbox.webhook(
        Entry(
            key=operation_id,
            kind="charge",
            state=state,
            request_hash=None,
            token=None,
            amount=4250,
            code=code,
            final=False,
        ),
        datetime.now(UTC),
    )


# --- concurrent calls


async def test_concurrent_repeats_of_a_payment_charge_once(world: World, replica: Replica) -> None:
    """Over two replicas: one payment, one operation at the processor, one event, and twenty equal
    answers.
    """
    request = create_payment(await world.order(), "tok_slow")
    replicas = (replica(), replica())
    results = await asyncio.gather(*(world.pay(request, replicas[n % 2]) for n in range(20)))
    assert {(p.id, p.status, p.captured) for p in results} == {
        (results[0].id, Status.CAPTURED, 4250)
    }
    assert await world.books.processor_operations() == 1
    assert await world.books.charged() == {"charge": 4250}
    assert [type(event) for event in await world.books.events()] == [PaymentConfirmed]


async def test_concurrent_payments_of_one_order_charge_once(world: World, replica: Replica) -> None:
    """Ten requests come before the order's event: one wins, and the others are refused with the id
    of its payment.
    """
    order = world.orders.place(pounds(42, 50))
    replicas = (replica(), replica())
    results = await outcomes(
        *(world.pay(create_payment(order), replicas[n % 2]) for n in range(10))
    )
    [won] = [payment for payment in results if isinstance(payment, Payment)]
    lost = [failure for failure in results if isinstance(failure, Failure)]
    assert [(type(f), f.reason, f.metadata["payment_id"]) for f in lost] == [
        (Exists, "PAYMENT_ALREADY_EXISTS", str(won.id))
    ] * 9
    assert await world.books.charged() == {"charge": 4250}


async def test_event_during_the_call_opens_one_account(world: World) -> None:
    """The event of each of twenty orders comes while the order is paid: each is charged once."""
    orders = [world.orders.place(pounds(1)) for _ in range(20)]
    calls = (world.pay(create_payment(order)) for order in orders)
    events = (world.apply_events(order) for order in orders)
    results = await outcomes(*calls, *events)  # type: ignore[arg-type]
    assert Counter(type(each).__name__ for each in results) == {"Payment": 20, "NoneType": 20}
    assert await world.books.charged() == {"charge": 20 * 100}


async def test_account_ignores_older_order_versions(world: World, replica: Replica) -> None:
    """Two replicas apply two versions of an order at once: the later version stays, in both orders
    of the writes.
    """
    consumers = (world, replace(world, operations=replica()))
    orders = [await world.order() for _ in range(20)]
    versions = [
        world.orders.place(pounds(42, 50), order_id=o.order_id, version=v)
        for o in orders
        for v in (3, 2)
    ]
    await asyncio.gather(*(consumers[order.version % 2].apply_events(order) for order in versions))
    assert [(await world.account(order.order_id)).order.version for order in orders] == [3] * 20


async def test_concurrent_captures_take_the_money_once(world: World) -> None:
    """All captures wait for the same answer of the processor, and each is answered as captured."""
    authorized = await world.pay(create_payment(await world.order(), manual_capture=True))
    envelopes = [request_envelope(CaptureRequest, f"capture:{n}", authorized) for n in range(5)]
    captures = [world.operations.payments.capture_payment(each) for each in envelopes]
    results = await outcomes(*captures)
    done = [payment.status for payment in results if isinstance(payment, Payment)]
    late = [failure.reason for failure in results if isinstance(failure, Failure)]
    assert set(done) == {Status.CAPTURED}
    assert set(late) <= {"ILLEGAL_TRANSITION"}  # calls that came after the capture
    assert await world.books.charged() == {"capture": 4250}
    assert len(await world.books.events()) == 1


async def test_callers_of_a_declined_capture_all_get_the_decline(
    world: World,
) -> None:
    """Several callers ask at once, and each again with its own request_id: no call is answered as a
    success.
    """
    authorized = await world.pay(
        create_payment(await world.order(), "tok_capture_declined", manual_capture=True)
    )

    async def capture(number: int) -> Payment:
        envelope = request_envelope(CaptureRequest, f"capture:{number}", authorized)
        return await world.operations.payments.capture_payment(envelope)

    first = await outcomes(*(capture(n) for n in range(5)))
    again = await outcomes(*(capture(n) for n in range(5)))
    assert {failure.reason for failure in (*first, *again) if isinstance(failure, Failure)} <= {
        "PAYMENT_DECLINED",
        "CONTENTION",
    }
    assert not [payment for payment in (*first, *again) if isinstance(payment, Payment)]


# --- lost answers


async def test_charge_with_a_lost_answer_is_found_by_the_worker(world: World) -> None:
    """The caller is answered that the outcome is unknown, and no other payment is possible
    meanwhile.

    The worker looks the charge up by the same key, and the event is published.
    """
    order = await world.order()
    with pytest.raises(Deferred) as unknown:
        await world.pay(create_payment(order, "tok_timeout_charged"))
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    payment = await the_payment(world, order.order_id)
    assert (payment.status, payment.operations[0].outcome) == (Status.PENDING, Outcome.UNKNOWN)
    assert unknown.value.metadata["payment_id"] == str(payment.id)
    with pytest.raises(Exists):
        await world.pay(create_payment(order))

    # due at once: an operation with a lost answer does not wait for its interval
    await world.operations.settlement.settle_due()
    payment = await the_payment(world, order.order_id)
    assert (payment.status, payment.captured, payment.version) == (Status.CAPTURED, 4250, 3)
    assert await world.books.charged() == {"charge": 4250}
    assert [type(event) for event in await world.books.events()] == [PaymentConfirmed]


async def test_processor_without_answer_times_out_with_the_caller(
    world: World, replica: Replica, memory: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor does not answer: the caller is answered before its own deadline, and the worker
    looks the charge up later.
    """
    order = await world.order()
    monkeypatch.setattr("payment_svc.providers.sandbox.HANG_S", 60.0)
    silent = replica(Sandbox(Ledger(memory), WEBHOOK_KEY), answer_timeout_s=0.2)
    with pytest.raises(Deferred) as unknown:
        await world.pay(create_payment(order, "tok_timeout_not_charged"), silent)
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    default = replica(Sandbox(Ledger(memory), WEBHOOK_KEY))
    another = create_payment(await world.order(), "tok_timeout_not_charged")
    # half of the time is reserved for the write of the outcome
    with deadline.within(1.0), pytest.raises(Deferred) as unknown:
        await asyncio.wait_for(world.pay(another, default), 5)
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    assert (await the_payment(world, order.order_id)).operations[0].outcome is Outcome.UNKNOWN


async def test_charge_with_a_lost_answer_is_found_by_the_repeat(world: World) -> None:
    """The same request_id calls the processor with the same key, and gets the answer that was
    lost.
    """
    request = create_payment(await world.order(), "tok_timeout_charged")
    with pytest.raises(Deferred):
        await world.pay(request)
    assert (await world.pay(request)).status is Status.CAPTURED
    await settle(world)
    assert await world.books.charged() == {"charge": 4250}
    assert len(await world.books.events()) == 1


async def test_repeat_and_worker_at_once_settle_once(world: World, replica: Replica) -> None:
    """For either order of the two: one charge, one event, one change of status."""
    request = create_payment(await world.order(), "tok_timeout_charged")
    with pytest.raises(Deferred):
        await world.pay(request)
    replicas = (replica(), replica())
    results = await asyncio.gather(
        *(world.pay(request) for _ in range(5)), *(r.settlement.settle_due() for r in replicas)
    )
    assert {payment.status for payment in results[:5] if payment} == {Status.CAPTURED}
    assert await world.books.charged() == {"charge": 4250}
    assert len(await world.books.events()) == 1


async def test_lookup_is_made_by_one_of_several_workers(
    world: World, replica: Replica, sandbox: Sandbox
) -> None:
    """Ten payments have lost answers, and three replicas run workers: the processor is asked once
    about each.
    """
    lookups: Counter[UUID] = Counter()

    @dataclass
    class Counting(Line):
        async def lookup(self, key: UUID) -> Answer | None:
            lookups[key] += 1
            return await self.sandbox.lookup(key)

    orders = [await world.order() for _ in range(10)]
    results = await outcomes(
        *(world.pay(create_payment(order, "tok_timeout_charged")) for order in orders)
    )
    assert {getattr(failure, "reason", None) for failure in results} == {"PAYMENT_OUTCOME_UNKNOWN"}
    workers = [replica(Counting(sandbox, through)) for _ in range(3)]
    await asyncio.gather(*(worker.settlement.settle_due() for worker in workers))
    assert sorted(lookups.values()) == [1] * 10
    assert len(await world.books.events()) == 10


async def test_lost_request_is_abandoned_and_can_be_repeated(
    world: World,
) -> None:
    """The worker waits a while, then abandons the request: the attempt counts no failed try, and a
    late arrival charges nothing.
    """
    order = await world.order()
    request = create_payment(order, "tok_timeout_not_charged")
    with pytest.raises(Deferred):
        await world.pay(request)
    for _ in range(LOOKUPS_BEFORE_ABANDONING):
        assert (await the_payment(world, order.order_id)).status is Status.PENDING
        await settle(world)
    payment = await the_payment(world, order.order_id)
    assert (payment.status, payment.decline_code) == (Status.DECLINED, NOT_PROCESSED)
    with pytest.raises(Refused) as repeated:
        await world.pay(request)
    assert (
        repeated.value.metadata.items()
        >= {"decline_code": NOT_PROCESSED, "retryable": "true"}.items()
    )
    assert not await world.books.charged()
    assert (await world.pay(create_payment(order))).status is Status.CAPTURED


async def test_lookup_intervals_grow(world: World) -> None:
    """An operation without a known outcome becomes due again, after a growing interval."""
    order = await world.order()
    with pytest.raises(Deferred):
        await world.pay(create_payment(order, "tok_timeout_not_charged"))
    pauses = []
    for _ in range(2):
        await settle(world)
        [operation] = (await the_payment(world, order.order_id)).operations
        assert operation.next_lookup_time is not None
        pauses.append((operation.next_lookup_time - datetime.now(UTC)).total_seconds())
        await world.operations.settlement.settle_due()  # not due: no call is made
        assert (await the_payment(world, order.order_id)).operations == (operation,)
    assert pauses == [pytest.approx(30, abs=5), pytest.approx(60, abs=5)]


async def test_unreachable_processor_leaves_the_try_open(world: World) -> None:
    """The processor never received the request: the caller gets a retryable error, the repeat
    succeeds, and no decline is stored.
    """
    request = create_payment(await world.order(), "tok_unavailable_once")
    with pytest.raises(Deferred) as away:
        await world.pay(request)
    assert (away.value.reason, away.value.metadata["peer"]) == ("DEPENDENCY_UNAVAILABLE", "sandbox")
    assert (await world.pay(request)).status is Status.CAPTURED


async def test_capture_with_a_lost_answer_is_sent_again(world: World) -> None:
    """The worker sends it with the same key and without a token; the money is captured once."""
    order = await world.order()
    authorized = await world.pay(create_payment(order, "tok_capture_timeout", manual_capture=True))
    with pytest.raises(Deferred) as unknown:
        await world.operations.payments.capture_payment(
            request_envelope(CaptureRequest, "capture:1", authorized)
        )
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    await settle(world)
    assert (await the_payment(world, order.order_id)).status is Status.CAPTURED
    assert await world.books.charged() == {"capture": 4250}
    assert len(await world.books.events()) == 1


async def test_charge_of_a_cancelled_call_is_settled_by_the_worker(
    world: World,
    replica: Replica,
    memory: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call is cancelled while the processor works: the intent is stored, and the worker looks
    up its outcome.
    """
    order = await world.order()
    # it works for as long as this test takes
    monkeypatch.setattr("payment_svc.providers.sandbox.SLOW_S", 30.0)
    slower = replica(Sandbox(Ledger(memory), WEBHOOK_KEY))
    call = asyncio.create_task(world.pay(create_payment(order, "tok_slow"), slower))
    await eventually(world.books.calls)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await the_payment(world, order.order_id)).operations[0].outcome is Outcome.REQUESTED
    for _ in range(LOOKUPS_BEFORE_ABANDONING):
        await settle(world)
    payment = await the_payment(world, order.order_id)
    charged = (await world.books.charged())["charge"]
    assert (payment.status, payment.captured) in {(Status.CAPTURED, charged), (Status.DECLINED, 0)}
    assert charged == payment.captured


@pytest.mark.parametrize(
    "answered", [False, True], ids=["before the processor was asked", "after it answered"]
)
async def test_crash_between_request_and_outcome_loses_nothing(
    answered: bool, world: World, replica: Replica, sandbox: Sandbox
) -> None:
    """For each state of the processor, the charge is done once, recorded once and published once:
    by the repeat where there is one, else by the worker.
    """

    class Crash(BaseException):
        """The end of the process, as this call sees it."""

    async def crash(request: Authorization, question: Awaitable[Answer]) -> Answer:
        if answered:
            await question
        else:
            question.close()  # type: ignore[attr-defined]  # a coroutine that is never begun
        raise Crash

    crashing = replica(Line(sandbox, crash))
    repeated, left = create_payment(await world.order()), create_payment(await world.order())
    for request in (repeated, left):
        with pytest.raises(Crash):
            await world.pay(request, crashing)
    assert (await world.pay(repeated)).status is Status.CAPTURED
    for _ in range(LOOKUPS_BEFORE_ABANDONING):
        await settle(world)
    payment = await the_payment(world, left.order_id)
    assert payment.status is (Status.CAPTURED if answered else Status.DECLINED)
    assert await world.books.charged() == {"charge": 4250 * (2 if answered else 1)}
    assert len(await world.books.events()) == (2 if answered else 1)


async def test_settlement_for_a_closed_order_is_stored(world: World) -> None:
    """The order was cancelled during the call to the processor: the payment is recorded as
    captured, for its attempt.
    """
    order = await world.order()
    with pytest.raises(Deferred):
        await world.pay(create_payment(order, "tok_timeout_charged"))
    await world.apply_events(
        world.orders.place(pounds(42, 50), order_id=order.order_id, status="CANCELLED", version=2)
    )
    await settle(world)
    assert (await the_payment(world, order.order_id)).captured == 4250
    [event] = await world.books.events()
    assert event.attempt == 1


# --- webhooks


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
    assert [type(event) for event in await world.books.events()] == [PaymentConfirmed]


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
    assert len(await world.books.events()) == 1


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
    assert len(await world.books.events()) == 1


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
    before = await world.books.dump()
    body, headers = body_of(sandbox, payment.operations[0].id)
    results = await asyncio.gather(
        *(world.operations.settlement.ingest_webhook("sandbox", body, headers) for _ in range(20))
    )
    other = webhooks.sign(WEBHOOK_KEY, "evt_other", datetime.now(UTC), body)
    results.append(await world.operations.settlement.ingest_webhook("sandbox", body, other))
    assert set(map(str, results)) == {str(payment)}
    assert await world.books.dump() == before


async def test_report_in_other_bytes_is_a_repeat(world: World, sandbox: Sandbox) -> None:
    """The processor sends the same event again, in other bytes with the same content: it is
    accepted, and changes nothing.
    """
    payment = await world.pay(create_payment(await world.order()))
    body, headers = body_of(sandbox, payment.operations[0].id)
    first = await world.operations.settlement.ingest_webhook("sandbox", body, headers)
    before = await world.books.dump()
    rewritten = json.dumps(dict(reversed(json.loads(body).items())), indent=1).encode()
    assert rewritten != body
    again = webhooks.sign(WEBHOOK_KEY, headers["webhook-id"], datetime.now(UTC), rewritten)
    assert await world.operations.settlement.ingest_webhook("sandbox", rewritten, again) == first
    assert await world.books.dump() == before


async def test_invalid_webhook_is_refused_with_its_reason(world: World, sandbox: Sandbox) -> None:
    """An unsigned webhook, one of an unknown processor and one about an unknown operation each get
    their reason, and nothing changes.
    """
    payment = await world.pay(create_payment(await world.order()))
    before = await world.books.dump()
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
    assert await world.books.dump() == before


@pytest.mark.parametrize("field", ["webhook-id", "reference", "code"])
async def test_webhook_with_a_long_text_is_refused(
    world: World, sandbox: Sandbox, field: str
) -> None:
    """The service would store the signed text of 256 characters in the payment: WEBHOOK_MALFORMED
    names it, and nothing changes.
    """
    payment = await world.pay(create_payment(await world.order()))
    before = await world.books.dump()
    body, headers = body_of(sandbox, payment.operations[0].id, "stolen_card")
    texts = {**json.loads(body), **headers} | {field: "x" * 256}
    rewritten = json.dumps({name: texts[name] for name in json.loads(body)}).encode()
    signed = webhooks.sign(WEBHOOK_KEY, texts["webhook-id"], datetime.now(UTC), rewritten)
    with pytest.raises(Invalid, match="256 characters") as caught:
        await world.operations.settlement.ingest_webhook("sandbox", rewritten, signed)
    assert caught.value.reason == "WEBHOOK_MALFORMED"
    assert await world.books.dump() == before


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
    await world.operations.contradictions.resolve_contradiction(resolving)
    await world.operations.reading.measure()
    assert measured("processor_contradictions_open") == 0
    assert await the_payment(world, order.order_id) == await world.operations.reading.get_payment(
        payment.id
    )
    assert [type(event) for event in await world.books.events()] == []


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
    its = await world.operations.reading.get_payment(payment.id)
    assert [c.payload_sha256 for c in its.operations[0].contradictions] == [
        hashlib.sha256(against).digest()
    ]
    assert (its.status, its.version) == (Status.CAPTURED, payment.version + 1)


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
        return bool(await world.books.events())

    await eventually(failed)
    operation = (await world.account(order.order_id)).payments[-1].operations[0]
    await world.operations.settlement.ingest_webhook(
        "sandbox", *body_of(sandbox, operation.id, "insufficient_funds")
    )
    assert [type(event) for event in await world.books.events()] == [PaymentFailed]


async def through(_: Authorization, question: Awaitable[Answer]) -> Answer:
    """Passes each answer on, unchanged."""
    return await question
