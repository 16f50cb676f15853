"""Protobuf to model and back, and facts to events. Pure. A payment-method token is never in what
is made here.
"""

from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.values.convert import given, money, names, timestamp, timestamp_or_none
from chassis.values.envelope import Envelope, EventSource
from chassis.values.money import Money, to_message
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import Keyed
from payment_svc.lifecycle import (
    REFUND_STATUS,
    Cause,
    Kind,
    OrderStatus,
    Outcome,
    RefundStatus,
    Status,
)
from payment_svc.model import (
    CaptureRequest,
    Change,
    Confirmed,
    Contradiction,
    CreateRequest,
    Fact,
    Failed,
    NoteOrder,
    Operation,
    Order,
    Payment,
    PaymentFilter,
    Refund,
    RefundFilter,
    RefundRequest,
    RefundReturn,
    RefundSettled,
    Request,
    ResolveContradiction,
    StatusChanged,
    excerpt,
)

C = TypeVar("C")

STATUS = names(Status, "PAYMENT_STATUS", payment_pb2.PaymentStatus.Value)
KIND = names(Kind, "PAYMENT_OPERATION_KIND", payment_pb2.PaymentOperationKind.Value)
OUTCOME = names(Outcome, "PAYMENT_OPERATION_OUTCOME", payment_pb2.PaymentOperationOutcome.Value)
CAUSE = names(Cause, "REFUND_CAUSE", payment_pb2.RefundCause.Value)
REFUND = names(RefundStatus, "REFUND_STATUS", payment_pb2.RefundStatus.Value)
REFUND_OF = {value: status for status, value in REFUND.items()}
STATUS_OF = {value: status for status, value in STATUS.items()}
KNOWN = [status for status in OrderStatus if status is not OrderStatus.UNKNOWN]
ORDER_STATUS_OF = {
    order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}"): status for status in KNOWN
}


class ChangeRequest(Protocol):
    """What every request has that changes a payment."""

    request_id: str


# --- requests


def create_payment(request: api.CreatePaymentRequest, of: Keyed) -> Envelope[CreateRequest]:
    command = CreateRequest(expected=expected(request), manual_capture=request.manual_capture)
    return _requested(request, of, UUID(request.order_id), command)


def capture_payment(request: api.CapturePaymentRequest, of: Keyed) -> Envelope[CaptureRequest]:
    command = CaptureRequest(
        payment_id=UUID(request.payment_id),
        expected_version=given(request, "expected_version"),
        expected=expected(request),
    )
    return _requested(request, of, command.payment_id, command)


def void_payment(request: api.VoidPaymentRequest, of: Keyed) -> Envelope[Request]:
    command = Request(
        payment_id=UUID(request.payment_id),
        expected_version=given(request, "expected_version"),
    )
    return _requested(request, of, command.payment_id, command)


def refund_payment(request: api.RefundPaymentRequest, of: Keyed) -> Envelope[RefundRequest]:
    return_id = given(request, "return_id")
    command = RefundRequest(
        payment_id=UUID(request.payment_id),
        expected_version=given(request, "expected_version"),
        amount=to_refund(request),
        return_id=str(UUID(return_id)) if return_id else None,
    )
    return _requested(request, of, command.payment_id, command)


def resolve_contradiction(
    request: api.ResolveContradictionRequest,
    of: Keyed,
) -> Envelope[ResolveContradiction]:
    command = ResolveContradiction(
        payment_id=UUID(request.payment_id),
        expected_version=given(request, "expected_version"),
        contradiction_id=UUID(request.contradiction_id),
    )
    return _requested(request, of, command.payment_id, command)


def _requested(request: ChangeRequest, of: Keyed, target: UUID, command: C) -> Envelope[C]:
    """The envelope of a caller's request, with its request_id as the cause.

    Where the request names a payment, `target` is the payment until an operation has its order.
    """
    cause = str(UUID(request.request_id))
    return Envelope.of_request(of, command, target=target, actor="payment", cause=cause)


def expected(request: api.CreatePaymentRequest | api.CapturePaymentRequest) -> Money | None:
    """What is to be charged or captured, as the caller knows it.

    Raises Invalid VALIDATION_FAILED for a fraction of a minor unit or no currency.
    """
    return (
        money(request.expected_amount, "expected_amount")
        if request.HasField("expected_amount")
        else None
    )


def to_refund(request: api.RefundPaymentRequest) -> Money | None:
    """How much is to go back; None: all. Raises Invalid VALIDATION_FAILED for a fraction of a
    minor unit or no currency.
    """
    return money(request.amount, "amount") if request.HasField("amount") else None


def refund_filter(request: api.ListRefundsRequest) -> RefundFilter:
    return RefundFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        payment_id=UUID(request.payment_id) if request.HasField("payment_id") else None,
        statuses=tuple(REFUND_OF[status] for status in request.statuses),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


def payment_filter(request: api.ListPaymentsRequest) -> PaymentFilter:
    return PaymentFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        create_time_from=given(request, "create_time_from"),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


# --- what the order service says


OrderEvent = order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled


def order_of_event(event: OrderEvent) -> Order:
    """The order as it stands after the event: both kinds count in one sequence of versions, and
    tell what the order costs now.
    """
    total = money(event.total_amount, "total_amount")
    told = (
        event.new_status if isinstance(event, order_events_pb2.OrderStatusChanged) else event.status
    )
    return Order(
        id=UUID(event.order_id),
        version=event.order_version,
        attempt=event.attempt,
        status=ORDER_STATUS_OF.get(told, OrderStatus.UNKNOWN),
        total=total,
    )


def order_of_answer(its: order_pb2.Order) -> Order:
    total = money(its.total_amount, "total_amount")
    return Order(
        id=UUID(its.order_id),
        version=its.version,
        attempt=its.attempt,
        status=ORDER_STATUS_OF.get(its.status, OrderStatus.UNKNOWN),
        total=total,
    )


def note_order(event: OrderEvent, of: EventSource, payment_id: UUID) -> Envelope[NoteOrder]:
    """`payment_id` is for the payment of an order of total zero, which needs no request."""
    command = NoteOrder(order=order_of_event(event), payment_id=payment_id)
    return Envelope.of_event(of, command, target=command.order.id, actor="order")


def refund_return(
    event: order_events_pb2.ReturnStatusChanged,
    of: EventSource,
) -> Envelope[RefundReturn] | None:
    """An inspected return whose units are worth money; other steps of a return mean nothing."""
    its = event.order_return
    if event.new_status != return_pb2.RETURN_STATUS_INSPECTED:
        return None
    amount = money(its.refund_amount, "order_return.refund_amount")
    if not amount.minor:
        return None
    command = RefundReturn(return_id=its.return_id, attempt=its.attempt, amount=amount)
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="order")


# --- answers and events of ours


def payment(its: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        payment_id=str(its.id),
        order_id=str(its.order_id),
        attempt=its.attempt,
        status=STATUS[its.status],
        amount=to_message(its.money(its.amount)),
        authorized_amount=to_message(its.money(its.authorized)),
        captured_amount=to_message(its.money(its.captured)),
        refunded_amount=to_message(its.money(its.refunded)),
        refund_pending_amount=to_message(its.money(its.refund_pending)),
        processor=its.processor,
        decline_code=its.decline_code,
        try_number=its.try_number,
        order_version=its.order_version,
        operations=[_operation(its, operation) for operation in excerpt(its.operations)],
        version=its.version,
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
    )


def refund(its: Refund) -> payment_pb2.Refund:
    return payment_pb2.Refund(
        refund_id=str(its.id),
        payment_id=str(its.payment_id),
        order_id=str(its.order_id),
        attempt=its.attempt,
        amount=to_message(Money(its.amount, its.currency)),
        status=REFUND[REFUND_STATUS[its.outcome]],
        cause=CAUSE[its.cause],
        cause_id=its.cause_id,
        failure_code=its.failure_code,
        create_time=timestamp(its.request_time),
        settle_time=timestamp_or_none(its.settle_time),
        return_id=its.cause_id.partition(":")[0] if its.cause is Cause.RETURN else None,
        update_time=timestamp(its.update_time),
    )


def transition(change: Change, kind: Kind | None) -> payment_pb2.PaymentTransition:
    """A row of history; `kind` is that of its operation."""
    unknown = payment_pb2.PAYMENT_OPERATION_KIND_UNSPECIFIED
    no_outcome = payment_pb2.PAYMENT_OPERATION_OUTCOME_UNSPECIFIED
    return payment_pb2.PaymentTransition(
        payment_id=str(change.payment_id),
        payment_version=change.version,
        old_status=_status(change.old),
        new_status=STATUS[change.new],
        reason=change.reason,
        actor=change.actor,
        cause_id=change.cause,
        occur_time=timestamp(change.time),
        claimed_actor=change.claimed_actor,
        note=change.note,
        operation_id=str(change.operation_id) if change.operation_id else None,
        operation_kind=KIND[kind] if kind else unknown,
        operation_outcome=OUTCOME[change.outcome] if change.outcome else no_outcome,
    )


def event(fact: Fact) -> OutgoingEvent:
    """The event that tells of a fact: of the payment, whose version it carries."""
    its = fact.payment
    return OutgoingEvent(aggregate=its.id, order_id=its.order_id, message=_message(fact))


def _message(fact: Fact) -> Message:
    """The note of the change is left out: it is for the history alone."""
    its, change = fact.payment, fact.change
    why: dict[str, Any] = {
        "reason": change.reason,
        "actor": change.actor,
        "claimed_actor": change.claimed_actor,
        "cause_id": change.cause,
    }
    match fact:
        case StatusChanged():
            return payment_events_pb2.PaymentStatusChanged(
                payment_id=str(its.id),
                order_id=str(its.order_id),
                attempt=its.attempt,
                try_number=its.try_number,
                old_status=_status(change.old),
                new_status=STATUS[change.new],
                amount=to_message(its.money(its.amount)),
                authorized_amount=to_message(its.money(its.authorized)),
                captured_amount=to_message(its.money(its.captured)),
                processor=its.processor,
                decline_code=its.decline_code,
                payment_version=change.version,
                occur_time=timestamp(change.time),
                **why,
            )
        case Confirmed():
            return payment_events_pb2.PaymentConfirmed(
                payment_id=str(its.id),
                order_id=str(its.order_id),
                attempt=its.attempt,
                captured_amount=to_message(its.money(its.captured)),
                not_required=its.status is Status.NOT_REQUIRED,
                payment_version=its.version,
                occur_time=timestamp(its.update_time),
                **why,
            )
        case Failed():
            return payment_events_pb2.PaymentFailed(
                payment_id=str(its.id),
                order_id=str(its.order_id),
                attempt=its.attempt,
                decline_code=its.decline_code or "",
                payment_version=its.version,
                occur_time=timestamp(its.update_time),
                **why,
            )
        case RefundSettled():
            done = fact.refund.outcome is Outcome.SUCCEEDED
            kind = payment_events_pb2.RefundCompleted if done else payment_events_pb2.RefundFailed
            return kind(
                refund=refund(fact.refund),
                captured_amount=to_message(its.money(its.captured)),
                refunded_amount=to_message(its.money(its.refunded)),
                payment_version=its.version,
                occur_time=timestamp(its.update_time),
                **why,
            )


def _status(of: Status | None) -> payment_pb2.PaymentStatus.ValueType:
    return STATUS[of] if of else payment_pb2.PAYMENT_STATUS_UNSPECIFIED


def _operation(of: Payment, its: Operation) -> payment_pb2.PaymentOperation:
    return payment_pb2.PaymentOperation(
        operation_id=str(its.id),
        kind=KIND[its.kind],
        amount=to_message(of.money(its.amount)),
        outcome=OUTCOME[its.outcome],
        processor_reference=its.reference,
        failure_code=its.failure_code,
        request_time=timestamp(its.request_time),
        settle_time=timestamp_or_none(its.settle_time),
        contradictions=map(_contradiction, its.contradictions),
    )


def _contradiction(its: Contradiction) -> payment_pb2.ProcessorContradiction:
    return payment_pb2.ProcessorContradiction(
        contradiction_id=str(its.id),
        outcome=OUTCOME[its.outcome],
        processor_reference=its.reference,
        failure_code=its.failure_code,
        report_id=its.report_id,
        payload_sha256=its.payload_digest.hex(),
        report_time=timestamp(its.report_time),
        resolve_time=timestamp_or_none(its.resolve_time),
        resolve_note=its.resolve_note,
    )
