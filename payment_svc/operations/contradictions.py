"""Contradictions of processors that an operator has resolved."""

from chassis.values.envelope import Envelope
from payment_svc.model.commands import ResolveContradiction
from payment_svc.model.records import Payment
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.writing import AccountWriter, for_account


class ContradictionOperations:
    """The resolutions of contradictions."""

    def __init__(self, writer: AccountWriter, reading: ReadOperations) -> None:
        self.writer, self.reading = writer, reading

    async def resolve_contradiction(self, envelope: Envelope[ResolveContradiction]) -> Payment:
        """Marks a processor's contradiction of an earlier answer as resolved by an operator."""
        payment = await self.reading.get_payment(envelope.command.payment_id)
        return await self.writer.write_payment(
            for_account(payment, envelope, envelope.command), payment.id
        )
