"""Concurrent calls charge each payment once, and record it."""

import asyncio
from collections import Counter
from dataclasses import replace

from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed

from chassis.values.errors import (
    Exists,
    Failure,
)
from payment_svc.lifecycle import Status
from payment_svc.model.commands import CaptureRequest
from payment_svc.model.records import Payment
from tests.integration.payment.conftest import Replica
from tests.integration.payment.paying import outcomes
from tests.integration.payment.world import World, create_payment, pounds, request_envelope


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
    assert await world.ledger.processor_operations() == 1
    assert await world.ledger.charged() == {"charge": 4250}
    assert [type(event) for event in await world.ledger.events()] == [PaymentConfirmed]


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
    assert await world.ledger.charged() == {"charge": 4250}


async def test_event_during_the_call_opens_one_account(world: World) -> None:
    """The event of each of twenty orders comes while the order is paid: each is charged once."""
    orders = [world.orders.place(pounds(1)) for _ in range(20)]
    calls = (world.pay(create_payment(order)) for order in orders)
    events = (world.apply_events(order) for order in orders)
    results = await outcomes(*calls, *events)  # type: ignore[arg-type]
    assert Counter(type(each).__name__ for each in results) == {"Payment": 20, "NoneType": 20}
    assert await world.ledger.charged() == {"charge": 20 * 100}


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
    assert await world.ledger.charged() == {"capture": 4250}
    assert len(await world.ledger.events()) == 1


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
