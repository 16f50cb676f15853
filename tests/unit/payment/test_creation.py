"""Events of the order service and the creation of payments, by tables."""

import pytest

from chassis.values.errors import Exists, NotFound, Refused
from chassis.values.money import Money
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Kind, Outcome, Status
from payment_svc.model.events import PaymentConfirmed
from payment_svc.model.records import Transition
from tests.unit.payment.deciding import SETTLED, only, refused
from tests.unit.payment.samples import (
    LATER,
    NOON,
    OPERATION,
    PAYMENT,
    TOTAL,
    OrderStatus,
    account,
    apply_order,
    create,
    numbered,
    operation,
    order,
    payment,
)

FREE = Money(0, "GBP")


def test_first_event_of_an_order_opens_its_account() -> None:
    """The account then has the amount to charge, and no event is published."""
    decided = decide(None, apply_order(), NOON)
    assert decided.record == account()
    assert not decided.history
    assert not decided.events


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
    assert decided.events == [PaymentConfirmed(free, decided.history[0])]


def test_free_attempt_is_paid_once() -> None:
    """Another event of the same attempt, and a call, find the payment; the next attempt gets its
    own.
    """
    first = decide(None, apply_order(total=FREE), NOON).record
    again = decide(first, apply_order(2, total=FREE, version=2), LATER)
    assert again.record.payments == first.payments
    assert not again.events
    assert decide(again.record, create(), LATER).record is again.record
    retried = decide(again.record, apply_order(3, total=FREE, version=4, attempt=2), LATER)
    assert [p.attempt for p in retried.record.payments] == [1, 2]
    assert len(retried.events) == 1


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
    "status", [status for status in OrderStatus if status != OrderStatus.PENDING]
)
def test_free_order_that_is_not_pending_gets_no_payment(status: OrderStatus) -> None:
    """Its pending event came late, or the order was cancelled first: there is nothing to
    confirm.
    """
    decided = decide(None, apply_order(total=FREE, status=status), NOON)
    assert decided.record == account(total=FREE, status=status)
    assert not decided.events


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
    assert not decided.events


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
    "status", [status for status in OrderStatus if status != OrderStatus.PENDING]
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


@pytest.mark.parametrize("known", [True, False])
def test_forged_order_version_is_refused(known: bool) -> None:
    """An order's event of version 2^60 is not stored: the true one after it still counts."""
    before = account() if known else None
    with pytest.raises(Refused) as caught:
        decide(before, apply_order(version=2**60), NOON)
    assert caught.value.reason == "VERSION_JUMP"
    assert decide(before, apply_order(version=3), NOON).record.order.version == 3
