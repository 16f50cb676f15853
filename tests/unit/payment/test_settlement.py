"""Answers of processors, lost ones included, by tables."""

from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from payment_svc.decisions.deciders import decide
from payment_svc.decisions.settlement import DECLINES_MAX
from payment_svc.lifecycle import Kind, Outcome, Status
from payment_svc.model.answers import (
    METHOD_INVALID,
    NOT_PROCESSED,
    Declined,
    Pending,
    Succeeded,
    answer_hash,
)
from payment_svc.model.events import PaymentConfirmed, PaymentFailed
from payment_svc.model.records import Account, Transition
from tests.unit.payment.deciding import SETTLED, only, refused
from tests.unit.payment.samples import (
    LATER,
    LOOKUP_AFTER,
    OPERATION,
    PAYMENT,
    TOTAL,
    OrderStatus,
    account,
    create,
    declined,
    numbered,
    operation,
    outcome_events,
    payment,
    record_unknown,
    resolve,
    retry_lookup,
    settle,
)


def test_successful_charge_captures_and_confirms() -> None:
    """pending -> captured in one version, the whole amount authorised and captured, the operation
    settled; one event confirms the payment.
    """
    decided = decide(account(payment()), settle(Succeeded("ref-1")), LATER)
    done = operation(Outcome.SUCCEEDED, settle_time=LATER)
    assert decided.record == account(
        payment(Status.CAPTURED, update_time=LATER, operations=(done,))
    )
    assert decided.history == [
        Transition(
            payment_id=PAYMENT,
            version=2,
            old=Status.PENDING,
            new=Status.CAPTURED,
            operation_id=OPERATION,
            outcome=Outcome.SUCCEEDED,
            reason="CAPTURED",
            actor="sandbox",
            cause="w1",
            time=LATER,
        )
    ]
    assert outcome_events(decided) == [PaymentConfirmed(only(decided.record), decided.history[0])]


def test_successful_authorisation_confirms_nothing() -> None:
    """pending -> authorized: no amount is captured, and the order still waits."""
    requested = payment(operations=(operation(kind=Kind.AUTHORIZE),))
    decided = decide(account(requested), settle(Succeeded("ref-1")), LATER)
    after = only(decided.record)
    assert (after.status, after.authorized, after.captured) == (Status.AUTHORIZED, TOTAL.minor, 0)
    assert not outcome_events(decided)


@pytest.mark.parametrize("order_status", OrderStatus)
def test_charge_of_a_closed_order_is_stored_and_published(order_status: OrderStatus) -> None:
    """The record of money does not depend on the order: captured is captured, for the attempt that
    requested it.
    """
    decided = decide(
        account(payment(), attempt=2, version=4, status=order_status),
        settle(Succeeded("ref-1")),
        LATER,
    )
    assert only(decided.record).status is Status.CAPTURED
    [event] = outcome_events(decided)
    assert isinstance(event, PaymentConfirmed)
    assert event.payment.attempt == 1


@pytest.mark.parametrize(
    ("before", "answer", "status"),
    [
        (0, Declined("insufficient_funds"), Status.DECLINED),
        (1, Declined("insufficient_funds"), Status.DECLINED),
        (2, Declined("insufficient_funds"), Status.FAILED),
        (0, Declined("stolen_card", final=True), Status.FAILED),
        (2, Declined(NOT_PROCESSED), Status.DECLINED),
        (2, Declined(METHOD_INVALID), Status.DECLINED),
    ],
)
def test_decline_is_final_by_its_code_or_at_the_third_try(
    before: int, answer: Declined, status: Status
) -> None:
    """Before that, the payment alone ends, without an event to the order. A payment without a check
    of the card is never the last.
    """
    earlier = [declined(number) for number in range(1, before + 1)]
    last_try = payment(try_number=before + 1)
    decided = decide(account(*earlier, last_try), settle(answer), LATER)
    ended = decided.record.payments[-1]
    assert (ended.status, ended.decline_code, ended.captured) == (status, answer.code, 0)
    assert ended.operations[0].failure_code == answer.code
    assert outcome_events(decided) == (
        [PaymentFailed(ended, decided.history[0])] if status is Status.FAILED else []
    )


@pytest.mark.parametrize("code", [NOT_PROCESSED, METHOD_INVALID])
def test_declines_without_a_card_check_do_not_count(code: str) -> None:
    """An unavailable processor, or an invalid token, does not count among the customer's three
    payments.
    """
    earlier = [declined(number, code) for number in range(1, DECLINES_MAX + 2)]
    decided = decide(
        account(*earlier, payment(try_number=9)), settle(Declined("insufficient_funds")), LATER
    )
    assert decided.record.payments[-1].status is Status.DECLINED


def test_declines_of_another_attempt_do_not_count() -> None:
    """Each attempt of the order has its own three payments."""
    earlier = [declined(number) for number in (1, 2)]
    second_attempt = payment(attempt=2)
    decided = decide(
        account(*earlier, second_attempt, attempt=2, version=4),
        settle(Declined("insufficient_funds")),
        LATER,
    )
    assert decided.record.payments[-1].status is Status.DECLINED


@pytest.mark.parametrize(
    "answer",
    [Succeeded("ref-1"), Declined("insufficient_funds"), Declined("stolen_card", final=True)],
)
def test_repeated_answer_is_applied_once(answer: Succeeded | Declined) -> None:
    """Answer, webhook and look-up may report the same, in any order: the first is posted, the
    others change nothing.
    """
    first = decide(account(payment()), settle(answer), LATER)
    again = decide(first.record, settle(answer, key="webhook"), LATER)
    assert again.record is first.record
    assert not again.events


@pytest.mark.parametrize(
    ("settled_outcome", "reported_outcome"),
    [
        (Succeeded("ref-1"), Declined("insufficient_funds")),
        (Declined("insufficient_funds"), Succeeded("ref-1")),
        (Succeeded("ref-1"), Succeeded("ref-2")),
    ],
)
def test_contradiction_of_a_processor_is_stored_once(
    settled_outcome: Succeeded | Declined, reported_outcome: Succeeded | Declined
) -> None:
    """A settled outcome stays. A contradicting report is stored with its operation, under its
    payload's hash, once.
    """
    first = decide(account(payment()), settle(settled_outcome), LATER).record
    decided = decide(first, settle(reported_outcome, key="webhook"), LATER)
    before, after = only(first), only(decided.record)
    [stored] = after.operations[0].contradictions
    assert after == replace(
        before,
        version=before.version + 1,
        operations=(replace(before.operations[0], contradictions=(stored,)),),
    )
    assert (stored.outcome, stored.reference, stored.report_id, stored.payload_sha256) == (
        Outcome.SUCCEEDED if isinstance(reported_outcome, Succeeded) else Outcome.FAILED,
        reported_outcome.reference,
        "w1",
        answer_hash(OPERATION, reported_outcome),
    )
    assert [transition.reason for transition in decided.history] == ["CONTRADICTED"]
    assert not decided.events
    assert (
        decide(decided.record, settle(reported_outcome, key="again"), LATER).record
        is decided.record
    )


def test_report_under_a_reused_event_id_is_stored_only() -> None:
    """Also for an open operation, the report is stored as evidence, and posts nothing."""
    decided = decide(account(payment()), settle(Succeeded("ref-1"), reused=True), LATER)
    after = only(decided.record)
    assert (after.status, after.operations[0].outcome, len(after.operations[0].contradictions)) == (
        Status.PENDING,
        Outcome.REQUESTED,
        1,
    )


def test_contradictions_of_an_operation_are_bounded() -> None:
    """Twenty contradictions are stored; further ones change nothing."""
    record = decide(account(payment()), settle(Succeeded("ref-1")), LATER).record
    for number in range(25):
        record = decide(record, settle(Succeeded(f"other-{number}")), LATER).record
    assert (len(only(record).operations[0].contradictions), only(record).captured) == (
        20,
        TOTAL.minor,
    )


def test_resolved_contradiction_keeps_its_first_note() -> None:
    """A resolution moves no money. A second one, and one of an unknown contradiction, change
    nothing.
    """
    record = decide(account(payment()), settle(Declined("insufficient_funds")), LATER).record
    record = decide(record, settle(Succeeded("ref-1")), LATER).record
    [stored] = only(record).operations[0].contradictions
    resolved = decide(record, resolve(stored.id), LATER)
    [after] = only(resolved.record).operations[0].contradictions
    assert after == replace(stored, resolve_time=LATER, resolve_note="refunded at the processor")
    assert only(resolved.record).status is only(record).status
    assert decide(resolved.record, resolve(stored.id, "another"), LATER).record is resolved.record
    assert refused(resolved.record, resolve(PAYMENT)).reason == "CONTRADICTION_NOT_FOUND"


def test_pending_answer_keeps_the_payment_pending() -> None:
    """The processor's id is stored, and the operation stays due for a look-up, because the webhook
    may be lost.
    """
    decided = decide(account(payment()), settle(Pending("ref-1")), LATER)
    after = only(decided.record)
    assert (after.status, after.version, after.operations) == (
        Status.PENDING,
        2,
        (operation(reference="ref-1"),),
    )
    assert decide(decided.record, settle(Pending("ref-1")), LATER).record is decided.record


@pytest.mark.parametrize("status", SETTLED)
def test_late_pending_answer_changes_nothing(status: Status) -> None:
    """The webhook came before the answer."""
    before = account(payment(status))
    assert decide(before, settle(Pending("ref-1")), LATER).record is before


def test_lost_answer_makes_the_outcome_unknown() -> None:
    """No caller may pay again with another key while the charge's outcome is unknown; it is looked
    up at once.
    """
    decided = decide(account(payment()), record_unknown(), LATER)
    after = only(decided.record)
    assert after.operations == (operation(Outcome.UNKNOWN, next_lookup_time=LATER),)
    assert (after.status, decided.history[0].reason) == (Status.PENDING, "OUTCOME_UNKNOWN")
    assert not decided.events
    assert refused(decided.record, create(2)).reason == "PAYMENT_ALREADY_EXISTS"
    assert decide(decided.record, record_unknown(), LATER).record is decided.record


@pytest.mark.parametrize("answer", [Succeeded("ref-1"), Declined("insufficient_funds")])
def test_settled_outcome_does_not_become_unknown(answer: Succeeded | Declined) -> None:
    """The webhook came before the lost answer: the loss changes nothing."""
    settled = decide(account(payment()), settle(answer), LATER).record
    assert decide(settled, record_unknown(), LATER).record is settled


def test_lookup_is_made_by_one_replica() -> None:
    """The look-up is counted and the next one deferred, without a visible change; the same look-up
    again changes nothing.
    """
    decided = decide(account(payment()), retry_lookup(), LATER)
    assert decided.record == account(
        payment(operations=(operation(lookups=1, next_lookup_time=LATER + 2 * LOOKUP_AFTER),))
    )
    assert not decided.history
    assert decide(decided.record, retry_lookup(), LATER).record is decided.record
    settled = decide(account(payment()), settle(Succeeded("ref-1")), LATER).record
    assert decide(settled, retry_lookup(), LATER).record is settled


@pytest.mark.parametrize(
    "command",
    [
        settle(Succeeded("r"), numbered(3, 9)),
        record_unknown(numbered(3, 9)),
        retry_lookup(1, numbered(3, 9)),
    ],
)
@pytest.mark.parametrize("record", [None, account(), account(payment())])
def test_command_for_an_unknown_operation_is_refused(
    record: Account | None,
    command: Envelope[Any],
) -> None:
    """An operation that no payment has is NOT_FOUND for every command."""
    failure = refused(record, command)
    assert (type(failure), failure.reason) == (NotFound, "PAYMENT_NOT_FOUND")
