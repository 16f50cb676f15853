"""What the payment service does: one method for each thing.

A processor is asked between two writes, the intent and the result, while no transaction is held; its key is the operation's id, so that
asking again, by whomever, charges and refunds nothing twice. What is asked and not answered is settled by `settle_due`; what a write has
requested by itself, to give money back, is due from the start, and `compensate` asks for it right after.
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

from chassis import crash, deadline, telemetry
from chassis.database import Database
from chassis.decision import Done, Outcome, unwrap
from chassis.errors import Deferred, Invalid, NotFound, Refused, Violation
from chassis.idempotency import Keyed
from chassis.money import Money
from chassis.paging import Page
from payment_svc import decisions, store
from payment_svc.lifecycle import OPEN, REFUND_STATUS, Cause, Kind, Reason, Status
from payment_svc.lifecycle import Outcome as OperationOutcome
from payment_svc.model import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOTHING_REFUNDABLE,
    Account,
    Answer,
    AskAgain,
    CapturePayment,
    Change,
    CreatePayment,
    LoseAnswer,
    NoteOrder,
    Operation,
    Order,
    Payment,
    PaymentCommand,
    PaymentFilter,
    Refund,
    RefundFilter,
    RefundPayment,
    RefundReturn,
    RefundSettled,
    ResolveContradiction,
    Settle,
    VoidPayment,
    digest_of,
)
from payment_svc.peers import Orders
from payment_svc.providers.port import Authorization, Processor

# A request that the processor has never heard of is abandoned at the third time of asking: it may be on its way for a while.
ASKS_BEFORE_ABANDONING = 3
ASK_AFTER_MAX_S = 600.0
DUE_MAX = 50
# How long `compensate` waits for something to do before it looks by itself.
COMPENSATE_EVERY_S = 30.0
# How long the order service is waited for, and the part of the caller's time that this may take: without the answer the copy decides.
ORDER_TIMEOUT_S, ORDER_SHARE = 2.0, 0.25
# What is kept of the caller's time for writing down that the answer was lost.
MARGIN_S = 0.5
P = TypeVar("P", Payment, Operation)

_log = structlog.get_logger(__name__)


class Operations:
    """The payment service's doors lead here; from here to its peers, processors, decisions and store.

    `processors` by name; new payments go to `processor`. An answer is waited for `answer_timeout_s`; an operation that is still open
    `settle_after_s` after it was asked for is asked about again, ever more slowly.
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
        self.database, self.orders, self.processors, self.processor = database, orders, processors, processor
        self.answer_timeout_s, self.settle_after_s = answer_timeout_s, settle_after_s
        self._requested = asyncio.Event()  # something is due that a write has requested by itself
        self._refunds = telemetry.counter("payment_refunds_total", "Refunds that were settled", "cause", "outcome")
        self._refunds_open = telemetry.reading("payment_refunds_open", "Refunds that wait for the processor's answer")
        self._refund_age = telemetry.reading("payment_refunds_open_seconds", "How long the oldest of them has been waiting")
        self._answers = telemetry.counter("processor_answers_total", "What processors answered", "processor", "kind", "answer")
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

    async def create_payment(
        self, of: Keyed, request_id: UUID, order_id: UUID, token: str, expected: Money | None, *, manual_capture: bool
    ) -> Payment:
        """Charges what an order costs, once. A repeat goes on where an earlier try has stopped, and answers with what came of it."""
        command = CreatePayment(
            *(of.key, of.digest, order_id, "payment", str(request_id)),
            claimed_actor=of.claimed_actor,
            note=of.note,
            expected=expected,
            manual_capture=manual_capture,
            processor=self.processor,
            payment_id=uuid7(),
            operation_id=uuid7(),
            ask_after=timedelta(seconds=self.settle_after_s),
            order=await self._order_to_pay(of, order_id),
        )
        account = unwrap((await self._write([command]))[0])
        payment = account.requested_by(of.key) or account.payments[-1]  # the last: of an order of total zero
        operation = payment.requested_by(of.key)
        if operation is None:
            return payment
        if operation.outcome in OPEN:
            crash.point("payment.requested")
            request = Authorization(operation.id, token, operation.amount, payment.currency, operation.kind is Kind.CHARGE)
            payment = await self._ask(payment, operation, self.processors[payment.processor].authorize(request), str(request_id))
        return verdict(payment, operation.id)

    async def capture_payment(
        self,
        of: Keyed,
        request_id: UUID,
        payment_id: UUID,
        expected_version: int | None,
        expected: Money | None = None,
    ) -> Payment:
        """Takes of what a payment has set aside what the order costs now, once. Two requests at the same time wait for the same answer."""
        payment = await self.get_payment(payment_id)
        order = None if payment.requested_by(of.key) else await self._order_now(payment.order_id)
        values = self._intent(payment, of, request_id, expected_version)
        return await self._end_authorization(CapturePayment(**values, expected=expected, order=order), Kind.CAPTURE)

    async def void_payment(self, of: Keyed, request_id: UUID, payment_id: UUID, expected_version: int | None) -> Payment:
        """Gives back what a payment has set aside, once. Whoever comes while it is being given back waits for the same answer."""
        values = self._intent(await self.get_payment(payment_id), of, request_id, expected_version)
        return await self._end_authorization(VoidPayment(**values), Kind.VOID)

    async def refund_payment(
        self,
        of: Keyed,
        request_id: UUID,
        payment_id: UUID,
        amount: Money | None,
        expected_version: int | None,
        return_id: UUID | None = None,
    ) -> tuple[Payment, Refund]:
        """Gives captured money back, once for the request. Raises REFUND_FAILED where the processor refuses."""
        values = self._intent(await self.get_payment(payment_id), of, request_id, expected_version)
        command = RefundPayment(**values, amount=amount, return_id=str(return_id) if return_id else None)
        payment = one(unwrap((await self._write([command]))[0]).payments, payment_id)
        operation = next(o for o in payment.operations if o.requested_by == of.key)
        if operation.outcome in OPEN:
            payment = await self._ask(payment, operation, self._request(payment, operation), str(request_id))
        return payment, refunded(payment, operation.id)

    async def refund_returns(self, commands: Sequence[RefundReturn]) -> Sequence[Outcome[Account]]:
        """What accepted returns are worth goes back."""
        return await self._write(commands)

    async def ingest_webhook(self, processor: str, body: bytes, headers: Mapping[str, str]) -> Payment:
        """What a processor reports of an operation; what is known already changes nothing."""
        if processor not in self.processors:
            violation = Violation("processor", f"must be one of {', '.join(sorted(self.processors))}")
            raise Invalid("VALIDATION_FAILED", f"There is no processor {processor}.", violations=[violation])
        report = self.processors[processor].report(body, headers, datetime.now(UTC))
        async with self.database.read() as connection:
            order_id = await store.order_of_operation(connection, report.operation_id)
        if order_id is None:
            text = f"No payment has asked for operation {report.operation_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(report.operation_id))
        of = Keyed(f"webhook:{processor}:{report.event_id}", report.digest)
        command = Settle(
            *(of.key, of.digest, order_id, processor, report.event_id),
            operation_id=report.operation_id,
            answer=report.answer,
            payment_id=uuid7(),
            payload_digest=hashlib.sha256(body).digest(),
        )
        [outcome] = await self._write([command])
        if isinstance(outcome, Invalid) and outcome.reason == "REQUEST_ID_REUSED":
            key = f"{of.key}:reused:{command.payload_digest.hex()}"
            unwrap((await self._write([replace(command, key=key, reused=True)]))[0])
        return asked_for(unwrap(outcome), report.operation_id)

    async def resolve_contradiction(
        self,
        of: Keyed,
        request_id: UUID,
        payment_id: UUID,
        contradiction_id: UUID,
        note: str,
        expected_version: int | None = None,
    ) -> Payment:
        """Marks what a processor said against its earlier word as resolved by an operator."""
        payment = await self.get_payment(payment_id)
        command = ResolveContradiction(
            *(of.key, of.digest, payment.order_id, "payment", str(request_id)),
            claimed_actor=of.claimed_actor,
            note=note,
            payment_id=payment_id,
            contradiction_id=contradiction_id,
            expected_version=expected_version,
        )
        return one(unwrap((await self._write([command]))[0]).payments, payment_id)

    async def note_orders(self, commands: Sequence[NoteOrder]) -> Sequence[Outcome[Account]]:
        """What the order service tells; an order of total zero is paid by it, and what a dead one has paid goes back."""
        return await self._write(commands)

    async def get_payment(self, payment_id: UUID) -> Payment:
        """Raises NotFound PAYMENT_NOT_FOUND."""
        async with self.database.read() as connection:
            payment = await store.find_payment(connection, payment_id)
        if payment is None:
            raise NotFound("PAYMENT_NOT_FOUND", f"There is no payment {payment_id}.", payment_id=str(payment_id))
        return payment

    async def list_payments(self, wanted: PaymentFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(await store.list_payments(connection, wanted, page), lambda payment: (payment.id,))

    async def list_refunds(self, wanted: RefundFilter, page: Page) -> tuple[Sequence[Any], str]:
        async with self.database.read() as connection:
            return page.cut(await store.list_refunds(connection, wanted, page), lambda refund: (refund.request_time, refund.id))

    async def list_transitions(self, payment_id: UUID, page: Page) -> tuple[Sequence[Any], str]:
        """A page of the payment's history, oldest first.

        `page.encode` gets each row with its operation's kind. Raises NotFound PAYMENT_NOT_FOUND.
        """
        await self.get_payment(payment_id)
        async with self.database.read() as connection:
            rows = await store.list_history(connection, payment_id, page)
        return page.cut(rows, lambda row: (row[0].version,))

    async def settle_due(self) -> None:
        """Asks processors about what has been open for too long. Of several replicas one asks; what it cannot settle comes due again."""
        async with self.database.read() as connection:
            due = await store.due_operations(connection, DUE_MAX)
        commands = [self._ask_again(order_id, operation_id, asks + 1) for order_id, operation_id, asks in due]
        outcomes = await self._write(commands)
        ours = [
            (payment, operation)
            for command, outcome in zip(commands, outcomes, strict=True)
            if isinstance(outcome, Done) and not outcome.repeat
            for payment in [asked_for(outcome.record, command.operation_id)]
            for operation in payment.operations
            if operation.id == command.operation_id and operation.outcome in OPEN
        ]
        told = await asyncio.gather(*(self._look_up(*asked) for asked in ours), return_exceptions=True)
        settled = [result for result in told if isinstance(result, Settle | LoseAnswer)]
        if len(due) == DUE_MAX:
            self._requested.set()  # there may be more
        for outcome in [*outcomes, *await self._write(settled)]:
            unwrap(outcome)
        for result in told:
            if isinstance(result, BaseException):
                raise result

    async def compensate(self) -> None:
        """Waits until a write has requested by itself that money goes back, and asks for it. Nobody waits for this: what it cannot do
        now is due, and `settle_due` does it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPENSATE_EVERY_S):
                await self._requested.wait()
        self._requested.clear()
        await self.settle_due()

    async def measure(self) -> None:
        """Sets the gauges of open refunds, and of contradictions that no operator has resolved."""
        gauges = (self._refunds_open, self._refund_age, self._contradictions_open)
        with telemetry.reading_of(*gauges):
            async with self.database.read() as connection:
                count, age_s = await store.open_refunds(connection)
                contradictions = await store.open_contradictions(connection)
        self._refunds_open.set(count)
        self._refund_age.set(age_s)
        self._contradictions_open.set(contradictions)

    # --- how a processor is asked

    def _intent(self, payment: Payment, of: Keyed, request_id: UUID, expected_version: int | None) -> dict[str, Any]:
        """What all requests about a payment's money say."""
        return {
            "key": of.key,
            "digest": of.digest,
            "target": payment.order_id,
            "actor": "payment",
            "cause": str(request_id),
            "claimed_actor": of.claimed_actor,
            "note": of.note,
            "payment_id": payment.id,
            "operation_id": uuid7(),
            "expected_version": expected_version,
            "ask_after": timedelta(seconds=self.settle_after_s),
        }

    async def _end_authorization(self, command: CapturePayment | VoidPayment, kind: Kind) -> Payment:
        payment = one(unwrap((await self._write([command]))[0]).payments, command.payment_id)
        # Who has asked for nothing waits, or has waited, for another's answer: the newest of its kind.
        operation = payment.requested_by(command.key) or next(o for o in reversed(payment.operations) if o.kind is kind)
        if operation.outcome in OPEN:
            payment = await self._ask(payment, operation, self._request(payment, operation), command.cause)
        return verdict(payment, operation.id)

    async def _ask(self, payment: Payment, operation: Operation, question: Awaitable[Answer], cause: str) -> Payment:
        """Waits for the processor's answer and writes it down. Raises Deferred where there is none: it was lost, or not even asked for."""
        left = deadline.remaining()
        patience_s = self.answer_timeout_s if left is None else min(self.answer_timeout_s, max(left - MARGIN_S, 0.1))
        try:
            async with asyncio.timeout(patience_s):
                answer = await question
        except TimeoutError:
            self._count(payment, operation, "lost")
            payment = one(unwrap((await self._write([lost(payment, operation, cause)]))[0]).payments, payment.id)
            if one(payment.operations, operation.id).outcome not in OPEN:
                return payment  # a webhook has told meanwhile
            text = "The processor has not answered in time. What it did is being found out; the same request_id asks again."
            raise Deferred("PAYMENT_OUTCOME_UNKNOWN", text, payment_id=str(payment.id)) from None
        except Deferred:
            self._count(payment, operation, "unavailable")
            raise
        crash.point("provider.answered")
        self._count(payment, operation, type(answer).__name__.lower())
        account = unwrap((await self._write([result(payment, operation, answer, cause)]))[0])
        return one(account.payments, payment.id)

    async def _look_up(self, payment: Payment, operation: Operation) -> Settle | LoseAnswer | None:
        """What the processor says of an operation, None where it cannot say: then it is asked again, its `ask_time` says when."""
        processor = self.processors[payment.processor]
        lookup = operation.kind in (Kind.AUTHORIZE, Kind.CHARGE)  # all else needs no token: just ask for it again, with its key
        try:
            async with asyncio.timeout(self.answer_timeout_s):
                answer: Answer | None
                if not lookup:
                    answer = await self._request(payment, operation)
                else:
                    answer = await processor.lookup(operation.id)
                    if answer is None and operation.asks >= ASKS_BEFORE_ABANDONING:
                        answer = await processor.abandon(operation.id)
        except TimeoutError:
            self._count(payment, operation, "lost")
            return None if lookup or operation.outcome is OperationOutcome.UNKNOWN else lost(payment, operation, cause_of(operation))
        except Deferred:
            self._count(payment, operation, "unavailable")
            return None
        crash.point("provider.answered")
        self._count(payment, operation, type(answer).__name__.lower() if answer else "unheard_of")
        return result(payment, operation, answer, cause_of(operation)) if answer else None

    def _request(self, payment: Payment, operation: Operation) -> Awaitable[Answer]:
        """Asks the processor for what needs no token: the same key each time."""
        processor, authorization, charge = self.processors[payment.processor], payment.authorization, payment.charge
        crash.point(f"{operation.kind}.requested")
        if operation.kind is Kind.REFUND:
            assert charge, "only what was captured is ever refunded"
            return processor.refund(operation.id, charge, operation.amount)
        assert authorization, "only what was authorised is ever captured or voided"
        if operation.kind is Kind.VOID:
            return processor.void(operation.id, authorization)
        return processor.capture(operation.id, authorization, operation.amount)

    def _ask_again(self, order_id: UUID, operation_id: UUID, ask: int) -> AskAgain:
        pause_s = min(self.settle_after_s * 2 ** (ask - 1), ASK_AFTER_MAX_S)
        of = (f"{operation_id}:ask:{ask}", b"", order_id, "payment", str(operation_id))
        return AskAgain(*of, operation_id=operation_id, ask=ask, ask_after=timedelta(seconds=pause_s))

    def _count(self, payment: Payment, operation: Operation, answer: str) -> None:
        self._answers.labels(payment.processor, operation.kind, answer).inc()

    # --- what is known

    async def _order_to_pay(self, of: Keyed, order_id: UUID) -> Order | None:
        """What the order service answers now. None for a repeat, which has decided long since, and where the account's copy must do."""
        async with self.database.read() as connection:
            account = await store.find_account(connection, order_id)
        if account and account.requested_by(of.key):
            return None
        return await (self._order_now(order_id) if account else self.orders.get(order_id))

    async def _order_now(self, order_id: UUID) -> Order | None:
        """What the order service answers now; None where it is out of reach, and the account's copy of the order must do."""
        left = deadline.remaining()
        timeout_s = ORDER_TIMEOUT_S if left is None else min(ORDER_TIMEOUT_S, left * ORDER_SHARE)
        try:
            return await self.orders.get(order_id, timeout_s)
        except Deferred as away:
            self._copies.inc()
            _log.warning("an order is paid by this service's copy of it", order_id=str(order_id), reason=away.reason)
            return None

    async def _write(self, commands: Sequence[PaymentCommand]) -> list[Outcome[Account]]:
        """Writes, counts what it has settled, and wakes `compensate` where it has requested something by itself."""
        told: dict[str, decisions.Decided] = {}

        def decide(account: Account | None, command: PaymentCommand, now: datetime) -> decisions.Decided:
            decided = decisions.decide(account, command, now)
            told[command.key] = decided
            return decided

        outcomes = await self.database.write(commands, load=store.lock_accounts, decide=decide, save=store.save_accounts)
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(outcome, Done) and not outcome.repeat:
                for fact in told[command.key].facts:
                    if isinstance(fact, RefundSettled):
                        self._refunds.labels(fact.refund.cause, REFUND_STATUS[fact.refund.outcome]).inc()
                for change in told[command.key].history:
                    if change.reason == Reason.CONTRADICTED:
                        self._report_contradiction(asked_for(outcome.record, change.operation_id), change)
                if any(by_itself(o) for p in outcome.record.payments for o in p.operations):
                    self._requested.set()
        return outcomes

    def _report_contradiction(self, payment: Payment, change: Change) -> None:
        self._contradictions.labels(payment.processor).inc()
        _log.error(
            "a processor contradicts what it said before",
            payment_id=str(payment.id),
            operation_id=str(change.operation_id),
            said=change.outcome,
            report_id=change.cause,
        )


def by_itself(its: Operation) -> bool:
    """Whether an operation was requested by no caller (it was due at once), and nobody has asked the processor yet."""
    return its.outcome is OperationOutcome.REQUESTED and its.cause in (Cause.ORDER, Cause.RETURN) and its.ask_time == its.request_time


def cause_of(its: Operation) -> str:
    """The request_id of the call that asked for an operation; else the operation's id."""
    method, _, request_id = its.requested_by.rpartition(":")
    return request_id if method.startswith("/") else str(its.id)


def result(payment: Payment, operation: Operation, answer: Answer, cause: str) -> Settle:
    """What the processor has answered, to be written down once, whoever has asked."""
    key = f"{operation.id}:result:{type(answer).__name__.lower()}"
    return Settle(
        *(key, b"", payment.order_id, "payment", cause),
        operation_id=operation.id,
        answer=answer,
        payment_id=uuid7(),
        payload_digest=digest_of(operation.id, answer),
    )


def lost(payment: Payment, operation: Operation, cause: str) -> LoseAnswer:
    """That the processor's answer was lost, to be written down once: it is asked again at once, not in its turn."""
    key, at_once = f"{operation.id}:lost", timedelta(0)
    return LoseAnswer(key, b"", payment.order_id, "payment", cause, operation_id=operation.id, ask_after=at_once)


def refunded(payment: Payment, operation_id: UUID) -> Refund:
    """The refund, where it is done or on its way. Raises the processor's no."""
    refund = payment.refund(one(payment.operations, operation_id))
    if refund.failure_code is None:
        return refund
    text = f"The processor refuses the refund: {refund.failure_code}. The money is still owed; another refund may be tried."
    if refund.failure_code == NOTHING_REFUNDABLE:
        text = "Nothing is left to refund: the return is closed without a refund."
    raise Refused("REFUND_FAILED", text, failure_code=refund.failure_code, refund_id=str(refund.id), payment_id=str(payment.id))


def verdict(payment: Payment, operation_id: UUID) -> Payment:
    """The payment, where what was asked for it is done or on its way. Raises the processor's no."""
    operation = one(payment.operations, operation_id)
    code = operation.failure_code
    if code is None or (operation.kind is Kind.VOID and payment.status is Status.VOIDED):
        return payment  # a void is done as well where the authorisation had expired
    if code == METHOD_INVALID:
        violation = Violation("payment_method_token", "must be a token that the processor knows")
        raise Invalid("PAYMENT_METHOD_INVALID", "The processor does not know this payment-method token.", violations=[violation])
    retryable = payment.status is not Status.FAILED
    text = f"The payment was declined: {code}." + (" Another try may be made." if retryable else "")
    if code == AUTHORIZATION_EXPIRED:
        text = "The authorisation has expired and is voided. Make another payment with CreatePayment."
    raise Refused("PAYMENT_DECLINED", text, decline_code=code, retryable=str(retryable).lower(), payment_id=str(payment.id))


def asked_for(account: Account, operation_id: UUID | None) -> Payment:
    """The payment for which the operation was asked for."""
    return next(p for p in account.payments for o in p.operations if o.id == operation_id)


def one(among: Iterable[P], id: UUID) -> P:
    """The payment or operation of that id; it is there."""
    return next(each for each in among if each.id == id)
