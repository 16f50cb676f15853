"""Decisions about accounts for the tests of payments. No tests here."""

from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.answers import Declined
from payment_svc.model.commands import RefundPayment
from payment_svc.model.records import Account, Payment
from tests.unit.payment.samples import (
    LATER,
    OrderStatus,
    account,
    operation,
    payment,
    refund,
    refund_operation,
    returned,
    settle,
)

DELIVERED = {"status": OrderStatus.DELIVERED, "version": 5}
SETTLED = [status for status in Status if status not in (Status.PENDING, Status.NOT_REQUIRED)]


def refused(record: Account | None, command: Envelope[Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        decide(record, command, LATER)
    return caught.value


def only(record: Account) -> Payment:
    [payment] = record.payments
    return payment


def paid(refunded: int = 0, pending: int = 0) -> Account:
    """Returns a delivered order's account, with this much of its money refunded, or pending."""
    status = Status.PARTIALLY_REFUNDED if refunded else Status.CAPTURED
    refunds = [refund_operation(refunded, Outcome.SUCCEEDED, cause_id="gone")] if refunded else []
    going = [refund_operation(pending, cause_id="going")] if pending else []
    operations = (operation(Outcome.SUCCEEDED), *refunds, *going)
    return account(payment(status, operations=operations), **DELIVERED)


def refused_return(minor: int = 1_000, *, refunded: int = 0) -> Account:
    """Returns a delivered order's account whose refund of a return the processor refused."""
    requested = decide(paid(refunded), returned(minor=minor), LATER).record
    return decide(
        requested, settle(Declined("card_closed"), only(requested).operations[-1].id, "no 1"), LATER
    ).record


def try_again(number: int = 1, minor: int | None = None) -> Envelope[RefundPayment]:
    return refund(number, minor, return_id="return-1")
