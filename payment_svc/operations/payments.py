"""Requests about payments: create, capture, void, refund, and resolved contradictions."""

from dataclasses import replace

from uuid_utils.compat import uuid7

from chassis.values import crash_points
from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Invalid, Refused, Violation
from payment_svc.lifecycle import OPEN, Kind, Status
from payment_svc.model.answers import AUTHORIZATION_EXPIRED, METHOD_INVALID, NOTHING_REFUNDABLE
from payment_svc.model.commands import (
    CapturePayment,
    CaptureRequest,
    CreatePayment,
    CreateRequest,
    PaymentRequest,
    RefundPayment,
    RefundRequest,
    ResolveContradiction,
    VoidPayment,
)
from payment_svc.model.records import Operation, Payment, Refund
from payment_svc.operations.orders import OrderOperations
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.settlement import SettlementOperations
from payment_svc.operations.writing import AccountWriter
from payment_svc.providers.port import Authorization


class PaymentOperations:
    """The requests of callers about payments. New ones go to the processor `processor`."""

    def __init__(
        self,
        writer: AccountWriter,
        reading: ReadOperations,
        orders: OrderOperations,
        settlement: SettlementOperations,
        processor: str,
    ) -> None:
        self.writer, self.reading, self.orders = writer, reading, orders
        self.settlement, self.processor = settlement, processor

    async def create_payment(self, envelope: Envelope[CreateRequest], token: str) -> Payment:
        """Charges what an order costs, once.

        A repeat goes on where an earlier call has stopped, and returns the outcome.
        """
        create = CreatePayment(
            expected=envelope.command.expected,
            manual_capture=envelope.command.manual_capture,
            payment_id=uuid7(),
            processor=self.processor,
            operation=self.settlement.new_operation(envelope),
            order=await self.orders.order_to_pay(envelope),
        )
        account = unwrap((await self.writer.write([envelope.with_command(create)]))[0])
        # A request without an operation of its own has the not-required payment.
        payment = account.requested_by(envelope.key) or account.payments[-1]
        operation = payment.requested_by(envelope.key)
        if operation is None:
            return payment
        if operation.outcome in OPEN:
            crash_points.point("payment.requested")
            request = Authorization(
                key=operation.id,
                token=token,
                amount=operation.amount,
                currency=payment.currency,
                capture=operation.kind is Kind.CHARGE,
            )
            call = self.settlement.processors[payment.processor].authorize(request)
            payment = await self.settlement.await_answer(payment, operation, call, envelope.cause)
        return payment_unless_declined(payment, payment.operation(operation.id))

    async def capture_payment(self, envelope: Envelope[CaptureRequest]) -> Payment:
        """Captures what the order costs now of an authorised payment, once.

        Two requests at the same time wait for the same answer.
        """
        request = envelope.command
        payment = await self.reading.get_payment(request.payment_id)
        repeat = payment.requested_by(envelope.key)
        capture = CapturePayment(
            payment_id=payment.id,
            expected_version=request.expected_version,
            expected=request.expected,
            order=None if repeat else await self.orders.current_order(payment.order_id),
            operation=self.settlement.new_operation(envelope),
        )
        payment, operation = await self.settlement.complete(
            envelope, payment, capture, Kind.CAPTURE
        )
        return payment_unless_declined(payment, operation)

    async def void_payment(self, envelope: Envelope[PaymentRequest]) -> Payment:
        """Voids the authorisation of a payment, once.

        Two requests at the same time wait for the same answer.
        """
        payment = await self.reading.get_payment(envelope.command.payment_id)
        void = VoidPayment(
            payment_id=payment.id,
            expected_version=envelope.command.expected_version,
            operation=self.settlement.new_operation(envelope),
        )
        payment, operation = await self.settlement.complete(envelope, payment, void, Kind.VOID)
        return payment_unless_declined(payment, operation)

    async def refund_payment(self, envelope: Envelope[RefundRequest]) -> tuple[Payment, Refund]:
        """Refunds captured money, once for the request.

        Raises Refused REFUND_FAILED where the processor declines.
        """
        request = envelope.command
        payment = await self.reading.get_payment(request.payment_id)
        refund = RefundPayment(
            payment_id=payment.id,
            expected_version=request.expected_version,
            amount=request.amount,
            return_id=request.return_id,
            operation=self.settlement.new_operation(envelope),
        )
        payment, operation = await self.settlement.complete(envelope, payment, refund, Kind.REFUND)
        return payment, refund_unless_declined(payment, operation)

    async def resolve_contradiction(self, envelope: Envelope[ResolveContradiction]) -> Payment:
        """Marks a processor's contradiction of an earlier answer as resolved by an operator."""
        payment = await self.reading.get_payment(envelope.command.payment_id)
        request = replace(envelope, target=payment.order_id)
        return await self.writer.write_payment(request, payment.id)


def payment_unless_declined(payment: Payment, operation: Operation) -> Payment:
    """The payment, where the operation is done or pending.

    Raises Refused PAYMENT_DECLINED, or Invalid PAYMENT_METHOD_INVALID, where it failed.
    """
    code = operation.failure_code
    if code is None or (operation.kind is Kind.VOID and payment.status is Status.VOIDED):
        return payment  # a void is done as well where the authorisation had expired
    if code == METHOD_INVALID:
        violation = Violation("payment_method_token", "must be a token of the processor")
        raise Invalid(
            "PAYMENT_METHOD_INVALID",
            "The processor has no such payment-method token.",
            violations=[violation],
        )
    retryable = payment.status is not Status.FAILED
    text = f"The payment was declined: {code}." + (" Another try may be made." if retryable else "")
    if code == AUTHORIZATION_EXPIRED:
        text = (
            "The authorisation has expired and is voided. Make another payment with CreatePayment."
        )
    raise Refused(
        "PAYMENT_DECLINED",
        text,
        decline_code=code,
        retryable=str(retryable).lower(),
        payment_id=str(payment.id),
    )


def refund_unless_declined(payment: Payment, operation: Operation) -> Refund:
    """The refund, where it is completed or pending; raises Refused REFUND_FAILED where not."""
    refund = payment.refund(operation)
    if refund.failure_code is None:
        return refund
    text = (
        f"The processor refuses the refund: {refund.failure_code}. The money is still owed; another"
        " refund may be tried."
    )
    if refund.failure_code == NOTHING_REFUNDABLE:
        text = "Nothing is left to refund: the return is closed without a refund."
    raise Refused(
        "REFUND_FAILED",
        text,
        failure_code=refund.failure_code,
        refund_id=str(refund.id),
        payment_id=str(payment.id),
    )
