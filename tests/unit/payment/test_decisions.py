"""What an order's account becomes, by tables: each verb in each situation."""

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


# --- what the order service tells


def test_a_first_event_opens_the_account() -> None:
    """From then on it is known what may be charged; nobody is told of anything."""
    decided = decide(None, apply_order(), NOON)
    assert decided.record == account()
    assert not decided.history
    assert not decided.facts


@pytest.mark.parametrize(("version", "applied"), [(1, False), (2, False), (3, True)])
def test_a_later_version_of_the_order_replaces_the_earlier(version: int, applied: bool) -> None:
    """The order's version decides what is news, not the order of delivery; the payments stay."""
    before = account(payment(), version=2)
    decided = decide(before, apply_order(version=version, status=OrderStatus.CANCELLED), LATER)
    assert decided.record == (
        account(payment(), version=3, status=OrderStatus.CANCELLED) if applied else before
    )
    assert (decided.record is before) is not applied


def test_an_order_of_total_zero_is_paid_by_its_event() -> None:
    """A not_required payment with its row of history, and the world is told: no processor, no
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


def test_an_attempt_of_total_zero_is_paid_once() -> None:
    """Another event of the same attempt, and a call, find the payment there; the next attempt
    gets one of its own.
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
    """All its units were cancelled while the card was asked: who pays again is told how that
    stands, and is not answered with it.
    """
    another = create(key="create:another")
    assert refused(account(payment(status), total=FREE), another).reason == reason


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status is not OrderStatus.PENDING]
)
def test_an_order_of_total_zero_that_waits_for_nothing_gets_no_payment(status: OrderStatus) -> None:
    """Its pending event came late, or the order died first: there is nothing to confirm any
    more.
    """
    decided = decide(None, apply_order(total=FREE, status=status), NOON)
    assert decided.record == account(total=FREE, status=status)
    assert not decided.facts


# --- creating


@pytest.mark.parametrize(("manual", "kind"), [(False, Kind.CHARGE), (True, Kind.AUTHORIZE)])
def test_operation_is_stored_before_the_processor_call(manual: bool, kind: Kind) -> None:
    """The payment is pending over the order's total, its operation requested; it is due for
    asking once the patience is over.
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
    """The account opens with the answer of the order service; the event, when it comes, is no
    news.
    """
    decided = decide(None, create(order=order()), NOON)
    assert decided.record == account(payment())
    assert decide(decided.record, apply_order(), LATER).record is decided.record


def test_without_either_there_is_no_order() -> None:
    """Nothing is charged for an order that nobody has told of."""
    failure = refused(None, create())
    assert (type(failure), failure.reason) == (NotFound, "ORDER_NOT_FOUND")


def test_the_order_service_revives_an_account_and_an_old_answer_does_not() -> None:
    """A retry of a failed order can be paid though its event is still on its way; an answer
    older than the account is not believed.
    """
    closed = account(version=5, status=OrderStatus.FAILED)
    retried = decide(closed, create(order=order(version=6, attempt=2)), LATER)
    assert only(retried.record).attempt == 2
    assert refused(closed, create(order=order(version=4))).reason == "ORDER_NOT_PAYABLE"


@pytest.mark.parametrize("status", Status)
def test_one_live_payment_for_each_attempt(status: Status) -> None:
    """A second payment is refused and named while the first stands; after a finally failed one
    nothing is payable; after a declined or voided one the next try is made.
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


def test_a_payment_of_another_attempt_is_not_in_the_way() -> None:
    """Each attempt of the order is paid for itself."""
    decided = decide(account(payment(Status.CAPTURED), attempt=2, version=4), create(2), LATER)
    assert [(p.attempt, p.try_number) for p in decided.record.payments] == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status is not OrderStatus.PENDING]
)
def test_only_a_pending_order_is_paid_for(status: OrderStatus) -> None:
    """Every other status, one that we do not know included, is refused by its name."""
    failure = refused(account(status=status), create())
    assert (failure.reason, failure.metadata) == ("ORDER_NOT_PAYABLE", {"status": status})


@pytest.mark.parametrize("expected", [Money(4_249, "GBP"), Money(4_250, "EUR")])
def test_create_with_another_expected_amount_is_refused(expected: Money) -> None:
    """The amount is the order's total, and the caller's idea of it must be the same, in amount
    and currency.
    """
    failure = refused(account(), create(expected=expected))
    assert (failure.reason, failure.metadata) == (
        "PAYMENT_AMOUNT_MISMATCH",
        {"expected": "42.50 GBP"},
    )
    assert decide(account(), create(expected=TOTAL), NOON).record == account(payment())


@pytest.mark.parametrize("status", SETTLED)
def test_create_repeat_with_a_deleted_key_changes_nothing(status: Status) -> None:
    """What holds for ever is the operation's natural key: the request that made it makes no
    second one, years later.
    """
    before = account(payment(status), status=OrderStatus.DELIVERED)
    assert (
        decide(before, create(payment_id=numbered(2, 9), operation_id=numbered(3, 9)), LATER).record
        is before
    )


# --- what processors tell


def test_a_charge_that_succeeds_captures_and_confirms() -> None:
    """pending -> captured in one version, all money set aside and taken, the operation settled;
    the world is told once.
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


def test_an_authorisation_that_succeeds_confirms_nothing_yet() -> None:
    """pending -> authorized: nothing is captured, and the order goes on waiting."""
    requested = payment(operations=(operation(kind=Kind.AUTHORIZE),))
    decided = decide(account(requested), settle(Succeeded("ref-1")), LATER)
    its = only(decided.record)
    assert (its.status, its.authorized, its.captured) == (Status.AUTHORIZED, TOTAL.minor, 0)
    assert not outcome_events(decided)


@pytest.mark.parametrize("order_status", OrderStatus)
def test_charge_of_a_closed_order_is_stored_and_published(order_status: OrderStatus) -> None:
    """The truth about money does not depend on the order: captured is captured, for the attempt
    that it was asked for.
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
def test_a_decline_is_final_by_its_code_or_at_the_third_try(
    before: int, answer: Declined, status: Status
) -> None:
    """Before that the try ends alone and nobody is told; a try that no card was asked for never
    is the last.
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
    """A processor that was down, or a mistyped token, does not use up the customer's three
    tries.
    """
    earlier = [declined(number, code) for number in range(1, DECLINES_MAX + 2)]
    decided = decide(
        account(*earlier, payment(try_number=9)), settle(Declined("insufficient_funds")), LATER
    )
    assert decided.record.payments[-1].status is Status.DECLINED


def test_declines_of_another_attempt_do_not_count() -> None:
    """Each attempt of the order has its own three tries."""
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
    """Answer, webhook and look-up may all tell the same, in any order: the first is booked, the
    others change nothing.
    """
    first = decide(account(payment()), settle(answer), LATER)
    again = decide(first.record, settle(answer, key="webhook"), LATER)
    assert again.record is first.record
    assert not again.facts


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (Succeeded("ref-1"), Declined("insufficient_funds")),
        (Declined("insufficient_funds"), Succeeded("ref-1")),
        (Succeeded("ref-1"), Succeeded("ref-2")),
    ],
)
def test_contradiction_of_a_processor_is_stored_once(
    said: Succeeded | Declined, says: Succeeded | Declined
) -> None:
    """What is settled stays; what is said against it is stored with its operation, under its
    payload's digest, once.
    """
    first = decide(account(payment()), settle(said), LATER).record
    decided = decide(first, settle(says, key="webhook"), LATER)
    before, its = only(first), only(decided.record)
    [stored] = its.operations[0].contradictions
    assert its == replace(
        before,
        version=before.version + 1,
        operations=(replace(before.operations[0], contradictions=(stored,)),),
    )
    assert (stored.outcome, stored.reference, stored.report_id, stored.payload_sha256) == (
        Outcome.SUCCEEDED if isinstance(says, Succeeded) else Outcome.FAILED,
        says.reference,
        "w1",
        answer_hash(OPERATION, says),
    )
    assert [transition.reason for transition in decided.history] == ["CONTRADICTED"]
    assert not decided.facts
    assert decide(decided.record, settle(says, key="again"), LATER).record is decided.record


def test_report_under_a_reused_event_id_is_stored_only() -> None:
    """Also of an operation that is open: it is evidence, and nothing is booked of it."""
    decided = decide(account(payment()), settle(Succeeded("ref-1"), reused=True), LATER)
    its = only(decided.record)
    assert (its.status, its.operations[0].outcome, len(its.operations[0].contradictions)) == (
        Status.PENDING,
        Outcome.REQUESTED,
        1,
    )


def test_contradictions_of_an_operation_are_bounded() -> None:
    """Twenty are stored; what comes after them changes nothing."""
    record = decide(account(payment()), settle(Succeeded("ref-1")), LATER).record
    for number in range(25):
        record = decide(record, settle(Succeeded(f"other-{number}")), LATER).record
    assert (len(only(record).operations[0].contradictions), only(record).captured) == (
        20,
        TOTAL.minor,
    )


def test_resolved_contradiction_keeps_its_first_note() -> None:
    """A resolution moves no money; a second one, and one of an unknown contradiction, change
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
    """The processor's name for it is kept, and it stays due for asking: the webhook may never
    come.
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
    """The webhook was faster than the answer."""
    before = account(payment(status))
    assert decide(before, settle(Pending("ref-1")), LATER).record is before


# --- lost answers


def test_lost_answer_makes_the_outcome_unknown() -> None:
    """Nobody may try again with another key while nobody knows whether the card was charged; it
    is asked about at once.
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
    """A webhook told while the answer was waited for: that it never came changes nothing."""
    settled = decide(account(payment()), settle(answer), LATER).record
    assert decide(settled, record_unknown(), LATER).record is settled


def test_lookup_is_made_by_one_replica() -> None:
    """The ask is counted and the next one put off, and nothing changes that anybody sees; the
    same ask again is no news.
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
    """An operation that no payment knows is NOT_FOUND, whoever speaks of it."""
    failure = refused(record, command)
    assert (type(failure), failure.reason) == (NotFound, "PAYMENT_NOT_FOUND")


# --- capturing


def test_capture_is_stored_as_requested_first() -> None:
    """authorized stays until the processor has answered; then captured, and the world is told."""
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


def test_a_declined_capture_leaves_the_authorisation() -> None:
    """The money stays set aside, nobody is told, and another capture may be asked for."""
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
    """The processor answers a capture or a void with authorization_expired: the payment is
    voided, and another one may be made.
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
    """The second request finds the first under way and waits for the same answer; its own
    operation is never made.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert decide(requested, capture(2), LATER).record is requested


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.AUTHORIZED])
def test_only_what_is_authorised_is_captured(status: Status) -> None:
    """Every other status is refused, with what it may become."""
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
def test_a_capture_names_a_payment_and_the_version_that_was_looked_at(
    record: Account | None, changes: dict[str, Any], kind: type[Failure]
) -> None:
    """An unknown payment and a stale version are refused before anything else."""
    assert type(refused(record, capture(**changes))) is kind


def test_capture_repeat_with_a_deleted_key_changes_nothing() -> None:
    """The operation's natural key again: the request that captured captures no second time, and
    gets no error either.
    """
    requested = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    done = decide(requested, settle(Succeeded("ref-2"), numbered(3, 201)), LATER).record
    assert decide(done, capture(operation_id=numbered(3, 299)), LATER).record is done


def test_impossible_answer_is_stored_as_a_contradiction() -> None:
    """A payment that was given up cannot be captured by a late success: the money is not ours to
    book, and an operator must look.
    """
    voided = payment(Status.VOIDED)
    late = replace(operation(), id=numbered(3, 201), kind=Kind.CAPTURE, requested_by="capture:1")
    decided = decide(
        account(replace(voided, operations=(*voided.operations, late))),
        settle(Succeeded("r"), late.id),
        LATER,
    )
    its = only(decided.record)
    assert (its.status, its.captured, len(its.operations[1].contradictions)) == (
        Status.VOIDED,
        0,
        1,
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_forged_order_version_is_refused(known: bool) -> None:
    """An order's event of version 2^60 is not stored: the true one after it still counts."""
    before = account() if known else None
    with pytest.raises(Refused) as caught:
        decide(before, apply_order(version=2**60), NOON)
    assert caught.value.reason == "VERSION_JUMP"
    assert decide(before, apply_order(version=3), NOON).record.order.version == 3
