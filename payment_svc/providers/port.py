"""The port to card processors: their requests and answers. Adapters are in the modules beside it.

A processor is idempotent on the key of a request (the operation's id): a second request with the
same key returns the first answer and has no effect. "Never charged twice" depends on this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from payment_svc.model.answers import Answer, Report

# The most characters of a reference, a code or an event id. An adapter shortens longer ones; a
# webhook with a longer one is refused.
TEXT_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Authorise `amount` (minor units of `currency`) on the card of `token`, and capture it at once
    where `capture` is set.
    """

    key: UUID
    token: str = field(repr=False)  # in no log and no error text
    amount: int
    currency: str
    capture: bool


class Processor(Protocol):
    """A card processor.

    Each coroutine raises Deferred DEPENDENCY_UNAVAILABLE where the processor has not accepted the
    request (it may be sent again), and TimeoutError where its answer was lost: the outcome is then
    unknown. Callers bound the time of each call.
    """

    async def authorize(self, request: Authorization) -> Answer:
        """Authorises or charges. An unknown token is Declined with the code METHOD_INVALID."""

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        """Captures authorised money; `authorization` is the processor's reference of it.

        Declined with the code AUTHORIZATION_EXPIRED where the authorisation has expired; `void`
        likewise.
        """

    async def void(self, key: UUID, authorization: str) -> Answer:
        """Voids the authorisation with the processor's reference `authorization`."""

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        """Refunds money; `charge` is the processor's reference of the charge or capture."""

    async def lookup(self, key: UUID) -> Answer | None:
        """The answer to the request with that key; None where the processor has not received it (it
        may still be in flight).
        """

    async def abandon(self, key: UUID) -> Answer:
        """The answer to the request with that key. A request that has not arrived yet never has an
        effect from now on: Declined, NOT_PROCESSED.
        """

    def parse_webhook(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        """The report of a webhook; `headers` have lower-case names.

        Raises Unauthenticated WEBHOOK_SIGNATURE_INVALID, and Invalid WEBHOOK_MALFORMED for a
        signed body that cannot be decoded.
        """
