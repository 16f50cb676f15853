"""A card processor to develop and test with: it takes no money, and what it does depends on the
payment-method token alone.

It stands for another system: it has tables of its own (sandbox_ledger.py), which outlive the
payment service's processes and are shared by the replicas, so that tests can check "never charged
twice". Its webhooks go to the service's own IngestProviderWebhook, signed as Standard Webhooks. The
tokens are the table TOKENS; docs/sandbox.md shows it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NoReturn
from uuid import UUID

import structlog

from chassis.values.errors import Deferred, Failure, Invalid
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    Answer,
    Declined,
    Pending,
    Report,
    Succeeded,
)
from payment_svc.providers import webhooks
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox_ledger import Entry, Ledger, request_hash

NAME = "sandbox"
WEBHOOK_LEASE_S = 5.0
# The types of webhooks, and whether each is a success.
WEBHOOK_TYPES = {
    "payment.succeeded": True,
    "payment.declined": False,
    "refund.succeeded": True,
    "refund.declined": False,
}
log = structlog.get_logger(__name__)


class Fault(StrEnum):
    """A simulated failure of a request."""

    UNAVAILABLE = "unavailable"  # the processor refuses the request at once
    REQUEST_LOST = "request_lost"  # the request does not arrive, and the caller gets no answer
    ANSWER_LOST = "answer_lost"  # the request is done, and the caller gets no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The behaviour of a payment-method token. Its fault affects the first request with a key, or
    every request where `fault_always` is set.
    """

    name: str
    description: str
    code: str | None = None
    final: bool = False
    pending: bool = False
    slow: bool = False
    fault: Fault | None = None
    fault_always: bool = False
    capture_code: str | None = None
    capture_fault: Fault | None = None
    void_code: str | None = None
    void_fault: Fault | None = None
    refund_code: str | None = None
    refund_fault: Fault | None = None
    refund_pending: bool = False
    refund_declined_once: bool = False  # only the first refund of a charge is declined


TOKENS: dict[str, Token] = {
    token.name: token
    for token in (
        Token(name="tok_ok", description="Succeeds."),
        Token(name="tok_slow", description="Succeeds after two seconds.", slow=True),
        Token(
            name="tok_ok_late",
            description="Answers pending; the success comes by webhook about a second later.",
            pending=True,
        ),
        Token(
            name="tok_declined_insufficient_funds",
            description="Is declined; may be tried again.",
            code="insufficient_funds",
        ),
        Token(
            name="tok_declined_expired_card",
            description="Is declined; may be tried again, with another card.",
            code="expired_card",
        ),
        Token(
            name="tok_declined_stolen",
            description="Is declined for good at the first try.",
            code="stolen_card",
            final=True,
        ),
        Token(
            name="tok_declined_late",
            description="Answers pending; the decline comes by webhook.",
            code="insufficient_funds",
            pending=True,
        ),
        Token(
            name="tok_timeout_charged",
            description="Charges, and the answer is lost; a lookup returns it.",
            fault=Fault.ANSWER_LOST,
        ),
        Token(
            name="tok_timeout_not_charged",
            description="The first request is lost; a retry succeeds.",
            fault=Fault.REQUEST_LOST,
        ),
        Token(
            name="tok_unavailable_once",
            description="Cannot be reached the first time; a retry succeeds.",
            fault=Fault.UNAVAILABLE,
        ),
        Token(
            name="tok_unavailable",
            description="Can never be reached.",
            fault=Fault.UNAVAILABLE,
            fault_always=True,
        ),
        Token(
            name="tok_capture_declined",
            description="Authorises; a later capture is declined, and the authorisation stays.",
            capture_code="insufficient_funds",
        ),
        Token(
            name="tok_capture_timeout",
            description="Authorises; a later capture is done, and its answer is lost.",
            capture_fault=Fault.ANSWER_LOST,
        ),
        Token(
            name="tok_void_declined",
            description="Authorises; the authorisation has expired by the time that it is captured"
            " or voided.",
            capture_code=AUTHORIZATION_EXPIRED,
            void_code=AUTHORIZATION_EXPIRED,
        ),
        Token(
            name="tok_void_timeout",
            description="Authorises; a void is done, and its answer is lost.",
            void_fault=Fault.ANSWER_LOST,
        ),
        Token(
            name="tok_refund_declined",
            description="Succeeds; refunds are declined.",
            refund_code="card_closed",
        ),
        Token(
            name="tok_refund_declined_once",
            description="Succeeds; the first refund is declined, and others are done.",
            refund_code="card_closed",
            refund_declined_once=True,
        ),
        Token(
            name="tok_refund_late",
            description="Succeeds; refunds are answered pending, and done by webhook.",
            refund_pending=True,
        ),
        Token(
            name="tok_refund_declined_late",
            description="Succeeds; refunds are answered pending, and declined by webhook.",
            refund_code="card_closed",
            refund_pending=True,
        ),
        Token(
            name="tok_refund_timeout",
            description="Succeeds; a refund is done, and its answer is lost.",
            refund_fault=Fault.ANSWER_LOST,
        ),
        Token(
            name="tok_refund_lost",
            description="Succeeds; a refund's first request is lost; a retry is done.",
            refund_fault=Fault.REQUEST_LOST,
        ),
        Token(
            name="tok_refund_unavailable_once",
            description="Succeeds; for a refund it cannot be reached the first time.",
            refund_fault=Fault.UNAVAILABLE,
        ),
    )
}


PENDING_FOR: Final = timedelta(seconds=1)
SLOW_S: Final = 2.0
HANG_S: Final = 60.0


class Sandbox:
    """The sandbox processor (payment_svc.providers.port.Processor).

    Pending requests are settled after PENDING_FOR, slow ones take SLOW_S. A request whose answer is
    lost ends with TimeoutError after HANG_S.
    """

    def __init__(self, ledger: Ledger, webhook_key: bytes) -> None:
        self.ledger, self._key = ledger, webhook_key

    async def authorize(self, request: Authorization) -> Answer:
        token = TOKENS.get(request.token)
        if token is None:
            return Declined(METHOD_INVALID)
        entry = Entry(
            key=request.key,
            kind="charge" if request.capture else "authorize",
            state=_state(token.code),
            request_hash=request_hash(
                token.name, request.amount, request.currency, request.capture
            ),
            token=token.name,
            amount=request.amount,
            code=token.code,
            final=token.final,
        )
        return await self._process(
            entry,
            token.fault,
            fault_always=token.fault_always,
            slow=token.slow,
            pending=token.pending,
        )

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        parent, token = await self._find_parent(authorization, amount)
        entry = _child(key, "capture", parent, amount, token.capture_code)
        return await self._process(entry, token.capture_fault)

    async def void(self, key: UUID, authorization: str) -> Answer:
        parent, token = await self._find_parent(authorization, 0)
        entry = _child(key, "void", parent, parent.amount, token.void_code)
        return await self._process(entry, token.void_fault)

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        parent, token = await self._find_parent(charge, amount)
        code = token.refund_code
        if token.refund_declined_once and await self.ledger.has_declined(
            parent.key, except_key=key
        ):
            code = None
        entry = _child(key, "refund", parent, amount, code)
        return await self._process(entry, token.refund_fault, pending=token.refund_pending)

    async def lookup(self, key: UUID) -> Answer | None:
        entry = await self.ledger.find(key)
        return _answer(entry) if entry else None

    async def abandon(self, key: UUID) -> Answer:
        return _answer(
            await self.ledger.record(
                Entry(
                    key=key,
                    kind="abandoned",
                    state="declined",
                    request_hash=None,
                    token=None,
                    amount=0,
                    code=NOT_PROCESSED,
                    final=False,
                )
            )
        )

    def parse_webhook(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        event_id = webhooks.verify(self._key, headers, now, body)
        try:
            payload = json.loads(body)
            reference, operation_id = str(payload["reference"]), UUID(payload["key"])
            answer = (
                Succeeded(reference)
                if WEBHOOK_TYPES[payload["type"]]
                else Declined(str(payload["code"]), bool(payload["final"]), reference)
            )
        # the errors that another body can cause
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Invalid(
                "WEBHOOK_MALFORMED", "The body is not a webhook of the sandbox."
            ) from error
        return Report(event_id, operation_id, answer)

    async def run_once(
        self, deliver: Callable[[bytes, Mapping[str, str]], Awaitable[object]]
    ) -> None:
        """Settles the pending operations that are due, and sends their webhooks until the service
        accepts them.
        """
        await self.ledger.settle_due()
        for entry in await self.ledger.lease_webhooks(WEBHOOK_LEASE_S):
            try:
                await deliver(*self.webhook(entry, datetime.now(UTC)))
            except Failure as failure:
                log.warning(
                    "a webhook of the sandbox failed and is sent again",
                    operation_id=str(entry.key),
                    reason=failure.reason,
                )
            else:
                await self.ledger.mark_delivered(entry.key)

    def webhook(self, entry: Entry, now: datetime) -> tuple[bytes, dict[str, str]]:
        """The webhook of a settled entry: its body, and its headers."""
        subject = "refund" if entry.kind == "refund" else "payment"
        payload: dict[str, object] = {
            "type": f"{subject}.{entry.state}",
            "key": str(entry.key),
            "reference": entry.reference,
        }
        if entry.code:
            payload |= {"code": entry.code, "final": entry.final}
        body = json.dumps(payload).encode()
        return body, webhooks.sign(self._key, f"evt_{entry.key.hex}", now, body)

    async def _find_parent(self, reference: str, amount: int) -> tuple[Entry, Token]:
        """The entry with that reference, and the token.

        Raises ValueError where there is none, or its amount is less: a defect of the caller.
        """
        parent = await self.ledger.find(UUID(reference.removeprefix("sbx_")))
        if parent is None or parent.state != "succeeded" or amount > parent.amount:
            raise ValueError(f"the sandbox has done no {amount} under {reference}")
        return parent, TOKENS[parent.token or ""]

    async def _process(
        self,
        entry: Entry,
        fault: Fault | None,
        *,
        fault_always: bool = False,
        slow: bool = False,
        pending: bool = False,
    ) -> Answer:
        """Records the entry and returns its answer, unless the fault affects this request."""
        first = await self.ledger.count_call(entry.key) == 1
        if not (first or fault_always):
            fault = None
        if fault is Fault.UNAVAILABLE:
            raise Deferred(
                "DEPENDENCY_UNAVAILABLE",
                "The sandbox processor cannot be reached just now.",
                peer=NAME,
            )
        if fault is Fault.REQUEST_LOST:
            await self._hang()
        if slow:
            await asyncio.sleep(SLOW_S)
        stored = await self.ledger.record(entry, PENDING_FOR if pending else None)
        if fault is Fault.ANSWER_LOST:
            await self._hang()
        return _answer(stored)

    async def _hang(self) -> NoReturn:
        await asyncio.sleep(HANG_S)
        raise TimeoutError


def _child(key: UUID, kind: str, parent: Entry, amount: int, code: str | None) -> Entry:
    """The entry of a capture, void or refund of the parent entry."""
    return Entry(
        key=key,
        kind=kind,
        state=_state(code),
        request_hash=request_hash(parent.reference, amount),
        token=parent.token,
        amount=amount,
        code=code,
        final=False,
        parent=parent.key,
    )


def _state(code: str | None) -> str:
    return "declined" if code else "succeeded"


def _answer(entry: Entry) -> Answer:
    if entry.state == "pending":
        return Pending(entry.reference)
    if entry.state == "succeeded":
        return Succeeded(entry.reference)
    return Declined(entry.code or "", entry.final, entry.reference)
