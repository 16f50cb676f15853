"""Refunds by request."""

from uuid import UUID

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from payment_svc.lifecycle import OPEN
from payment_svc.model.answers import NOTHING_REFUNDABLE
from payment_svc.model.commands import RefundPayment, RefundRequest
from payment_svc.model.records import Payment, Refund
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.settlement import SettlementOperations
from payment_svc.operations.writing import AccountWriter, for_account, with_id


class RefundOperations:
    """The refunds of captured money that callers request."""

    def __init__(
        self, writer: AccountWriter, reading: ReadOperations, settlement: SettlementOperations
    ) -> None:
        self.writer, self.reading, self.settlement = writer, reading, settlement

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
        payment = await self.writer.write_payment(
            for_account(payment, envelope, refund), payment.id
        )
        operation = next(o for o in payment.operations if o.requested_by == envelope.key)
        if operation.outcome in OPEN:
            call = self.settlement.calls.send(payment, operation)
            payment = await self.settlement.await_answer(payment, operation, call, envelope.cause)
        return payment, refund_unless_declined(payment, operation.id)


def refund_unless_declined(payment: Payment, operation_id: UUID) -> Refund:
    """The refund, where it is completed or pending; raises Refused REFUND_FAILED where not."""
    refund = payment.refund(with_id(payment.operations, operation_id))
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
