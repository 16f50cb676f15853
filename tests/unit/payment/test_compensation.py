"""Money that the order does not cost goes back by itself, by tables: which fact comes second,
and what is open meanwhile.
"""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import DEAD, OPEN, Cause, Kind, OrderStatus, Outcome, Status
from payment_svc.model import (
    AUTHORIZATION_EXPIRED,
    Account,
    Answer,
    Confirmed,
    Declined,
    Operation,
    Payment,
    RefundSettled,
    Succeeded,
)
from tests.unit.payment.samples import (
    LATER,
    OPERATION,
    TOTAL,
    account,
    ask,
    back,
    capture,
    lose,
    news,
    note,
    numbered,
    operation,
    order,
    payment,
    refund,
    returned,
    settle,
)


def cancelled(version: int = 2) -> Envelope[Any]:
    return note(version, version=version, status=OrderStatus.CANCELLED)


def costs(
    minor: int,
    version: int = 2,
    status: OrderStatus = OrderStatus.CONFIRMED,
) -> Envelope[Any]:
    """The order's news that it costs so much now."""
    return note(version, version=version, status=status, total=Money(minor, TOTAL.currency))


def only(record: Account) -> Payment:
    [its] = record.payments
    return its


def going_back(record: Account) -> list[tuple[Kind, int, str | None]]:
    """What is asked of the processor by the order's cause, and still open."""
    return [
        (o.kind, o.amount, o.cause_id)
        for p in record.payments
        for o in p.operations
        if o.cause is Cause.ORDER and o.outcome in OPEN
    ]


def newest(record: Account) -> Operation:
    return only(record).operations[-1]


@pytest.mark.parametrize("status", OrderStatus)
def test_captured_money_goes_back_when_the_order_dies_and_stays_otherwise(
    status: OrderStatus,
) -> None:
    """Cancelled and failed cost nothing, whatever the total says; every other status, one that
    we do not know included, costs its total.
    """
    decided = decide(account(payment(Status.CAPTURED)), note(2, version=2, status=status), LATER)
    if status not in DEAD:
        assert going_back(decided.record) == []
        assert not decided.history
        return
    its = only(decided.record)
    assert going_back(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    assert (its.status, its.refund_pending, its.version) == (Status.CAPTURED, TOTAL.minor, 3)
    assert newest(decided.record).ask_time == LATER
    [change] = decided.history
    assert (change.reason, change.cause, change.outcome) == (
        "REFUND_REQUESTED",
        "e2",
        Outcome.REQUESTED,
    )
    assert not decided.facts


@pytest.mark.parametrize("status", OrderStatus)
def test_an_authorisation_is_voided_when_the_order_dies(status: OrderStatus) -> None:
    """It was never captured: given back, and nothing refunded."""
    decided = decide(account(payment(Status.AUTHORIZED)), note(2, version=2, status=status), LATER)
    wanted = [(Kind.VOID, TOTAL.minor, "version:2")] if status in DEAD else []
    assert going_back(decided.record) == wanted
    assert [change.reason for change in decided.history] == ["VOID_REQUESTED"] * len(wanted)


@pytest.mark.parametrize(
    "status",
    [s for s in Status if s not in (Status.AUTHORIZED, Status.CAPTURED, Status.PARTIALLY_REFUNDED)],
)
def test_a_payment_without_our_money_has_nothing_to_give_back(status: Status) -> None:
    """Pending, declined, failed, voided, refunded, free: the order's death asks nobody for
    anything.
    """
    decided = decide(account(payment(status)), cancelled(), LATER)
    assert going_back(decided.record) == []


@pytest.mark.parametrize("unknown", [False, True])
def test_a_charge_that_is_open_at_death_is_settled_first(unknown: bool) -> None:
    """In flight or unknown: nothing is asked yet; when the success comes it is booked, told, and
    refunded in the same decision.
    """
    its = payment(operations=(operation(Outcome.UNKNOWN if unknown else Outcome.REQUESTED),))
    dead = decide(account(its), cancelled(), LATER).record
    assert going_back(dead) == []
    decided = decide(dead, settle(Succeeded("ref-1")), LATER)
    assert going_back(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    assert [change.reason for change in decided.history] == ["CAPTURED", "REFUND_REQUESTED"]
    assert [type(fact) for fact in news(decided)] == [Confirmed]
    assert going_back(decide(dead, settle(Declined("insufficient_funds")), LATER).record) == []


def test_a_capture_that_is_open_at_death_is_settled_first() -> None:
    """Captured: refunded. Declined: the authorisation is voided, unless it has expired."""
    capturing = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    dead = decide(capturing, cancelled(), LATER).record
    assert going_back(dead) == []
    taken = decide(dead, settle(Succeeded("ref-2"), numbered(3, 201)), LATER)
    assert going_back(taken.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    not_taken = decide(dead, settle(Declined("insufficient_funds"), numbered(3, 201)), LATER)
    assert going_back(not_taken.record) == [(Kind.VOID, TOTAL.minor, "version:2")]
    expired = decide(dead, settle(Declined(AUTHORIZATION_EXPIRED), numbered(3, 201)), LATER)
    assert going_back(expired.record) == []
    assert only(expired.record).status is Status.VOIDED


def test_an_authorisation_for_a_dead_order_is_voided_at_once() -> None:
    """The order died while the card was asked."""
    its = payment(operations=(operation(kind=Kind.AUTHORIZE),))
    dead = decide(account(its), cancelled(), LATER).record
    decided = decide(dead, settle(Succeeded("ref-1")), LATER)
    assert going_back(decided.record) == [(Kind.VOID, TOTAL.minor, "version:2")]


def test_money_of_another_attempt_goes_back() -> None:
    """The order failed and was tried again: what the first attempt paid is not the second's."""
    retried = decide(account(payment(Status.CAPTURED)), note(3, version=3, attempt=2), LATER)
    assert going_back(retried.record) == [(Kind.REFUND, TOTAL.minor, "version:3")]
    late = decide(account(payment(), attempt=2, version=3), settle(Succeeded("ref-1")), LATER)
    assert going_back(late.record) == [(Kind.REFUND, TOTAL.minor, "version:3")]


def test_cancelled_units_are_refunded_by_what_the_order_costs_less() -> None:
    """Each version by its difference to what has gone back before; versions told twice or late
    add nothing; the death takes the rest.
    """
    record, told = account(payment(Status.CAPTURED)), []
    for command in (
        costs(4_000),
        costs(4_000),
        costs(3_000, 4),
        costs(3_500, 3),
        cancelled(5),
        cancelled(5),
    ):
        record = decide(record, command, LATER).record
        told.append(sum(amount for _, amount, _ in going_back(record)))
    assert told == [250, 250, 1_250, 1_250, 4_250, 4_250]
    assert [cause_id for _, _, cause_id in going_back(record)] == [
        "version:2",
        "version:4",
        "version:5",
    ]


def test_units_cancelled_while_the_payment_was_in_flight_are_refunded_when_it_is_captured() -> None:
    """More was captured than the order costs by now: no mismatch; the rest goes back."""
    record = decide(account(payment()), costs(4_000, status=OrderStatus.PENDING), LATER).record
    decided = decide(record, settle(Succeeded("ref-1")), LATER)
    assert going_back(decided.record) == [(Kind.REFUND, 250, "version:2")]
    [confirmed] = news(decided)
    assert isinstance(confirmed, Confirmed)
    assert confirmed.payment.captured == TOTAL.minor


def test_units_cancelled_before_a_capture_are_not_captured() -> None:
    """What was set aside for them is not taken at all; where the order costs more, no more than
    was set aside is.
    """
    record = decide(
        account(payment(Status.AUTHORIZED)), costs(4_000, status=OrderStatus.PENDING), LATER
    ).record
    record = decide(record, capture(), LATER).record
    assert newest(record).amount == 4_000
    decided = decide(record, settle(Succeeded("ref-2"), numbered(3, 201)), LATER)
    assert (only(decided.record).captured, only(decided.record).authorized) == (4_000, TOTAL.minor)
    assert going_back(decided.record) == []
    assert (
        newest(
            decide(
                account(payment(Status.AUTHORIZED), total=Money(9_999, "GBP")), capture(), LATER
            ).record
        ).amount
        == TOTAL.minor
    )


def test_capture_takes_what_the_order_service_answers() -> None:
    """A newer version than any event told of decides; an older answer does not. The version is
    stored with the payment.
    """
    authorized = account(payment(Status.AUTHORIZED))
    newer = order(version=2, total=Money(4_000, "GBP"))
    asked = decide(authorized, capture(order=newer), LATER).record
    assert (newest(asked).amount, only(asked).order_version, asked.order) == (4_000, 2, newer)
    ahead = decide(authorized, costs(3_000, 3, status=OrderStatus.PENDING), LATER).record
    asked = decide(ahead, capture(order=newer), LATER).record
    assert (newest(asked).amount, only(asked).order_version) == (3_000, 3)


def test_expected_amount_holds_for_a_capture_under_way() -> None:
    """A second request that waits for the same answer states the same amount, or is refused."""
    under_way = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert decide(under_way, capture(2, expected=TOTAL), LATER).record is under_way
    with pytest.raises(Refused) as refused:
        decide(under_way, capture(3, expected=Money(1, "GBP")), LATER)
    assert refused.value.reason == "PAYMENT_AMOUNT_MISMATCH"


def test_nothing_is_captured_for_a_dead_order() -> None:
    """Also where the processor has refused to void the authorisation."""
    record = decide(account(payment(Status.AUTHORIZED)), cancelled(), LATER).record
    record = decide(record, settle(Declined("processing_error"), newest(record).id), LATER).record
    with pytest.raises(Refused) as refused:
        decide(record, capture(), LATER)
    assert (refused.value.reason, refused.value.metadata["status"]) == (
        "ORDER_NOT_PAYABLE",
        "cancelled",
    )


def test_a_refund_by_request_counts_under_the_ceiling_and_not_as_the_orders() -> None:
    """A gift of 10.00, then units worth 2.50 are cancelled: both go back. At the death only what
    is left does.
    """
    gift = back(1_000, Outcome.SUCCEEDED)
    its = payment(Status.PARTIALLY_REFUNDED, refunded=1_000)
    record = account(replace(its, operations=(*its.operations, gift)), status=OrderStatus.CONFIRMED)
    record = decide(record, costs(4_000), LATER).record
    assert going_back(record) == [(Kind.REFUND, 250, "version:2")]
    record = decide(record, cancelled(3), LATER).record
    assert going_back(record)[1:] == [(Kind.REFUND, 3_000, "version:3")]


def test_what_another_refund_held_goes_back_when_that_one_fails() -> None:
    """The order died while a refund by request was on its way: the rest at once, and what that
    one held when the processor refuses it, as a second one of the same version.
    """
    record = decide(account(payment(Status.CAPTURED)), refund(minor=1_000), LATER).record
    record = decide(record, cancelled(), LATER).record
    assert going_back(record) == [(Kind.REFUND, 3_250, "version:2")]
    decided = decide(record, settle(Declined("card_closed"), numbered(3, 401)), LATER)
    assert going_back(decided.record) == [
        (Kind.REFUND, 3_250, "version:2"),
        (Kind.REFUND, 1_000, "version:2:2"),
    ]
    assert [type(fact) for fact in decided.facts] == [RefundSettled]


def test_a_refused_refund_is_not_asked_for_in_a_circle() -> None:
    """Nothing more for this version, whatever happens; somebody may ask by hand, and the order's
    next version asks for all that is owed.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    record = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    assert going_back(record) == []
    assert only(record).refund_pending == 0
    for command in (
        returned(),
        settle(
            Succeeded("ref-r"),
            decide(record, returned(), LATER).record.payments[0].operations[-1].id,
        ),
    ):
        record = decide(record, command, LATER).record
        assert going_back(record) == []
    later = decide(record, costs(3_000, 3), LATER).record
    assert going_back(later) == [(Kind.REFUND, 1_250, "version:3")]
    by_hand = decide(record, refund(minor=250), LATER).record
    assert only(by_hand).refund_pending == 250


def test_what_was_repaired_by_hand_is_not_given_twice() -> None:
    """The processor refuses 2.50; somebody gives them back by request. What is cancelled later
    costs its own share alone, and so on to the death; a request that fails in its turn counts
    for nothing.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    record = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    asked = decide(record, refund(minor=250), LATER).record
    repaired = decide(asked, settle(Succeeded("ref-h"), numbered(3, 401)), LATER).record
    for by_then in (asked, repaired):
        assert going_back(decide(by_then, costs(3_000, 3), LATER).record) == [
            (Kind.REFUND, 1_000, "version:3")
        ]
        assert going_back(decide(by_then, cancelled(3), LATER).record) == [
            (Kind.REFUND, 4_000, "version:3")
        ]
    in_vain = decide(asked, settle(Declined("card_closed"), numbered(3, 401)), LATER).record
    assert going_back(decide(in_vain, costs(3_000, 3), LATER).record) == [
        (Kind.REFUND, 1_250, "version:3")
    ]


def test_what_is_given_beyond_a_repair_is_a_favour() -> None:
    """The processor refuses 2.50. Whoever gives back 4.00 has repaired that and given 1.50; and
    where the order's next refund has asked for all that is owed, a later request repairs
    nothing. Either way units that are cancelled then are refunded with their whole share.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    refused = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    repaired = decide(refused, refund(minor=400), LATER).record
    assert going_back(decide(repaired, costs(3_000, 3), LATER).record) == [
        (Kind.REFUND, 1_000, "version:3")
    ]
    anew = decide(refused, costs(3_000, 3), LATER).record
    assert going_back(anew) == [(Kind.REFUND, 1_250, "version:3")]
    favoured = decide(
        decide(anew, settle(Succeeded("ref-r"), newest(anew).id), LATER).record,
        refund(minor=100),
        LATER,
    ).record
    assert going_back(decide(favoured, costs(2_500, 4), LATER).record) == [
        (Kind.REFUND, 500, "version:4")
    ]


def test_a_repair_that_is_refused_in_its_turn_repairs_nothing() -> None:
    """The processor refuses 2.50; while somebody gives them by hand the order comes to cost
    10.00 less, which it refuses too, and then the repair. All 12.50 may be repaired by hand
    afterwards, and what is cancelled later is refunded with its own share alone.
    """
    minutes = (LATER + timedelta(minutes=n) for n in count())
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), next(minutes)).record
    record = decide(
        record, settle(Declined("card_closed"), newest(record).id, "1"), next(minutes)
    ).record
    record = decide(record, refund(minor=250), next(minutes)).record
    by_hand = newest(record).id
    record = decide(record, costs(3_000, 3), next(minutes)).record
    assert going_back(record) == [(Kind.REFUND, 1_000, "version:3")]
    for number, operation_id in (("2", newest(record).id), ("3", by_hand)):
        record = decide(
            record, settle(Declined("card_closed"), operation_id, number), next(minutes)
        ).record
    assert going_back(record) == []
    record = decide(record, refund(2, minor=1_250), next(minutes)).record
    assert going_back(decide(record, costs(2_500, 4), next(minutes)).record) == [
        (Kind.REFUND, 500, "version:4")
    ]


def test_a_refused_void_is_not_asked_for_in_a_circle() -> None:
    """The authorisation runs out by itself; nothing more is asked of it for this version of the
    order.
    """
    record = decide(account(payment(Status.AUTHORIZED)), cancelled(), LATER).record
    decided = decide(record, settle(Declined("processing_error"), newest(record).id), LATER)
    assert going_back(decided.record) == []
    assert only(decided.record).status is Status.AUTHORIZED


@pytest.mark.parametrize("unknown", [False, True])
def test_what_is_on_its_way_is_not_asked_for_again(unknown: bool) -> None:
    """A refund whose answer is lost counts as given: asked for with its own key by the worker,
    never by a new one.
    """
    record = decide(account(payment(Status.CAPTURED)), cancelled(), LATER).record
    id = newest(record).id
    for command in (lose(id), ask(1, id)) if unknown else (ask(1, id),):
        record = decide(record, command, LATER).record
    assert going_back(record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    decided = decide(record, settle(Succeeded("ref-2"), id), LATER)
    assert (only(decided.record).status, only(decided.record).refunded) == (
        Status.REFUNDED,
        TOTAL.minor,
    )
    assert going_back(decided.record) == []
    [fact] = decided.facts
    assert isinstance(fact, RefundSettled)
    assert (fact.refund.cause, fact.refund.cause_id, fact.refund.amount) == (
        Cause.ORDER,
        "version:2",
        TOTAL.minor,
    )


def test_each_intent_has_an_id_of_its_cause() -> None:
    """Whoever decides it, and however often: the same cause asks the processor with the same
    key, another cause with another.
    """
    record = account(payment(Status.CAPTURED))
    first, again = (newest(decide(record, cancelled(), LATER).record) for _ in range(2))
    assert first.id == again.id != OPERATION
    assert first.requested_by == again.requested_by
    ids = {
        newest(decide(record, command, LATER).record).id
        for command in (cancelled(), cancelled(3), returned(), returned(2))
    }
    assert len(ids) == 4


def test_money_that_is_kept_for_nobody_goes_back_with_whatever_is_heard_next() -> None:
    """An account that says dead and captured: an event that is no news to it is looked at all
    the same.
    """
    kept = account(payment(Status.CAPTURED), status=OrderStatus.FAILED)
    decided = decide(kept, note(1, status=OrderStatus.FAILED), LATER)
    assert going_back(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:1")]
    assert (
        decide(decided.record, note(1, status=OrderStatus.FAILED), LATER).record is decided.record
    )


@pytest.mark.parametrize(
    ("tried", "answer"),
    [(Status.PENDING, Declined("insufficient_funds")), (Status.AUTHORIZED, Succeeded("ref-void"))],
    ids=["declined", "voided"],
)
def test_an_order_that_costs_nothing_by_then_is_paid_by_what_ends_its_last_try(
    tried: Status, answer: Answer
) -> None:
    """What it cost was cancelled while a card was asked: nobody else would pay it, and it would
    expire. Told once.
    """
    before = decide(account(payment(tried)), costs(0, status=OrderStatus.PENDING), LATER).record
    ending = settle(answer, newest(before).id)
    ended = decide(before, ending, LATER)
    [free] = [p for p in ended.record.payments if p.status is Status.NOT_REQUIRED]
    its = (free.id, free.attempt, free.try_number, free.amount)
    assert its == (ending.command.payment_id, 1, 2, 0)
    assert news(ended) == [Confirmed(free, ended.history[-1])]
    assert [(c.payment_id, c.new) for c in ended.history][-1] == (free.id, Status.NOT_REQUIRED)
    assert decide(ended.record, ending, LATER).record is ended.record
