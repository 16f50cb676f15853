"""Refunds of returns, and second refunds of them, by tables."""

import pytest

from chassis.values.errors import Deferred, NotFound, Refused
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Cause, Outcome, Status
from payment_svc.model.answers import NOTHING_REFUNDABLE, Declined, Succeeded
from payment_svc.model.events import RefundSettled
from payment_svc.model.records import Account, Transition
from tests.unit.payment.deciding import DELIVERED, only, paid, refused, refused_return, try_again
from tests.unit.payment.samples import (
    LATER,
    LOOKUP_AFTER,
    account,
    changed,
    declined,
    numbered,
    payment,
    refund,
    returned,
    settle,
)


def test_return_is_refunded_once_for_repeated_events() -> None:
    """The refund is due for the worker at once. Its id is made of the return, so the return's next
    event makes no second one.
    """
    decided = decide(paid(), returned(), LATER)
    payment = only(decided.record)
    requested = payment.operations[1]
    assert (
        payment.refund_pending,
        requested.cause,
        requested.cause_id,
        requested.next_lookup_time,
    ) == (
        1_000,
        Cause.RETURN,
        "return-1",
        LATER,
    )
    assert (
        decide(decided.record, returned(minor=2_000, key="another event"), LATER).record
        is decided.record
    )
    assert (
        decide(paid(), returned(key="late"), LATER).record.payments[0].operations[1].id
        == requested.id
    )
    other = decide(decided.record, returned(2), LATER)
    assert only(other.record).refund_pending == 2_000


@pytest.mark.parametrize(
    ("before", "gets"), [(paid(), 1_000), (paid(refunded=4_000), 250), (paid(pending=3_500), 750)]
)
def test_refund_of_a_return_is_bounded_by_the_remaining_amount(before: Account, gets: int) -> None:
    """The refund is the value of the units, or the amount that is neither refunded nor pending."""
    payment = only(decide(before, returned(), LATER).record)
    assert payment.operations[-1].amount == gets


@pytest.mark.parametrize(
    "before", [paid(pending=4_250), account(payment(Status.REFUNDED), **DELIVERED)]
)
def test_return_without_a_refundable_amount_fails_once(before: Account) -> None:
    """No processor is called; the failure is stored and published once."""
    decided = decide(before, returned(), LATER)
    after = only(decided.record)
    made = after.operations[-1]
    assert (made.amount, made.outcome, made.failure_code) == (0, Outcome.FAILED, NOTHING_REFUNDABLE)
    assert (made.next_lookup_time, made.settle_time) == (None, LATER)
    assert decided.events == [RefundSettled(after, decided.history[-1], after.refund(made))]
    version = after.version
    assert decided.history == [
        Transition(
            payment_id=after.id,
            version=version,
            old=after.status,
            new=after.status,
            operation_id=made.id,
            outcome=Outcome.FAILED,
            reason="NOTHING_REFUNDABLE",
            actor="order",
            cause="r1",
            time=LATER,
        )
    ]
    assert decide(decided.record, returned(), LATER).record is decided.record


def test_return_waits_for_its_payment() -> None:
    """An unknown order, another attempt, and a payment with an unknown outcome defer it; another
    currency fails it.
    """
    assert type(refused(None, returned())) is NotFound
    assert type(refused(account(declined(1)), returned())) is NotFound
    assert type(refused(paid(), returned(attempt=2))) is NotFound
    failure = refused(account(payment()), returned())
    assert (type(failure), failure.reason) == (Deferred, "EVENT_AHEAD")
    foreign = refused(paid(), changed(returned(), amount=Money(1, "EUR")))
    assert foreign.reason == "PAYMENT_AMOUNT_MISMATCH"


@pytest.mark.parametrize("minor", [None, 1_000])
def test_refused_refund_of_a_return_is_tried_again(minor: int | None) -> None:
    """Each refund is for the same return with the return's amount, under its own name. It is
    published as the return's, and succeeds once.
    """
    record = refused_return()
    for number, name in ((1, "return-1:2"), (2, "return-1:3")):
        decided = decide(record, try_again(number, minor), LATER)
        requested = only(decided.record).operations[-1]
        assert (
            requested.amount,
            requested.cause,
            requested.cause_id,
            requested.next_lookup_time,
        ) == (
            1_000,
            Cause.RETURN,
            name,
            LATER + LOOKUP_AFTER,
        )
        assert [transition.reason for transition in decided.history] == ["REFUND_REQUESTED"]
        assert decide(decided.record, try_again(number, minor), LATER).record is decided.record
        record = decide(
            decided.record, settle(Declined("card_closed"), requested.id, name), LATER
        ).record
    requested = only(decide(record, try_again(3, minor), LATER).record).operations[-1]
    decided = decide(
        decide(record, try_again(3, minor), LATER).record,
        settle(Succeeded("ref-9"), requested.id),
        LATER,
    )
    [event] = decided.events
    assert isinstance(event, RefundSettled)
    assert (event.refund.cause_id, event.refund.outcome, event.payment.refunded) == (
        "return-1:4",
        Outcome.SUCCEEDED,
        1_000,
    )
    failure = refused(decided.record, try_again(4, minor))
    assert (failure.reason, failure.metadata["status"]) == ("ILLEGAL_TRANSITION", "succeeded")
    assert decide(decided.record, returned(key="late"), LATER).record is decided.record


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (paid(), "none"),
        (decide(paid(), returned(), LATER).record, "requested"),
        (decide(refused_return(), try_again(9), LATER).record, "requested"),
        (
            decide(account(payment(Status.REFUNDED), **DELIVERED), returned(), LATER).record,
            NOTHING_REFUNDABLE,
        ),
    ],
)
def test_only_a_refused_refund_of_a_return_is_tried_again(before: Account, status: str) -> None:
    """A return without an event, one with a pending refund, and one that was closed without a
    refund are refused.
    """
    failure = refused(before, try_again())
    assert (type(failure), failure.reason, failure.metadata["status"]) == (
        Refused,
        "ILLEGAL_TRANSITION",
        status,
    )


def test_second_refund_of_a_return_has_the_remaining_amount() -> None:
    """Another amount is refused. An amount that was refunded by request meanwhile is not refunded
    again, and a pending one is waited for.
    """
    failure = refused(refused_return(), try_again(minor=999))
    assert (failure.reason, failure.metadata["expected"]) == (
        "PAYMENT_AMOUNT_MISMATCH",
        "10.00 GBP",
    )
    pending = decide(refused_return(), refund(7, 3_500), LATER).record
    failure = refused(pending, try_again())
    assert (failure.reason, failure.metadata["refundable"]) == (
        "REFUND_EXCEEDS_CAPTURE",
        "7.50 GBP",
    )
    refunded_by_request = decide(
        pending, settle(Succeeded("ref-7"), numbered(3, 407)), LATER
    ).record
    assert refused(refunded_by_request, try_again(minor=1_000)).reason == "REFUND_EXCEEDS_CAPTURE"
    assert only(decide(refunded_by_request, try_again(), LATER).record).operations[-1].amount == 750


def test_return_of_a_refunded_payment_ends_without_refund() -> None:
    """No processor is called. The event states that the amount was not refundable, which closes the
    return. It is not tried again.
    """
    refunded = decide(refused_return(), refund(7), LATER).record
    refunded = decide(refunded, settle(Succeeded("ref-7"), numbered(3, 407)), LATER).record
    decided = decide(refunded, try_again(), LATER)
    [event] = decided.events
    assert isinstance(event, RefundSettled)
    assert (event.refund.cause_id, event.refund.amount, event.refund.failure_code) == (
        "return-1:2",
        0,
        NOTHING_REFUNDABLE,
    )
    assert refused(decided.record, try_again(2)).reason == "ILLEGAL_TRANSITION"
