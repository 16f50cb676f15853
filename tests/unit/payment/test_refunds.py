"""Refunds by request, by tables."""

import pytest

from chassis.values.errors import NotFound, Refused, Stale
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import CHARGED, Cause, Kind, Outcome, Status
from payment_svc.model.answers import Declined, Pending, Succeeded
from payment_svc.model.events import RefundSettled
from payment_svc.model.records import Account
from tests.unit.payment.deciding import DELIVERED, only, paid, refused
from tests.unit.payment.samples import (
    LATER,
    LOOKUP_AFTER,
    TOTAL,
    account,
    changed,
    numbered,
    payment,
    record_unknown,
    refund,
    retry_lookup,
    settle,
)


@pytest.mark.parametrize(("minor", "wanted"), [(1, 1), (4_250, 4_250), (None, 4_250)])
def test_refund_is_stored_as_requested_first(minor: int | None, wanted: int) -> None:
    """For a part, all, or the remaining amount, the amount is pending, and the status stays until
    the processor has answered.
    """
    decided = decide(paid(), refund(minor=minor), LATER)
    payment = only(decided.record)
    assert (payment.status, payment.refunded, payment.refund_pending, payment.version) == (
        Status.CAPTURED,
        0,
        wanted,
        3,
    )
    requested = payment.operations[1]
    assert (requested.kind, requested.amount, requested.cause, requested.cause_id) == (
        Kind.REFUND,
        wanted,
        Cause.REQUEST,
        "b1",
    )
    assert (requested.outcome, requested.next_lookup_time) == (
        Outcome.REQUESTED,
        LATER + LOOKUP_AFTER,
    )
    assert [transition.reason for transition in decided.history] == ["REFUND_REQUESTED"]
    assert not decided.events


@pytest.mark.parametrize(
    ("before", "minor", "remaining"),
    [
        (paid(), 4_251, "42.50 GBP"),
        (paid(refunded=4_000), 251, "2.50 GBP"),
        (paid(pending=4_000), 251, "2.50 GBP"),
        (paid(refunded=2_000, pending=2_250), 1, "0.00 GBP"),
        (paid(refunded=2_000, pending=2_250), None, "0.00 GBP"),
        (account(payment(Status.REFUNDED), **DELIVERED), None, "0.00 GBP"),
    ],
)
def test_pending_refund_counts_towards_the_captured_amount(
    before: Account, minor: int | None, remaining: str
) -> None:
    """Refunded and pending together never exceed the captured amount. A refusal has the remaining
    amount.
    """
    failure = refused(before, refund(2, minor))
    assert (type(failure), failure.reason, failure.metadata["refundable"]) == (
        Refused,
        "REFUND_EXCEEDS_CAPTURE",
        remaining,
    )


@pytest.mark.parametrize(
    ("refunded", "minor", "status"),
    [(0, 4_249, Status.PARTIALLY_REFUNDED), (0, 4_250, Status.REFUNDED)],
)
def test_refund_success_is_stored_and_published(refunded: int, minor: int, status: Status) -> None:
    """The refund moves from pending to refunded; the payment is refunded when no amount remains."""
    requested = decide(paid(refunded), refund(minor=minor), LATER).record
    decided = decide(requested, settle(Succeeded("ref-2"), numbered(3, 401)), LATER)
    payment = only(decided.record)
    assert (payment.status, payment.refunded, payment.refund_pending) == (status, minor, 0)
    done = payment.operation(numbered(3, 401))
    assert decided.events == [RefundSettled(payment, decided.history[-1], payment.refund(done))]
    assert done.outcome is Outcome.SUCCEEDED
    assert (
        decide(decided.record, settle(Succeeded("ref-2"), done.id, "webhook"), LATER).record
        is decided.record
    )


def test_payment_is_refunded_with_its_last_part() -> None:
    """Several refunds may be open at once; they settle in any order."""
    record = paid()
    for number, minor in ((1, 1_000), (2, 2_000), (3, 1_250)):
        record = decide(record, refund(number, minor), LATER).record
    seen = []
    for number in (2, 1, 3):
        record = decide(
            record, settle(Succeeded(f"ref-{number}"), numbered(3, 400 + number)), LATER
        ).record
        seen.append((only(record).status, only(record).refunded, only(record).refund_pending))
    assert seen == [
        (Status.PARTIALLY_REFUNDED, 2_000, 2_250),
        (Status.PARTIALLY_REFUNDED, 3_000, 1_250),
        (Status.REFUNDED, 4_250, 0),
    ]


def test_refused_refund_frees_its_amount() -> None:
    """The event has the refusal's code. No money moved, and the amount is free again."""
    requested = decide(paid(), refund(), LATER).record
    decided = decide(requested, settle(Declined("card_closed"), numbered(3, 401)), LATER)
    payment = only(decided.record)
    assert (payment.status, payment.refunded, payment.refund_pending, payment.decline_code) == (
        Status.CAPTURED,
        0,
        0,
        None,
    )
    [event] = decided.events
    assert isinstance(event, RefundSettled)
    assert (event.refund.outcome, event.refund.failure_code, event.payment) == (
        Outcome.FAILED,
        "card_closed",
        payment,
    )
    assert only(decide(decided.record, refund(2), LATER).record).refund_pending == TOTAL.minor


@pytest.mark.parametrize("status", [status for status in Status if status not in CHARGED])
def test_refund_of_an_uncaptured_payment_is_refused(status: Status) -> None:
    """Every other status is refused, with the statuses that may follow."""
    assert refused(account(payment(status)), refund()).reason == "ILLEGAL_TRANSITION"


def test_refund_of_a_wrong_payment_or_version_is_refused() -> None:
    """An unknown payment, a stale version and another currency are refused first. A repeat with a
    deleted key changes nothing.
    """
    assert type(refused(None, refund())) is NotFound
    assert type(refused(account(), refund())) is NotFound
    assert type(refused(paid(), refund(expected_version=1))) is Stale
    failure = refused(paid(), changed(refund(), amount=Money(100, "EUR")))
    assert (failure.reason, failure.metadata["expected"]) == ("PAYMENT_AMOUNT_MISMATCH", "GBP")
    requested = decide(paid(), refund(), LATER).record
    assert decide(requested, refund(operation_id=numbered(3, 999)), LATER).record is requested


def test_refund_with_unknown_outcome_stays_pending() -> None:
    """The outcome is unknown: the amount is held and looked up by its key, and no caller may refund
    it again meanwhile.
    """
    record = decide(paid(), refund(), LATER).record
    for command in (
        record_unknown(numbered(3, 401)),
        retry_lookup(1, numbered(3, 401)),
        settle(Pending("ref-9"), numbered(3, 401)),
    ):
        record = decide(record, command, LATER).record
        assert only(record).refund_pending == TOTAL.minor
    operation = only(record).operations[1]
    assert (operation.outcome, operation.reference, operation.lookups) == (
        Outcome.UNKNOWN,
        "ref-9",
        1,
    )
    assert refused(record, refund(2, 1)).reason == "REFUND_EXCEEDS_CAPTURE"
