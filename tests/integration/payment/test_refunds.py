"""Money is refunded once, and never more than was captured: concurrent refunds, orders that end
during their payments, and lost answers.

The tests use a real PostgreSQL and compare the sandbox's own ledger.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    RefundCompleted,
    RefundFailed,
)
from prometheus_client import REGISTRY

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, Refused
from chassis.values.money import Money
from payment_svc.app import Operations
from payment_svc.lifecycle import Cause, Kind, Outcome, Status
from payment_svc.model.answers import NOTHING_REFUNDABLE, Answer
from payment_svc.model.commands import CaptureRequest, PaymentRequest, RefundRequest
from payment_svc.model.records import Payment, Refund
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.conftest import Replica
from tests.integration.payment.world import (
    World,
    create_payment,
    pounds,
    request_envelope,
    return_changed,
)
from tests.support import Eventually, measured

TOTAL = 4250  # the total of world.order()


async def refund(
    world: World,
    payment: Payment,
    minor: int | None = None,
    *,
    at: Operations | None = None,
    request: str = "",
) -> Refund:
    """Calls RefundPayment without the transport."""
    amount = Money(minor, "GBP") if minor else None
    envelope = refunding(payment, request, amount=amount)
    _, made = await (at or world.operations).refunds.refund_payment(envelope)
    return made


def refunding(payment: Payment, request: str, **fields: Any) -> Envelope[RefundRequest]:
    """Returns RefundPayment with this request_id, or with a new one."""
    request_id = request or str(uuid4())
    return request_envelope(
        RefundRequest, f"refund:{request_id}", payment, cause=request_id, **fields
    )


async def refund_return(
    world: World,
    payment: Payment,
    return_id: str,
    *,
    at: Operations | None = None,
    request: str = "",
) -> Refund:
    """Calls RefundPayment for the return again, without the transport."""
    envelope = refunding(payment, request, amount=None, return_id=return_id)
    _, made = await (at or world.operations).refunds.refund_payment(envelope)
    return made


async def settle(world: World, *, at: Operations | None = None) -> None:
    """Runs the settling worker once, after all open operations have become due."""
    await world.books.make_due()
    await (at or world.operations).settlement.settle_due()


async def paid(
    world: World, token: str = "tok_ok", **fields: Any
) -> tuple[order_pb2.Order, Payment]:
    order = await world.order()
    return order, await world.pay(create_payment(order, token, **fields))


async def balanced(world: World, order: order_pb2.Order) -> tuple[Status, int, int, int]:
    """Returns the one payment of the order; asserts that the sandbox's ledger and the payment's
    history agree with it.
    """
    its = await world.payment(order)
    charged, given = await world.books.charged(), await world.books.refunded_and_voided()
    assert (charged["charge"] + charged["capture"], given["refund"]) == (its.captured, its.refunded)
    settled = [event for event in await world.books.events() if isinstance(event, RefundCompleted)]
    assert (
        sum(
            event.refund.amount.units * 100 + event.refund.amount.nanos // 10_000_000
            for event in settled
        )
        == its.refunded
    )
    return its.status, its.captured, its.refunded, its.refund_pending


def webhook(
    sandbox: Sandbox, operation_id: UUID, code: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """Returns the webhook that the sandbox would send about a refund."""
    state = "declined" if code else "succeeded"
    return sandbox.webhook(
        Entry(
            key=operation_id,
            kind="refund",
            state=state,
            request_hash=None,
            token=None,
            amount=TOTAL,
            code=code,
            final=False,
        ),
        datetime.now(UTC),
    )


# --- refund x refund


async def test_concurrent_refunds_never_exceed_the_captured_amount(
    world: World, replica: Replica
) -> None:
    """Twenty requests of 10.00 against 42.50, over two replicas: four succeed, and the others are
    refused with the remaining amount.

    The sandbox, which has its own ceiling, has refused none of them.
    """
    order, payment = await paid(world)
    replicas = (replica(), replica())
    results = await asyncio.gather(
        *(refund(world, payment, 1_000, at=replicas[n % 2]) for n in range(20)),
        return_exceptions=True,
    )
    done = [each for each in results if isinstance(each, Refund)]
    lost = [each for each in results if isinstance(each, Failure)]
    assert [each.outcome for each in done] == [Outcome.SUCCEEDED] * 4
    assert {(type(f), f.reason, f.metadata["refundable"]) for f in lost} == {
        (Refused, "REFUND_EXCEEDS_CAPTURE", "2.50 GBP")
    }
    assert len(lost) == 16
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 4_000, 0)


async def test_concurrent_full_refunds_refund_once(world: World, replica: Replica) -> None:
    """Ten requests refund "all that is left" at once, each with its own request_id: one
    succeeds.
    """
    order, payment = await paid(world)
    replicas = (replica(), replica())
    results = await asyncio.gather(
        *(refund(world, payment, at=replicas[n % 2]) for n in range(10)), return_exceptions=True
    )
    assert Counter(getattr(each, "reason", "done") for each in results) == {
        "done": 1,
        "REFUND_EXCEEDS_CAPTURE": 9,
    }
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)


async def test_concurrent_repeats_of_a_refund_refund_once(world: World, replica: Replica) -> None:
    """The same request_id, over two replicas and once more after its key was deleted: one refund,
    one event, the same answer.
    """
    order, payment = await paid(world)
    replicas, request = (replica(), replica()), str(uuid4())
    results = await asyncio.gather(
        *(refund(world, payment, 1_000, at=replicas[n % 2], request=request) for n in range(10))
    )
    await world.books.delete_keys()
    results.append(await refund(world, payment, 1_000, request=request))
    assert {(each.id, each.outcome) for each in results} == {(results[0].id, Outcome.SUCCEEDED)}
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 1_000, 0)
    assert [type(event) for event in await world.books.events()] == [
        PaymentConfirmed,
        RefundCompleted,
    ]


async def test_request_and_closed_order_at_once_share_the_refund(
    world: World,
) -> None:
    """In either order, all money is refunded once, and the ceiling holds."""
    for _ in range(5):
        order, payment = await paid(world)
        await asyncio.gather(
            refund(world, payment, 1_000), world.close(order), return_exceptions=True
        )
        await settle(world)
        its = await world.payment(order)
        assert (its.status, its.refunded, its.refund_pending) == (Status.REFUNDED, TOTAL, 0)
    assert (await world.books.refunded_and_voided())["refund"] == 5 * TOTAL


# --- cancel x payment: an order ends cancelled, expired (which is the same to payment) or failed


async def test_expired_authorization_of_a_closed_order_is_voided(world: World) -> None:
    """The order is cancelled, and the processor answers the void with authorization_expired: no
    authorisation remains to be voided.
    """
    order, _ = await paid(world, "tok_void_declined", manual_capture=True)
    await world.close(order)
    await settle(world)
    payment = await world.payment(order)
    assert (payment.status, payment.operations[1].failure_code) == (
        Status.VOIDED,
        "authorization_expired",
    )
    assert await balanced(world, order) == (Status.VOIDED, 0, 0, 0)


@pytest.mark.parametrize("status", ["CANCELLED", "FAILED"])
async def test_captured_payment_of_a_closed_order_is_refunded(world: World, status: str) -> None:
    """The payment is refunded once and published once, for each event that ends the order and for
    any number of runs of the worker.
    """
    order, _ = await paid(world)
    await world.close(order, status)
    assert (await world.payment(order)).refund_pending == TOTAL
    await world.operations.settlement.settle_due()  # due at once
    await world.apply_events(
        world.orders.place(pounds(42, 50), order_id=order.order_id, status=status, version=2)
    )
    await settle(world)
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    [confirmed, completed] = await world.books.events()
    assert isinstance(confirmed, PaymentConfirmed)
    assert isinstance(completed, RefundCompleted)
    assert (completed.refunded_amount, completed.captured_amount, completed.refund.amount) == (
        pounds(42, 50),
    ) * 3
    assert (completed.refund.cause_id, completed.refund.attempt, completed.refund.order_id) == (
        "version:2",
        1,
        order.order_id,
    )


async def test_order_closed_during_the_charge_is_refunded(
    world: World, eventually: Eventually
) -> None:
    """The call is answered with the charged amount, and all of it is refunded."""
    order = await world.order()
    call = asyncio.create_task(world.pay(create_payment(order, "tok_slow")))
    await eventually(world.books.calls)
    await world.close(order)
    assert (await call).captured == TOTAL
    await settle(world)
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)


@pytest.mark.parametrize("by_webhook", [False, True])
async def test_order_closed_with_unknown_outcome_is_refunded(
    world: World, sandbox: Sandbox, by_webhook: bool
) -> None:
    """The worker or a webhook (twice) settles the charge first, and then it is refunded. A further
    request charges nothing.
    """
    order = await world.order()
    request = create_payment(order, "tok_timeout_charged")
    with pytest.raises(Deferred):
        await world.pay(request)
    await world.close(order)
    assert (await world.payment(order)).refund_pending == 0
    if by_webhook:
        [asked] = (await world.payment(order)).operations
        its = sandbox.webhook(
            Entry(
                key=asked.id,
                kind="charge",
                state="succeeded",
                request_hash=None,
                token=None,
                amount=TOTAL,
                code=None,
                final=False,
            ),
            datetime.now(UTC),
        )
        for _ in range(2):
            await world.operations.settlement.ingest_webhook("sandbox", *its)
    for _ in range(3):
        await settle(world)
    assert (await world.pay(request)).status is Status.REFUNDED
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)


async def test_payment_and_closed_order_at_once_leave_no_money(
    world: World, replica: Replica
) -> None:
    """Twenty orders are each paid and cancelled at once, by two replicas: each payment is refused
    and uncharged, or charged and refunded.
    """
    orders, other = (
        [await world.order() for _ in range(20)],
        World(replica(), world.orders, world.books),
    )
    calls = [world.pay(create_payment(order)) for order in orders]
    await asyncio.gather(*calls, *(other.close(order) for order in orders), return_exceptions=True)
    for _ in range(2):
        await settle(world)
    payments = [p for order in orders for p in (await world.account(order.order_id)).payments]
    assert {(p.status, p.refunded) for p in payments} <= {(Status.REFUNDED, TOTAL)}
    assert (
        (await world.books.charged())["charge"]
        == (await world.books.refunded_and_voided())["refund"]
        == TOTAL * len(payments)
    )


async def test_declined_payment_of_a_closed_order_has_no_refund(
    world: World, sandbox: Sandbox, eventually: Eventually
) -> None:
    """The card is declined after the order ended: no money was captured, and none is refunded."""
    order, _ = await paid(world, "tok_declined_late")
    await world.close(order)

    async def has_declined() -> bool:
        await sandbox.run_once(
            lambda body, headers: world.operations.settlement.ingest_webhook(
                "sandbox", body, headers
            )
        )
        return (await world.payment(order)).status is Status.DECLINED

    await eventually(has_declined)
    await settle(world)
    assert not await world.books.refunded_and_voided()


async def test_money_of_an_earlier_attempt_is_refunded(world: World) -> None:
    """The first attempt failed and was retried: of two charges one is refunded, though the event of
    the failure never came.
    """
    order, first = await paid(world)
    await world.apply_events(
        world.orders.place(pounds(42, 50), order_id=order.order_id, attempt=2, version=3)
    )
    second = await world.pay(create_payment(order))
    await settle(world)
    known = {p.id: (p.status, p.refunded) for p in (await world.account(order.order_id)).payments}
    assert known == {first.id: (Status.REFUNDED, TOTAL), second.id: (Status.CAPTURED, 0)}
    assert (await world.books.refunded_and_voided())["refund"] == TOTAL


# --- voids


@pytest.mark.parametrize("token", ["tok_ok", "tok_void_timeout"])
async def test_authorization_of_a_closed_order_is_voided(world: World, token: str) -> None:
    """Also where the answer is lost: the void is sent again with the same key, and nothing is
    captured or refunded.
    """
    order, _ = await paid(world, token, manual_capture=True)
    await world.close(order)
    for _ in range(2):
        await settle(world)
    its = await world.payment(order)
    assert (its.status, its.captured, its.operations[-1].outcome) == (
        Status.VOIDED,
        0,
        Outcome.SUCCEEDED,
    )
    assert await world.books.refunded_and_voided() == {"void": TOTAL}
    assert await world.books.events() == []


async def test_capture_and_closed_order_at_once_leave_no_money(world: World) -> None:
    """The payment is either captured and refunded, or voided: always exactly one of the two."""
    for _ in range(5):
        order, payment = await paid(world, manual_capture=True)
        envelope = request_envelope(CaptureRequest, f"capture:{payment.id}", payment)
        capture = world.operations.payments.capture_payment(envelope)
        await asyncio.gather(capture, world.close(order), return_exceptions=True)
        for _ in range(2):
            await settle(world)
        its = await world.payment(order)
        assert (its.status, its.captured, its.refunded) in {
            (Status.VOIDED, 0, 0),
            (Status.REFUNDED, TOTAL, TOTAL),
        }
    charged, given = await world.books.charged(), await world.books.refunded_and_voided()
    assert charged["capture"] == given["refund"]
    assert given["void"] + given["refund"] == 5 * TOTAL


async def test_void_by_request_and_by_closed_order_is_sent_once(world: World) -> None:
    """In either order, the second waits for the same answer."""
    order, payment = await paid(world, manual_capture=True)
    envelopes = [request_envelope(PaymentRequest, f"void:{n}", payment) for n in range(5)]
    voids = [world.operations.payments.void_payment(each) for each in envelopes]
    results = await asyncio.gather(world.close(order), *voids, return_exceptions=True)
    await settle(world)
    assert {
        getattr(each, "reason", None) or getattr(each, "status", None) for each in results[1:]
    } <= {Status.VOIDED, "ILLEGAL_TRANSITION"}
    assert await world.books.refunded_and_voided() == {"void": TOTAL}
    assert [o.kind for o in (await world.payment(order)).operations] == [Kind.AUTHORIZE, Kind.VOID]


# --- refunds of returns


async def test_a_return_is_refunded_once_under_the_ceiling(world: World) -> None:
    """The event of each return comes twice, beside refunds by request. Each return is refunded its
    amount or the rest; the last one's refund fails, because no money is left.
    """
    order, payment = await paid(world)
    await world.close(order, "DELIVERED")
    await refund(world, payment, 1_000)
    returns = [return_changed(order, pounds(20)) for _ in range(3)]
    for event in (returns[0], returns[0], returns[1], returns[2], returns[1]):
        await world.inspected(event)
    await settle(world)
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    made = [
        e.refund
        for e in await world.books.events()
        if isinstance(e, (RefundCompleted, RefundFailed)) and e.refund.cause_id
    ]
    by_return = {
        each.cause_id: (each.amount, each.failure_code) for each in made if each.cause == 2
    }
    ids = [event.order_return.return_id for event in returns]
    assert by_return == {
        ids[0]: (pounds(20), ""),
        ids[1]: (pounds(12, 50), ""),
        ids[2]: (pounds(0), NOTHING_REFUNDABLE),
    }


async def test_return_and_request_at_once_share_the_captured_amount(world: World) -> None:
    """A return and a request together refund no more than was captured."""
    for _ in range(5):
        order, payment = await paid(world)
        both = (refund(world, payment, 3_000), world.inspected(return_changed(order, pounds(30))))
        results: list[object] = list(await asyncio.gather(*both, return_exceptions=True))
        await settle(world)
        its = await world.payment(order)
        refused = isinstance(results[0], Refused)
        assert its.refunded == (3_000 if refused else TOTAL)
    assert (await world.books.refunded_and_voided())["refund"] <= 5 * TOTAL


async def test_declined_refund_of_a_return_is_retried_once(world: World, replica: Replica) -> None:
    """Ten requests retry the refund at once, over two replicas: one succeeds. The stream has a
    failure, then the refund.
    """
    order, payment = await paid(world, "tok_refund_declined_once")
    await world.close(order, "DELIVERED")
    event = return_changed(order, pounds(20))
    rma = event.order_return.return_id
    await world.inspected(event)
    await settle(world)
    assert await balanced(world, order) == (Status.CAPTURED, TOTAL, 0, 0)
    replicas, requests = (replica(), replica()), [str(uuid4()) for _ in range(10)]
    tries = (
        refund_return(world, payment, rma, at=replicas[n % 2], request=request)
        for n, request in enumerate(requests)
    )
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert Counter(getattr(each, "reason", "done") for each in results) == {
        "done": 1,
        "ILLEGAL_TRANSITION": 9,
    }
    [(request, made)] = [
        (request, each)
        for request, each in zip(requests, results, strict=True)
        if isinstance(each, Refund)
    ]
    assert await refund_return(world, payment, rma, request=request) == made
    await world.inspected(event)
    await settle(world)
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 2_000, 0)
    settled = [
        e for e in await world.books.events() if isinstance(e, (RefundCompleted, RefundFailed))
    ]
    assert [(type(e), e.refund.return_id, e.refund.cause_id) for e in settled] == [
        (RefundFailed, rma, rma),
        (RefundCompleted, rma, f"{rma}:2"),
    ]


async def test_return_of_an_unknown_order_is_deferred(world: World) -> None:
    """The account of the order is unknown: the event is deferred and comes again, and does not
    fail.
    """
    unknown = world.orders.place(pounds(42, 50))
    with pytest.raises(Failure) as ahead:
        await world.inspected(return_changed(unknown, pounds(1)))
    assert ahead.value.reason == "PAYMENT_NOT_FOUND"


# --- answers that are lost, late or declines


async def test_refund_with_a_lost_answer_is_sent_with_the_same_key(world: World) -> None:
    """The caller is answered that the outcome is unknown, and the amount stays reserved. The repeat
    gets the lost answer.
    """
    order, payment = await paid(world, "tok_refund_timeout")
    request = str(uuid4())
    with pytest.raises(Deferred) as unknown:
        await refund(world, payment, 3_000, request=request)
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    its = await world.payment(order)
    assert (its.refund_pending, its.operations[1].outcome) == (3_000, Outcome.UNKNOWN)
    with pytest.raises(Refused):
        await refund(world, payment, 2_000)
    done = await refund(world, payment, 3_000, request=request)
    assert (done.id, done.outcome) == (its.operations[1].id, Outcome.SUCCEEDED)
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 3_000, 0)


@pytest.mark.parametrize(
    "token", ["tok_refund_timeout", "tok_refund_lost", "tok_refund_unavailable_once"]
)
async def test_worker_sends_the_refund_of_a_closed_order_again(
    world: World, replica: Replica, token: str
) -> None:
    """The request or the answer is lost. One of several workers sends the refund again with one
    key, and it is refunded once.
    """
    order, _ = await paid(world, token)
    await world.close(order)
    workers = (world.operations, replica(), replica())
    await asyncio.gather(*(worker.settlement.settle_due() for worker in workers))
    its = await world.payment(order)
    lost = token != "tok_refund_unavailable_once"
    assert its.operations[1].outcome is (Outcome.UNKNOWN if lost else Outcome.REQUESTED)
    assert its.refund_pending == TOTAL
    await world.close(order, version=3)
    await world.books.make_due()
    await asyncio.gather(*(worker.settlement.settle_due() for worker in workers))
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    assert len((await world.payment(order)).operations) == 2
    assert await world.books.processor_operations() == 2


async def test_declined_refund_is_published_and_not_repeated(world: World) -> None:
    """By request: REFUND_FAILED, and the repeat gets the same. By the end of the order: one
    RefundFailed, and the refund is not sent again.
    """
    order, payment = await paid(world, "tok_refund_declined")
    request = str(uuid4())
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await refund(world, payment, 1_000, request=request)
        assert (refused.value.reason, refused.value.metadata["failure_code"]) == (
            "REFUND_FAILED",
            "card_closed",
        )
    await world.close(order)
    calls = await world.books.calls()
    for _ in range(3):
        await settle(world)
    assert await world.books.calls() == calls + 1
    assert await balanced(world, order) == (Status.CAPTURED, TOTAL, 0, 0)
    failed = [event for event in await world.books.events() if isinstance(event, RefundFailed)]
    assert [(event.refund.cause, event.refund.failure_code) for event in failed] == [
        (3, "card_closed"),
        (1, "card_closed"),
    ]


@pytest.mark.parametrize(
    ("token", "outcome"),
    [("tok_refund_late", Outcome.SUCCEEDED), ("tok_refund_declined_late", Outcome.FAILED)],
)
async def test_pending_refund_is_settled_by_webhook(
    world: World, sandbox: Sandbox, eventually: Eventually, token: str, outcome: Outcome
) -> None:
    """The refund is pending at first, for the caller and in the ledger, and the webhook settles it.
    A repeat of it, and the worker's lookup, change nothing more.
    """
    order, payment = await paid(world, token)
    made = await refund(world, payment)
    assert made.outcome is Outcome.REQUESTED
    assert (await world.payment(order)).refund_pending == TOTAL

    async def settled() -> bool:
        await sandbox.run_once(
            lambda body, headers: world.operations.settlement.ingest_webhook(
                "sandbox", body, headers
            )
        )
        return (await world.payment(order)).refund_pending == 0

    await eventually(settled)
    before = await world.books.dump()
    its = webhook(sandbox, made.id, "card_closed" if outcome is Outcome.FAILED else None)
    await asyncio.gather(
        *(world.operations.settlement.ingest_webhook("sandbox", *its) for _ in range(5))
    )
    await settle(world)
    assert await world.books.dump() == before
    assert (await world.payment(order)).operations[1].outcome is outcome
    events = [
        event
        for event in await world.books.events()
        if isinstance(event, (RefundCompleted, RefundFailed))
    ]
    assert len(events) == 1


async def test_missing_webhook_is_replaced_by_a_lookup(
    world: World, sandbox: Sandbox, eventually: Eventually
) -> None:
    """The worker sends the refund again with its key: a lost webhook only delays the result."""
    order, _ = await paid(world, "tok_refund_late")
    await world.close(order)

    async def settled() -> bool:
        await sandbox.ledger.settle_due()  # the sandbox is done, and its webhook is lost
        await settle(world)
        return (await world.payment(order)).status is Status.REFUNDED

    await eventually(settled)
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)


@dataclass
class EarlyWebhook:
    """The connection to the sandbox, on which a refund's webhook comes before its answer, which can
    be lost then.
    """

    sandbox: Sandbox
    world: World
    lost: bool

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        answer = await self.sandbox.refund(key, charge, amount)
        await self.world.operations.settlement.ingest_webhook(
            "sandbox", *webhook(self.sandbox, key)
        )
        if self.lost:
            raise TimeoutError
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sandbox, name)


@pytest.mark.parametrize("lost", [False, True])
async def test_webhook_before_the_answer_is_applied(
    world: World, replica: Replica, sandbox: Sandbox, lost: bool
) -> None:
    """The webhook settles the refund. The answer that follows, or is lost, changes nothing, and the
    caller is answered with the completed refund.
    """
    order, payment = await paid(world)
    made = await refund(world, payment, at=replica(EarlyWebhook(sandbox, world, lost)))
    assert made.outcome is Outcome.SUCCEEDED
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    assert [type(event) for event in await world.books.events()] == [
        PaymentConfirmed,
        RefundCompleted,
    ]


@pytest.mark.parametrize(
    "answered", [False, True], ids=["before the processor was asked", "after it answered"]
)
async def test_crash_between_request_and_outcome_refunds_once(
    answered: bool, world: World, replica: Replica, sandbox: Sandbox
) -> None:
    """For each state of the processor, the worker alone does, records and publishes the refund
    once.
    """

    class Crash(BaseException):
        """The end of the process, as this call sees it."""

    class Crashing(EarlyWebhook):
        async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
            if answered:
                await self.sandbox.refund(key, charge, amount)
            raise Crash

    order, payment = await paid(world)
    with pytest.raises(Crash):
        await refund(world, payment, 1_000, at=replica(Crashing(sandbox, world, lost=False)))
    await settle(world)
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 1_000, 0)


# --- wake-ups of the worker, and metrics


async def test_automatic_refund_is_sent_right_after_its_write(world: World) -> None:
    """The end of the order wakes `compensate` at once; without work it sleeps."""
    order, _ = await paid(world)
    compensating = asyncio.create_task(world.operations.settlement.compensate())
    await world.close(order)
    await asyncio.wait_for(compensating, 10)
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.operations.settlement.compensate(), 0.05)


async def test_refunds_are_counted_once_and_open_ones_measured(
    world: World, replica: Replica
) -> None:
    """Refunds are counted by cause and outcome, once for any source and number of reports. The
    gauges show the number of waiting refunds and their age.
    """
    operations = replica()
    _, payment = await paid(world, "tok_refund_late")
    before = counts(operations)
    made = await refund(world, payment, 1_000, at=operations)
    await operations.reading.measure()
    assert REGISTRY.get_sample_value("payment_refunds_open") == 1
    assert measured("payment_refunds_open_seconds") > 0
    sandbox = operations.settlement.calls.processors["sandbox"]
    assert isinstance(sandbox, Sandbox)
    await sandbox.ledger.settle_due()
    for _ in range(3):
        await operations.settlement.ingest_webhook("sandbox", *webhook(sandbox, made.id))
    await operations.reading.measure()
    assert (
        REGISTRY.get_sample_value("payment_refunds_open")
        == REGISTRY.get_sample_value("payment_refunds_open_seconds")
        == 0
    )
    assert counts(operations) - before == {"completed": 1}


def counts(operations: Operations) -> Counter[str]:
    """Returns the refunds by request so far, by outcome."""
    return Counter(
        {
            o: int(operations.writer._refunds.labels(Cause.REQUEST, o)._value.get())
            for o in ("completed", "failed")
        }
    )


async def test_free_order_with_a_voided_authorization_is_paid(
    world: World,
) -> None:
    """All lines that cost money were cancelled before the capture: one write stores the void and
    the payment that is not required.
    """
    order, _ = await paid(world, manual_capture=True)
    await world.apply_events(world.orders.place(pounds(0), order_id=order.order_id, version=2))
    await settle(world)
    assert {(p.status, p.try_number) for p in (await world.account(order.order_id)).payments} == {
        (Status.VOIDED, 1),
        (Status.NOT_REQUIRED, 2),
    }
    [confirmed] = await world.books.events()
    assert isinstance(confirmed, PaymentConfirmed)
    assert confirmed.not_required
