"""CapturePayment and VoidPayment over a real channel, a real PostgreSQL and the sandbox
processor.
"""

from uuid import uuid4

import pytest
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
)
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.rpc.client import ask
from chassis.values.errors import NotFound, Refused, Stale
from tests.integration.payment.calls import capture, void
from tests.integration.payment.world import (
    Payments,
    World,
    create_payment,
    pay,
    pounds,
    status_of,
)


async def test_authorized_payment_is_captured_later(payments: Payments, world: World) -> None:
    """Authorised: nothing is captured and no event is published. Captured: the same payment, one
    event. A repeat captures nothing more.
    """
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    assert (status_of(authorized), authorized.authorized_amount, authorized.captured_amount) == (
        "authorized",
        pounds(42, 50),
        pounds(0),
    )
    assert await world.ledger.events() == []
    request_id = str(uuid4())
    captured = await capture(
        payments, authorized, request_id=request_id, expected_version=authorized.version
    )
    assert (status_of(captured), captured.captured_amount) == ("captured", pounds(42, 50))
    assert (
        await capture(
            payments, authorized, request_id=request_id, expected_version=authorized.version
        )
        == captured
    )
    assert await world.ledger.charged() == {"capture": 4250}
    assert [type(event) for event in await world.ledger.events()] == [PaymentConfirmed]


async def test_refused_capture_has_its_reason(payments: Payments, world: World) -> None:
    """A stale version, a captured payment and an unknown one each get their reason."""
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    with pytest.raises(Stale) as stale:
        await capture(payments, authorized, expected_version=1)
    assert stale.value.metadata == {"expected": "1", "actual": str(authorized.version)}
    await capture(payments, authorized)
    with pytest.raises(Refused) as illegal:
        await capture(payments, authorized)
    assert illegal.value.reason == "ILLEGAL_TRANSITION"
    assert (
        illegal.value.metadata.items()
        >= {"status": "captured", "allowed": "partially_refunded, refunded"}.items()
    )
    with pytest.raises(NotFound) as unknown:
        await capture(payments, authorized, payment_id=str(uuid4()))
    assert unknown.value.reason == "PAYMENT_NOT_FOUND"


async def test_declined_capture_leaves_the_payment_authorized(
    payments: Payments, world: World
) -> None:
    """The call and its repeat get the processor's decline; the payment stays authorised, and
    another capture can follow.
    """
    authorized = await pay(
        payments, create_payment(await world.order(), "tok_capture_declined", manual_capture=True)
    )
    request_id = str(uuid4())
    for _ in range(2):
        with pytest.raises(Refused) as declined:
            await capture(payments, authorized, request_id=request_id)
        assert (
            declined.value.metadata.items()
            >= {"decline_code": "insufficient_funds", "retryable": "true"}.items()
        )
    payment = (
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=authorized.payment_id))
    ).payment
    assert status_of(payment) == "authorized"
    with pytest.raises(Refused):
        await capture(payments, authorized)
    assert await world.ledger.events() == []


async def test_authorization_is_voided(payments: Payments, world: World) -> None:
    """The payment goes from authorized to voided, once, and the repeat is answered with the same.
    Another payment can pay the order then.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(payments, create_payment(order, manual_capture=True))
    voided = await void(
        payments, authorized, request_id=request_id, expected_version=authorized.version
    )
    assert (status_of(voided), voided.captured_amount) == ("voided", pounds(0))
    assert (
        await void(payments, authorized, request_id=request_id, expected_version=authorized.version)
        == voided
    )
    assert await world.ledger.refunded_and_voided() == {"void": 4250}
    with pytest.raises(Refused) as again:
        await void(payments, authorized)
    assert again.value.reason == "ILLEGAL_TRANSITION"
    assert (await pay(payments, create_payment(order))).try_number == 2


async def test_refused_void_has_its_reason(payments: Payments, world: World) -> None:
    """A stale version and an unknown payment each get their reason; the payment stays
    authorised.
    """
    authorized = await pay(payments, create_payment(await world.order(), manual_capture=True))
    with pytest.raises(Stale):
        await void(payments, authorized, expected_version=1)
    with pytest.raises(NotFound):
        await void(payments, authorized, payment_id=str(uuid4()))
    assert status_of(await capture(payments, authorized)) == "captured"


async def test_void_of_an_expired_authorization_frees_the_order(
    payments: Payments, world: World
) -> None:
    """The authorisation of tok_void_declined has expired: VoidPayment and its repeat answer voided,
    and another card pays at once.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(
        payments, create_payment(order, "tok_void_declined", manual_capture=True)
    )
    for _ in range(2):
        voided = await void(payments, authorized, request_id=request_id)
        assert (status_of(voided), voided.operations[1].failure_code) == (
            "voided",
            "authorization_expired",
        )
    paid = await pay(payments, create_payment(order))
    assert (status_of(paid), paid.try_number) == ("captured", 2)
    assert await world.ledger.charged() == {"charge": 4250}


async def test_capture_of_an_expired_authorization_frees_the_order(
    payments: Payments, world: World
) -> None:
    """With tok_void_declined, CapturePayment and its repeat are declined, the payment is voided,
    and another card pays at once.
    """
    order, request_id = await world.order(), str(uuid4())
    authorized = await pay(
        payments, create_payment(order, "tok_void_declined", manual_capture=True)
    )
    for _ in range(2):
        with pytest.raises(Refused) as declined:
            await capture(payments, authorized, request_id=request_id)
        assert (
            declined.value.metadata.items()
            >= {"decline_code": "authorization_expired", "retryable": "true"}.items()
        )
    payment = (
        await ask(payments.GetPayment, api.GetPaymentRequest(payment_id=authorized.payment_id))
    ).payment
    assert status_of(payment) == "voided"
    assert status_of(await pay(payments, create_payment(order))) == "captured"
    assert await world.ledger.charged() == {"charge": 4250}
