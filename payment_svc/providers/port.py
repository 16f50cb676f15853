"""The port to card processors: what is asked of one, and what it may answer. An adapter for each
stands beside this file.

A processor is idempotent on the key that it is given (the operation's id): asked again with the
same key it answers with what it did the first time, and does nothing. Everything that keeps us from
charging twice stands on this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from payment_svc.model import Answer, Report

# The characters of a reference, a code or an event id. An adapter shortens what is longer; of a
# webhook it is refused.
TEXT_MAX = 255


@dataclass(frozen=True, slots=True)
class Authorization:
    """Set `amount` (minor units of `currency`) aside on the card that `token` stands for, and
    take it at once where `capture` says so.
    """

    key: UUID
    token: str = field(repr=False)  # in no log and no error text
    amount: int
    currency: str
    capture: bool


class Processor(Protocol):
    """A card processor.

    Each coroutine raises Deferred DEPENDENCY_UNAVAILABLE where the processor has not taken the
    request (it may be sent again), and TimeoutError where its answer was lost: then nobody here
    knows what it did. Callers bound the time of each call.
    """

    async def authorize(self, request: Authorization) -> Answer:
        """Sets money aside, or charges it. A token that it does not know is Declined with the
        code METHOD_INVALID.
        """

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        """Takes money that was set aside under the processor's reference `authorization`.

        Declined with the code AUTHORIZATION_EXPIRED where the processor holds it no longer; `void`
        likewise.
        """

    async def void(self, key: UUID, authorization: str) -> Answer:
        """Gives back all that was set aside under the processor's reference `authorization`, and
        not captured.
        """

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        """Gives back money that was taken under the processor's reference `charge` (of a charge,
        or of a capture).
        """

    async def lookup(self, key: UUID) -> Answer | None:
        """What came of the request with that key; None where it has never arrived (it may still
        be on its way).
        """

    async def abandon(self, key: UUID) -> Answer:
        """What came of the request with that key; one that has not arrived yet never will have
        an effect: Declined, NOT_PROCESSED.
        """

    def report(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        """What a webhook says; `headers` have lower-case names.

        Raises Unauthenticated WEBHOOK_SIGNATURE_INVALID, and Invalid WEBHOOK_MALFORMED for what is
        signed and cannot be read.
        """
