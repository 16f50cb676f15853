"""Writes of accounts."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from chassis.observe import telemetry
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from payment_svc.lifecycle import REFUND_STATUS, Cause, Reason
from payment_svc.lifecycle import Outcome as OperationOutcome
from payment_svc.model.events import RefundSettled
from payment_svc.model.records import Account, Operation, Payment, Transition

_log = structlog.get_logger(__name__)


class AccountWriter:
    """Writes accounts. It counts settled refunds and contradictions, and sets
    `automatic_requested` after a write that has added an automatic operation.
    """

    def __init__(self, writer: Writer[Account]) -> None:
        self._writer = writer
        self.automatic_requested = asyncio.Event()
        self._refunds = telemetry.counter(
            "payment_refunds_total", "Refunds that were settled", "cause", "outcome"
        )
        self._contradictions = telemetry.counter(
            "processor_contradictions_total",
            "Reports and answers that contradict what the processor said before",
            "processor",
        )

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Account]]:
        """Writes, counts settled refunds, and wakes `compensate` for new automatic operations."""
        outcomes = await self._writer.write(envelopes)
        for outcome in outcomes:
            if isinstance(outcome, Done) and not outcome.repeat:
                for event in outcome.events:
                    if isinstance(event, RefundSettled):
                        refund = event.refund
                        self._refunds.labels(refund.cause, REFUND_STATUS[refund.outcome]).inc()
                for transition in outcome.history:
                    if transition.reason == Reason.CONTRADICTED:
                        payment = payment_of_operation(outcome.record, transition.operation_id)
                        self._log_contradiction(payment, transition)
                if any(automatic(o) for p in outcome.record.payments for o in p.operations):
                    self.automatic_requested.set()
        return outcomes

    async def write_payment(self, envelope: Envelope[Any], payment_id: UUID) -> Payment:
        """Writes one command, and returns the payment after it; raises the command's failure."""
        account = unwrap((await self.write([envelope]))[0])
        return next(payment for payment in account.payments if payment.id == payment_id)

    def _log_contradiction(self, payment: Payment, transition: Transition) -> None:
        self._contradictions.labels(payment.processor).inc()
        _log.error(
            "a processor contradicts an earlier report",
            payment_id=str(payment.id),
            operation_id=str(transition.operation_id),
            outcome=transition.outcome,
            report_id=transition.cause,
        )


def automatic(operation: Operation) -> bool:
    """Whether an operation is automatic (due at once, requested by no caller), and was not sent to
    the processor yet.
    """
    return (
        operation.outcome is OperationOutcome.REQUESTED
        and operation.cause in (Cause.ORDER, Cause.RETURN)
        and operation.next_lookup_time == operation.request_time
    )


def payment_of_operation(account: Account, operation_id: UUID | None) -> Payment:
    """The payment that has the operation."""
    return next(p for p in account.payments for o in p.operations if o.id == operation_id)
