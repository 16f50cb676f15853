"""Each payment is charged once and recorded where the processor's answer is lost: by the repeat or
the settling worker.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.errors import (
    Deferred,
    Exists,
    Refused,
)
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.answers import NOT_PROCESSED, Answer
from payment_svc.model.commands import CaptureRequest
from payment_svc.operations.settlement import LOOKUPS_BEFORE_ABANDONING
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox import Sandbox
from payment_svc.providers.sandbox_ledger import Ledger
from tests.integration.payment.conftest import WEBHOOK_KEY, Replica
from tests.integration.payment.paying import Line, outcomes, the_payment, through
from tests.integration.payment.refunding import settle
from tests.integration.payment.world import World, create_payment, pounds, request_envelope
from tests.support import Eventually, caller_deadline


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
    assert await world.ledger.charged() == {"charge": 4250}
    assert [type(event) for event in await world.ledger.events()] == [PaymentConfirmed]


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
    with caller_deadline(1.0), pytest.raises(Deferred) as unknown:
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
    assert await world.ledger.charged() == {"charge": 4250}
    assert len(await world.ledger.events()) == 1


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
    assert await world.ledger.charged() == {"charge": 4250}
    assert len(await world.ledger.events()) == 1


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
    assert len(await world.ledger.events()) == 10


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
    assert not await world.ledger.charged()
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
    assert await world.ledger.charged() == {"capture": 4250}
    assert len(await world.ledger.events()) == 1


async def test_charge_of_a_cancelled_call_is_settled_by_the_worker(
    world: World,
    replica: Replica,
    memory: AsyncEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call is cancelled while the processor works: the operation is stored, and the worker
    looks up its outcome.
    """
    order = await world.order()
    # it works for as long as this test takes
    monkeypatch.setattr("payment_svc.providers.sandbox.SLOW_S", 30.0)
    slower = replica(Sandbox(Ledger(memory), WEBHOOK_KEY))
    call = asyncio.create_task(world.pay(create_payment(order, "tok_slow"), slower))
    await eventually(world.ledger.calls)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await the_payment(world, order.order_id)).operations[0].outcome is Outcome.REQUESTED
    for _ in range(LOOKUPS_BEFORE_ABANDONING):
        await settle(world)
    payment = await the_payment(world, order.order_id)
    charged = (await world.ledger.charged())["charge"]
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
    repeated, unrepeated = create_payment(await world.order()), create_payment(await world.order())
    for request in (repeated, unrepeated):
        with pytest.raises(Crash):
            await world.pay(request, crashing)
    assert (await world.pay(repeated)).status is Status.CAPTURED
    for _ in range(LOOKUPS_BEFORE_ABANDONING):
        await settle(world)
    payment = await the_payment(world, unrepeated.order_id)
    assert payment.status is (Status.CAPTURED if answered else Status.DECLINED)
    assert await world.ledger.charged() == {"charge": 4250 * (2 if answered else 1)}
    assert len(await world.ledger.events()) == (2 if answered else 1)


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
    [event] = await world.ledger.events()
    assert event.attempt == 1
