"""Contract and model have the same content, and neither has a token."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from google.type.money_pb2 import Money as MoneyMessage
from ordermesh.order.events.v1.order_events_pb2 import (
    OrderItemsCancelled,
    OrderStatusChanged,
    ReturnStatusChanged,
)
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.values.envelope import Envelope
from chassis.values.errors import Invalid
from chassis.values.money import Money
from chassis.values.request_context import request_context
from payment_svc.lifecycle import REFUND_STATUS, Cause, Outcome, Status
from payment_svc.model.commands import (
    CaptureRequest,
    CreateRequest,
    PaymentRequest,
    RefundRequest,
    ResolveContradiction,
)
from payment_svc.model.events import (
    DomainEvent,
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundSettled,
)
from payment_svc.model.filters import PaymentFilter
from payment_svc.model.records import Transition
from payment_svc.providers.port import Authorization
from payment_svc.wire import events_in, events_out, requests, responses
from tests.unit.payment.samples import (
    LATER,
    NOON,
    OPERATION,
    ORDER,
    PAYMENT,
    TOTAL,
    OrderStatus,
    Source,
    apply_order,
    numbered,
    operation,
    order,
    payment,
    refund_operation,
    returned,
)

POUNDS = MoneyMessage(currency_code="GBP", units=42, nanos=500_000_000)


def transition(**more: Any) -> Transition:
    """Returns a row of history of a person's request."""
    sample = Transition(
        payment_id=PAYMENT,
        version=2,
        old=Status.PENDING,
        new=Status.CAPTURED,
        operation_id=OPERATION,
        outcome=Outcome.SUCCEEDED,
        reason="CAPTURED",
        actor="payment",
        cause="r1",
        time=NOON,
        claimed_actor="staff:7f3a",
        note="by hand",
    )
    return replace(sample, **more)


def test_payment_message_has_its_operations() -> None:
    """Every field of a captured payment is set, amounts with their currency; an absent one is
    unset.
    """
    message = responses.payment(payment(Status.CAPTURED))
    assert (message.payment_id, message.order_id, message.attempt, message.try_number) == (
        str(PAYMENT),
        str(ORDER),
        1,
        1,
    )
    assert message.status == payment_pb2.PAYMENT_STATUS_CAPTURED
    assert message.amount == message.authorized_amount == message.captured_amount == POUNDS
    assert message.refunded_amount == MoneyMessage(currency_code="GBP")
    assert not message.HasField("decline_code")
    [operation] = message.operations
    assert operation.kind == payment_pb2.PAYMENT_OPERATION_KIND_CHARGE
    assert operation.outcome == payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED
    assert (operation.amount, operation.processor_reference) == (POUNDS, "ref-1")
    assert not operation.HasField("failure_code")
    assert operation.HasField("settle_time")


@pytest.mark.parametrize("status", Status)
def test_each_status_survives_its_contract_name(status: Status) -> None:
    """A filter with the name is read as the same status."""
    message = responses.payment(payment(status)).status
    assert payment_pb2.PaymentStatus.Name(message) == f"PAYMENT_STATUS_{status.name}"
    assert requests.payment_filter(api.ListPaymentsRequest(statuses=[message])) == PaymentFilter(
        statuses=(status,)
    )


def test_domain_events_become_events_of_their_order() -> None:
    """Confirmed has the captured amount, or not required; failed has the reason. Each event has its
    payment's version, and concerns its order.
    """
    outgoing = events_out.outgoing_event(PaymentConfirmed(payment(Status.CAPTURED), transition()))
    event = outgoing.message
    assert (outgoing.aggregate, outgoing.order_id) == (PAYMENT, ORDER)
    assert isinstance(event, payment_events_pb2.PaymentConfirmed)
    assert (event.payment_id, event.order_id, event.attempt, event.payment_version) == (
        str(PAYMENT),
        str(ORDER),
        1,
        2,
    )
    assert (event.captured_amount, event.not_required) == (POUNDS, False)
    event = events_out.outgoing_event(
        PaymentConfirmed(payment(Status.NOT_REQUIRED), transition())
    ).message
    assert isinstance(event, payment_events_pb2.PaymentConfirmed)
    assert (event.captured_amount, event.not_required) == (MoneyMessage(currency_code="GBP"), True)
    failed = events_out.outgoing_event(PaymentFailed(payment(Status.FAILED), transition())).message
    assert isinstance(failed, payment_events_pb2.PaymentFailed)
    assert (failed.payment_id, failed.decline_code) == (str(PAYMENT), "insufficient_funds")


@pytest.mark.parametrize("claimed", [True, False])
def test_event_has_reason_and_claimed_actor(claimed: bool) -> None:
    """Each event has its change's reason, actor, claimed actor and cause, and no note."""
    refunded, row = (
        payment(Status.REFUNDED),
        transition() if claimed else transition(claimed_actor=None),
    )
    settled = [
        refunded.refund(refund_operation(1_000, outcome))
        for outcome in (Outcome.SUCCEEDED, Outcome.FAILED)
    ]
    domain_events: list[DomainEvent] = [
        PaymentStatusChanged(refunded, row),
        PaymentConfirmed(refunded, row),
        PaymentFailed(refunded, row),
        *(RefundSettled(refunded, row, refund) for refund in settled),
    ]
    events: list[Any] = [events_out.outgoing_event(event).message for event in domain_events]
    assert len({type(event) for event in events}) == 5
    for event in events:
        assert (event.reason, event.actor, event.cause_id) == ("CAPTURED", "payment", "r1")
        assert event.HasField("claimed_actor") == claimed
        assert event.claimed_actor == ("staff:7f3a" if claimed else "")
        assert "by hand" not in str(event)


def test_refund_is_updated_when_it_is_settled() -> None:
    """A refund's update_time is its settle_time, or its create_time before."""
    captured = payment(Status.CAPTURED)
    for outcome in Outcome:
        message = responses.refund(
            captured.refund(replace(refund_operation(1_000, outcome), request_time=LATER))
        )
        settled = message.HasField("settle_time")
        assert message.update_time == (message.settle_time if settled else message.create_time)
        assert message.settle_time != message.create_time


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status != OrderStatus.UNKNOWN]
)
def test_order_is_the_same_in_event_and_response(status: OrderStatus) -> None:
    """Both become the same command, so that either of them opens the account."""
    value = order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}")
    event = OrderStatusChanged(
        order_id=str(ORDER), attempt=1, new_status=value, total_amount=POUNDS, order_version=1
    )
    answer = order_pb2.Order(
        order_id=str(ORDER), attempt=1, status=value, total_amount=POUNDS, version=1
    )
    assert (
        events_in.order_of_event(event)
        == events_in.order_of_response(answer)
        == order(status=status)
    )
    message = events_in.apply_order_version(
        event, Source("payment-ORDERS:e1", cause="e1"), numbered(2, 51)
    )
    assert message == apply_order(status=status)


@pytest.mark.parametrize(
    "status", [status for status in OrderStatus if status != OrderStatus.UNKNOWN]
)
def test_cancelled_units_update_the_order(status: OrderStatus) -> None:
    """The event has a version in the sequence of the status changes, with the order's new cost and
    its status.
    """
    value = order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}")
    event = OrderItemsCancelled(
        order_id=str(ORDER), attempt=2, status=value, total_amount=POUNDS, order_version=7
    )
    assert events_in.order_of_event(event) == order(status=status, version=7, attempt=2)


@pytest.mark.parametrize("status", [value for value in return_pb2.ReturnStatus.values() if value])
def test_only_an_inspected_return_with_a_value_is_refunded(
    status: return_pb2.ReturnStatus.ValueType,
) -> None:
    """It has its value and its attempt. Any other step of a return, and a value of zero, mean
    nothing here.
    """
    source = Source("payment-ORDERS:r1", cause="r1")
    order_return = return_pb2.Return(
        return_id="return-1",
        order_id=str(ORDER),
        attempt=1,
        refund_amount=MoneyMessage(currency_code="GBP", units=10),
    )
    command = events_in.refund_return(
        ReturnStatusChanged(order_return=order_return, new_status=status), source
    )
    inspected = status == return_pb2.RETURN_STATUS_INSPECTED
    assert command == (returned() if inspected else None)
    order_return.refund_amount.units = 0
    assert (
        events_in.refund_return(
            ReturnStatusChanged(order_return=order_return, new_status=status), source
        )
        is None
    )


OF: dict[str, Any] = {"request_id": str(numbered(7)), "payment_id": str(PAYMENT), "note": "by hand"}
ABOUT: dict[str, Any] = {"payment_id": PAYMENT, "expected_version": None}
RETURN = numbered(8)
REQUESTS: list[tuple[Any, Any, UUID, object]] = [
    (
        requests.create_payment,
        api.CreatePaymentRequest(
            request_id=str(numbered(7)),
            order_id=str(ORDER),
            payment_method_token="tok_secret",
            manual_capture=True,
            note="by hand",
        ),
        ORDER,
        CreateRequest(expected=None, manual_capture=True),
    ),
    (
        requests.capture_payment,
        api.CapturePaymentRequest(**OF, expected_amount=POUNDS),
        PAYMENT,
        CaptureRequest(**ABOUT, expected=TOTAL),
    ),
    (
        requests.void_payment,
        api.VoidPaymentRequest(**OF, expected_version=3),
        PAYMENT,
        PaymentRequest(payment_id=PAYMENT, expected_version=3),
    ),
    (
        requests.refund_payment,
        api.RefundPaymentRequest(**OF, return_id=str(RETURN), amount=POUNDS),
        PAYMENT,
        RefundRequest(**ABOUT, amount=TOTAL, return_id=str(RETURN)),
    ),
    (
        requests.refund_payment,
        api.RefundPaymentRequest(**OF),
        PAYMENT,
        RefundRequest(**ABOUT, amount=None),
    ),
    (
        requests.resolve_contradiction,
        api.ResolveContradictionRequest(**OF, contradiction_id=str(RETURN)),
        PAYMENT,
        ResolveContradiction(**ABOUT, contradiction_id=RETURN),
    ),
]


@pytest.mark.parametrize(("convert", "request_", "target", "command"), REQUESTS)
def test_request_becomes_its_envelope(
    convert: Any,
    request_: Any,
    target: UUID,
    command: object,
) -> None:
    """The envelope has the call's key, the request_id as its cause, and the call's actor and
    note.
    """
    context = replace(request_context(request_), claimed_actor="staff:7f3a")
    envelope = convert(request_, context)
    assert envelope == Envelope(
        key=context.key,
        request_hash=context.request_hash,
        target=target,
        actor="payment",
        cause=request_.request_id,
        command=command,
        claimed_actor="staff:7f3a",
        note="by hand",
    )


PARTIALLY_REFUNDED = payment(
    Status.PARTIALLY_REFUNDED,
    operations=(
        operation(Outcome.SUCCEEDED),
        refund_operation(1_000, Outcome.SUCCEEDED, cause_id="b2"),
        refund_operation(250, cause_id="b3"),
    ),
)


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("outcome", Outcome)
def test_refund_message_has_its_cause(outcome: Outcome, cause: Cause) -> None:
    """Every field of the contract is set, and an absent one unset."""
    refund = PARTIALLY_REFUNDED.refund(refund_operation(1_000, outcome, cause, "b1"))
    message = responses.refund(refund)
    assert (message.refund_id, message.payment_id, message.order_id, message.attempt) == (
        str(refund.id),
        str(PAYMENT),
        str(ORDER),
        1,
    )
    assert (message.amount.units, message.amount.currency_code, message.cause_id) == (
        10,
        "GBP",
        "b1",
    )
    assert payment_pb2.RefundCause.Name(message.cause) == f"REFUND_CAUSE_{cause.name}"
    assert (
        payment_pb2.RefundStatus.Name(message.status)
        == f"REFUND_STATUS_{REFUND_STATUS[outcome].name}"
    )
    assert message.return_id == ("b1" if cause is Cause.RETURN else "")
    second = PARTIALLY_REFUNDED.refund(refund_operation(1_000, outcome, cause, "b1:2"))
    assert responses.refund(second).return_id == message.return_id
    assert message.HasField("settle_time") == (outcome in (Outcome.SUCCEEDED, Outcome.FAILED))
    assert message.HasField("failure_code") == (outcome is Outcome.FAILED)
    assert requests.refund_filter(api.ListRefundsRequest(statuses=[message.status])).statuses == (
        REFUND_STATUS[outcome],
    )


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o not in (Outcome.REQUESTED, Outcome.UNKNOWN)]
)
def test_settled_refund_becomes_an_event(outcome: Outcome, cause: Cause) -> None:
    """The event has the refund and the payment's cumulative amounts."""
    refund = PARTIALLY_REFUNDED.refund(refund_operation(1_000, outcome, cause, "b1"))
    outgoing = events_out.outgoing_event(RefundSettled(PARTIALLY_REFUNDED, transition(), refund))
    event = outgoing.message
    assert isinstance(
        event,
        payment_events_pb2.RefundCompleted
        if outcome is Outcome.SUCCEEDED
        else payment_events_pb2.RefundFailed,
    )
    assert (outgoing.aggregate, event.refund, event.captured_amount, event.payment_version) == (
        PAYMENT,
        responses.refund(refund),
        POUNDS,
        2,
    )
    whole = responses.payment(PARTIALLY_REFUNDED)
    assert (event.refunded_amount.units, whole.refund_pending_amount.nanos) == (
        10,
        500_000_000,
    )


def test_status_of_a_newer_contract_is_unknown() -> None:
    """The contract permits new values; an order with one is not charged."""
    event = OrderStatusChanged(
        order_id=str(ORDER),
        new_status=99,  # type: ignore[arg-type]  # a value of a newer contract
        total_amount=POUNDS,
    )
    assert events_in.order_of_event(event).status == OrderStatus.UNKNOWN


def test_expected_amount_with_a_fraction_is_refused() -> None:
    """Half a penny is no amount; an unset amount is not compared."""
    request = api.CreatePaymentRequest
    assert requests.optional_amount(request(expected_amount=POUNDS), "expected_amount") == TOTAL
    nothing = request(expected_amount=MoneyMessage(currency_code="GBP"))
    assert requests.optional_amount(nothing, "expected_amount") == Money(0, "GBP")
    assert requests.optional_amount(request(), "expected_amount") is None
    half = request(expected_amount=MoneyMessage(currency_code="GBP", nanos=5_000_000))
    with pytest.raises(Invalid) as refused:
        requests.optional_amount(half, "expected_amount")
    assert refused.value.violations[0].subject == "expected_amount"


def test_token_of_a_request_is_never_printed() -> None:
    """A request to the processor in a log or an error does not show the token; the idempotency key
    has only a hash.
    """
    assert "tok_secret" not in repr(
        Authorization(key=ORDER, token="tok_secret", amount=1, currency="GBP", capture=True)
    )
    request = api.CreatePaymentRequest(
        request_id=str(PAYMENT), order_id=str(ORDER), payment_method_token="tok_secret"
    )
    assert "tok_secret" not in repr(request_context(request))
