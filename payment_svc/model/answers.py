"""What a processor answers and reports, and why a try came to nothing."""

import hashlib
import json
from dataclasses import dataclass
from uuid import UUID

# Why a try came to nothing without anybody having looked at the card: such tries do not count
# towards the last one. the processor never had the request, and will not take it any more
NOT_PROCESSED = "not_processed"
METHOD_INVALID = "payment_method_invalid"  # the processor does not know the payment-method token
UNCOUNTED = frozenset({NOT_PROCESSED, METHOD_INVALID})
# An authorisation has expired at the processor: it can be neither captured nor voided any more.
AUTHORIZATION_EXPIRED = "authorization_expired"
# a return is worth money, and none of it is left: no processor was asked
NOTHING_REFUNDABLE = "nothing_refundable"


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Done; `reference` is the processor's own name for it."""

    reference: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Not done, and it never will be: `code` says why. `final`: no other try for this order's
    attempt may follow.
    """

    code: str
    final: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """Being done; a webhook, or a later look-up, tells how it ended."""

    reference: str


Answer = Succeeded | Declined | Awaited


@dataclass(frozen=True, slots=True)
class Report:
    """What a webhook tells: `event_id` is the processor's, `operation_id` is ours."""

    event_id: str
    operation_id: UUID
    answer: Answer

    @property
    def digest(self) -> bytes:
        """A hash of what it says, however the processor writes it: a report that comes again is
        a repeat.
        """
        return digest_of(self.operation_id, self.answer)


def digest_of(operation_id: UUID, answer: Answer) -> bytes:
    """A hash of what a processor says of an operation."""
    return hashlib.sha256(json.dumps([str(operation_id), *_said(answer)]).encode()).digest()


def _said(answer: Answer) -> tuple[object, ...]:
    match answer:
        case Succeeded(reference):
            return ("succeeded", reference)
        case Declined(code, final, reference):
            return ("declined", code, final, reference)
        case Awaited(reference):
            return ("awaited", reference)
