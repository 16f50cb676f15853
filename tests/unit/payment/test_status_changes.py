"""Each payment's end is published, so that an analyst can compute the decline rate."""

from typing import Any

import pytest
from google.type.money_pb2 import Money as MoneyMessage
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2

from chassis.values.convert import timestamp
from chassis.values.envelope import Envelope
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import Kind, Outcome, Reason, Status
from payment_svc.model.answers import AUTHORIZATION_EXPIRED, Declined, Pending, Succeeded
from payment_svc.model.events import PaymentConfirmed, PaymentStatusChanged
from payment_svc.model.records import Account
from payment_svc.wire import events_out
from tests.unit.payment.samples import (
    LATER,
    OPERATION,
    ORDER,
    PAYMENT,
    account,
    capture,
    create,
    declined,
    operation,
    payment,
    record_unknown,
    refund,
    refund_operation,
    settle,
    void,
)

ASKED_TO_AUTHORIZE = payment(operations=(operation(kind=Kind.AUTHORIZE),))
VOIDING = payment(Status.AUTHORIZED, operations=(operation(kind=Kind.VOID),), version=3)
CAPTURING = payment(Status.AUTHORIZED, operations=(operation(kind=Kind.CAPTURE),), version=3)
LAST_TRY = account(declined(1), declined(2), payment(try_number=3))


@pytest.mark.parametrize(
    ("before", "command", "old", "new", "version"),
    [
        (account(ASKED_TO_AUTHORIZE), settle(Succeeded("r")), Status.PENDING, Status.AUTHORIZED, 2),
        (account(payment()), settle(Succeeded("r")), Status.PENDING, Status.CAPTURED, 2),
        (account(CAPTURING), settle(Succeeded("r")), Status.AUTHORIZED, Status.CAPTURED, 4),
        (account(VOIDING), settle(Succeeded("r")), Status.AUTHORIZED, Status.VOIDED, 4),
        (
            account(payment()),
            settle(Declined("insufficient_funds")),
            Status.PENDING,
            Status.DECLINED,
            2,
        ),
        (LAST_TRY, settle(Declined("insufficient_funds")), Status.PENDING, Status.FAILED, 2),
    ],
)
def test_each_end_of_a_payment_is_published(
    before: Account,
    command: Envelope[Any],
    old: Status,
    new: Status,
    version: int,
) -> None:
    """Authorised, captured, voided, declined and failed: one domain event each, with the version of
    the change, before its consequences.
    """
    decided = decide(before, command, LATER)
    event = decided.events[0]
    assert isinstance(event, PaymentStatusChanged)
    assert (event.transition.old, event.transition.new, event.transition.version) == (
        old,
        new,
        version,
    )
    assert [event for event in decided.events if isinstance(event, PaymentStatusChanged)] == [event]


@pytest.mark.parametrize(
    "decided",
    [
        decide(account(), create(), LATER),
        decide(account(payment(Status.AUTHORIZED)), void(), LATER),
        decide(account(payment(Status.CAPTURED)), refund(), LATER),
        decide(account(payment(Status.CAPTURED)), settle(Succeeded("ref-1")), LATER),
    ],
)
def test_requests_refunds_and_repeats_change_no_status(decided: Any) -> None:
    """The start of a payment, a request to a processor, and a repeated report publish no change."""
    assert not [event for event in decided.events if isinstance(event, PaymentStatusChanged)]


def test_declined_try_is_published_with_its_code_and_amounts() -> None:
    """The event has the payment, its number, its amount, its processor, and the reason of the
    decline.
    """
    decided = decide(
        account(declined(1), payment(try_number=2)), settle(Declined("insufficient_funds")), LATER
    )
    [event] = decided.events
    assert isinstance(event, PaymentStatusChanged)
    outgoing = events_out.outgoing_event(event)
    assert (outgoing.aggregate, outgoing.order_id) == (PAYMENT, ORDER)
    assert outgoing.message == payment_events_pb2.PaymentStatusChanged(
        payment_id=str(PAYMENT),
        order_id=str(ORDER),
        attempt=1,
        try_number=2,
        old_status=payment_pb2.PAYMENT_STATUS_PENDING,
        new_status=payment_pb2.PAYMENT_STATUS_DECLINED,
        amount=MoneyMessage(currency_code="GBP", units=42, nanos=500_000_000),
        authorized_amount=MoneyMessage(currency_code="GBP"),
        captured_amount=MoneyMessage(currency_code="GBP"),
        processor="sandbox",
        decline_code="insufficient_funds",
        payment_version=2,
        occur_time=timestamp(LATER),
        reason="DECLINED",
        actor="sandbox",
        cause_id="w1",
    )


def test_captured_payment_is_published_before_confirmed() -> None:
    """Both domain events of one change have one version."""
    decided = decide(account(payment()), settle(Succeeded("r"), OPERATION), LATER)
    assert [type(event) for event in decided.events] == [PaymentStatusChanged, PaymentConfirmed]


PART = payment(
    Status.CAPTURED,
    operations=(operation(Outcome.SUCCEEDED), refund_operation(1_000)),
)
WHOLE = payment(
    Status.CAPTURED,
    operations=(operation(Outcome.SUCCEEDED), refund_operation(4_250)),
)
NO = Declined("insufficient_funds")


@pytest.mark.parametrize(
    ("before", "command", "reason"),
    [
        (account(), create(), Reason.PAYMENT_REQUESTED),
        (account(), create(manual_capture=True), Reason.PAYMENT_REQUESTED),
        (account(payment(Status.AUTHORIZED)), capture(), Reason.CAPTURE_REQUESTED),
        (account(payment(Status.AUTHORIZED)), void(), Reason.VOID_REQUESTED),
        (account(payment(Status.CAPTURED)), refund(), Reason.REFUND_REQUESTED),
        (account(payment()), settle(Pending("r")), Reason.OUTCOME_PENDING),
        (account(payment()), record_unknown(), Reason.OUTCOME_UNKNOWN),
        (account(ASKED_TO_AUTHORIZE), settle(Succeeded("r")), Reason.AUTHORIZED),
        (account(CAPTURING), settle(Succeeded("r")), Reason.CAPTURED),
        (account(CAPTURING), settle(NO), Reason.CAPTURE_DECLINED),
        (account(CAPTURING), settle(Declined(AUTHORIZATION_EXPIRED)), Reason.AUTHORIZATION_EXPIRED),
        (account(VOIDING), settle(Succeeded("r")), Reason.VOIDED),
        (account(VOIDING), settle(NO), Reason.VOID_DECLINED),
        (account(payment()), settle(NO), Reason.DECLINED),
        (LAST_TRY, settle(NO), Reason.FAILED),
        (account(PART), settle(Succeeded("r"), PART.operations[1].id), Reason.PARTIALLY_REFUNDED),
        (account(WHOLE), settle(Succeeded("r"), WHOLE.operations[1].id), Reason.REFUNDED),
        (account(PART), settle(NO, PART.operations[1].id), Reason.REFUND_DECLINED),
        (account(payment(Status.CAPTURED)), settle(NO), Reason.CONTRADICTED),
    ],
)
def test_each_change_has_its_reason(
    before: Account,
    command: Envelope[Any],
    reason: Reason,
) -> None:
    """The row of history of a command has the reason that the contract publishes for it."""
    [transition] = decide(before, command, LATER).history
    assert transition.reason is reason
