"""What gives money back because somebody says so, or because units of a return were accepted, by
tables.
"""

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
    """A delivered order's account, of whose money so much went back, or is on its way."""
    status = Status.PARTIALLY_REFUNDED if refunded else Status.CAPTURED
    gone = [refund_operation(refunded, Outcome.SUCCEEDED, cause_id="gone")] if refunded else []
    going = [refund_operation(pending, cause_id="going")] if pending else []
    operations = (operation(Outcome.SUCCEEDED), *gone, *going)
    return account(payment(status, operations=operations), **DELIVERED)


# --- by request


@pytest.mark.parametrize(("minor", "wanted"), [(1, 1), (4_250, 4_250), (None, 4_250)])
def test_refund_is_stored_as_requested_first(minor: int | None, wanted: int) -> None:
    """A part, all, or whatever is left: its amount is on its way from then on, the status stays
    until the processor has answered.
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
def test_what_is_on_its_way_counts_under_the_ceiling(
    before: Account, minor: int | None, left: str
) -> None:
    """Refunded and pending together never exceed what was captured; who asks for more is told
    what is left.
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
    """From pending to refunded; the payment is refunded when nothing is left of it."""
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


def test_a_second_part_leaves_it_partially_refunded_until_the_last() -> None:
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


def test_a_refund_that_is_refused_leaves_the_money_for_another() -> None:
    """Told with its code; nothing went back, and what it held is free again."""
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
def test_only_what_was_captured_is_refunded(status: Status) -> None:
    """Every other status is refused, with what it may become."""
    assert refused(account(payment(status)), refund()).reason == "ILLEGAL_TRANSITION"


def test_a_refund_names_a_payment_its_version_and_its_currency() -> None:
    """Each wrong one is refused before anything else, and a repeat whose key was swept changes
    nothing.
    """
    assert type(refused(None, refund())) is NotFound
    assert type(refused(account(), refund())) is NotFound
    assert type(refused(paid(), refund(expected_version=1))) is Stale
    failure = refused(paid(), changed(refund(), amount=Money(100, "EUR")))
    assert (failure.reason, failure.metadata["expected"]) == ("PAYMENT_AMOUNT_MISMATCH", "GBP")
    requested = decide(paid(), refund(), LATER).record
    assert decide(requested, refund(operation_id=numbered(3, 999)), LATER).record is requested


def test_refund_with_unknown_outcome_stays_pending() -> None:
    """Unknown: its amount is held, its key is asked for again, and nobody may refund the same
    money meanwhile.
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
    """At once due for asking, by the worker; its id is made of the return: the same return, told
    again, makes no second one.
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
def test_a_return_gets_what_is_left_at_most(before: Account, gets: int) -> None:
    """Its units' worth, or what neither went back nor is on its way."""
    its = only(decide(before, returned(), LATER).record)
    assert its.operations[-1].amount == gets


@pytest.mark.parametrize(
    "before", [paid(pending=4_250), account(payment(Status.REFUNDED), **DELIVERED)]
)
def test_a_return_of_which_nothing_is_left_to_refund_fails_once(before: Account) -> None:
    """No processor is asked; it is written down, told, and never told again."""
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


def test_a_return_waits_for_the_payment_that_it_is_about() -> None:
    """An unknown order, another attempt, a payment whose outcome is not known yet: not now;
    another currency: never.
    """
    assert type(refused(None, returned())) is NotFound
    assert type(refused(account(declined(1)), returned())) is NotFound
    assert type(refused(paid(), returned(attempt=2))) is NotFound
    failure = refused(account(payment()), returned())
    assert (type(failure), failure.reason) == (Deferred, "EVENT_AHEAD")
    foreign = refused(paid(), changed(returned(), amount=Money(1, "EUR")))
    assert foreign.reason == "PAYMENT_AMOUNT_MISMATCH"


# --- another try of a return's


def refused_return(minor: int = 1_000, *, refunded: int = 0) -> Account:
    """A delivered order's account: the processor has refused to refund its return."""
    requested = decide(paid(refunded), returned(minor=minor), LATER).record
    return decide(
        requested, settle(Declined("card_closed"), only(requested).operations[-1].id, "no 1"), LATER
    ).record


def try_again(number: int = 1, minor: int | None = None) -> Envelope[RefundPayment]:
    return refund(number, minor, return_id="return-1")


@pytest.mark.parametrize("minor", [None, 1_000])
def test_the_refund_of_a_return_is_tried_again_until_it_is_done(minor: int | None) -> None:
    """For the same return under a name of its own each time, with the return's amount; told as
    the return's; and done once.
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
def test_only_what_the_processor_has_refused_is_tried_again(before: Account, status: str) -> None:
    """Not a return of which nothing was heard, nor one whose refund is on its way, nor one that
    is closed without.
    """
    failure = refused(before, try_again())
    assert (type(failure), failure.reason, failure.metadata["status"]) == (
        Refused,
        "ILLEGAL_TRANSITION",
        status,
    )


def test_another_try_is_of_the_returns_amount_and_of_what_is_left() -> None:
    """Another amount is refused; what went back by hand meanwhile is not given again; what is on
    its way is waited for.
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
    gone = decide(pending, settle(Succeeded("ref-7"), numbered(3, 407)), LATER).record
    assert refused(gone, try_again(minor=1_000)).reason == "REFUND_EXCEEDS_CAPTURE"
    assert only(decide(gone, try_again(), LATER).record).operations[-1].amount == 750


def test_return_of_a_refunded_payment_ends_without_refund() -> None:
    """No processor is asked: it is told as what was not refundable, which closes the return, and
    it is not tried again.
    """
    gone = decide(refused_return(), refund(7), LATER).record
    gone = decide(gone, settle(Succeeded("ref-7"), numbered(3, 407)), LATER).record
    decided = decide(gone, try_again(), LATER)
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
    """authorized stays until the processor has answered; then voided, and the attempt may be
    paid by another payment. Nobody is told.
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


def test_a_declined_void_leaves_the_authorisation() -> None:
    """It may be captured, or voided by another request."""
    requested = decide(account(payment(Status.AUTHORIZED)), void(), LATER).record
    decided = decide(requested, settle(Declined("processing_error"), numbered(3, 301)), LATER)
    assert (only(decided.record).status, decided.history[0].reason) == (
        Status.AUTHORIZED,
        "VOID_DECLINED",
    )
    assert len(only(decide(decided.record, void(2), LATER).record).operations) == 3


def test_a_void_and_a_capture_exclude_each_other() -> None:
    """Whichever is under way first; the same again waits for the one answer."""
    voiding = decide(account(payment(Status.AUTHORIZED)), void(), LATER).record
    assert decide(voiding, void(2), LATER).record is voiding
    assert refused(voiding, capture()).reason == "ILLEGAL_TRANSITION"
    capturing = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert refused(capturing, void()).reason == "ILLEGAL_TRANSITION"


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.AUTHORIZED])
def test_only_what_is_authorised_is_voided(status: Status) -> None:
    """Every other status is refused."""
    assert refused(account(payment(status)), void()).reason == "ILLEGAL_TRANSITION"


def test_impossible_refund_is_stored_as_a_contradiction() -> None:
    """A refund that succeeds for a payment of which nothing was captured: nothing is booked, and
    an operator must look.
    """
    impossible = payment(Status.VOIDED)
    late = operation(id=numbered(3, 77), kind=Kind.REFUND, amount=1, requested_by="x")
    decided = decide(
        account(replace(impossible, operations=(late,))), settle(Succeeded("r"), late.id), LATER
    )
    assert (
        only(decided.record).refunded,
        len(only(decided.record).operations[0].contradictions),
    ) == (0, 1)


# --- the bound on what callers ask for


def limit_reached(before: Account, requested: Envelope[Any]) -> bool:
    """Whether the request is refused because of the bound, which it names."""
    with pytest.raises(Refused) as caught:
        decide(before, requested, LATER)
    bound = {"max": str(REQUESTS_MAX), "payment_id": str(PAYMENT)}
    return (caught.value.reason, caught.value.metadata) == ("OPERATION_LIMIT_REACHED", bound)


def having(kind: Kind, its: Payment, count: int, **fields: Any) -> Account:
    """The account of a payment for which callers have asked for so many operations in vain."""
    failed = operation(Outcome.FAILED, kind=kind, amount=1, **fields)
    tried = tuple(
        replace(failed, id=numbered(3, 1_000 + n), requested_by=f"/asked:{n}", cause_id=name)
        for n in range(count)
        for name in [f"return-1:{n + 2}" if failed.cause else None]
    )
    return account(replace(its, operations=(*its.operations, *tried)), status=OrderStatus.CONFIRMED)


def test_refund_beyond_the_bound_is_refused() -> None:
    """The 501st that a caller asks for; the one before is taken."""
    its = paid().payments[0]
    one_less = having(Kind.REFUND, its, REQUESTS_MAX - 1, cause=Cause.REQUEST)
    assert only(decide(one_less, refund(1, 1), LATER).record).refund_pending == 1
    assert limit_reached(having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.REQUEST), refund(1, 1))


@pytest.mark.parametrize(("kind", "requested"), [(Kind.CAPTURE, capture()), (Kind.VOID, void())])
def test_end_of_authorisation_has_the_bound(kind: Kind, requested: Envelope[Any]) -> None:
    """500 captures, or voids, that the processor has declined: the next one is refused."""
    cause = Cause.REQUEST if kind is Kind.VOID else None
    assert limit_reached(
        having(kind, payment(Status.AUTHORIZED), REQUESTS_MAX, cause=cause), requested
    )


def test_further_try_for_a_return_has_a_bound_of_its_own() -> None:
    """500 refunds by request do not count; 500 tries for returns do."""
    its = refused_return().payments[0]
    other = having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.REQUEST)
    assert len(decide(other, try_again(1), LATER).history) == 1
    assert limit_reached(having(Kind.REFUND, its, REQUESTS_MAX, cause=Cause.RETURN), try_again(1))


def test_automatic_refund_is_made_beyond_the_bound() -> None:
    """Neither a return's refund nor that of a dead order is refused, nor counts for callers."""
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
