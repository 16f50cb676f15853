"""Answers of processors: by calls, reports and lookups; automatic refunds and voids."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points, deadline
from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Invalid, NotFound, Violation
from chassis.write.database import Database
from payment_svc.lifecycle import OPEN, Kind
from payment_svc.lifecycle import Outcome as OperationOutcome
from payment_svc.model.answers import Answer, Declined, Report, answer_hash
from payment_svc.model.commands import (
    CapturePayment,
    NewOperation,
    RecordUnknownOutcome,
    RefundPayment,
    RetryLookup,
    Settle,
    VoidPayment,
)
from payment_svc.model.records import Operation, Payment
from payment_svc.operations.writing import AccountWriter, payment_of_operation
from payment_svc.providers.port import TEXT_MAX, Processor
from payment_svc.store.operations import due_operations, order_of_operation

# A request that the processor has not received may be in flight: it is abandoned at the third
# lookup.
LOOKUPS_BEFORE_ABANDONING = 3
LOOKUP_INTERVAL_MAX_S = 600.0
DUE_MAX = 50
# The longest time that `compensate` waits before it looks for due operations.
COMPENSATE_EVERY_S = 30.0
# The seconds of the caller's time that are reserved for the write of an unknown outcome.
WRITE_MARGIN_S = 0.5


class SettlementOperations:
    """The settlement of operations at the processors of `processors`, by name.

    A call waits at most `answer_timeout_s` for the processor's answer. An operation that is still
    open `settle_after_s` after its request is looked up, with longer and longer intervals. An
    automatic operation is due from the start.
    """

    def __init__(
        self,
        database: Database,
        writer: AccountWriter,
        processors: Mapping[str, Processor],
        answer_timeout_s: float,
        settle_after_s: float,
    ) -> None:
        self.database, self.writer, self.processors = database, writer, processors
        self.answer_timeout_s, self.settle_after_s = answer_timeout_s, settle_after_s
        self._answers = telemetry.counter(
            "processor_answers_total", "What processors answered", "processor", "kind", "answer"
        )

    def new_operation(self, envelope: Envelope[Any]) -> NewOperation:
        """The operation of a caller's request."""
        return NewOperation(
            id=uuid7(),
            requested_by=envelope.key,
            lookup_after=timedelta(seconds=self.settle_after_s),
        )

    async def complete(
        self,
        envelope: Envelope[Any],
        payment: Payment,
        command: CapturePayment | VoidPayment | RefundPayment,
        kind: Kind,
    ) -> tuple[Payment, Operation]:
        """Writes the request's command about the payment and sends its operation.

        Returns both as they stand then. A request that added no operation waits for the answer of
        another: the newest of its kind.
        """
        request = replace(envelope.with_command(command), target=payment.order_id)
        payment = await self.writer.write_payment(request, payment.id)
        of_kind = (o for o in reversed(payment.operations) if o.kind is kind)
        operation = payment.requested_by(envelope.key) or next(of_kind)
        if operation.outcome in OPEN:
            call = self._send(payment, operation)
            payment = await self.await_answer(payment, operation, call, envelope.cause)
        return payment, payment.operation(operation.id)

    async def await_answer(
        self, payment: Payment, operation: Operation, call: Awaitable[Answer], cause: str
    ) -> Payment:
        """Waits for the processor's answer and writes it.

        Raises Deferred where there is none: it was lost, or the processor did not accept the
        request.
        """
        remaining_s = deadline.remaining()
        timeout_s = (
            self.answer_timeout_s
            if remaining_s is None
            else min(self.answer_timeout_s, max(remaining_s - WRITE_MARGIN_S, 0.1))
        )
        try:
            async with asyncio.timeout(timeout_s):
                answer = await call
        except TimeoutError:
            self._count(payment, operation, "lost")
            payment = await self.writer.write_payment(
                unknown_outcome(payment, operation, cause), payment.id
            )
            if payment.operation(operation.id).outcome not in OPEN:
                return payment  # a webhook has settled it meanwhile
            text = (
                "The processor has not answered in time. What it did is being found out; the same"
                " request_id asks again."
            )
            raise Deferred("PAYMENT_OUTCOME_UNKNOWN", text, payment_id=str(payment.id)) from None
        except Deferred:
            self._count(payment, operation, "unavailable")
            raise
        crash_points.point("processor.answered")
        self._count(payment, operation, type(answer).__name__.lower())
        return await self.writer.write_payment(
            settlement(payment, operation, answer, cause), payment.id
        )

    async def ingest_webhook(
        self, processor: str, body: bytes, headers: Mapping[str, str]
    ) -> Payment:
        """Applies a processor's report of an operation; a known report changes nothing."""
        if processor not in self.processors:
            violation = Violation(
                "processor", f"must be one of {', '.join(sorted(self.processors))}"
            )
            raise Invalid(
                "VALIDATION_FAILED", f"There is no processor {processor}.", violations=[violation]
            )
        report = self.processors[processor].parse_webhook(body, headers, datetime.now(UTC))
        check_text_lengths(report)
        async with self.database.read() as connection:
            order_id = await order_of_operation(connection, report.operation_id)
        if order_id is None:
            text = f"No payment has asked for operation {report.operation_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(report.operation_id))
        settle = Settle(
            operation_id=report.operation_id,
            answer=report.answer,
            payment_id=uuid7(),
            payload_sha256=hashlib.sha256(body).digest(),
        )
        envelope = Envelope(
            key=f"webhook:{processor}:{report.event_id}",
            request_hash=report.content_hash,
            target=order_id,
            actor=processor,
            cause=report.event_id,
            command=settle,
        )
        [outcome] = await self.writer.write([envelope])
        if isinstance(outcome, Invalid) and outcome.reason == "REQUEST_ID_REUSED":
            name = f"reused:{settle.payload_sha256.hex()}"
            reused = envelope.step(name, replace(settle, reused=True))
            unwrap((await self.writer.write([reused]))[0])
        return payment_of_operation(unwrap(outcome), report.operation_id)

    async def settle_due(self) -> None:
        """Looks up the operations that are due. One replica looks up each of them; an operation
        that it cannot settle becomes due again.
        """
        async with self.database.read() as connection:
            due = await due_operations(connection, DUE_MAX)
        envelopes = [self._retry_lookup(order_id, id, lookups + 1) for order_id, id, lookups in due]
        outcomes = await self.writer.write(envelopes)
        open_operations = list[tuple[Payment, Operation]]()
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, Done) and not outcome.repeat:
                payment = payment_of_operation(outcome.record, envelope.command.operation_id)
                operation = payment.operation(envelope.command.operation_id)
                if operation.outcome in OPEN:
                    open_operations.append((payment, operation))
        looked_up = (self._look_up(*each) for each in open_operations)
        results = await asyncio.gather(*looked_up, return_exceptions=True)
        settled = [result for result in results if isinstance(result, Envelope)]
        if len(due) == DUE_MAX:
            self.writer.automatic_requested.set()  # there may be more
        for outcome in [*outcomes, *await self.writer.write(settled)]:
            unwrap(outcome)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def compensate(self) -> None:
        """Waits until a write has added an automatic operation, and sends it.

        No caller waits for this: `settle_due` sends the operations that it cannot send now.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPENSATE_EVERY_S):
                await self.writer.automatic_requested.wait()
        self.writer.automatic_requested.clear()
        await self.settle_due()

    async def _look_up(
        self,
        payment: Payment,
        operation: Operation,
    ) -> Envelope[Settle] | Envelope[RecordUnknownOutcome] | None:
        """The settlement of an operation by the processor's answer, or its unknown outcome.

        None: there is no answer yet, and the operation is looked up again at `next_lookup_time`.
        """
        processor = self.processors[payment.processor]
        # Other kinds need no token: the same request is sent again, with the same key.
        lookup = operation.kind in (Kind.AUTHORIZE, Kind.CHARGE)
        try:
            async with asyncio.timeout(self.answer_timeout_s):
                answer: Answer | None
                if not lookup:
                    answer = await self._send(payment, operation)
                else:
                    answer = await processor.lookup(operation.id)
                    if answer is None and operation.lookups >= LOOKUPS_BEFORE_ABANDONING:
                        answer = await processor.abandon(operation.id)
        except TimeoutError:
            self._count(payment, operation, "lost")
            return (
                None
                if lookup or operation.outcome is OperationOutcome.UNKNOWN
                else unknown_outcome(payment, operation, cause_of(operation))
            )
        except Deferred:
            self._count(payment, operation, "unavailable")
            return None
        crash_points.point("processor.answered")
        self._count(payment, operation, type(answer).__name__.lower() if answer else "not_found")
        return settlement(payment, operation, answer, cause_of(operation)) if answer else None

    def _send(self, payment: Payment, operation: Operation) -> Awaitable[Answer]:
        """Sends an operation that needs no token to the processor: the same key each time."""
        processor = self.processors[payment.processor]
        crash_points.point(f"{operation.kind}.requested")
        if operation.kind is Kind.REFUND:
            charge = payment.reference(Kind.CHARGE, Kind.CAPTURE)
            return processor.refund(operation.id, charge, operation.amount)
        authorization = payment.reference(Kind.AUTHORIZE)
        if operation.kind is Kind.VOID:
            return processor.void(operation.id, authorization)
        return processor.capture(operation.id, authorization, operation.amount)

    def _count(self, payment: Payment, operation: Operation, answer: str) -> None:
        self._answers.labels(payment.processor, operation.kind, answer).inc()

    def _retry_lookup(
        self, order_id: UUID, operation_id: UUID, number: int
    ) -> Envelope[RetryLookup]:
        interval_s = min(self.settle_after_s * 2 ** (number - 1), LOOKUP_INTERVAL_MAX_S)
        return Envelope(
            key=f"{operation_id}:lookup:{number}",
            request_hash=b"",
            target=order_id,
            actor="payment",
            cause=str(operation_id),
            command=RetryLookup(
                operation_id=operation_id,
                lookup_number=number,
                lookup_after=timedelta(seconds=interval_s),
            ),
        )


def check_text_lengths(report: Report) -> None:
    """Raises Invalid WEBHOOK_MALFORMED for a text of more than TEXT_MAX characters: it would be
    stored, and a payment's response would have no bound.
    """
    answer = report.answer
    code = answer.code if isinstance(answer, Declined) else ""
    texts = {"event id": report.event_id, "reference": answer.reference or "", "code": code}
    for name, value in texts.items():
        if len(value) > TEXT_MAX:
            text = f"The webhook's {name} has {len(value)} characters: {TEXT_MAX} are the most."
            raise Invalid("WEBHOOK_MALFORMED", text)


def cause_of(operation: Operation) -> str:
    """The request_id of the call that requested an operation; else the operation's id."""
    method, _, request_id = operation.requested_by.rpartition(":")
    return request_id if method.startswith("/") else str(operation.id)


def settlement(
    payment: Payment,
    operation: Operation,
    answer: Answer,
    cause: str,
) -> Envelope[Settle]:
    """The command that applies the processor's answer, once for all calls that return it."""
    return Envelope(
        key=f"{operation.id}:result:{type(answer).__name__.lower()}",
        request_hash=b"",
        target=payment.order_id,
        actor="payment",
        cause=cause,
        command=Settle(
            operation_id=operation.id,
            answer=answer,
            payment_id=uuid7(),
            payload_sha256=answer_hash(operation.id, answer),
        ),
    )


def unknown_outcome(
    payment: Payment, operation: Operation, cause: str
) -> Envelope[RecordUnknownOutcome]:
    """The command that records a lost answer, once. A lookup is due at once."""
    return Envelope(
        key=f"{operation.id}:unknown",
        request_hash=b"",
        target=payment.order_id,
        actor="payment",
        cause=cause,
        command=RecordUnknownOutcome(operation_id=operation.id),
    )
