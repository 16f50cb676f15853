"""Automatic refunds of money beyond the order's cost, by tables: the order of the events, and the
open operations.
"""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from chassis.values.money import Money
from chassis.write.apply_commands import apply_commands
from chassis.write.workspace import Workspace
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import CLOSED, OPEN, Cause, Kind, Outcome, Status
from payment_svc.model.answers import AUTHORIZATION_EXPIRED, Answer, Declined, Succeeded
from payment_svc.model.events import PaymentConfirmed, RefundSettled
from payment_svc.model.records import Account, Operation, Payment
from tests.unit.payment.samples import (
    LATER,
    OPERATION,
    TOTAL,
    OrderStatus,
    account,
    apply_order,
    capture,
    numbered,
    operation,
    order,
    outcome_events,
    payment,
    record_unknown,
    refund,
    refund_operation,
    retry_lookup,
    returned,
    settle,
)


def cancelled(version: int = 2) -> Envelope[Any]:
    return apply_order(version, version=version, status=OrderStatus.CANCELLED)


def costs(
    minor: int,
    version: int = 2,
    status: OrderStatus = OrderStatus.CONFIRMED,
) -> Envelope[Any]:
    """Returns the order service's event with this cost of the order."""
    return apply_order(version, version=version, status=status, total=Money(minor, TOTAL.currency))


def only(record: Account) -> Payment:
    [payment] = record.payments
    return payment


def automatic_operations(record: Account) -> list[tuple[Kind, int, str | None]]:
    """Returns the open operations that the order's cause requested."""
    return [
        (o.kind, o.amount, o.cause_id)
        for p in record.payments
        for o in p.operations
        if o.cause is Cause.ORDER and o.outcome in OPEN
    ]


def newest(record: Account) -> Operation:
    return only(record).operations[-1]


@pytest.mark.parametrize("status", OrderStatus)
def test_captured_money_is_refunded_only_for_closed_orders(
    status: OrderStatus,
) -> None:
    """Cancelled and failed orders cost nothing, for any total. Orders in every other status, an
    unknown one included, cost their total.
    """
    decided = decide(
        account(payment(Status.CAPTURED)), apply_order(2, version=2, status=status), LATER
    )
    if status not in CLOSED:
        assert automatic_operations(decided.record) == []
        assert not decided.history
        return
    after = only(decided.record)
    assert automatic_operations(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    assert (after.status, after.refund_pending, after.version) == (Status.CAPTURED, TOTAL.minor, 3)
    assert newest(decided.record).next_lookup_time == LATER
    [transition] = decided.history
    assert (transition.reason, transition.cause, transition.outcome) == (
        "REFUND_REQUESTED",
        "e2",
        Outcome.REQUESTED,
    )
    assert not decided.events


@pytest.mark.parametrize("status", OrderStatus)
def test_authorization_of_a_closed_order_is_voided(status: OrderStatus) -> None:
    """Its amount was never captured: it is voided, and nothing is refunded."""
    decided = decide(
        account(payment(Status.AUTHORIZED)), apply_order(2, version=2, status=status), LATER
    )
    wanted = [(Kind.VOID, TOTAL.minor, "version:2")] if status in CLOSED else []
    assert automatic_operations(decided.record) == wanted
    assert [transition.reason for transition in decided.history] == ["VOID_REQUESTED"] * len(wanted)


@pytest.mark.parametrize(
    "status",
    [s for s in Status if s not in (Status.AUTHORIZED, Status.CAPTURED, Status.PARTIALLY_REFUNDED)],
)
def test_payment_without_captured_money_has_no_refund(status: Status) -> None:
    """A pending, declined, failed, voided, refunded or free payment: the order's cancellation
    requests no operation.
    """
    decided = decide(account(payment(status)), cancelled(), LATER)
    assert automatic_operations(decided.record) == []


@pytest.mark.parametrize("unknown", [False, True])
def test_open_charge_of_a_closed_order_is_settled_first(unknown: bool) -> None:
    """The charge is in flight or unknown: no operation is requested yet. When it succeeds, one
    decision posts, publishes and refunds it.
    """
    pending = payment(operations=(operation(Outcome.UNKNOWN if unknown else Outcome.REQUESTED),))
    closed = decide(account(pending), cancelled(), LATER).record
    assert automatic_operations(closed) == []
    decided = decide(closed, settle(Succeeded("ref-1")), LATER)
    assert automatic_operations(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    assert [transition.reason for transition in decided.history] == ["CAPTURED", "REFUND_REQUESTED"]
    assert [type(event) for event in outcome_events(decided)] == [PaymentConfirmed]
    assert (
        automatic_operations(decide(closed, settle(Declined("insufficient_funds")), LATER).record)
        == []
    )


def test_open_capture_of_a_closed_order_is_settled_first() -> None:
    """A captured payment is refunded. After a decline the authorisation is voided, unless it has
    expired.
    """
    capturing = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    closed = decide(capturing, cancelled(), LATER).record
    assert automatic_operations(closed) == []
    taken = decide(closed, settle(Succeeded("ref-2"), numbered(3, 201)), LATER)
    assert automatic_operations(taken.record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    not_taken = decide(closed, settle(Declined("insufficient_funds"), numbered(3, 201)), LATER)
    assert automatic_operations(not_taken.record) == [(Kind.VOID, TOTAL.minor, "version:2")]
    expired = decide(closed, settle(Declined(AUTHORIZATION_EXPIRED), numbered(3, 201)), LATER)
    assert automatic_operations(expired.record) == []
    assert only(expired.record).status is Status.VOIDED


def test_late_authorization_of_a_closed_order_is_voided() -> None:
    """The order was cancelled during the call to the processor."""
    pending = payment(operations=(operation(kind=Kind.AUTHORIZE),))
    closed = decide(account(pending), cancelled(), LATER).record
    decided = decide(closed, settle(Succeeded("ref-1")), LATER)
    assert automatic_operations(decided.record) == [(Kind.VOID, TOTAL.minor, "version:2")]


def test_money_of_another_attempt_is_refunded() -> None:
    """The order failed and was retried: the first attempt's payment does not pay the second."""
    retried = decide(account(payment(Status.CAPTURED)), apply_order(3, version=3, attempt=2), LATER)
    assert automatic_operations(retried.record) == [(Kind.REFUND, TOTAL.minor, "version:3")]
    late_charge = decide(
        account(payment(), attempt=2, version=3), settle(Succeeded("ref-1")), LATER
    )
    assert automatic_operations(late_charge.record) == [(Kind.REFUND, TOTAL.minor, "version:3")]


def test_cancelled_units_are_refunded_by_the_lower_cost() -> None:
    """Each version is refunded by its difference to the earlier refunds. Repeated or late versions
    add nothing, and the cancellation refunds the rest.
    """
    record, published_refunds = account(payment(Status.CAPTURED)), []
    for command in (
        costs(4_000),
        costs(4_000),
        costs(3_000, 4),
        costs(3_500, 3),
        cancelled(5),
        cancelled(5),
    ):
        record = decide(record, command, LATER).record
        published_refunds.append(sum(amount for _, amount, _ in automatic_operations(record)))
    assert published_refunds == [250, 250, 1_250, 1_250, 4_250, 4_250]
    assert [cause_id for _, _, cause_id in automatic_operations(record)] == [
        "version:2",
        "version:4",
        "version:5",
    ]


def test_units_cancelled_during_a_charge_are_refunded() -> None:
    """More is captured than the order now costs: that is no mismatch, and the rest is refunded."""
    record = decide(account(payment()), costs(4_000, status=OrderStatus.PENDING), LATER).record
    decided = decide(record, settle(Succeeded("ref-1")), LATER)
    assert automatic_operations(decided.record) == [(Kind.REFUND, 250, "version:2")]
    [confirmed] = outcome_events(decided)
    assert isinstance(confirmed, PaymentConfirmed)
    assert confirmed.payment.captured == TOTAL.minor


def test_units_cancelled_before_a_capture_are_not_captured() -> None:
    """The authorised amount of those units is not captured. If the order costs more, only the
    authorised amount is captured.
    """
    record = decide(
        account(payment(Status.AUTHORIZED)), costs(4_000, status=OrderStatus.PENDING), LATER
    ).record
    record = decide(record, capture(), LATER).record
    assert newest(record).amount == 4_000
    decided = decide(record, settle(Succeeded("ref-2"), numbered(3, 201)), LATER)
    assert (only(decided.record).captured, only(decided.record).authorized) == (4_000, TOTAL.minor)
    assert automatic_operations(decided.record) == []
    assert (
        newest(
            decide(
                account(payment(Status.AUTHORIZED), total=Money(9_999, "GBP")), capture(), LATER
            ).record
        ).amount
        == TOTAL.minor
    )


def test_capture_uses_the_cost_that_the_order_service_answers() -> None:
    """A version newer than any event's decides; an older answer does not. The version is stored
    with the payment.
    """
    authorized = account(payment(Status.AUTHORIZED))
    newer = order(version=2, total=Money(4_000, "GBP"))
    requested = decide(authorized, capture(order=newer), LATER).record
    assert (newest(requested).amount, only(requested).order_version, requested.order) == (
        4_000,
        2,
        newer,
    )
    ahead = decide(authorized, costs(3_000, 3, status=OrderStatus.PENDING), LATER).record
    requested = decide(ahead, capture(order=newer), LATER).record
    assert (newest(requested).amount, only(requested).order_version) == (3_000, 3)


def test_expected_amount_holds_for_a_capture_under_way() -> None:
    """A second request that waits for the same answer states the same amount, or is refused."""
    under_way = decide(account(payment(Status.AUTHORIZED)), capture(), LATER).record
    assert decide(under_way, capture(2, expected=TOTAL), LATER).record is under_way
    with pytest.raises(Refused) as refused:
        decide(under_way, capture(3, expected=Money(1, "GBP")), LATER)
    assert refused.value.reason == "PAYMENT_AMOUNT_MISMATCH"


def test_capture_for_a_closed_order_is_refused() -> None:
    """The capture is refused also after the processor refused to void the authorisation."""
    record = decide(account(payment(Status.AUTHORIZED)), cancelled(), LATER).record
    record = decide(record, settle(Declined("processing_error"), newest(record).id), LATER).record
    with pytest.raises(Refused) as refused:
        decide(record, capture(), LATER)
    assert (refused.value.reason, refused.value.metadata["status"]) == (
        "ORDER_NOT_PAYABLE",
        "cancelled",
    )


def test_refund_by_request_reduces_only_the_last_refund() -> None:
    """A goodwill refund of 10.00 is followed by a cancellation of units worth 2.50: both are
    refunded. The cancellation of the order refunds only the rest.
    """
    gift = refund_operation(1_000, Outcome.SUCCEEDED)
    refunded = payment(Status.PARTIALLY_REFUNDED, operations=(operation(Outcome.SUCCEEDED), gift))
    record = account(refunded, status=OrderStatus.CONFIRMED)
    record = decide(record, costs(4_000), LATER).record
    assert automatic_operations(record) == [(Kind.REFUND, 250, "version:2")]
    record = decide(record, cancelled(3), LATER).record
    assert automatic_operations(record)[1:] == [(Kind.REFUND, 3_000, "version:3")]


def test_failed_refund_frees_its_amount_for_automatic_refund() -> None:
    """The order was cancelled during a refund by request. The rest is refunded at once. The amount
    of that refund follows when the processor refuses it, as a second refund of the same version.
    """
    record = decide(account(payment(Status.CAPTURED)), refund(minor=1_000), LATER).record
    record = decide(record, cancelled(), LATER).record
    assert automatic_operations(record) == [(Kind.REFUND, 3_250, "version:2")]
    decided = decide(record, settle(Declined("card_closed"), numbered(3, 401)), LATER)
    assert automatic_operations(decided.record) == [
        (Kind.REFUND, 3_250, "version:2"),
        (Kind.REFUND, 1_000, "version:2:2"),
    ]
    assert [type(event) for event in decided.events] == [RefundSettled]


def test_declined_refund_is_not_requested_again() -> None:
    """No further refund is requested for this version. A caller may request one, and the order's
    next version requests the whole outstanding amount.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    record = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    assert automatic_operations(record) == []
    assert only(record).refund_pending == 0
    for command in (
        returned(),
        settle(
            Succeeded("ref-r"),
            decide(record, returned(), LATER).record.payments[0].operations[-1].id,
        ),
    ):
        record = decide(record, command, LATER).record
        assert automatic_operations(record) == []
    later = decide(record, costs(3_000, 3), LATER).record
    assert automatic_operations(later) == [(Kind.REFUND, 1_250, "version:3")]
    by_hand = decide(record, refund(minor=250), LATER).record
    assert only(by_hand).refund_pending == 250


def test_refund_repaid_by_request_is_not_made_twice() -> None:
    """The processor refuses 2.50, and an operator refunds them by request. A later cancellation
    refunds its own share alone, and so on to the cancellation of the order. A failed request counts
    for nothing.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    record = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    requested = decide(record, refund(minor=250), LATER).record
    repaired = decide(requested, settle(Succeeded("ref-h"), numbered(3, 401)), LATER).record
    for by_then in (requested, repaired):
        assert automatic_operations(decide(by_then, costs(3_000, 3), LATER).record) == [
            (Kind.REFUND, 1_000, "version:3")
        ]
        assert automatic_operations(decide(by_then, cancelled(3), LATER).record) == [
            (Kind.REFUND, 4_000, "version:3")
        ]
    in_vain = decide(requested, settle(Declined("card_closed"), numbered(3, 401)), LATER).record
    assert automatic_operations(decide(in_vain, costs(3_000, 3), LATER).record) == [
        (Kind.REFUND, 1_250, "version:3")
    ]


def test_refund_beyond_a_repair_changes_no_other_refund() -> None:
    """The processor refuses 2.50. An operator's refund of 4.00 repairs that and adds 1.50. Once the
    order's next refund has requested the whole outstanding amount, a later request repairs nothing.
    In both cases later cancelled units are refunded with their whole share.
    """
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), LATER).record
    refused = decide(record, settle(Declined("card_closed"), newest(record).id), LATER).record
    repaired = decide(refused, refund(minor=400), LATER).record
    assert automatic_operations(decide(repaired, costs(3_000, 3), LATER).record) == [
        (Kind.REFUND, 1_000, "version:3")
    ]
    anew = decide(refused, costs(3_000, 3), LATER).record
    assert automatic_operations(anew) == [(Kind.REFUND, 1_250, "version:3")]
    favoured = decide(
        decide(anew, settle(Succeeded("ref-r"), newest(anew).id), LATER).record,
        refund(minor=100),
        LATER,
    ).record
    assert automatic_operations(decide(favoured, costs(2_500, 4), LATER).record) == [
        (Kind.REFUND, 500, "version:4")
    ]


def test_refused_repair_repairs_nothing() -> None:
    """The processor refuses 2.50. During an operator's refund of them the order's cost falls by
    10.00, which the processor refuses too, and then the repair. An operator may repair all 12.50
    afterwards, and later cancelled units are refunded with their own share alone.
    """
    minutes = (LATER + timedelta(minutes=n) for n in count())
    record = decide(account(payment(Status.CAPTURED)), costs(4_000), next(minutes)).record
    record = decide(
        record, settle(Declined("card_closed"), newest(record).id, "1"), next(minutes)
    ).record
    record = decide(record, refund(minor=250), next(minutes)).record
    by_hand = newest(record).id
    record = decide(record, costs(3_000, 3), next(minutes)).record
    assert automatic_operations(record) == [(Kind.REFUND, 1_000, "version:3")]
    for number, operation_id in (("2", newest(record).id), ("3", by_hand)):
        record = decide(
            record, settle(Declined("card_closed"), operation_id, number), next(minutes)
        ).record
    assert automatic_operations(record) == []
    record = decide(record, refund(2, minor=1_250), next(minutes)).record
    assert automatic_operations(decide(record, costs(2_500, 4), next(minutes)).record) == [
        (Kind.REFUND, 500, "version:4")
    ]


def test_declined_void_is_not_requested_again() -> None:
    """The authorisation expires at the processor; no other operation is requested for this version
    of the order.
    """
    record = decide(account(payment(Status.AUTHORIZED)), cancelled(), LATER).record
    decided = decide(record, settle(Declined("processing_error"), newest(record).id), LATER)
    assert automatic_operations(decided.record) == []
    assert only(decided.record).status is Status.AUTHORIZED


@pytest.mark.parametrize("unknown", [False, True])
def test_pending_refund_is_not_requested_again(unknown: bool) -> None:
    """A refund with a lost answer counts as made: the worker looks it up with its own key, and no
    new one is requested.
    """
    record = decide(account(payment(Status.CAPTURED)), cancelled(), LATER).record
    id = newest(record).id
    for command in (record_unknown(id), retry_lookup(1, id)) if unknown else (retry_lookup(1, id),):
        record = decide(record, command, LATER).record
    assert automatic_operations(record) == [(Kind.REFUND, TOTAL.minor, "version:2")]
    decided = decide(record, settle(Succeeded("ref-2"), id), LATER)
    assert (only(decided.record).status, only(decided.record).refunded) == (
        Status.REFUNDED,
        TOTAL.minor,
    )
    assert automatic_operations(decided.record) == []
    [event] = decided.events
    assert isinstance(event, RefundSettled)
    assert (event.refund.cause, event.refund.cause_id, event.refund.amount) == (
        Cause.ORDER,
        "version:2",
        TOTAL.minor,
    )


def test_automatic_operation_has_an_id_of_its_cause() -> None:
    """The same cause makes the same key for the processor, in any decision; another cause makes
    another key.
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


def test_excess_money_is_refunded_with_the_next_command() -> None:
    """The order is cancelled, and its account has captured money: an event without news for the
    order still refunds it.
    """
    captured_money = account(payment(Status.CAPTURED), status=OrderStatus.FAILED)
    decided = decide(captured_money, apply_order(1, status=OrderStatus.FAILED), LATER)
    assert automatic_operations(decided.record) == [(Kind.REFUND, TOTAL.minor, "version:1")]
    assert (
        decide(decided.record, apply_order(1, status=OrderStatus.FAILED), LATER).record
        is decided.record
    )


@pytest.mark.parametrize(
    ("tried", "answer"),
    [(Status.PENDING, Declined("insufficient_funds")), (Status.AUTHORIZED, Succeeded("ref-void"))],
    ids=["declined", "voided"],
)
def test_free_order_is_paid_when_its_last_payment_fails(tried: Status, answer: Answer) -> None:
    """All paid units were cancelled during a charge: no other payment would follow, and the order
    would expire. The payment is published once.
    """
    before = decide(account(payment(tried)), costs(0, status=OrderStatus.PENDING), LATER).record
    ending = settle(answer, newest(before).id)
    ended = decide(before, ending, LATER)
    [free] = [p for p in ended.record.payments if p.status is Status.NOT_REQUIRED]
    fields = (free.id, free.attempt, free.try_number, free.amount)
    assert fields == (ending.command.payment_id, 1, 2, 0)
    assert outcome_events(ended) == [PaymentConfirmed(free, ended.history[-1])]
    assert [(c.payment_id, c.new) for c in ended.history][-1] == (free.id, Status.NOT_REQUIRED)
    assert decide(ended.record, ending, LATER).record is ended.record


def test_request_before_a_refusal_in_one_set_repays_nothing() -> None:
    """A refund by request, then the refusal of the automatic refund, in one set: the request repays
    no refused refund, because it came before. The next version of the order refunds all that it
    does not cost.
    """
    refused = refund_operation(1_000, cause=Cause.ORDER, cause_id="version:2")
    paid = payment(Status.CAPTURED, operations=(operation(Outcome.SUCCEEDED), refused))
    before = account(paid, version=2, total=Money(3_250, TOTAL.currency))
    commands = [refund(1, 500), settle(Declined("no"), refused.id), costs(3_000, version=3)]
    workspace = Workspace({before.order.id: before})
    applied = apply_commands(workspace, commands, decide, LATER)
    assert applied.undone == []
    [after] = workspace.after.values()
    assert only(after).operations[-1].amount == TOTAL.minor - 3_000
