"""The decisions about an order's account, by tables: each command in each situation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Exists, Failure, NotFound, Refused, Stale
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.decisions.settlement import DECLINES_MAX
from payment_svc.lifecycle import Kind, OrderStatus, Outcome, Status
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    Declined,
    Pending,
    Succeeded,
    answer_hash,
)
from payment_svc.model.events import PaymentConfirmed, PaymentFailed
from payment_svc.model.records import Account, Payment, Transition
from tests.unit.payment.samples import (
    LATER,
    LOOKUP_AFTER,
    NOON,
    OPERATION,
    PAYMENT,
    TOTAL,
    account,
    apply_order,
    capture,
    create,
    declined,
    numbered,
    operation,
    order,
    outcome_events,
    payment,
    record_unknown,
    resolve,
    retry_lookup,
    settle,
    void,
)

FREE = Money(0, "GBP")
SETTLED = [status for status in Status if status not in (Status.PENDING, Status.NOT_REQUIRED)]


def refused(record: Account | None, command: Envelope[Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        decide(record, command, LATER)
    return caught.value


def only(record: Account) -> Payment:
    [its] = record.payments
    return its


# --- events of the order service


def test_first_event_of_an_order_opens_its_account() -> None:
    """The account then has the amount to charge, and no event is published."""
    decided = decide(None, apply_order(), NOON)
    assert decided.record == account()
    assert not decided.history
    assert not decided.facts


@pytest.mark.parametrize(("version", "applied"), [(1, False), (2, False), (3, True)])
def test_newer_version_of_the_order_replaces_the_older(version: int, applied: bool) -> None:
    """The order's version decides, not the order of delivery; the payments stay."""
    before = account(payment(), version=2)
    decided = decide(before, apply_order(version=version, status=OrderStatus.CANCELLED), LATER)
    assert decided.record == (
        account(payment(), version=3, status=OrderStatus.CANCELLED) if applied else before
    )
    assert (decided.record is before) is not applied


def test_event_of_a_free_order_pays_it() -> None:
    """A not_required payment with its row of history is published, without a processor and a
    caller.
    """
    decided = decide(None, apply_order(total=FREE), NOON)
    free = payment(Status.NOT_REQUIRED, id=numbered(2, 51))
    assert decided.record == account(free, total=FREE)
    assert decided.history == [
        Transition(
            payment_id=free.id,
            version=1,
            old=None,
            new=Status.NOT_REQUIRED,
            operation_id=None,
            outcome=None,
            reason="NOTHING_TO_PAY",
            actor="order",
            cause="e1",
            time=NOON,
        ),
    ]
    assert decided.facts == [PaymentConfirmed(free, decided.history[0])]


def test_free_attempt_is_paid_once() -> None:
    """Another event of the same attempt, and a call, find the payment; the next attempt gets its
    own.
    """
    first = decide(None, apply_order(total=FREE), NOON).record
    again = decide(first, apply_order(2, total=FREE, version=2), LATER)
    assert again.record.payments == first.payments
    assert not again.facts
    assert decide(again.record, create(), LATER).record is again.record
    retried = decide(again.record, apply_order(3, total=FREE, version=4, attempt=2), LATER)
    assert [p.attempt for p in retried.record.payments] == [1, 2]
    assert len(retried.facts) == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.FAILED, "ORDER_NOT_PAYABLE"), (Status.AUTHORIZED, "PAYMENT_ALREADY_EXISTS")],
    ids=str,
)
def test_open_payment_of_a_now_free_order_stays_a_charge(status: Status, reason: str) -> None:
    """All its units were cancelled during the charge: a second payment is refused with the first
    one's status.
    """
    another = create(key="create:another")
    assert refused(account(payment(status), total=FREE), another).reason == reason


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status is not OrderStatus.PENDING]
)
def test_free_order_that_is_not_pending_gets_no_payment(status: OrderStatus) -> None:
    """Its pending event came late, or the order was cancelled first: there is nothing to
    confirm.
    """
    decided = decide(None, apply_order(total=FREE, status=status), NOON)
    assert decided.record == account(total=FREE, status=status)
    assert not decided.facts


# --- creating


@pytest.mark.parametrize(("manual", "kind"), [(False, Kind.CHARGE), (True, Kind.AUTHORIZE)])
def test_operation_is_stored_before_the_processor_call(manual: bool, kind: Kind) -> None:
    """The payment is pending over the order's total, and its operation is requested. It is due for
    a look-up after the timeout.
    """
    decided = decide(account(), create(manual_capture=manual), NOON)
    assert decided.record == account(payment(operations=(operation(kind=kind),)))
    assert decided.history == [
        Transition(
            payment_id=PAYMENT,
            version=1,
            old=None,
            new=Status.PENDING,
            operation_id=OPERATION,
            outcome=Outcome.REQUESTED,
            reason="PAYMENT_REQUESTED",
            actor="payment",
            cause="r1",
            time=NOON,
        )
    ]
    assert not decided.facts


def test_create_before_the_event_uses_the_order_response() -> None:
    """The account opens with the order service's answer; the later event changes nothing."""
    decided = decide(None, create(order=order()), NOON)
    assert decided.record == account(payment())
    assert decide(decided.record, apply_order(), LATER).record is decided.record


def test_create_of_an_unknown_order_is_not_found() -> None:
    """Without an event and an answer about the order, nothing is charged."""
    failure = refused(None, create())
    assert (type(failure), failure.reason) == (NotFound, "ORDER_NOT_FOUND")


def test_newer_order_answer_reopens_the_account() -> None:
    """A retried order can be paid before its event is consumed. An answer older than the account is
    ignored.
    """
    closed = account(version=5, status=OrderStatus.FAILED)
    retried = decide(closed, create(order=order(version=6, attempt=2)), LATER)
    assert only(retried.record).attempt == 2
    assert refused(closed, create(order=order(version=4))).reason == "ORDER_NOT_PAYABLE"


@pytest.mark.parametrize("status", Status)
def test_one_live_payment_for_each_attempt(status: Status) -> None:
    """A second payment is refused with the first one's id while that is open. After a finally
    failed one nothing is payable. After a declined or voided one the next payment is made.
    """
    before = account(payment(status))
    if status in (Status.DECLINED, Status.VOIDED):
        decided = decide(before, create(2), LATER)
        assert [p.try_number for p in decided.record.payments] == [1, 2]
        return
    failure = refused(before, create(2))
    assert failure.metadata["payment_id"] == str(PAYMENT)
    wanted = (
        (Refused, "ORDER_NOT_PAYABLE")
        if status is Status.FAILED
        else (Exists, "PAYMENT_ALREADY_EXISTS")
    )
    assert (type(failure), failure.reason) == wanted


def test_payment_of_another_attempt_blocks_none() -> None:
    """Each attempt of the order has its own payment."""
    decided = decide(account(payment(Status.CAPTURED), attempt=2, version=4), create(2), LATER)
    assert [(p.attempt, p.try_number) for p in decided.record.payments] == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status is not OrderStatus.PENDING]
)
def test_only_a_pending_order_can_be_paid(status: OrderStatus) -> None:
    """Every other status, an unknown one included, is refused by its name."""
    failure = refused(account(status=status), create())
    assert (failure.reason, failure.metadata) == ("ORDER_NOT_PAYABLE", {"status": status})


@pytest.mark.parametrize("expected", [Money(4_249, "GBP"), Money(4_250, "EUR")])
def test_create_with_another_expected_amount_is_refused(expected: Money) -> None:
    """The caller's expected amount must equal the order's total, in amount and currency."""
    failure = refused(account(), create(expected=expected))
    assert (failure.reason, failure.metadata) == (
        "PAYMENT_AMOUNT_MISMATCH",
        {"expected": "42.50 GBP"},
    )
    assert decide(account(), create(expected=TOTAL), NOON).record == account(payment())


@pytest.mark.parametrize("status", SETTLED)
def test_create_repeat_with_a_deleted_key_changes_nothing(status: Status) -> None:
    """The operation's natural key is permanent: the request that made it makes no second one, years
    later.
    """
    before = account(payment(status), status=OrderStatus.DELIVERED)
    assert (
        decide(before, create(payment_id=numbered(2, 9), operation_id=numbered(3, 9)), LATER).record
        is before
    )


# --- reports of processors


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
    its = only(decided.record)
    assert (its.status, its.authorized, its.captured) == (Status.AUTHORIZED, TOTAL.minor, 0)
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
    [fact] = outcome_events(decided)
    assert isinstance(fact, PaymentConfirmed)
    assert fact.payment.attempt == 1


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
    its = payment(try_number=before + 1)
    decided = decide(account(*earlier, its), settle(answer), LATER)
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
    its = payment(attempt=2)
    decided = decide(
        account(*earlier, its, attempt=2, version=4), settle(Declined("insufficient_funds")), LATER
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
    assert not again.facts


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
    before, its = only(first), only(decided.record)
    [stored] = its.operations[0].contradictions
    assert its == replace(
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
    assert not decided.facts
    assert (
        decide(decided.record, settle(reported_outcome, key="again"), LATER).record
        is decided.record
    )


def test_report_under_a_reused_event_id_is_stored_only() -> None:
    """Also for an open operation, the report is stored as evidence, and posts nothing."""
    decided = decide(account(payment()), settle(Succeeded("ref-1"), reused=True), LATER)
    its = only(decided.record)
    assert (its.status, its.operations[0].outcome, len(its.operations[0].contradictions)) == (
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
    its = only(decided.record)
    assert (its.status, its.version, its.operations) == (
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


# --- lost answers


def test_lost_answer_makes_the_outcome_unknown() -> None:
    """No caller may pay again with another key while the charge's outcome is unknown; it is looked
    up at once.
    """
    decided = decide(account(payment()), record_unknown(), LATER)
    its = only(decided.record)
    assert its.operations == (operation(Outcome.UNKNOWN, next_lookup_time=LATER),)
    assert (its.status, decided.history[0].reason) == (Status.PENDING, "OUTCOME_UNKNOWN")
    assert not decided.facts
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


# --- capturing


def test_capture_is_stored_as_requested_first() -> None:
    """The payment stays authorized until the processor has answered; then it is captured, and an
    event is published.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER)
    its = only(requested.record)
    assert (its.status, its.version, its.operations[1].kind, its.operations[1].amount) == (
        Status.AUTHORIZED,
        3,
        Kind.CAPTURE,
        TOTAL.minor,
    )
    assert not requested.facts
    done = decide(requested.record, settle(Succeeded("ref-2"), its.operations[1].id), LATER)
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
    its = only(declined_.record)
    assert (its.status, its.decline_code, its.operations[1].failure_code) == (
        Status.AUTHORIZED,
        None,
        "insufficient_funds",
    )
    assert not declined_.facts
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
    its = only(decided.record)
    assert (its.status, its.decline_code, its.operations[1].failure_code) == (
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
    its = only(decided.record)
    assert (its.status, its.captured, len(its.operations[1].contradictions)) == (
        Status.VOIDED,
        0,
        1,
    )


@pytest.mark.parametrize("known", [True, False])
def test_forged_order_version_is_refused(known: bool) -> None:
    """An order's event of version 2^60 is not stored: the true one after it still counts."""
    before = account() if known else None
    with pytest.raises(Refused) as caught:
        decide(before, apply_order(version=2**60), NOON)
    assert caught.value.reason == "VERSION_JUMP"
    assert decide(before, apply_order(version=3), NOON).record.order.version == 3
