"""RPCs in: wire -> operation -> wire, and nothing else. Errors are the interceptors' work."""

from datetime import datetime
from typing import Any
from uuid import UUID

import grpc
from ordermesh.payment.v1 import payment_service_pb2 as api
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceServicer

from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from payment_svc.operations.payments import PaymentOperations
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.settlement import SettlementOperations
from payment_svc.wire import requests, responses

CallContext = grpc.aio.ServicerContext[Any, Any]


class PaymentService(PaymentServiceServicer):
    """ordermesh.payment.v1.PaymentService: what each method does and answers stands in the
    contract.
    """

    def __init__(
        self,
        payments: PaymentOperations,
        settlement: SettlementOperations,
        reading: ReadOperations,
    ) -> None:
        self.payments, self.settlement, self.reading = payments, settlement, reading

    async def CreatePayment(
        self,
        request: api.CreatePaymentRequest,
        context: CallContext,
    ) -> api.CreatePaymentResponse:
        envelope = requests.create_payment(request, request_context(request))
        payment = await self.payments.create_payment(envelope, request.payment_method_token)
        return api.CreatePaymentResponse(payment=responses.payment(payment))

    async def CapturePayment(
        self,
        request: api.CapturePaymentRequest,
        context: CallContext,
    ) -> api.CapturePaymentResponse:
        envelope = requests.capture_payment(request, request_context(request))
        payment = await self.payments.capture_payment(envelope)
        return api.CapturePaymentResponse(payment=responses.payment(payment))

    async def VoidPayment(
        self,
        request: api.VoidPaymentRequest,
        context: CallContext,
    ) -> api.VoidPaymentResponse:
        envelope = requests.void_payment(request, request_context(request))
        payment = await self.payments.void_payment(envelope)
        return api.VoidPaymentResponse(payment=responses.payment(payment))

    async def RefundPayment(
        self,
        request: api.RefundPaymentRequest,
        context: CallContext,
    ) -> api.RefundPaymentResponse:
        envelope = requests.refund_payment(request, request_context(request))
        payment, refund = await self.payments.refund_payment(envelope)
        return api.RefundPaymentResponse(
            refund=responses.refund(refund), payment=responses.payment(payment)
        )

    async def ResolveContradiction(
        self,
        request: api.ResolveContradictionRequest,
        context: CallContext,
    ) -> api.ResolveContradictionResponse:
        envelope = requests.resolve_contradiction(request, request_context(request))
        payment = await self.payments.resolve_contradiction(envelope)
        return api.ResolveContradictionResponse(payment=responses.payment(payment))

    async def GetPayment(
        self, request: api.GetPaymentRequest, context: CallContext
    ) -> api.GetPaymentResponse:
        payment = await self.reading.get_payment(UUID(request.payment_id))
        return api.GetPaymentResponse(payment=responses.payment(payment))

    async def ListPayments(
        self, request: api.ListPaymentsRequest, context: CallContext
    ) -> api.ListPaymentsResponse:
        page = page_request(request, responses.payment)
        payments, token = await self.reading.list_payments(requests.payment_filter(request), page)
        return api.ListPaymentsResponse(payments=payments, next_page_token=token)

    async def ListPaymentTransitions(
        self, request: api.ListPaymentTransitionsRequest, context: CallContext
    ) -> api.ListPaymentTransitionsResponse:
        page = page_request(request, lambda row: responses.transition(*row), int)
        transitions, token = await self.reading.list_transitions(UUID(request.payment_id), page)
        return api.ListPaymentTransitionsResponse(transitions=transitions, next_page_token=token)

    async def ListRefunds(
        self, request: api.ListRefundsRequest, context: CallContext
    ) -> api.ListRefundsResponse:
        page = page_request(request, responses.refund, datetime, UUID)
        refunds, token = await self.reading.list_refunds(requests.refund_filter(request), page)
        return api.ListRefundsResponse(refunds=refunds, next_page_token=token)

    async def IngestProviderWebhook(
        self, request: api.IngestProviderWebhookRequest, context: CallContext
    ) -> api.IngestProviderWebhookResponse:
        payment = await self.settlement.ingest_webhook(
            request.processor, request.body, request.headers
        )
        return api.IngestProviderWebhookResponse(payment=responses.payment(payment))
