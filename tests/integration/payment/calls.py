"""Calls of the payment service's methods by its tests."""

from typing import Any
from uuid import uuid4

from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1 import payment_service_pb2 as api

from chassis.rpc.client import ask
from tests.integration.payment.world import (
    Payments,
)


async def capture(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> payment_pb2.Payment:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return (
        await ask(payments.CapturePayment, api.CapturePaymentRequest(**(values | fields)))
    ).payment


async def void(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> payment_pb2.Payment:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return (await ask(payments.VoidPayment, api.VoidPaymentRequest(**(values | fields)))).payment


async def refund(
    payments: Payments, payment: payment_pb2.Payment, **fields: Any
) -> api.RefundPaymentResponse:
    values: dict[str, Any] = {"request_id": str(uuid4()), "payment_id": payment.payment_id}
    return await ask(payments.RefundPayment, api.RefundPaymentRequest(**(values | fields)))
