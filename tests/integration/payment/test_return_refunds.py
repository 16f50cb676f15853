"""Refunds of returns: each is made once, under the ceiling of what was captured.

The tests use a real PostgreSQL and compare the sandbox's own ledger.
"""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import (
    RefundCompleted,
    RefundFailed,
)

from chassis.values.errors import Failure, Refused
from payment_svc.lifecycle import Status
from payment_svc.model.answers import NOTHING_REFUNDABLE
from payment_svc.model.records import Refund
from tests.integration.payment.conftest import Replica
from tests.integration.payment.refunding import (
    TOTAL,
    balanced,
    paid,
    refund,
    refund_return,
    settle,
)
from tests.integration.payment.world import (
    World,
    pounds,
    return_changed,
)


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
        for e in await world.ledger.events()
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
        after = await world.payment(order)
        refused = isinstance(results[0], Refused)
        assert after.refunded == (3_000 if refused else TOTAL)
    assert (await world.ledger.refunded_and_voided())["refund"] <= 5 * TOTAL


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
        e for e in await world.ledger.events() if isinstance(e, (RefundCompleted, RefundFailed))
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
