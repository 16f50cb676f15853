"""Protobuf to model and back, and domain events to events. Pure. Nothing here returns a
payment-method token.
"""

from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.values.convert import enum_values, money, optional_field, timestamp, timestamp_or_none
from chassis.values.envelope import Envelope, EventSource
from chassis.values.money import Money, to_message
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import RequestContext
from payment_svc.lifecycle import (
    REFUND_STATUS,
    Cause,
    Kind,
    OrderStatus,
    Outcome,
    RefundStatus,
    Status,
)
from payment_svc.model.commands import (
    ApplyOrderVersion,
    CaptureRequest,
    CreateRequest,
    PaymentRequest,
    RefundRequest,
    RefundReturn,
    ResolveContradiction,
)
from payment_svc.model.events import (
    DomainEvent,
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundSettled,
)
from payment_svc.model.excerpt import excerpt
from payment_svc.model.filters import PaymentFilter, RefundFilter
from payment_svc.model.records import (
    Contradiction,
    Operation,
    Order,
    Payment,
    Refund,
    Transition,
)

C = TypeVar("C")

STATUS = enum_values(Status, "PAYMENT_STATUS", payment_pb2.PaymentStatus.Value)
KIND = enum_values(Kind, "PAYMENT_OPERATION_KIND", payment_pb2.PaymentOperationKind.Value)
OUTCOME = enum_values(
    Outcome, "PAYMENT_OPERATION_OUTCOME", payment_pb2.PaymentOperationOutcome.Value
)
CAUSE = enum_values(Cause, "REFUND_CAUSE", payment_pb2.RefundCause.Value)
REFUND = enum_values(RefundStatus, "REFUND_STATUS", payment_pb2.RefundStatus.Value)
REFUND_OF = {value: status for status, value in REFUND.items()}
STATUS_OF = {value: status for status, value in STATUS.items()}
KNOWN_ORDER_STATUSES = [status for status in OrderStatus if status is not OrderStatus.UNKNOWN]
ORDER_STATUS_OF = {
    order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}"): status
    for status in KNOWN_ORDER_STATUSES
}


class ChangeRequest(Protocol):
    """The field of each request that changes a payment."""

    request_id: str


# --- requests


def create_payment(
    request: api.CreatePaymentRequest, context: RequestContext
) -> Envelope[CreateRequest]:
    command = CreateRequest(
        expected=expected_amount(request), manual_capture=request.manual_capture
    )
    return _request_envelope(request, context, UUID(request.order_id), command)


def capture_payment(
    request: api.CapturePaymentRequest, context: RequestContext
) -> Envelope[CaptureRequest]:
    command = CaptureRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        expected=expected_amount(request),
    )
    return _request_envelope(request, context, command.payment_id, command)


def void_payment(
    request: api.VoidPaymentRequest, context: RequestContext
) -> Envelope[PaymentRequest]:
    command = PaymentRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
    )
    return _request_envelope(request, context, command.payment_id, command)


def refund_payment(
    request: api.RefundPaymentRequest, context: RequestContext
) -> Envelope[RefundRequest]:
    return_id = optional_field(request, "return_id")
    command = RefundRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        amount=refund_amount(request),
        return_id=str(UUID(return_id)) if return_id else None,
    )
    return _request_envelope(request, context, command.payment_id, command)


def resolve_contradiction(
    request: api.ResolveContradictionRequest,
    context: RequestContext,
) -> Envelope[ResolveContradiction]:
    command = ResolveContradiction(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        contradiction_id=UUID(request.contradiction_id),
    )
    return _request_envelope(request, context, command.payment_id, command)


def _request_envelope(
    request: ChangeRequest, context: RequestContext, target: UUID, command: C
) -> Envelope[C]:
    """The envelope of a caller's request, with its request_id as the cause.

    Where the request names a payment, `target` is the payment until an operation has its order.
    """
    cause = str(UUID(request.request_id))
    return Envelope.of_request(context, command, target=target, actor="payment", cause=cause)


def expected_amount(request: api.CreatePaymentRequest | api.CapturePaymentRequest) -> Money | None:
    """The amount to be charged or captured, as the caller expects it.

    Raises Invalid VALIDATION_FAILED for a fraction of a minor unit or no currency.
    """
    return (
        money(request.expected_amount, "expected_amount")
        if request.HasField("expected_amount")
        else None
    )


def refund_amount(request: api.RefundPaymentRequest) -> Money | None:
    """The amount to be refunded; None: all. Raises Invalid VALIDATION_FAILED for a fraction of a
    minor unit or no currency.
    """
    return money(request.amount, "amount") if request.HasField("amount") else None


def refund_filter(request: api.ListRefundsRequest) -> RefundFilter:
    return RefundFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        payment_id=UUID(request.payment_id) if request.HasField("payment_id") else None,
        statuses=tuple(REFUND_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def payment_filter(request: api.ListPaymentsRequest) -> PaymentFilter:
    return PaymentFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        create_time_from=optional_field(request, "create_time_from"),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


# --- events and responses of the order service


OrderEvent = order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled


def order_of_event(event: OrderEvent) -> Order:
    """The order as it stands after the event: both kinds of events share one sequence of versions,
    and have the order's total.
    """
    total = money(event.total_amount, "total_amount")
    status = (
        event.new_status if isinstance(event, order_events_pb2.OrderStatusChanged) else event.status
    )
    return Order(
        id=UUID(event.order_id),
        version=event.order_version,
        attempt=event.attempt,
        status=ORDER_STATUS_OF.get(status, OrderStatus.UNKNOWN),
        total=total,
    )


def order_of_response(order: order_pb2.Order) -> Order:
    total = money(order.total_amount, "total_amount")
    return Order(
        id=UUID(order.order_id),
        version=order.version,
        attempt=order.attempt,
        status=ORDER_STATUS_OF.get(order.status, OrderStatus.UNKNOWN),
        total=total,
    )


def apply_order_version(
    event: OrderEvent, source: EventSource, payment_id: UUID
) -> Envelope[ApplyOrderVersion]:
    """`payment_id` is for the payment of an order of total zero, which needs no request."""
    command = ApplyOrderVersion(order=order_of_event(event), payment_id=payment_id)
    return Envelope.of_event(source, command, target=command.order.id, actor="order")


def refund_return(
    event: order_events_pb2.ReturnStatusChanged,
    source: EventSource,
) -> Envelope[RefundReturn] | None:
    """An inspected return whose units are worth money; None for other steps of a return."""
    order_return = event.order_return
    if event.new_status != return_pb2.RETURN_STATUS_INSPECTED:
        return None
    amount = money(order_return.refund_amount, "order_return.refund_amount")
    if not amount.minor:
        return None
    command = RefundReturn(
        return_id=order_return.return_id, attempt=order_return.attempt, amount=amount
    )
    return Envelope.of_event(source, command, target=UUID(order_return.order_id), actor="order")


# --- responses and events of this service


def payment(payment: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        payment_id=str(payment.id),
        order_id=str(payment.order_id),
        attempt=payment.attempt,
        status=STATUS[payment.status],
        amount=to_message(payment.money(payment.amount)),
        authorized_amount=to_message(payment.money(payment.authorized)),
        captured_amount=to_message(payment.money(payment.captured)),
        refunded_amount=to_message(payment.money(payment.refunded)),
        refund_pending_amount=to_message(payment.money(payment.refund_pending)),
        processor=payment.processor,
        decline_code=payment.decline_code,
        try_number=payment.try_number,
        order_version=payment.order_version,
        operations=[_operation(payment, operation) for operation in excerpt(payment.operations)],
        version=payment.version,
        create_time=timestamp(payment.create_time),
        update_time=timestamp(payment.update_time),
    )


def refund(refund: Refund) -> payment_pb2.Refund:
    return payment_pb2.Refund(
        refund_id=str(refund.id),
        payment_id=str(refund.payment_id),
        order_id=str(refund.order_id),
        attempt=refund.attempt,
        amount=to_message(Money(refund.amount, refund.currency)),
        status=REFUND[REFUND_STATUS[refund.outcome]],
        cause=CAUSE[refund.cause],
        cause_id=refund.cause_id,
        failure_code=refund.failure_code,
        create_time=timestamp(refund.request_time),
        settle_time=timestamp_or_none(refund.settle_time),
        return_id=refund.cause_id.partition(":")[0] if refund.cause is Cause.RETURN else None,
        update_time=timestamp(refund.update_time),
    )


def transition(transition: Transition, kind: Kind | None) -> payment_pb2.PaymentTransition:
    """A row of history; `kind` is the kind of the operation."""
    unknown = payment_pb2.PAYMENT_OPERATION_KIND_UNSPECIFIED
    no_outcome = payment_pb2.PAYMENT_OPERATION_OUTCOME_UNSPECIFIED
    return payment_pb2.PaymentTransition(
        payment_id=str(transition.payment_id),
        payment_version=transition.version,
        old_status=_status(transition.old),
        new_status=STATUS[transition.new],
        reason=transition.reason,
        actor=transition.actor,
        cause_id=transition.cause,
        occur_time=timestamp(transition.time),
        claimed_actor=transition.claimed_actor,
        note=transition.note,
        operation_id=str(transition.operation_id) if transition.operation_id else None,
        operation_kind=KIND[kind] if kind else unknown,
        operation_outcome=OUTCOME[transition.outcome] if transition.outcome else no_outcome,
    )


def outgoing_event(event: DomainEvent) -> OutgoingEvent:
    """The published form of a domain event; its aggregate is the payment."""
    payment = event.payment
    return OutgoingEvent(aggregate=payment.id, order_id=payment.order_id, message=_message(event))


def _message(event: DomainEvent) -> Message:
    """The note of the change is left out: it is for the history alone."""
    payment, transition = event.payment, event.transition
    reason_fields: dict[str, Any] = {
        "reason": transition.reason,
        "actor": transition.actor,
        "claimed_actor": transition.claimed_actor,
        "cause_id": transition.cause,
    }
    match event:
        case PaymentStatusChanged():
            return payment_events_pb2.PaymentStatusChanged(
                payment_id=str(payment.id),
                order_id=str(payment.order_id),
                attempt=payment.attempt,
                try_number=payment.try_number,
                old_status=_status(transition.old),
                new_status=STATUS[transition.new],
                amount=to_message(payment.money(payment.amount)),
                authorized_amount=to_message(payment.money(payment.authorized)),
                captured_amount=to_message(payment.money(payment.captured)),
                processor=payment.processor,
                decline_code=payment.decline_code,
                payment_version=transition.version,
                occur_time=timestamp(transition.time),
                **reason_fields,
            )
        case PaymentConfirmed():
            return payment_events_pb2.PaymentConfirmed(
                payment_id=str(payment.id),
                order_id=str(payment.order_id),
                attempt=payment.attempt,
                captured_amount=to_message(payment.money(payment.captured)),
                not_required=payment.status is Status.NOT_REQUIRED,
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )
        case PaymentFailed():
            return payment_events_pb2.PaymentFailed(
                payment_id=str(payment.id),
                order_id=str(payment.order_id),
                attempt=payment.attempt,
                decline_code=payment.decline_code or "",
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )
        case RefundSettled():
            completed = event.refund.outcome is Outcome.SUCCEEDED
            kind = (
                payment_events_pb2.RefundCompleted if completed else payment_events_pb2.RefundFailed
            )
            return kind(
                refund=refund(event.refund),
                captured_amount=to_message(payment.money(payment.captured)),
                refunded_amount=to_message(payment.money(payment.refunded)),
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )


def _status(status: Status | None) -> payment_pb2.PaymentStatus.ValueType:
    return STATUS[status] if status else payment_pb2.PAYMENT_STATUS_UNSPECIFIED


def _operation(payment: Payment, operation: Operation) -> payment_pb2.PaymentOperation:
    return payment_pb2.PaymentOperation(
        operation_id=str(operation.id),
        kind=KIND[operation.kind],
        amount=to_message(payment.money(operation.amount)),
        outcome=OUTCOME[operation.outcome],
        processor_reference=operation.reference,
        failure_code=operation.failure_code,
        request_time=timestamp(operation.request_time),
        settle_time=timestamp_or_none(operation.settle_time),
        contradictions=map(_contradiction, operation.contradictions),
    )


def _contradiction(contradiction: Contradiction) -> payment_pb2.ProcessorContradiction:
    return payment_pb2.ProcessorContradiction(
        contradiction_id=str(contradiction.id),
        outcome=OUTCOME[contradiction.outcome],
        processor_reference=contradiction.reference,
        failure_code=contradiction.failure_code,
        report_id=contradiction.report_id,
        payload_sha256=contradiction.payload_sha256.hex(),
        report_time=timestamp(contradiction.report_time),
        resolve_time=timestamp_or_none(contradiction.resolve_time),
        resolve_note=contradiction.resolve_note,
    )
