"""Requests of callers, as commands and filters."""

from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.values.convert import money, optional_field
from chassis.values.envelope import Envelope
from chassis.values.money import Money
from chassis.values.request_context import RequestContext
from payment_svc.model.commands import (
    CaptureRequest,
    CreateRequest,
    PaymentRequest,
    RefundRequest,
    ResolveContradiction,
)
from payment_svc.model.filters import PaymentFilter, RefundFilter
from payment_svc.wire.enums import REFUND_OF, STATUS_OF

C = TypeVar("C")


def create_payment(
    request: api.CreatePaymentRequest, context: RequestContext
) -> Envelope[CreateRequest]:
    command = CreateRequest(
        expected=optional_amount(request, "expected_amount"), manual_capture=request.manual_capture
    )
    return _request_envelope(context, UUID(request.order_id), command)


def capture_payment(
    request: api.CapturePaymentRequest, context: RequestContext
) -> Envelope[CaptureRequest]:
    command = CaptureRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        expected=optional_amount(request, "expected_amount"),
    )
    return _request_envelope(context, command.payment_id, command)


def void_payment(
    request: api.VoidPaymentRequest, context: RequestContext
) -> Envelope[PaymentRequest]:
    command = PaymentRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
    )
    return _request_envelope(context, command.payment_id, command)


def refund_payment(
    request: api.RefundPaymentRequest, context: RequestContext
) -> Envelope[RefundRequest]:
    return_id = optional_field(request, "return_id")
    command = RefundRequest(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        amount=optional_amount(request, "amount"),
        return_id=str(UUID(return_id)) if return_id else None,
    )
    return _request_envelope(context, command.payment_id, command)


def resolve_contradiction(
    request: api.ResolveContradictionRequest,
    context: RequestContext,
) -> Envelope[ResolveContradiction]:
    command = ResolveContradiction(
        payment_id=UUID(request.payment_id),
        expected_version=optional_field(request, "expected_version"),
        contradiction_id=UUID(request.contradiction_id),
    )
    return _request_envelope(context, command.payment_id, command)


def _request_envelope(context: RequestContext, target: UUID, command: C) -> Envelope[C]:
    """Returns the envelope of a caller's request, with its request_id as the cause.

    Where the request names a payment, `target` is the payment until an operation has its order.
    """
    cause = str(UUID(context.key.rpartition(":")[2]))
    return Envelope.of_request(context, command, target=target, actor="payment", cause=cause)


def optional_amount(request: Message, field: str) -> Money | None:
    """Returns the amount in the field; None where it is not set.

    Raises Invalid VALIDATION_FAILED for a fraction of a minor unit or no currency.
    """
    return money(getattr(request, field), field) if request.HasField(field) else None


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
