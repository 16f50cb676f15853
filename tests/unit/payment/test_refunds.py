"""Refunds by request and refunds of returns, by tables."""

from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, NotFound, Refused, Stale
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.decisions.steps import REQUESTS_MAX
from payment_svc.lifecycle import CHARGED, Cause, Kind, OrderStatus, Outcome, Status
from payment_svc.model.answers import NOTHING_REFUNDABLE, Declined, Pending, Succeeded
from payment_svc.model.commands import RefundPayment
from payment_svc.model.events import RefundSettled
from payment_svc.model.records import Account, Payment, Transition
from tests.unit.payment.samples import (
    LATER,
    LOOKUP_AFTER,
    PAYMENT,
    TOTAL,
    account,
    apply_order,
    capture,
    changed,
    declined,
    numbered,
    operation,
    outcome_events,
    payment,
    record_unknown,
    refund,
    refund_operation,
    retry_lookup,
    returned,
    settle,
    void,
)

DELIVERED = {"status": OrderStatus.DELIVERED, "version": 5}


def refused(record: Account | None, command: Envelope[Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        decide(record, command, LATER)
    return caught.value


def only(record: Account) -> Payment:
    [its] = record.payments
    return its


def paid(refunded: int = 0, pending: int = 0) -> Account:
    """Returns a delivered order's account, with this much of its money refunded, or pending."""
    status = Status.PARTIALLY_REFUNDED if refunded else Status.CAPTURED
    refunds = [refund_operation(refunded, Outcome.SUCCEEDED, cause_id="gone")] if refunded else []
    going = [refund_operation(pending, cause_id="going")] if pending else []
    operations = (operation(Outcome.SUCCEEDED), *refunds, *going)
    return account(payment(status, operations=operations), **DELIVERED)


# --- by request


@pytest.mark.parametrize(("minor", "wanted"), [(1, 1), (4_250, 4_250), (None, 4_250)])
def test_refund_is_stored_as_requested_first(minor: int | None, wanted: int) -> None:
    """For a part, all, or the remaining amount, the amount is pending, and the status stays until
    the processor has answered.
    """
    decided = decide(paid(), refund(minor=minor), LATER)
    its = only(decided.record)
    assert (its.status, its.refunded, its.refund_pending, its.version) == (
        Status.CAPTURED,
        0,
        wanted,
        3,
    )
    requested = its.operations[1]
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
    assert not decided.facts


@pytest.mark.parametrize(
    ("before", "minor", "left"),
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
    before: Account, minor: int | None, left: str
) -> None:
    """Refunded and pending together never exceed the captured amount. A refusal has the remaining
    amount.
    """
    failure = refused(before, refund(2, minor))
    assert (type(failure), failure.reason, failure.metadata["refundable"]) == (
        Refused,
        "REFUND_EXCEEDS_CAPTURE",
        left,
    )


@pytest.mark.parametrize(
    ("refunded", "minor", "status"),
    [(0, 4_249, Status.PARTIALLY_REFUNDED), (0, 4_250, Status.REFUNDED)],
)
def test_refund_success_is_stored_and_published(refunded: int, minor: int, status: Status) -> None:
    """The refund moves from pending to refunded; the payment is refunded when no amount remains."""
    requested = decide(paid(refunded), refund(minor=minor), LATER).record
    decided = decide(requested, settle(Succeeded("ref-2"), numbered(3, 401)), LATER)
    its = only(decided.record)
    assert (its.status, its.refunded, its.refund_pending) == (status, minor, 0)
    done = its.operation(numbered(3, 401))
    assert done
    assert decided.facts == [RefundSettled(its, decided.history[-1], its.refund(done))]
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
    its = only(decided.record)
    assert (its.status, its.refunded, its.refund_pending, its.decline_code) == (
        Status.CAPTURED,
        0,
        0,
        None,
    )
    [fact] = decided.facts
    assert isinstance(fact, RefundSettled)
    assert (fact.refund.outcome, fact.refund.failure_code, fact.payment) == (
        Outcome.FAILED,
        "card_closed",
        its,
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
    its = only(record).operations[1]
    assert (its.outcome, its.reference, its.lookups) == (Outcome.UNKNOWN, "ref-9", 1)
    assert refused(record, refund(2, 1)).reason == "REFUND_EXCEEDS_CAPTURE"


# --- of returns


def test_return_is_refunded_once_for_repeated_events() -> None:
    """The refund is due for the worker at once. Its id is made of the return, so the return's next
    event makes no second one.
    """
    decided = decide(paid(), returned(), LATER)
    its = only(decided.record)
    requested = its.operations[1]
    assert (
        its.refund_pending,
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
        decide(paid(), returned(key="told late"), LATER).record.payments[0].operations[1].id
        == requested.id
    )
    other = decide(decided.record, returned(2), LATER)
    assert only(other.record).refund_pending == 2_000


@pytest.mark.parametrize(
    ("before", "gets"), [(paid(), 1_000), (paid(refunded=4_000), 250), (paid(pending=3_500), 750)]
)
def test_refund_of_a_return_is_bounded_by_the_remaining_amount(before: Account, gets: int) -> None:
    """The refund is the value of the units, or the amount that is neither refunded nor pending."""
    its = only(decide(before, returned(), LATER).record)
    assert its.operations[-1].amount == gets


@pytest.mark.parametrize(
    "before", [paid(pending=4_250), account(payment(Status.REFUNDED), **DELIVERED)]
)
def test_return_without_a_refundable_amount_fails_once(before: Account) -> None:
    """No processor is called; the failure is stored and published once."""
    decided = decide(before, returned(), LATER)
    its = only(decided.record)
    made = its.operations[-1]
    assert (made.amount, made.outcome, made.failure_code) == (0, Outcome.FAILED, NOTHING_REFUNDABLE)
    assert (made.next_lookup_time, made.settle_time) == (None, LATER)
    assert decided.facts == [RefundSettled(its, decided.history[-1], its.refund(made))]
    version = its.version
    assert decided.history == [
        Transition(
            payment_id=its.id,
            version=version,
            old=its.status,
            new=its.status,
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


# --- a second refund of a return


def refused_return(minor: int = 1_000, *, refunded: int = 0) -> Account:
    """Returns a delivered order's account whose refund of a return the processor refused."""
    requested = decide(paid(refunded), returned(minor=minor), LATER).record
    return decide(
        requested, settle(Declined("card_closed"), only(requested).operations[-1].id, "no 1"), LATER
    ).record


def try_again(number: int = 1, minor: int | None = None) -> Envelope[RefundPayment]:
    return refund(number, minor, return_id="return-1")


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
    [fact] = decided.facts
    assert isinstance(fact, RefundSettled)
    assert (fact.refund.cause_id, fact.refund.outcome, fact.payment.refunded) == (
        "return-1:4",
        Outcome.SUCCEEDED,
        1_000,
    )
    failure = refused(decided.record, try_again(4, minor))
    assert (failure.reason, failure.metadata["status"]) == ("ILLEGAL_TRANSITION", "succeeded")
    assert decide(decided.record, returned(key="told late"), LATER).record is decided.record


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
    [fact] = decided.facts
    assert isinstance(fact, RefundSettled)
    assert (fact.refund.cause_id, fact.refund.amount, fact.refund.failure_code) == (
        "return-1:2",
        0,
        NOTHING_REFUNDABLE,
    )
    assert refused(decided.record, try_again(2)).reason == "ILLEGAL_TRANSITION"


# --- voids


def test_authorization_is_voided_by_request() -> None:
    """The payment stays authorized until the processor has answered; then it is voided, and another
    payment may pay the attempt. No event goes to the order.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), void(), LATER)
    its = only(requested.record)
    made = its.operations[1]
    assert (its.status, made.kind, made.amount, made.cause, made.cause_id) == (
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


# --- the bound on callers' requests


def limit_reached(before: Account, requested: Envelope[Any]) -> bool:
    """Whether the request is refused because of the bound, which it names."""
    with pytest.raises(Refused) as caught:
        decide(before, requested, LATER)
    bound = {"max": str(REQUESTS_MAX), "payment_id": str(PAYMENT)}
    return (caught.value.reason, caught.value.metadata) == ("OPERATION_LIMIT_REACHED", bound)


def having(kind: Kind, its: Payment, count: int, **fields: Any) -> Account:
    """Returns the account of a payment with so many failed operations by request."""
    failed = operation(Outcome.FAILED, kind=kind, amount=1, **fields)
    tried = tuple(
        replace(failed, id=numbered(3, 1_000 + n), requested_by=f"/asked:{n}", cause_id=name)
        for n in range(count)
        for name in [f"return-1:{n + 2}" if failed.cause else None]
    )
    return account(replace(its, operations=(*its.operations, *tried)), status=OrderStatus.CONFIRMED)


def test_refund_beyond_the_bound_is_refused() -> None:
    """The 501st refund by request is refused; the one before is accepted."""
    its = paid().payments[0]
    one_less = having(Kind.REFUND, its, REQUESTS_MAX - 1, cause=Cause.REQUEST)
    assert only(decide(one_less, refund(1, 1), LATER).record).refund_pending == 1
    assert limit_reached(having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.REQUEST), refund(1, 1))


@pytest.mark.parametrize(("kind", "requested"), [(Kind.CAPTURE, capture()), (Kind.VOID, void())])
def test_end_of_authorisation_has_the_bound(kind: Kind, requested: Envelope[Any]) -> None:
    """After 500 captures, or voids, that the processor declined, the next one is refused."""
    cause = Cause.REQUEST if kind is Kind.VOID else None
    assert limit_reached(
        having(kind, payment(Status.AUTHORIZED), REQUESTS_MAX, cause=cause), requested
    )


def test_further_try_for_a_return_has_a_bound_of_its_own() -> None:
    """500 refunds by request do not count; 500 second refunds of returns do."""
    its = refused_return().payments[0]
    other = having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.REQUEST)
    assert len(decide(other, try_again(1), LATER).history) == 1
    assert limit_reached(having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.RETURN), try_again(1))


def test_automatic_refund_is_made_beyond_the_bound() -> None:
    """Neither a return's refund nor that of a cancelled order is refused, or counts among the
    callers' requests.
    """
    its = paid().payments[0]
    full = having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.REQUEST)
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
    counted = replace(its, operations=(*its.operations, *own))
    assert decide(account(counted, status=OrderStatus.CONFIRMED), refund(1, 1), LATER).history
