"""Calls of processors, and their answers by count."""

from collections.abc import Awaitable, Mapping

from chassis.observe import telemetry
from chassis.values import crash_points
from payment_svc.lifecycle import Kind
from payment_svc.model.answers import Answer
from payment_svc.model.records import Operation, Payment
from payment_svc.providers.port import Processor


class ProcessorCalls:
    """Calls the processors of `processors`, by name.

    The timeout of an answer is `answer_timeout_s`.
    """

    def __init__(self, processors: Mapping[str, Processor], answer_timeout_s: float) -> None:
        self.processors, self.answer_timeout_s = processors, answer_timeout_s
        self._answers = telemetry.counter(
            "processor_answers_total", "What processors answered", "processor", "kind", "answer"
        )

    def send(self, payment: Payment, operation: Operation) -> Awaitable[Answer]:
        """Sends an operation that needs no token to the processor: the same key each time."""
        processor, authorization, charge = (
            self.processors[payment.processor],
            payment.authorization_reference,
            payment.charge_reference,
        )
        crash_points.point(f"{operation.kind}.requested")
        if operation.kind is Kind.REFUND:
            assert charge, "only captured money is refunded"
            return processor.refund(operation.id, charge, operation.amount)
        assert authorization, "only authorised money is captured or voided"
        if operation.kind is Kind.VOID:
            return processor.void(operation.id, authorization)
        return processor.capture(operation.id, authorization, operation.amount)

    def count(self, payment: Payment, operation: Operation, answer: str) -> None:
        self._answers.labels(payment.processor, operation.kind, answer).inc()
