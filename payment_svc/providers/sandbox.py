"""A card processor to develop and test with: it takes no money, and what it does depends on the
payment-method token alone.

It stands for a system that is not ours: it has a memory of its own (sandbox_ledger.py), which
survives the payment service's processes and is shared by its replicas, so that "never charged
twice" can be seen to hold. Its webhooks go to the service's own IngestProviderWebhook, signed as
Standard Webhooks. The tokens are the table TOKENS; docs/sandbox.md shows it.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NoReturn
from uuid import UUID

import structlog

from chassis.values.errors import Deferred, Failure, Invalid
from payment_svc.model import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    Answer,
    Awaited,
    Declined,
    Report,
    Succeeded,
)
from payment_svc.providers import webhooks
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox_ledger import Entry, Ledger, fingerprint

NAME = "sandbox"
WEBHOOK_LEASE_S = 5.0
# What a webhook may be of, and whether that is a success.
WEBHOOKS = {
    "payment.succeeded": True,
    "payment.declined": False,
    "refund.succeeded": True,
    "refund.declined": False,
}
log = structlog.get_logger(__name__)

Deliver = Callable[[bytes, Mapping[str, str]], Awaitable[object]]


class Fault(StrEnum):
    """What goes wrong with a request."""

    REFUSED = "refused"  # the processor says at once that it cannot take it
    REQUEST_LOST = "request_lost"  # it never arrives, and the caller waits in vain
    ANSWER_LOST = "answer_lost"  # it is done, and the caller waits in vain


@dataclass(frozen=True, slots=True)
class Token:
    """What happens with a payment-method token. Its fault meets the first request with a key, or
    every one where `always` says so.
    """

    name: str
    does: str
    code: str | None = None
    final: bool = False
    late: bool = False
    slow: bool = False
    fault: Fault | None = None
    always: bool = False
    capture_code: str | None = None
    capture_fault: Fault | None = None
    void_code: str | None = None
    void_fault: Fault | None = None
    refund_code: str | None = None
    refund_fault: Fault | None = None
    refund_late: bool = False
    refund_code_once: bool = False  # of a charge the first refund alone is declined


TOKENS: dict[str, Token] = {
    token.name: token
    for token in (
        Token("tok_ok", "Succeeds."),
        Token("tok_slow", "Succeeds after two seconds.", slow=True),
        Token(
            "tok_ok_late",
            "Answers pending; the success comes by webhook about a second later.",
            late=True,
        ),
        Token(
            "tok_declined_insufficient_funds",
            "Is declined; may be tried again.",
            code="insufficient_funds",
        ),
        Token(
            "tok_declined_expired_card",
            "Is declined; may be tried again, with another card.",
            code="expired_card",
        ),
        Token(
            "tok_declined_stolen",
            "Is declined for good at the first try.",
            code="stolen_card",
            final=True,
        ),
        Token(
            "tok_declined_late",
            "Answers pending; the decline comes by webhook.",
            code="insufficient_funds",
            late=True,
        ),
        Token(
            "tok_timeout_charged",
            "Charges, then the answer is lost; asked again it tells.",
            fault=Fault.ANSWER_LOST,
        ),
        Token(
            "tok_timeout_not_charged",
            "The first request is lost; asked again it succeeds.",
            fault=Fault.REQUEST_LOST,
        ),
        Token(
            "tok_unavailable_once",
            "Cannot be reached the first time; asked again it succeeds.",
            fault=Fault.REFUSED,
        ),
        Token("tok_unavailable", "Can never be reached.", fault=Fault.REFUSED, always=True),
        Token(
            "tok_capture_declined",
            "Authorises; a later capture is declined, and the authorisation stays.",
            capture_code="insufficient_funds",
        ),
        Token(
            "tok_capture_timeout",
            "Authorises; a later capture is done, and its answer is lost.",
            capture_fault=Fault.ANSWER_LOST,
        ),
        Token(
            "tok_void_declined",
            "Authorises; the authorisation has expired by the time that it is captured or voided.",
            capture_code=AUTHORIZATION_EXPIRED,
            void_code=AUTHORIZATION_EXPIRED,
        ),
        Token(
            "tok_void_timeout",
            "Authorises; a void is done, and its answer is lost.",
            void_fault=Fault.ANSWER_LOST,
        ),
        Token("tok_refund_declined", "Succeeds; refunds are declined.", refund_code="card_closed"),
        Token(
            "tok_refund_declined_once",
            "Succeeds; the first refund is declined, and others are done.",
            refund_code="card_closed",
            refund_code_once=True,
        ),
        Token(
            "tok_refund_late",
            "Succeeds; refunds are answered pending, and done by webhook.",
            refund_late=True,
        ),
        Token(
            "tok_refund_declined_late",
            "Succeeds; refunds are answered pending, and declined by webhook.",
            refund_code="card_closed",
            refund_late=True,
        ),
        Token(
            "tok_refund_timeout",
            "Succeeds; a refund is done, and its answer is lost.",
            refund_fault=Fault.ANSWER_LOST,
        ),
        Token(
            "tok_refund_lost",
            "Succeeds; a refund's first request is lost; asked again it is done.",
            refund_fault=Fault.REQUEST_LOST,
        ),
        Token(
            "tok_refund_unavailable_once",
            "Succeeds; asked for a refund it cannot be reached the first time.",
            refund_fault=Fault.REFUSED,
        ),
    )
}


class Sandbox:
    """The sandbox processor (payment_svc.providers.port.Processor).

    Pending requests end after `late_s`, slow ones take `slow_s`; who waits in vain does so for
    `silence_s`, until the line breaks.
    """

    def __init__(
        self,
        ledger: Ledger,
        webhook_key: bytes,
        *,
        late_s: float = 1.0,
        slow_s: float = 2.0,
        silence_s: float = 60.0,
    ) -> None:
        self.ledger, self._key = ledger, webhook_key
        self._late, self._slow_s, self._silence_s = timedelta(seconds=late_s), slow_s, silence_s

    async def authorize(self, request: Authorization) -> Answer:
        token = TOKENS.get(request.token)
        if token is None:
            return Declined(METHOD_INVALID)
        fault = await self._fault(request.key, token.fault, always=token.always)
        if token.slow:
            await asyncio.sleep(self._slow_s)
        asked = fingerprint(token.name, request.amount, request.currency, request.capture)
        kind = "charge" if request.capture else "authorize"
        entry = Entry(
            key=request.key,
            kind=kind,
            state=_state(token.code),
            request=asked,
            token=token.name,
            amount=request.amount,
            code=token.code,
            final=token.final,
        )
        known = await self.ledger.record(entry, self._late if token.late else None)
        return await self._unless_lost(fault, known)

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        its, token = await self._done(authorization, amount)
        fault = await self._fault(key, token.capture_fault)
        return await self._unless_lost(
            fault, await self._record(key, "capture", its, amount, token.capture_code)
        )

    async def void(self, key: UUID, authorization: str) -> Answer:
        its, token = await self._done(authorization, 0)
        fault = await self._fault(key, token.void_fault)
        return await self._unless_lost(
            fault, await self._record(key, "void", its, its.amount, token.void_code)
        )

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        its, token = await self._done(charge, amount)
        fault = await self._fault(key, token.refund_fault)
        late = self._late if token.refund_late else None
        code = (
            None
            if token.refund_code_once and await self.ledger.declined(its.key, besides=key)
            else token.refund_code
        )
        return await self._unless_lost(
            fault, await self._record(key, "refund", its, amount, code, late)
        )

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
                    request=None,
                    token=None,
                    amount=0,
                    code=NOT_PROCESSED,
                    final=False,
                )
            )
        )

    def report(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        event_id = webhooks.verify(self._key, headers, now, body)
        try:
            told = json.loads(body)
            succeeded = WEBHOOKS[told["type"]]
            reference, operation_id = str(told["reference"]), UUID(told["key"])
            answer = (
                Succeeded(reference)
                if succeeded
                else Declined(str(told["code"]), bool(told["final"]), reference)
            )
        # whatever a body that is not ours can break
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Invalid(
                "WEBHOOK_MALFORMED", "The body is not a webhook of the sandbox."
            ) from error
        return Report(event_id, operation_id, answer)

    async def work(self, deliver: Deliver) -> None:
        """One round of what the sandbox does by itself: ends what is pending and due, and
        delivers its webhooks till they are taken.
        """
        await self.ledger.settle_due()
        for entry in await self.ledger.take_webhooks(WEBHOOK_LEASE_S):
            try:
                await deliver(*self.webhook(entry, datetime.now(UTC)))
            except Failure as failure:
                log.warning(
                    "a webhook of the sandbox was not taken, and comes again",
                    operation_id=str(entry.key),
                    reason=failure.reason,
                )
            else:
                await self.ledger.delivered(entry.key)

    def webhook(self, entry: Entry, now: datetime) -> tuple[bytes, dict[str, str]]:
        """The webhook of a settled entry: its body, and its headers."""
        subject = "refund" if entry.kind == "refund" else "payment"
        told: dict[str, object] = {
            "type": f"{subject}.{entry.state}",
            "key": str(entry.key),
            "reference": entry.reference,
        }
        if entry.code:
            told |= {"code": entry.code, "final": entry.final}
        body = json.dumps(told).encode()
        return body, webhooks.sign(self._key, f"evt_{entry.key.hex}", now, body)

    async def _done(self, reference: str, amount: int) -> tuple[Entry, Token]:
        """What was done under that reference, and its token. Raises ValueError where it was not,
        or was less: a defect of the caller's.
        """
        its = await self.ledger.find(UUID(reference.removeprefix("sbx_")))
        if its is None or its.state != "succeeded" or amount > its.amount:
            raise ValueError(f"the sandbox has done no {amount} under {reference}")
        return its, TOKENS[its.token or ""]

    async def _record(
        self,
        key: UUID,
        kind: str,
        its: Entry,
        amount: int,
        code: str | None,
        late: timedelta | None = None,
    ) -> Entry:
        """What the key stands for: a part of what was done before, taken or given back."""
        asked = fingerprint(its.reference, amount)
        entry = Entry(
            key=key,
            kind=kind,
            state=_state(code),
            request=asked,
            token=its.token,
            amount=amount,
            code=code,
            final=False,
            parent=its.key,
        )
        return await self.ledger.record(entry, late)

    async def _fault(self, key: UUID, fault: Fault | None, *, always: bool = False) -> Fault | None:
        """What goes wrong with this request; two of the faults end it here."""
        first = await self.ledger.count(key) == 1
        if fault is None or not (first or always):
            return None
        if fault is Fault.REFUSED:
            raise Deferred(
                "DEPENDENCY_UNAVAILABLE",
                "The sandbox processor cannot be reached just now.",
                peer=NAME,
            )
        if fault is Fault.REQUEST_LOST:
            await self._wait_in_vain()
        return fault

    async def _unless_lost(self, fault: Fault | None, entry: Entry) -> Answer:
        if fault is Fault.ANSWER_LOST:
            await self._wait_in_vain()
        return _answer(entry)

    async def _wait_in_vain(self) -> NoReturn:
        await asyncio.sleep(self._silence_s)
        raise TimeoutError


def generated_key() -> bytes:
    """A signing key that nobody else knows, for where none is configured: then only the sandbox
    itself can send webhooks.
    """
    return secrets.token_bytes(32)


def _state(code: str | None) -> str:
    return "declined" if code else "succeeded"


def _answer(entry: Entry) -> Answer:
    if entry.state == "pending":
        return Awaited(entry.reference)
    if entry.state == "succeeded":
        return Succeeded(entry.reference)
    return Declined(entry.code or "", entry.final, entry.reference)
