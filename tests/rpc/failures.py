"""Every kind of failure, and its status as a plain client reads it. No tests here."""

from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from chassis.values.errors import (
    Defect,
    Deferred,
    Denied,
    Exists,
    Failure,
    Invalid,
    InvalidField,
    NotFound,
    OutOfRange,
    OutOfTime,
    Overloaded,
    Refused,
    Stale,
    Unauthenticated,
    Violation,
)
from chassis.values.request_context import KeyReused

VIOLATION = Violation("SKU-1", "requested 3, sellable 1", "STOCK")


# Every kind of failure, and the code that a client gets for it.
FAILURES: list[tuple[Failure, str]] = [
    (
        Refused("INSUFFICIENT_STOCK", "not enough", violations=[VIOLATION], sku="SKU-1"),
        "FAILED_PRECONDITION",
    ),
    (Invalid("VALIDATION_FAILED", "bad", violations=[VIOLATION]), "INVALID_ARGUMENT"),
    (KeyReused("/sample.v1.SampleService/DoThing:1"), "INVALID_ARGUMENT"),
    (InvalidField("VALIDATION_FAILED", "bad", violations=[VIOLATION]), "INVALID_ARGUMENT"),
    (NotFound("ORDER_NOT_FOUND", "no such order", order_id="1"), "NOT_FOUND"),
    (Exists("PAYMENT_ALREADY_EXISTS", payment_id="2"), "ALREADY_EXISTS"),
    (Stale(expected="1", actual="2"), "ABORTED"),
    (OutOfRange("WATCH_TOKEN_EXPIRED"), "OUT_OF_RANGE"),
    (Denied("INTERNAL"), "PERMISSION_DENIED"),
    (Unauthenticated("WEBHOOK_SIGNATURE_INVALID"), "UNAUTHENTICATED"),
    (Defect(ValueError("secret")), "INTERNAL"),
    (Deferred("DEPENDENCY_UNAVAILABLE", retry_after_s=2.5), "UNAVAILABLE"),
    (Overloaded("OVERLOADED", retry_after_s=0.25), "RESOURCE_EXHAUSTED"),
    (OutOfTime("DEADLINE_EXCEEDED"), "DEADLINE_EXCEEDED"),
]


def kinds() -> set[type[Failure]]:
    """Returns all subclasses of Failure that the chassis defines, without those that only a client
    raises.
    """
    found, open_ = set(), [Failure]
    while open_:
        kinds = open_.pop().__subclasses__()
        found.update(kinds)
        open_ += kinds
    return {kind for kind in found if kind.__module__.startswith("chassis.")}


def details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Returns the details of a status, by the name of their type."""
    status = Status.FromString(error.trailing_metadata()["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = {}
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, PreconditionFailure, RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found
