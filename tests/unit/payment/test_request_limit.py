"""The bound on callers' requests for one payment."""

from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from payment_svc.decisions.deciders import decide
from payment_svc.decisions.transitions import REQUESTS_MAX
from payment_svc.lifecycle import Cause, Kind, Outcome, Status
from payment_svc.model.records import Account, Payment
from tests.unit.payment.deciding import only, paid, refused_return, try_again
from tests.unit.payment.samples import (
    LATER,
    PAYMENT,
    OrderStatus,
    account,
    apply_order,
    capture,
    numbered,
    operation,
    payment,
    refund,
    refund_operation,
    returned,
    void,
)


def limit_reached(before: Account, requested: Envelope[Any]) -> bool:
    """Whether the request is refused because of the bound, which it names."""
    with pytest.raises(Refused) as caught:
        decide(before, requested, LATER)
    bound = {"max": str(REQUESTS_MAX), "payment_id": str(PAYMENT)}
    return (caught.value.reason, caught.value.metadata) == ("OPERATION_LIMIT_REACHED", bound)


def having(kind: Kind, payment: Payment, count: int, **fields: Any) -> Account:
    """Returns the account of a payment with so many failed operations by request."""
    failed = operation(Outcome.FAILED, kind=kind, amount=1, **fields)
    tried = tuple(
        replace(failed, id=numbered(3, 1_000 + n), requested_by=f"/asked:{n}", cause_id=name)
        for n in range(count)
        for name in [f"return-1:{n + 2}" if failed.cause else None]
    )
    return account(
        replace(payment, operations=(*payment.operations, *tried)), status=OrderStatus.CONFIRMED
    )


def test_refund_beyond_the_bound_is_refused() -> None:
    """The 501st refund by request is refused; the one before is accepted."""
    payment = paid().payments[0]
    one_less = having(Kind.REFUND, payment, REQUESTS_MAX - 1, cause=Cause.REQUEST)
    assert only(decide(one_less, refund(1, 1), LATER).record).refund_pending == 1
    assert limit_reached(
        having(Kind.REFUND, payment, REQUESTS_MAX, cause=Cause.REQUEST), refund(1, 1)
    )


@pytest.mark.parametrize(("kind", "requested"), [(Kind.CAPTURE, capture()), (Kind.VOID, void())])
def test_end_of_authorisation_has_the_bound(kind: Kind, requested: Envelope[Any]) -> None:
    """After 500 captures, or voids, that the processor declined, the next one is refused."""
    cause = Cause.REQUEST if kind is Kind.VOID else None
    assert limit_reached(
        having(kind, payment(Status.AUTHORIZED), REQUESTS_MAX, cause=cause), requested
    )


def test_further_try_for_a_return_has_a_bound_of_its_own() -> None:
    """500 refunds by request do not count; 500 second refunds of returns do."""
    payment = refused_return().payments[0]
    other = having(Kind.REFUND, payment, REQUESTS_MAX, cause=Cause.REQUEST)
    assert len(decide(other, try_again(1), LATER).history) == 1
    assert limit_reached(
        having(Kind.REFUND, payment, REQUESTS_MAX, cause=Cause.RETURN), try_again(1)
    )


def test_automatic_refund_is_made_beyond_the_bound() -> None:
    """Neither a return's refund nor that of a cancelled order is refused, or counts among the
    callers' requests.
    """
    payment = paid().payments[0]
    full = having(Kind.REFUND, payment, REQUESTS_MAX, cause=Cause.REQUEST)
    returning = decide(full, returned(minor=1), LATER).record
    closed = decide(
        returning, apply_order(9, version=9, status=OrderStatus.CANCELLED), LATER
    ).record
    assert only(closed).refundable == 0
    own = tuple(
        replace(
            refund_operation(1, Outcome.FAILED),
            id=numbered(3, 2_000 + n),
            requested_by=f"{PAYMENT}:{n}",
        )
        for n in range(REQUESTS_MAX)
    )
    counted = replace(payment, operations=(*payment.operations, *own))
    assert decide(account(counted, status=OrderStatus.CONFIRMED), refund(1, 1), LATER).history
