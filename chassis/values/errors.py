"""The failures: why a command was not done. An RPC raises one, a consumer acts on its kind, a
client gets it back from a peer.

Failure
├── Refused          the record, as it is stored, does not allow it         FAILED_PRECONDITION
│   ├── Invalid          the request itself is wrong                            INVALID_ARGUMENT
│   │   └── InvalidField     the service's own code has found a field wrong     INVALID_ARGUMENT
│   ├── NotFound         there is no such record (yet: an event waits)          NOT_FOUND
│   ├── Exists           the record exists already                              ALREADY_EXISTS
│   ├── Stale            the caller decided on an older version of the record   ABORTED
│   ├── OutOfRange       the token points beyond the record's life              OUT_OF_RANGE
│   ├── Denied           the caller has no permission                           PERMISSION_DENIED
│   │   └── Unauthenticated  the caller's identity is unknown                   UNAUTHENTICATED
│   └── Defect           a bug, or data that the schema rejects                 INTERNAL
└── Deferred         not now: an event comes again, a caller may try again      UNAVAILABLE
    ├── Overloaded       the process has as much work as it admits              RESOURCE_EXHAUSTED
    └── OutOfTime        a call without a deadline took too long            DEADLINE_EXCEEDED

This module has no transport: `code` is the name of a gRPC status, which chassis/rpc/status.py makes
of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: `subject` is a field of the request by its path, or the subject of a
    precondition (an SKU, an order).

    `kind` names the broken precondition or the rule (may be empty); `description` is for people.
    """

    subject: str
    description: str
    kind: str = ""


class Failure(Exception):
    """A request or command was not done. `reason` is a value of `ordermesh.error.v1.ErrorReason`
    without its prefix.

    `message` is for people and may be shown to the caller; all its variable parts are in `metadata`
    as well. `target` is the record that the command names, where a decision has failed: an event
    that is deferred waits for its next change.
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
    """The record does not allow the request. A repeat gets the same answer until the record
    changes.
    """

    code = "FAILED_PRECONDITION"


class Invalid(Refused):
    """The request itself is wrong; the violations name its fields."""

    code = "INVALID_ARGUMENT"


class InvalidField(Invalid):
    """The service's own code has found that a field of the request or event in hand breaks a rule.
    A peer's refusal is never an InvalidField: it is not about the event in hand.
    """


class NotFound(Refused):
    """The record does not exist. An event about it is deferred: the record may be created later."""

    code = "NOT_FOUND"


class Exists(Refused):
    """The record exists already."""

    code = "ALREADY_EXISTS"


class Stale(Refused):
    """The caller decided on an older version of the record, and should read it again."""

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
    """The caller is identified, and has no permission."""

    code = "PERMISSION_DENIED"


class Unauthenticated(Denied):
    """The identity of the caller is unknown."""

    code = "UNAUTHENTICATED"


class Defect(Refused):
    """A bug of the service. The answer says only that there was one; the log has its cause
    (`__cause__`).
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
    """The process has as much work as it admits. A request that it refuses has cost nothing."""

    code = "RESOURCE_EXHAUSTED"


class OutOfTime(Deferred):
    """A call without a deadline took longer than such calls may. Its effect may be committed or
    not.
    """

    code = "DEADLINE_EXCEEDED"


def illegal(text: str, status: str, allowed: Iterable[str] = (), **metadata: str) -> Refused:
    """Returns the refusal of a move that a record's table of statuses does not have. `allowed`: the
    statuses that it may move to, which may be none.
    """
    return Refused(
        "ILLEGAL_TRANSITION",
        text,
        violations=(),
        status=status,
        allowed=", ".join(sorted(allowed)),
        **metadata,
    )
