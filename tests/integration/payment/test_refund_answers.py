"""Refunds whose answers are lost, late or declines are made once.

The tests use a real PostgreSQL and compare the sandbox's own ledger.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    RefundCompleted,
    RefundFailed,
)

from chassis.values.errors import Deferred, Refused
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.answers import Answer
from payment_svc.providers.sandbox import Sandbox
from tests.integration.payment.conftest import Replica
from tests.integration.payment.refunding import (
    TOTAL,
    balanced,
    paid,
    refund,
    settle,
    webhook,
)
from tests.integration.payment.world import (
    World,
)
from tests.support import Eventually


async def test_refund_with_a_lost_answer_is_sent_with_the_same_key(world: World) -> None:
    """The caller is answered that the outcome is unknown, and the amount stays reserved. The repeat
    gets the lost answer.
    """
    order, payment = await paid(world, "tok_refund_timeout")
    request = str(uuid4())
    with pytest.raises(Deferred) as unknown:
        await refund(world, payment, 3_000, request=request)
    assert unknown.value.reason == "PAYMENT_OUTCOME_UNKNOWN"
    after = await world.payment(order)
    assert (after.refund_pending, after.operations[1].outcome) == (3_000, Outcome.UNKNOWN)
    with pytest.raises(Refused):
        await refund(world, payment, 2_000)
    done = await refund(world, payment, 3_000, request=request)
    assert (done.id, done.outcome) == (after.operations[1].id, Outcome.SUCCEEDED)
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
    payment = await world.payment(order)
    lost = token != "tok_refund_unavailable_once"
    assert payment.operations[1].outcome is (Outcome.UNKNOWN if lost else Outcome.REQUESTED)
    assert payment.refund_pending == TOTAL
    await world.close(order, version=3)
    await world.ledger.make_due()
    await asyncio.gather(*(worker.settlement.settle_due() for worker in workers))
    assert await balanced(world, order) == (Status.REFUNDED, TOTAL, TOTAL, 0)
    assert len((await world.payment(order)).operations) == 2
    assert await world.ledger.processor_operations() == 2


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
    calls = await world.ledger.calls()
    for _ in range(3):
        await settle(world)
    assert await world.ledger.calls() == calls + 1
    assert await balanced(world, order) == (Status.CAPTURED, TOTAL, 0, 0)
    failed = [event for event in await world.ledger.events() if isinstance(event, RefundFailed)]
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
    before = await world.ledger.dump()
    report = webhook(sandbox, made.id, "card_closed" if outcome is Outcome.FAILED else None)
    await asyncio.gather(
        *(world.operations.settlement.ingest_webhook("sandbox", *report) for _ in range(5))
    )
    await settle(world)
    assert await world.ledger.dump() == before
    assert (await world.payment(order)).operations[1].outcome is outcome
    events = [
        event
        for event in await world.ledger.events()
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
    assert [type(event) for event in await world.ledger.events()] == [
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
