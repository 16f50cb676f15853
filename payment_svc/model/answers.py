"""The answers and reports of processors, and the codes of failures."""

import hashlib
import json
from dataclasses import astuple, dataclass
from uuid import UUID

# The processor never got the request, and will not accept it any more.
NOT_PROCESSED = "not_processed"
METHOD_INVALID = "payment_method_invalid"  # the processor has no such payment-method token
# Declines before the card is charged or authorised: they do not count towards DECLINES_MAX.
UNCOUNTED_CODES = frozenset({NOT_PROCESSED, METHOD_INVALID})
# An authorisation has expired at the processor: it can be neither captured nor voided any more.
AUTHORIZATION_EXPIRED = "authorization_expired"
# A return is worth money, and nothing remains to refund: the processor was not called.
NOTHING_REFUNDABLE = "nothing_refundable"


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The operation is done; `reference` is the processor's own id of it."""

    reference: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The operation was not done and never will be: `code` says why. `final`: no other try for the
    order's attempt may follow.
    """

    code: str
    final: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """The operation is in progress: a webhook, or a later lookup, has the outcome."""

    reference: str


Answer = Succeeded | Declined | Pending


@dataclass(frozen=True, slots=True)
class Report:
    """The content of a webhook: `event_id` is the processor's, `operation_id` is ours."""

    event_id: str
    operation_id: UUID
    answer: Answer

    @property
    def content_hash(self) -> bytes:
        """A hash of the content, independent of the body's encoding: a report with the same hash is
        a repeat.
        """
        return answer_hash(self.operation_id, self.answer)


def answer_hash(operation_id: UUID, answer: Answer) -> bytes:
    """A hash of a processor's answer about an operation."""
    content = [str(operation_id), type(answer).__name__.lower(), *astuple(answer)]
    return hashlib.sha256(json.dumps(content).encode()).digest()
