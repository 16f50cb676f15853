"""Captures of authorised payments, by tables."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Failure, NotFound, Stale
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Kind, Status
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    Declined,
    Succeeded,
)
from payment_svc.model.events import PaymentConfirmed
from payment_svc.model.records import Account
from tests.unit.payment.deciding import only, refused
from tests.unit.payment.samples import (
    LATER,
    TOTAL,
    account,
    capture,
    create,
    numbered,
    operation,
    outcome_events,
    payment,
    settle,
    void,
)


def test_capture_is_stored_as_requested_first() -> None:
    """The payment stays authorized until the processor has answered; then it is captured, and an
    event is published.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER)
    after = only(requested.record)
    assert (after.status, after.version, after.operations[1].kind, after.operations[1].amount) == (
        Status.AUTHORIZED,
        3,
        Kind.CAPTURE,
        TOTAL.minor,
    )
    assert not requested.events
    done = decide(requested.record, settle(Succeeded("ref-2"), after.operations[1].id), LATER)
    captured = only(done.record)
    assert (captured.status, captured.authorized, captured.captured) == (
        Status.CAPTURED,
        TOTAL.minor,
        TOTAL.minor,
    )
    assert outcome_events(done) == [PaymentConfirmed(captured, done.history[0])]


def test_declined_capture_leaves_the_authorisation() -> None:
    """The amount stays authorised, no event is published, and another capture may be requested."""
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    declined_ = decide(requested, settle(Declined("insufficient_funds"), numbered(3, 201)), LATER)
    after = only(declined_.record)
    assert (after.status, after.decline_code, after.operations[1].failure_code) == (
        Status.AUTHORIZED,
        None,
        "insufficient_funds",
    )
    assert not declined_.events
    assert len(only(decide(declined_.record, capture(2), LATER).record).operations) == 3


@pytest.mark.parametrize("request_", [capture, void])
def test_expired_authorization_counts_as_voided(request_: Callable[[], Envelope[Any]]) -> None:
    """The processor answers a capture or a void with authorization_expired: the payment is voided,
    and another one may be made.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), request_(), LATER).record
    decided = decide(
        requested,
        settle(Declined(AUTHORIZATION_EXPIRED), requested.payments[0].operations[1].id),
        LATER,
    )
    after = only(decided.record)
    assert (after.status, after.decline_code, after.operations[1].failure_code) == (
        Status.VOIDED,
        None,
        AUTHORIZATION_EXPIRED,
    )
    assert [transition.reason for transition in decided.history] == ["AUTHORIZATION_EXPIRED"]
    assert not outcome_events(decided)
    assert decide(decided.record, create(2), LATER).record.payments[1].try_number == 2


def test_two_captures_at_once_are_one() -> None:
    """The second request waits for the answer of the first; its own operation is never made."""
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert decide(requested, capture(2), LATER).record is requested


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.AUTHORIZED])
def test_only_an_authorised_payment_is_captured(status: Status) -> None:
    """Every other status is refused, with the statuses that may follow."""
    failure = refused(account(payment(status)), capture())
    assert (failure.reason, failure.metadata["status"]) == ("ILLEGAL_TRANSITION", status)


@pytest.mark.parametrize(
    ("record", "changes", "kind"),
    [
        (None, {}, NotFound),
        (account(), {}, NotFound),
        (account(payment(Status.AUTHORIZED)), {"expected_version": 1}, Stale),
        (account(payment(Status.CAPTURED)), {"expected_version": 1}, Stale),
    ],
)
def test_capture_of_a_stale_version_is_refused(
    record: Account | None, changes: dict[str, Any], kind: type[Failure]
) -> None:
    """An unknown payment and a stale version are refused first."""
    assert type(refused(record, capture(**changes))) is kind


def test_capture_repeat_with_a_deleted_key_changes_nothing() -> None:
    """The operation's natural key: the request that captured captures no second time, and is
    answered without an error.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    done = decide(requested, settle(Succeeded("ref-2"), numbered(3, 201)), LATER).record
    assert decide(done, capture(operation_id=numbered(3, 299)), LATER).record is done


def test_impossible_answer_is_stored_as_a_contradiction() -> None:
    """A late success cannot capture an abandoned payment. Its amount is not posted, and an operator
    must check it.
    """
    voided = payment(Status.VOIDED)
    late_success = replace(
        operation(), id=numbered(3, 201), kind=Kind.CAPTURE, requested_by="capture:1"
    )
    decided = decide(
        account(replace(voided, operations=(*voided.operations, late_success))),
        settle(Succeeded("r"), late_success.id),
        LATER,
    )
    after = only(decided.record)
    assert (after.status, after.captured, len(after.operations[1].contradictions)) == (
        Status.VOIDED,
        0,
        1,
    )
