"""Translates a failure into a gRPC status with details, for the server, and back, for the client.

This module has the translation alone, both ways, so that each tests the other. It makes and answers
no call.

A status is the code, a message for people, one `google.rpc.ErrorInfo` (domain `ordermesh`, the
reason, the metadata) and further details: BadRequest for a wrong request, PreconditionFailure for
other violations, RetryInfo for calls that may be repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.any import pack
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration import from_timedelta
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from chassis.values.errors import (
    Defect,
    Deferred,
    Denied,
    Exists,
    Failure,
    Invalid,
    NotFound,
    OutOfRange,
    Overloaded,
    Refused,
    Stale,
    Unauthenticated,
    Violation,
)

DOMAIN: Final = "ordermesh"
DETAILS_KEY: Final = "grpc-status-details-bin"

# Most clients refuse more than 8 KiB of metadata in all, and then their callers get nothing of the
# status. On the wire the details are base64 (4 bytes for 3), and each byte of the message that is
# not plain ASCII becomes three.
STATUS_BYTES_MAX: Final = 7_000
MESSAGE_BYTES_MAX: Final = 600

# gRPC's text about a message beyond grpc.max_receive_message_length or
# grpc.max_send_message_length.
_TOO_LARGE: Final = "message larger than max"
_REFUSALS: Final[Mapping[str, type[Refused]]] = {
    kind.code: kind
    for kind in (Refused, Invalid, NotFound, Exists, Stale, OutOfRange, Denied, Unauthenticated)
}
# Codes that may pass, from any source (gRPC itself, a proxy, a peer of another version).
_MOMENTARY: Final = frozenset(
    {
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
        "UNKNOWN",
    }
)


def encode(failure: Failure) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Returns the code, the message and the trailing metadata of `failure`.

    Violations that do not fit are left out: ErrorInfo's metadata then has their total number
    (`violations_total`).
    """
    message = _shortened(failure.message or failure.reason)
    room = (STATUS_BYTES_MAX - 3 * len(message.encode())) * 3 // 4
    shown = len(failure.violations)
    status = _status(failure, message, failure.metadata, shown)
    while status.ByteSize() > room and shown:
        shown = min(shown - 1, shown * room // status.ByteSize())
        status = _status(
            failure,
            message,
            failure.metadata | {"violations_total": str(len(failure.violations))},
            shown,
        )
    return grpc.StatusCode[failure.code], message, ((DETAILS_KEY, status.SerializeToString()),)


def decode(error: grpc.aio.AioRpcError, peer: str) -> Failure:
    """Returns the failure for the caller of `peer` of a call that ended with `error`.

    A refusal comes back as the peer raised it. An error that may pass (no connection, no answer in
    time, a peer of another version) is Deferred, DEPENDENCY_UNAVAILABLE, with the peer's name and
    reason in the metadata. Only a peer's own OVERLOADED is Overloaded. Where the peer answers that
    a dependency of it is away, such as its database, the metadata's `dependency` names that, and
    the message is the peer's. A peer's defect, and an answer outside the contract, is a Defect with
    `error` as its cause.
    """
    code, details = error.code().name, _details(error)
    if too_large(error):
        return Defect(error)
    if code == Overloaded.code and details.reason:
        return Overloaded(
            details.reason, details.message, retry_after_s=details.retry_after_s, peer=peer
        )
    if code in _MOMENTARY:
        text = (
            f"{peer}: {details.message}" if details.reason else f"{peer} is not available just now"
        )
        deferred = Deferred(
            "DEPENDENCY_UNAVAILABLE",
            text,
            retry_after_s=details.retry_after_s,
            peer=peer,
            peer_code=code,
        )
        if details.reason:
            deferred.metadata["peer_reason"] = details.reason
        if away := details.metadata.get("dependency") or details.metadata.get("peer"):
            deferred.metadata["dependency"] = away
        return deferred
    if code in _REFUSALS and details.reason:
        failure = _REFUSALS[code](details.reason, details.message)
        failure.violations, failure.metadata = details.violations, details.metadata
        return failure
    return Defect(error)


def reason(error: grpc.aio.AioRpcError) -> str:
    """Returns the peer's own ErrorReason; empty where the status is not of the project's domain."""
    return _details(error).reason


def too_large(error: grpc.aio.AioRpcError) -> bool:
    """Returns whether gRPC itself refused a message beyond its limit: the peer is well, and a
    repeat does not help.
    """
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (
        error.details() or ""
    )


@dataclass(slots=True, kw_only=True)
class _Details:
    """The content of a status's details; empty where they have none."""

    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after_s: float = 1.0


def _status(failure: Failure, message: str, metadata: Mapping[str, str], shown: int) -> Status:
    """Returns the status as one message, with the first `shown` violations."""
    status = Status(code=grpc.StatusCode[failure.code].value[0], message=message)
    status.details.append(pack(ErrorInfo(domain=DOMAIN, reason=failure.reason, metadata=metadata)))
    violations = failure.violations[:shown]
    if violations and isinstance(failure, Invalid):
        fields = [
            BadRequest.FieldViolation(field=v.subject, description=v.description, reason=v.kind)
            for v in violations
        ]
        status.details.append(pack(BadRequest(field_violations=fields)))
    elif violations:
        broken = [
            PreconditionFailure.Violation(type=v.kind, subject=v.subject, description=v.description)
            for v in violations
        ]
        status.details.append(pack(PreconditionFailure(violations=broken)))
    if isinstance(failure, Deferred):
        delay = from_timedelta(timedelta(seconds=failure.retry_after_s))
        status.details.append(pack(RetryInfo(retry_delay=delay)))
    return status


def _details(error: grpc.aio.AioRpcError) -> _Details:
    """Returns the details in the trailing metadata. Details that cannot be read, or are of another
    domain, are left out.
    """
    details = _Details(message=error.details() or "")
    try:
        status = Status.FromString((error.trailing_metadata() or {}).get(DETAILS_KEY, b""))
        for detail in status.details:
            _add_detail(detail, details)
    except DecodeError:
        return _Details(message=details.message)
    return details


def _add_detail(detail: AnyMessage, details: _Details) -> None:
    """Adds the content of one detail to the details."""
    info, bad, broken, retry = ErrorInfo(), BadRequest(), PreconditionFailure(), RetryInfo()
    if detail.Unpack(info) and info.domain == DOMAIN:
        details.reason, details.metadata = info.reason, dict(info.metadata)
    elif detail.Unpack(bad):
        details.violations += tuple(
            Violation(v.field, v.description, v.reason) for v in bad.field_violations
        )
    elif detail.Unpack(broken):
        details.violations += tuple(
            Violation(v.subject, v.description, v.type) for v in broken.violations
        )
    elif detail.Unpack(retry):
        details.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()


def _shortened(message: str) -> str:
    """Returns at most MESSAGE_BYTES_MAX bytes of the message, cut between characters."""
    encoded = message.encode()
    return (
        message
        if len(encoded) <= MESSAGE_BYTES_MAX
        else encoded[: MESSAGE_BYTES_MAX - 3].decode(errors="ignore") + "…"
    )
