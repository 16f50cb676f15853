"""Voids by request, and impossible answers, by tables."""

from dataclasses import replace

import pytest

from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Cause, Kind, Status
from payment_svc.model.answers import Declined, Succeeded
from tests.unit.payment.deciding import only, refused
from tests.unit.payment.samples import (
    LATER,
    TOTAL,
    account,
    capture,
    numbered,
    operation,
    outcome_events,
    payment,
    settle,
    void,
)


def test_authorization_is_voided_by_request() -> None:
    """The payment stays authorized until the processor has answered; then it is voided, and another
    payment may pay the attempt. No event goes to the order.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), void(), LATER)
    after = only(requested.record)
    made = after.operations[1]
    assert (after.status, made.kind, made.amount, made.cause, made.cause_id) == (
        Status.AUTHORIZED,
        Kind.VOID,
        TOTAL.minor,
        Cause.REQUEST,
        "v1",
    )
    done = decide(requested.record, settle(Succeeded("ref-2"), made.id), LATER)
    voided = only(done.record)
    assert (voided.status, voided.authorized, voided.captured) == (Status.VOIDED, TOTAL.minor, 0)
    assert not outcome_events(done)


def test_declined_void_leaves_the_authorisation() -> None:
    """The authorisation may be captured, or voided by another request."""
    requested = decide(account(payment(Status.AUTHORIZED)), void(), LATER).record
    decided = decide(requested, settle(Declined("processing_error"), numbered(3, 301)), LATER)
    assert (only(decided.record).status, decided.history[0].reason) == (
        Status.AUTHORIZED,
        "VOID_DECLINED",
    )
    assert len(only(decide(decided.record, void(2), LATER).record).operations) == 3


def test_void_and_a_capture_exclude_each_other() -> None:
    """The operation that is under way excludes the other one; a repeat waits for its answer."""
    voiding = decide(account(payment(Status.AUTHORIZED)), void(), LATER).record
    assert decide(voiding, void(2), LATER).record is voiding
    assert refused(voiding, capture()).reason == "ILLEGAL_TRANSITION"
    capturing = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert refused(capturing, void()).reason == "ILLEGAL_TRANSITION"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.AUTHORIZED])
def test_only_an_authorised_payment_is_voided(status: Status) -> None:
    """Every other status is refused."""
    assert refused(account(payment(status)), void()).reason == "ILLEGAL_TRANSITION"


def test_impossible_refund_is_stored_as_a_contradiction() -> None:
    """A refund succeeds for a payment without captured money: it is not posted, and an operator
    must check it.
    """
    impossible = payment(Status.VOIDED)
    late_success = operation(id=numbered(3, 77), kind=Kind.REFUND, amount=1, requested_by="x")
    decided = decide(
        account(replace(impossible, operations=(late_success,))),
        settle(Succeeded("r"), late_success.id),
        LATER,
    )
    assert (
        only(decided.record).refunded,
        len(only(decided.record).operations[0].contradictions),
    ) == (0, 1)
