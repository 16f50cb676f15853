"""The use cases of the payment service: one method for each.

A processor is called between two writes, that of the operation and that of its outcome, while no
transaction is held. Its idempotency key is the operation's id, so that a retry by any process
charges and refunds nothing twice. `settle_due` settles operations without an answer. An automatic
refund or void is due from the start, and `compensate` sends it right after its write.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from chassis.observe import telemetry
from chassis.values import crash_points, deadline
from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Invalid, NotFound, Refused, Violation
from chassis.values.paging import Page
from chassis.write.database import Database
from chassis.write.writer import Writer
from payment_svc.decisions.deciders import decide
from payment_svc.lifecycle import OPEN, REFUND_STATUS, Cause, Kind, Reason, Status
from payment_svc.lifecycle import Outcome as OperationOutcome
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOTHING_REFUNDABLE,
    Answer,
    Declined,
    Report,
    answer_hash,
)
from payment_svc.model.commands import (
    ApplyOrderVersion,
    CapturePayment,
    CaptureRequest,
    CreatePayment,
    CreateRequest,
    NewOperation,
    PaymentRequest,
    RecordUnknownOutcome,
    RefundPayment,
    RefundRequest,
    RefundReturn,
    ResolveContradiction,
    RetryLookup,
    Settle,
    VoidPayment,
)
from payment_svc.model.events import RefundSettled
from payment_svc.model.filters import PaymentFilter, RefundFilter
from payment_svc.model.records import Account, Operation, Order, Payment, Refund, Transition
from payment_svc.peers import Orders
from payment_svc.providers.port import TEXT_MAX, Authorization, Processor
from payment_svc.store.accounts import find_account
from payment_svc.store.history import list_history
from payment_svc.store.operations import due_operations, open_contradictions, order_of_operation
from payment_svc.store.payments import find_payment, list_payments
from payment_svc.store.refunds import list_refunds, open_refunds
from payment_svc.store.workspace import lock_accounts, save_accounts

# A request that the processor has not received is abandoned at the third lookup: it may be in
# flight for a while.
LOOKUPS_BEFORE_ABANDONING = 3
LOOKUP_INTERVAL_MAX_S = 600.0
DUE_MAX = 50
# The longest time that `compensate` waits before it looks for due operations.
COMPENSATE_EVERY_S = 30.0
# The timeout of the order service, and the part of the caller's time that it may take: without an
# answer the account's copy of the order decides.
ORDER_TIMEOUT_S, ORDER_SHARE = 2.0, 0.25
# The part of the caller's time that is reserved for the write of an unknown outcome.
WRITE_MARGIN_S = 0.5
C = TypeVar("C")
P = TypeVar("P", Payment, Operation)

_log = structlog.get_logger(__name__)


class Operations:
    """The operations behind the RPCs, consumers and workers of the payment service.

    `processors` by name; new payments go to `processor`. The timeout of a processor's answer is
    `answer_timeout_s`. An operation that is still open `settle_after_s` after its request is looked
    up, with longer and longer intervals.
    """

    def __init__(
        self,
        database: Database,
        orders: Orders,
        processors: Mapping[str, Processor],
        *,
        processor: str,
        answer_timeout_s: float = 8.0,
        settle_after_s: float = 10.0,
    ) -> None:
        self.database, self.orders, self.processors, self.processor = (
            database,
            orders,
            processors,
            processor,
        )
        self.answer_timeout_s, self.settle_after_s = answer_timeout_s, settle_after_s
        self._writer = Writer(database, load=lock_accounts, decide=decide, save=save_accounts)
        self._automatic_requested = asyncio.Event()  # a write has added an automatic operation
        self._refunds = telemetry.counter(
            "payment_refunds_total", "Refunds that were settled", "cause", "outcome"
        )
        self._refunds_open = telemetry.reading(
            "payment_refunds_open", "Refunds that wait for the processor's answer"
        )
        self._refund_age = telemetry.reading(
            "payment_refunds_open_seconds", "How long the oldest of them has been waiting"
        )
        self._answers = telemetry.counter(
            "processor_answers_total", "What processors answered", "processor", "kind", "answer"
        )
        self._copies = telemetry.counter(
            "payment_order_copies_total",
            "Charges and captures that were decided on this service's copy of the order",
        )
        self._contradictions = telemetry.counter(
            "processor_contradictions_total",
            "Reports and answers that contradict what the processor said before",
            "processor",
        )
        self._contradictions_open = telemetry.reading(
            "processor_contradictions_open",
            "Contradictions that no operator has resolved: alert on it",
        )

    async def create_payment(self, envelope: Envelope[CreateRequest], token: str) -> Payment:
        """Charges what an order costs, once.

        A repeat goes on where an earlier call has stopped, and returns the outcome.
        """
        create = CreatePayment(
            expected=envelope.command.expected,
            manual_capture=envelope.command.manual_capture,
            payment_id=uuid7(),
            processor=self.processor,
            operation=self._new_operation(envelope),
            order=await self._order_to_pay(envelope),
        )
        account = unwrap((await self._write([envelope.with_command(create)]))[0])
        # Without an operation of this request it is the payment of an order of total zero.
        payment = account.requested_by(envelope.key) or account.payments[-1]
        operation = payment.requested_by(envelope.key)
        if operation is None:
            return payment
        if operation.outcome in OPEN:
            crash_points.point("payment.requested")
            charge = operation.kind is Kind.CHARGE
            request = Authorization(
                key=operation.id,
                token=token,
                amount=operation.amount,
                currency=payment.currency,
                capture=charge,
            )
            call = self.processors[payment.processor].authorize(request)
            payment = await self._await_answer(payment, operation, call, envelope.cause)
        return payment_unless_declined(payment, operation.id)

    async def capture_payment(self, envelope: Envelope[CaptureRequest]) -> Payment:
        """Captures what the order costs now of an authorised payment, once.

        Two requests at the same time wait for the same answer.
        """
        request = envelope.command
        payment = await self.get_payment(request.payment_id)
        repeat = payment.requested_by(envelope.key)
        capture = CapturePayment(
            payment_id=payment.id,
            expected_version=request.expected_version,
            expected=request.expected,
            order=None if repeat else await self._current_order(payment.order_id),
            operation=self._new_operation(envelope),
        )
        return await self._capture_or_void(for_account(payment, envelope, capture), Kind.CAPTURE)

    async def void_payment(self, envelope: Envelope[PaymentRequest]) -> Payment:
        """Voids the authorisation of a payment, once.

        Two requests at the same time wait for the same answer.
        """
        payment = await self.get_payment(envelope.command.payment_id)
        void = VoidPayment(
            payment_id=payment.id,
            expected_version=envelope.command.expected_version,
            operation=self._new_operation(envelope),
        )
        return await self._capture_or_void(for_account(payment, envelope, void), Kind.VOID)

    async def refund_payment(self, envelope: Envelope[RefundRequest]) -> tuple[Payment, Refund]:
        """Refunds captured money, once for the request.

        Raises Refused REFUND_FAILED where the processor declines.
        """
        request = envelope.command
        payment = await self.get_payment(request.payment_id)
        refund = RefundPayment(
            payment_id=payment.id,
            expected_version=request.expected_version,
            amount=request.amount,
            return_id=request.return_id,
            operation=self._new_operation(envelope),
        )
        account = unwrap((await self._write([for_account(payment, envelope, refund)]))[0])
        payment = with_id(account.payments, payment.id)
        operation = next(o for o in payment.operations if o.requested_by == envelope.key)
        if operation.outcome in OPEN:
            call = self._send(payment, operation)
            payment = await self._await_answer(payment, operation, call, envelope.cause)
        return payment, refund_unless_declined(payment, operation.id)

    async def refund_returns(
        self,
        envelopes: Sequence[Envelope[RefundReturn]],
    ) -> Sequence[Outcome[Account]]:
        """Refunds what accepted returns are worth."""
        return await self._write(envelopes)

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
        [outcome] = await self._write([envelope])
        if isinstance(outcome, Invalid) and outcome.reason == "REQUEST_ID_REUSED":
            name = f"reused:{settle.payload_sha256.hex()}"
            reused = envelope.step(name, replace(settle, reused=True))
            unwrap((await self._write([reused]))[0])
        return payment_of_operation(unwrap(outcome), report.operation_id)

    async def resolve_contradiction(self, envelope: Envelope[ResolveContradiction]) -> Payment:
        """Marks a processor's contradiction of an earlier answer as resolved by an operator."""
        resolve = envelope.command
        payment = await self.get_payment(resolve.payment_id)
        account = unwrap((await self._write([for_account(payment, envelope, resolve)]))[0])
        return with_id(account.payments, payment.id)

    async def apply_order_versions(
        self,
        envelopes: Sequence[Envelope[ApplyOrderVersion]],
    ) -> Sequence[Outcome[Account]]:
        """Applies the orders of events.

        An order of total zero is paid by its event, and the money of a closed one goes back.
        """
        return await self._write(envelopes)

    async def get_payment(self, payment_id: UUID) -> Payment:
        """Raises NotFound PAYMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            payment = await find_payment(connection, payment_id)
        if payment is None:
            raise NotFound(
                "PAYMENT_NOT_FOUND",
                f"There is no payment {payment_id}.",
                payment_id=str(payment_id),
            )
        return payment

    async def list_payments(self, filters: PaymentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await list_payments(connection, filters, page), lambda payment: (payment.id,)
            )

    async def list_refunds(self, filters: RefundFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(
                await list_refunds(connection, filters, page),
                lambda refund: (refund.request_time, refund.id),
            )

    async def list_transitions(self, payment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of the payment's history, oldest first.

        `page.encode` gets each row with its operation's kind. Raises NotFound PAYMENT_NOT_FOUND.
        """
        await self.get_payment(payment_id)
        async with self.database.read() as connection:
            rows = await list_history(connection, payment_id, page)
        return page.cut(rows, lambda row: (row[0].version,))

    async def settle_due(self) -> None:
        """Looks up the operations that are due. Of several replicas one looks each up; an operation
        that it cannot settle becomes due again.
        """
        async with self.database.read() as connection:
            due = await due_operations(connection, DUE_MAX)
        envelopes = [self._retry_lookup(order_id, id, lookups + 1) for order_id, id, lookups in due]
        outcomes = await self._write(envelopes)
        open_operations = list[tuple[Payment, Operation]]()
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            if isinstance(outcome, Done) and not outcome.repeat:
                payment = payment_of_operation(outcome.record, envelope.command.operation_id)
                operation = with_id(payment.operations, envelope.command.operation_id)
                if operation.outcome in OPEN:
                    open_operations.append((payment, operation))
        looked_up = (self._look_up(*each) for each in open_operations)
        results = await asyncio.gather(*looked_up, return_exceptions=True)
        settled = [result for result in results if isinstance(result, Envelope)]
        if len(due) == DUE_MAX:
            self._automatic_requested.set()  # there may be more
        for outcome in [*outcomes, *await self._write(settled)]:
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
                await self._automatic_requested.wait()
        self._automatic_requested.clear()
        await self.settle_due()

    async def measure(self) -> None:
        """Sets the gauges of open refunds, and of contradictions that no operator has resolved."""
        gauges = (self._refunds_open, self._refund_age, self._contradictions_open)
        with telemetry.reading_of(*gauges):
            async with self.database.read() as connection:
                count, age_s = await open_refunds(connection)
                contradictions = await open_contradictions(connection)
        self._refunds_open.set(count)
        self._refund_age.set(age_s)
        self._contradictions_open.set(contradictions)

    # --- calls to processors

    def _new_operation(self, envelope: Envelope[Any]) -> NewOperation:
        """The operation of a caller's request."""
        return NewOperation(
            id=uuid7(),
            requested_by=envelope.key,
            lookup_after=timedelta(seconds=self.settle_after_s),
        )

    async def _capture_or_void(
        self,
        envelope: Envelope[CapturePayment | VoidPayment],
        kind: Kind,
    ) -> Payment:
        account = unwrap((await self._write([envelope]))[0])
        payment = with_id(account.payments, envelope.command.payment_id)
        # A request that added no operation waits for the answer of another: the newest of its kind.
        of_kind = (o for o in reversed(payment.operations) if o.kind is kind)
        operation = payment.requested_by(envelope.key) or next(of_kind)
        if operation.outcome in OPEN:
            call = self._send(payment, operation)
            payment = await self._await_answer(payment, operation, call, envelope.cause)
        return payment_unless_declined(payment, operation.id)

    async def _await_answer(
        self, payment: Payment, operation: Operation, call: Awaitable[Answer], cause: str
    ) -> Payment:
        """Waits for the processor's answer and writes it.

        Raises Deferred where there is none: it was lost, or the request was not accepted.
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
            [outcome] = await self._write([unknown_outcome(payment, operation, cause)])
            payment = with_id(unwrap(outcome).payments, payment.id)
            if with_id(payment.operations, operation.id).outcome not in OPEN:
                return payment  # a webhook has settled it meanwhile
            text = (
                "The processor has not answered in time. What it did is being found out; the same"
                " request_id asks again."
            )
            raise Deferred("PAYMENT_OUTCOME_UNKNOWN", text, payment_id=str(payment.id)) from None
        except Deferred:
            self._count(payment, operation, "unavailable")
            raise
        crash_points.point("provider.answered")
        self._count(payment, operation, type(answer).__name__.lower())
        account = unwrap((await self._write([settlement(payment, operation, answer, cause)]))[0])
        return with_id(account.payments, payment.id)

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
        crash_points.point("provider.answered")
        self._count(payment, operation, type(answer).__name__.lower() if answer else "unheard_of")
        return settlement(payment, operation, answer, cause_of(operation)) if answer else None

    def _send(self, payment: Payment, operation: Operation) -> Awaitable[Answer]:
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

    def _retry_lookup(
        self, order_id: UUID, operation_id: UUID, number: int
    ) -> Envelope[RetryLookup]:
        interval_s = min(self.settle_after_s * 2 ** (number - 1), LOOKUP_INTERVAL_MAX_S)
        command = RetryLookup(
            operation_id=operation_id,
            lookup_number=number,
            lookup_after=timedelta(seconds=interval_s),
        )
        return Envelope(
            key=f"{operation_id}:ask:{number}",
            request_hash=b"",
            target=order_id,
            actor="payment",
            cause=str(operation_id),
            command=command,
        )

    def _count(self, payment: Payment, operation: Operation, answer: str) -> None:
        self._answers.labels(payment.processor, operation.kind, answer).inc()

    # --- the order, and the write

    async def _order_to_pay(self, envelope: Envelope[CreateRequest]) -> Order | None:
        """The order service's answer now.

        None: the request is a repeat, or the account's copy of the order decides.
        """
        order_id = envelope.target
        async with self.database.read() as connection:
            account = await find_account(connection, order_id)
        if account and account.requested_by(envelope.key):
            return None
        return await (self._current_order(order_id) if account else self.orders.get(order_id))

    async def _current_order(self, order_id: UUID) -> Order | None:
        """The order as the order service returns it now; None where the service is unreachable, and
        the account's copy of the order decides.
        """
        remaining_s = deadline.remaining()
        timeout_s = ORDER_TIMEOUT_S
        if remaining_s is not None:
            timeout_s = min(ORDER_TIMEOUT_S, remaining_s * ORDER_SHARE)
        try:
            return await self.orders.get(order_id, timeout_s)
        except Deferred as error:
            self._copies.inc()
            _log.warning(
                "an order is paid by this service's copy of it",
                order_id=str(order_id),
                reason=error.reason,
            )
            return None

    async def _write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Account]]:
        """Writes, counts settled refunds, and wakes `compensate` for new automatic operations."""
        outcomes = await self._writer.write(envelopes)
        for outcome in outcomes:
            if isinstance(outcome, Done) and not outcome.repeat:
                for event in outcome.facts:
                    if isinstance(event, RefundSettled):
                        status = REFUND_STATUS[event.refund.outcome]
                        self._refunds.labels(event.refund.cause, status).inc()
                for transition in outcome.history:
                    if transition.reason == Reason.CONTRADICTED:
                        payment = payment_of_operation(outcome.record, transition.operation_id)
                        self._log_contradiction(payment, transition)
                if any(automatic(o) for p in outcome.record.payments for o in p.operations):
                    self._automatic_requested.set()
        return outcomes

    def _log_contradiction(self, payment: Payment, transition: Transition) -> None:
        self._contradictions.labels(payment.processor).inc()
        _log.error(
            "a processor contradicts what it said before",
            payment_id=str(payment.id),
            operation_id=str(transition.operation_id),
            said=transition.outcome,
            report_id=transition.cause,
        )


def check_text_lengths(report: Report) -> None:
    """Raises Invalid WEBHOOK_MALFORMED for a text of more than TEXT_MAX characters: it would be
    stored, and a payment's response would have no bound.
    """
    answer = report.answer
    texts = {"event id": report.event_id, "reference": answer.reference or ""}
    if isinstance(answer, Declined):
        texts["code"] = answer.code
    for name, value in texts.items():
        if len(value) > TEXT_MAX:
            text = f"The webhook's {name} has {len(value)} characters: {TEXT_MAX} are the most."
            raise Invalid("WEBHOOK_MALFORMED", text)


def automatic(operation: Operation) -> bool:
    """Whether an operation is automatic (due at once, requested by no caller), and was not sent to
    the processor yet.
    """
    return (
        operation.outcome is OperationOutcome.REQUESTED
        and operation.cause in (Cause.ORDER, Cause.RETURN)
        and operation.next_lookup_time == operation.request_time
    )


def cause_of(operation: Operation) -> str:
    """The request_id of the call that requested an operation; else the operation's id."""
    method, _, request_id = operation.requested_by.rpartition(":")
    return request_id if method.startswith("/") else str(operation.id)


def for_account(payment: Payment, envelope: Envelope[Any], command: C) -> Envelope[C]:
    """The envelope of a command about the payment: the order is the target, for its account."""
    return replace(envelope.with_command(command), target=payment.order_id)


def settlement(
    payment: Payment,
    operation: Operation,
    answer: Answer,
    cause: str,
) -> Envelope[Settle]:
    """The command that applies the processor's answer, once for all calls that return it."""
    settle = Settle(
        operation_id=operation.id,
        answer=answer,
        payment_id=uuid7(),
        payload_sha256=answer_hash(operation.id, answer),
    )
    return Envelope(
        key=f"{operation.id}:result:{type(answer).__name__.lower()}",
        request_hash=b"",
        target=payment.order_id,
        actor="payment",
        cause=cause,
        command=settle,
    )


def unknown_outcome(
    payment: Payment, operation: Operation, cause: str
) -> Envelope[RecordUnknownOutcome]:
    """The command that records a lost answer, once. A lookup is due at once."""
    return Envelope(
        key=f"{operation.id}:lost",
        request_hash=b"",
        target=payment.order_id,
        actor="payment",
        cause=cause,
        command=RecordUnknownOutcome(operation_id=operation.id, lookup_after=timedelta(0)),
    )


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


def payment_unless_declined(payment: Payment, operation_id: UUID) -> Payment:
    """The payment, where the operation is done or pending.

    Raises Refused PAYMENT_DECLINED, or Invalid PAYMENT_METHOD_INVALID, where it failed.
    """
    operation = with_id(payment.operations, operation_id)
    code = operation.failure_code
    if code is None or (operation.kind is Kind.VOID and payment.status is Status.VOIDED):
        return payment  # a void is done as well where the authorisation had expired
    if code == METHOD_INVALID:
        violation = Violation("payment_method_token", "must be a token that the processor knows")
        raise Invalid(
            "PAYMENT_METHOD_INVALID",
            "The processor does not know this payment-method token.",
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


def payment_of_operation(account: Account, operation_id: UUID | None) -> Payment:
    """The payment that has the operation."""
    return next(p for p in account.payments for o in p.operations if o.id == operation_id)


def with_id(records: Iterable[P], id: UUID) -> P:
    """The payment or operation of that id; it exists."""
    return next(each for each in records if each.id == id)
