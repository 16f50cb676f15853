"""Concurrent refunds never exceed what was captured; refunds are sent at once and counted once.

The tests use a real PostgreSQL and compare the sandbox's own ledger.
"""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    RefundCompleted,
)
from prometheus_client import REGISTRY

from chassis.values.errors import Failure, Refused
from payment_svc.app import Operations
from payment_svc.lifecycle import Cause, Outcome, Status
from payment_svc.model.records import Refund
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
    pounds,
)
from tests.support import measured


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
    await world.ledger.delete_keys()
    results.append(await refund(world, payment, 1_000, request=request))
    assert {(each.id, each.outcome) for each in results} == {(results[0].id, Outcome.SUCCEEDED)}
    assert await balanced(world, order) == (Status.PARTIALLY_REFUNDED, TOTAL, 1_000, 0)
    assert [type(event) for event in await world.ledger.events()] == [
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
        after = await world.payment(order)
        assert (after.status, after.refunded, after.refund_pending) == (Status.REFUNDED, TOTAL, 0)
    assert (await world.ledger.refunded_and_voided())["refund"] == 5 * TOTAL


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
    sandbox = operations.settlement.processors["sandbox"]
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
    [confirmed] = await world.ledger.events()
    assert isinstance(confirmed, PaymentConfirmed)
    assert confirmed.not_required
