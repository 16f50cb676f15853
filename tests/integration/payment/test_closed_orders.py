"""Orders that end during their payments: the money goes back once.

The tests use a real PostgreSQL and compare the sandbox's own ledger.
"""

import asyncio
from datetime import UTC, datetime

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    RefundCompleted,
)

from chassis.values.errors import Deferred
from payment_svc.lifecycle import Kind, Outcome, Status
from payment_svc.model.commands import CaptureRequest, PaymentRequest
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Entry
from tests.integration.payment.conftest import Replica
from tests.integration.payment.refunding import (
    TOTAL,
    balanced,
    paid,
    settle,
)
from tests.integration.payment.world import (
    World,
    create_payment,
    pounds,
    request_envelope,
)
from tests.support import Eventually


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
    [confirmed, completed] = await world.ledger.events()
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
    await eventually(world.ledger.calls)
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
        webhook = sandbox.webhook(
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
            await world.operations.settlement.ingest_webhook("sandbox", *webhook)
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
        World(replica(), world.orders, world.ledger),
    )
    calls = [world.pay(create_payment(order)) for order in orders]
    await asyncio.gather(*calls, *(other.close(order) for order in orders), return_exceptions=True)
    for _ in range(2):
        await settle(world)
    payments = [p for order in orders for p in (await world.account(order.order_id)).payments]
    assert {(p.status, p.refunded) for p in payments} <= {(Status.REFUNDED, TOTAL)}
    assert (
        (await world.ledger.charged())["charge"]
        == (await world.ledger.refunded_and_voided())["refund"]
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
    assert not await world.ledger.refunded_and_voided()


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
    assert (await world.ledger.refunded_and_voided())["refund"] == TOTAL


@pytest.mark.parametrize("token", ["tok_ok", "tok_void_timeout"])
async def test_authorization_of_a_closed_order_is_voided(world: World, token: str) -> None:
    """Also where the answer is lost: the void is sent again with the same key, and nothing is
    captured or refunded.
    """
    order, _ = await paid(world, token, manual_capture=True)
    await world.close(order)
    for _ in range(2):
        await settle(world)
    payment = await world.payment(order)
    assert (payment.status, payment.captured, payment.operations[-1].outcome) == (
        Status.VOIDED,
        0,
        Outcome.SUCCEEDED,
    )
    assert await world.ledger.refunded_and_voided() == {"void": TOTAL}
    assert await world.ledger.events() == []


async def test_capture_and_closed_order_at_once_leave_no_money(world: World) -> None:
    """The payment is either captured and refunded, or voided: always exactly one of the two."""
    for _ in range(5):
        order, payment = await paid(world, manual_capture=True)
        envelope = request_envelope(CaptureRequest, f"capture:{payment.id}", payment)
        capture = world.operations.payments.capture_payment(envelope)
        await asyncio.gather(capture, world.close(order), return_exceptions=True)
        for _ in range(2):
            await settle(world)
        after = await world.payment(order)
        assert (after.status, after.captured, after.refunded) in {
            (Status.VOIDED, 0, 0),
            (Status.REFUNDED, TOTAL, TOTAL),
        }
    charged, given = await world.ledger.charged(), await world.ledger.refunded_and_voided()
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
    assert await world.ledger.refunded_and_voided() == {"void": TOTAL}
    assert [o.kind for o in (await world.payment(order)).operations] == [Kind.AUTHORIZE, Kind.VOID]
