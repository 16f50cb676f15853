"""Contradictions of processors that an operator has resolved."""

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from payment_svc.model.commands import ResolveContradiction
from payment_svc.model.records import Payment
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.writing import AccountWriter, for_account, with_id


class ContradictionOperations:
    """The resolutions of contradictions."""

    def __init__(self, writer: AccountWriter, reading: ReadOperations) -> None:
        self.writer, self.reading = writer, reading

    async def resolve_contradiction(self, envelope: Envelope[ResolveContradiction]) -> Payment:
        """Marks a processor's contradiction of an earlier answer as resolved by an operator."""
        resolve = envelope.command
        payment = await self.reading.get_payment(resolve.payment_id)
        account = unwrap((await self.writer.write([for_account(payment, envelope, resolve)]))[0])
        return with_id(account.payments, payment.id)
