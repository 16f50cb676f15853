"""Protobuf to model and back, and facts to events. Pure. A payment-method token is never in what is made here."""

from uuid import UUID

from google.protobuf.message import Message
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.convert import given, money, names, timestamp, timestamp_or_none
from chassis.idempotency import Keyed
from chassis.money import Money, to_message
from payment_svc.lifecycle import Kind, OrderStatus, Outcome, Status
from payment_svc.model import Confirmed, Failed, NoteOrder, Operation, Order, Payment, PaymentFilter

STATUS = names(Status, "PAYMENT_STATUS", payment_pb2.PaymentStatus.Value)
KIND = names(Kind, "PAYMENT_OPERATION_KIND", payment_pb2.PaymentOperationKind.Value)
OUTCOME = names(Outcome, "PAYMENT_OPERATION_OUTCOME", payment_pb2.PaymentOperationOutcome.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
KNOWN = [status for status in OrderStatus if status is not OrderStatus.UNKNOWN]
ORDER_STATUS_OF = {order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.name}"): status for status in KNOWN}

# --- requests


def expected(request: api.CreatePaymentRequest) -> Money | None:
    """What the customer agreed to pay. Raises Invalid VALIDATION_FAILED for a fraction of a minor unit or no currency."""
    return money(request.expected_amount, "expected_amount") if request.HasField("expected_amount") else None


def payment_filter(request: api.ListPaymentsRequest) -> PaymentFilter:
    return PaymentFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        create_time_from=given(request, "create_time_from"),
    )


# --- what the order service says


def order_of_event(event: order_events_pb2.OrderStatusChanged) -> Order:
    total = money(event.total_amount, "total_amount")
    status = ORDER_STATUS_OF.get(event.new_status, OrderStatus.UNKNOWN)
    return Order(UUID(event.order_id), event.order_version, event.attempt, status, total)


def order_of_answer(its: order_pb2.Order) -> Order:
    total = money(its.total_amount, "total_amount")
    return Order(UUID(its.order_id), its.version, its.attempt, ORDER_STATUS_OF.get(its.status, OrderStatus.UNKNOWN), total)


def note_order(event: order_events_pb2.OrderStatusChanged, of: Keyed, cause: str, payment_id: UUID) -> NoteOrder:
    """`payment_id`: for the payment that an order of total zero gets by itself."""
    order = order_of_event(event)
    return NoteOrder(of.key, of.digest, order.id, "order", cause, order=order, payment_id=payment_id)


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
        processor=its.processor,
        decline_code=its.decline_code,
        try_number=its.try_number,
        operations=[_operation(its, operation) for operation in its.operations],
        version=its.version,
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
    )


def event(fact: Confirmed | Failed) -> tuple[UUID, Message]:
    """The event that tells of a fact. Its aggregate is the order, whose account is what was locked: all of its money, in one chain."""
    its = fact.payment
    match fact:
        case Confirmed():
            return its.order_id, payment_events_pb2.PaymentConfirmed(
                payment_id=str(its.id),
                order_id=str(its.order_id),
                attempt=its.attempt,
                captured_amount=to_message(its.money(its.captured)),
                not_required=its.status is Status.NOT_REQUIRED,
                payment_version=its.version,
                occur_time=timestamp(its.update_time),
            )
        case Failed():
            return its.order_id, payment_events_pb2.PaymentFailed(
                payment_id=str(its.id),
                order_id=str(its.order_id),
                attempt=its.attempt,
                decline_code=its.decline_code or "",
                payment_version=its.version,
                occur_time=timestamp(its.update_time),
            )


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
    )
