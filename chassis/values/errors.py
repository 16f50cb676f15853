"""Why a command was not done: one small tree. An RPC raises it, a consumer acts on its kind, a
client gets it back from a peer.

Failure
├── Refused          the record, as it is stored, does not allow it         FAILED_PRECONDITION
│   ├── Invalid          the request itself is wrong                            INVALID_ARGUMENT
│   │   └── InvalidField     a field that our own code has found wrong          INVALID_ARGUMENT
│   ├── NotFound         there is no such record (yet: an event waits)          NOT_FOUND
│   ├── Exists           there is one already                                   ALREADY_EXISTS
│   ├── Stale            the caller decided on an older version of the record   ABORTED
│   ├── OutOfRange       the token points beyond the record's life              OUT_OF_RANGE
│   ├── Denied           the caller may not                                     PERMISSION_DENIED
│   │   └── Unauthenticated  the caller's identity is unknown                   UNAUTHENTICATED
│   └── Defect           our own fault: a bug, or data that the schema rejects  INTERNAL
└── Deferred         not now: an event comes again, a caller may try again      UNAVAILABLE
    ├── Overloaded       too much is asked at once                              RESOURCE_EXHAUSTED
    └── OutOfTime        a call without a deadline took too long            DEADLINE_EXCEEDED

No transport stands here: `code` is the name of a gRPC status, and the door makes one of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: a field of the request by its path, or what a precondition is about
    (an SKU, an order).

    `kind` names the broken precondition or the rule (may be empty); `description` is for people.
    """

    subject: str
    description: str
    kind: str = ""


class Failure(Exception):
    """Something asked for was not done. `reason` is a value of `ordermesh.error.v1.ErrorReason`
    without its prefix.

    `message` is for people and may be shown to the caller; all that varies in it stands in
    `metadata` as well. `target` is the record that the command names, where a decision has failed:
    an event that is deferred waits for its next change.
    """

    code: ClassVar[str]
    target: UUID | None = None

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        violations: Sequence[Violation] = (),
        **metadata: str,
    ) -> None:
        super().__init__(message or reason)
        self.reason, self.message, self.violations, self.metadata = (
            reason,
            message,
            tuple(violations),
            metadata,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r}, {self.message!r}, {self.metadata!r})"


class Refused(Failure):
    """The answer is no, and stays no while the record stands as it does."""

    code = "FAILED_PRECONDITION"


class Invalid(Refused):
    """The request itself is wrong; the violations name its fields."""

    code = "INVALID_ARGUMENT"


class InvalidField(Invalid):
    """A field of the request or event in hand breaks a rule, and our own code has found it. A
    peer's refusal of our call is never one: it says nothing of the event in hand.
    """


class NotFound(Refused):
    """There is no such record. An event about it is deferred: the record may still be on its
    way.
    """

    code = "NOT_FOUND"


class Exists(Refused):
    """There is such a record already."""

    code = "ALREADY_EXISTS"


class Stale(Refused):
    """The caller decided on an older version of the record, and should look again."""

    code = "ABORTED"

    def __init__(
        self,
        reason: str = "VERSION_MISMATCH",
        message: str = "",
        *,
        violations: Sequence[Violation] = (),
        **metadata: str,
    ) -> None:
        super().__init__(reason, message, violations=violations, **metadata)


class OutOfRange(Refused):
    """The caller's token points beyond the record's life."""

    code = "OUT_OF_RANGE"


class Denied(Refused):
    """The caller is known, and may not."""

    code = "PERMISSION_DENIED"


class Unauthenticated(Denied):
    """The identity of the caller is unknown."""

    code = "UNAUTHENTICATED"


class Defect(Refused):
    """Our own fault. Callers learn that there was one; what it was (`__cause__`) goes to the log
    alone.
    """

    code = "INTERNAL"

    def __init__(self, cause: BaseException) -> None:
        super().__init__("INTERNAL")
        self.__cause__ = cause


class Deferred(Failure):
    """Not now: the same command may succeed later, `retry_after_s` from now at the earliest."""

    code = "UNAVAILABLE"

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        violations: Sequence[Violation] = (),
        retry_after_s: float = 1.0,
        **metadata: str,
    ) -> None:
        super().__init__(reason, message, violations=violations, **metadata)
        self.retry_after_s = retry_after_s


class Overloaded(Deferred):
    """Too much is asked at once; what was refused has cost nothing."""

    code = "RESOURCE_EXHAUSTED"


class OutOfTime(Deferred):
    """A call without a deadline took longer than such calls may. Its effect may be committed or
    not.
    """

    code = "DEADLINE_EXCEEDED"


def illegal(text: str, status: str, allowed: Iterable[str] = (), **metadata: str) -> Refused:
    """The refusal of what a record's table of statuses has no move for. `allowed`: where it may
    go from there, which may be nowhere.
    """
    return Refused(
        "ILLEGAL_TRANSITION",
        text,
        violations=(),
        status=status,
        allowed=", ".join(sorted(allowed)),
        **metadata,
    )
