"""A card processor to develop and test with: it takes no money, and what it does depends on the payment-method token alone.

It stands for a system that is not ours: it has a memory of its own (sandbox_ledger.py), which survives the payment service's processes and
is shared by its replicas, so that "never charged twice" can be seen to hold. Its webhooks go to the service's own
IngestProviderWebhook, signed as Standard Webhooks. The tokens are the table TOKENS; the README shows it.
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

from chassis.errors import Deferred, Failure, Invalid
from payment_svc.model import METHOD_INVALID, NOT_PROCESSED, Answer, Awaited, Declined, Report, Succeeded
from payment_svc.providers import webhooks
from payment_svc.providers.port import Authorization
from payment_svc.providers.sandbox_ledger import Entry, Ledger, fingerprint

NAME = "sandbox"
WEBHOOK_LEASE_S = 5.0
log = structlog.get_logger(__name__)

Deliver = Callable[[bytes, Mapping[str, str]], Awaitable[object]]


class Fault(StrEnum):
    """What goes wrong with a request."""

    REFUSED = "refused"  # the processor says at once that it cannot take it
    REQUEST_LOST = "request_lost"  # it never arrives, and the caller waits in vain
    ANSWER_LOST = "answer_lost"  # it is done, and the caller waits in vain


@dataclass(frozen=True, slots=True)
class Token:
    """What happens with a payment-method token. Its fault meets the first request with a key, or every one where `always` says so."""

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


TOKENS: dict[str, Token] = {
    token.name: token
    for token in (
        Token("tok_ok", "Succeeds."),
        Token("tok_slow", "Succeeds after two seconds.", slow=True),
        Token("tok_ok_late", "Answers pending; the success comes by webhook about a second later.", late=True),
        Token("tok_declined_insufficient_funds", "Is declined; may be tried again.", code="insufficient_funds"),
        Token("tok_declined_expired_card", "Is declined; may be tried again, with another card.", code="expired_card"),
        Token("tok_declined_stolen", "Is declined for good at the first try.", code="stolen_card", final=True),
        Token("tok_declined_late", "Answers pending; the decline comes by webhook.", code="insufficient_funds", late=True),
        Token("tok_timeout_charged", "Charges, then the answer is lost; asked again it tells.", fault=Fault.ANSWER_LOST),
        Token("tok_timeout_not_charged", "The first request is lost; asked again it succeeds.", fault=Fault.REQUEST_LOST),
        Token("tok_unavailable_once", "Cannot be reached the first time; asked again it succeeds.", fault=Fault.REFUSED),
        Token("tok_unavailable", "Can never be reached.", fault=Fault.REFUSED, always=True),
        Token("tok_capture_declined", "Authorises; a later capture is declined.", capture_code="authorization_expired"),
        Token("tok_capture_timeout", "Authorises; a later capture is done, and its answer is lost.", capture_fault=Fault.ANSWER_LOST),
    )
}


class Sandbox:
    """The sandbox processor (payment_svc.providers.port.Processor).

    Pending requests end after `late_s`, slow ones take `slow_s`; who waits in vain does so for `silence_s`, until the line breaks.
    """

    def __init__(self, ledger: Ledger, webhook_key: bytes, *, late_s: float = 1.0, slow_s: float = 2.0, silence_s: float = 60.0) -> None:
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
        entry = Entry(request.key, kind, _state(token.code), asked, token.name, request.amount, token.code, token.final)
        known = await self.ledger.record(entry, self._late if token.late else None)
        return await self._unless_lost(fault, known)

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        authorized = await self.ledger.find(UUID(authorization.removeprefix("sbx_")))
        if authorized is None or authorized.state != "succeeded" or amount > authorized.amount:
            raise ValueError(f"the sandbox has authorised no {amount} under {authorization}")
        token = TOKENS[authorized.token or ""]
        fault = await self._fault(key, token.capture_fault)
        asked = fingerprint(authorization, amount)
        entry = Entry(key, "capture", _state(token.capture_code), asked, token.name, amount, token.capture_code, final=False)
        return await self._unless_lost(fault, await self.ledger.record(entry))

    async def lookup(self, key: UUID) -> Answer | None:
        entry = await self.ledger.find(key)
        return _answer(entry) if entry else None

    async def abandon(self, key: UUID) -> Answer:
        return _answer(await self.ledger.record(Entry(key, "abandoned", "declined", None, None, 0, NOT_PROCESSED, final=False)))

    def report(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        event_id = webhooks.verify(self._key, headers, now, body)
        try:
            told = json.loads(body)
            succeeded = {"payment.succeeded": True, "payment.declined": False}[told["type"]]
            reference, operation_id = str(told["reference"]), UUID(told["key"])
            answer = Succeeded(reference) if succeeded else Declined(str(told["code"]), bool(told["final"]), reference)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # whatever a body that is not ours can break
            raise Invalid("WEBHOOK_MALFORMED", "The body is not a webhook of the sandbox.") from error
        return Report(event_id, operation_id, answer)

    async def work(self, deliver: Deliver) -> None:
        """One round of what the sandbox does by itself: ends what is pending and due, and delivers its webhooks till they are taken."""
        await self.ledger.settle_due()
        for entry in await self.ledger.take_webhooks(WEBHOOK_LEASE_S):
            try:
                await deliver(*self.webhook(entry, datetime.now(UTC)))
            except Failure as failure:
                log.warning("a webhook of the sandbox was not taken, and comes again", operation_id=str(entry.key), reason=failure.reason)
            else:
                await self.ledger.delivered(entry.key)

    def webhook(self, entry: Entry, now: datetime) -> tuple[bytes, dict[str, str]]:
        """The webhook of a settled entry: its body, and its headers."""
        told: dict[str, object] = {"type": f"payment.{entry.state}", "key": str(entry.key), "reference": entry.reference}
        if entry.code:
            told |= {"code": entry.code, "final": entry.final}
        body = json.dumps(told).encode()
        return body, webhooks.sign(self._key, f"evt_{entry.key.hex}", now, body)

    async def _fault(self, key: UUID, fault: Fault | None, *, always: bool = False) -> Fault | None:
        """What goes wrong with this request; two of the faults end it here."""
        first = await self.ledger.count(key) == 1
        if fault is None or not (first or always):
            return None
        if fault is Fault.REFUSED:
            raise Deferred("DEPENDENCY_UNAVAILABLE", "The sandbox processor cannot be reached just now.", peer=NAME)
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
    """A signing key that nobody else knows, for where none is configured: then only the sandbox itself can send webhooks."""
    return secrets.token_bytes(32)


def _state(code: str | None) -> str:
    return "declined" if code else "succeeded"


def _answer(entry: Entry) -> Answer:
    if entry.state == "pending":
        return Awaited(entry.reference)
    if entry.state == "succeeded":
        return Succeeded(entry.reference)
    return Declined(entry.code or "", entry.final, entry.reference)
