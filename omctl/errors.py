"""Describes a failed call in one line: reason, detail and next step; and its exit code. Pure."""

from typing import Final

from ordermesh.error.v1.error_reason_pb2 import ErrorReason
from ordermesh.options.v1 import options_pb2

from chassis.values.errors import Deferred, Failure, NotFound, Overloaded

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNAVAILABLE: Final = 4
INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 refused, or failed; 2 invalid command line or environment; 3 not"
    " found; 4 unavailable, or timed out: may be tried again; 130"
    " interrupted."
)

# An operator's next command, by reason. Any other reason has the next step of its contract.
NEXT: Final = {
    "INSUFFICIENT_STOCK": "see `omctl stock list`, or book what arrives with `omctl stock receive`",
    "REQUEST_ID_REUSED": (
        "repeat the request of this --request-id unchanged, or omit the option for a new request"
    ),
    "ORDER_NOT_FOUND": "see `omctl order list`",
    "FAILED_EVENT_NOT_FOUND": (
        "see `omctl events failed`; an event that a later try handled is no longer listed"
    ),
    "CONTRADICTION_NOT_FOUND": "see `omctl payment contradictions`",
    "FAILED_EVENT_AMBIGUOUS": "see both with `omctl events show ... --digest`, and choose one",
    "ORDER_ALREADY_CANCELLED": "nothing is left to do; `omctl order timeline` shows what happened",
    "ORDER_NOT_CANCELLABLE": (
        "return what has arrived, recall what is on its way, cancel the units that have not left"
    ),
    "ITEMS_NOT_CANCELLABLE": "see with `omctl order get` how many units are left",
    "EVENT_UNREADABLE": "discard it with `omctl events discard`: no replay can help",
    "VERSION_JUMP": (
        "discard the event, or set the version with `omctl events set-version` and replay it"
    ),
    "STORED_VERSION_NOT_FOUND": "name another service, or the fulfilment",
    "DATABASE_NOT_READY": "migrate the service's database, with `python -m NAME_svc migrate`",
    "INTERNAL": "the service has a bug: see its log",
}


def exit_code(failure: Failure) -> int:
    """Returns the exit code for a failed call."""
    if isinstance(failure, NotFound):
        return NOT_FOUND
    return UNAVAILABLE if isinstance(failure, Deferred) else FAILED


def line(failure: Failure, address: str) -> str:
    """Returns the message of a failed call to the service at `address`."""
    reason = failure.metadata.get("peer_reason", failure.reason)
    text = str(failure).rstrip(".")
    parts = [f"{reason}: {text}" if text != failure.reason else reason]
    if failure.violations:
        parts.append(
            "; ".join(
                f"{violation.subject}: {violation.description}" for violation in failure.violations
            )
        )
        total = int(failure.metadata.get("violations_total", "0"))
        if total > len(failure.violations):
            parts.append(f"and {total - len(failure.violations)} more")
    what = _next(failure, address)
    return "; ".join(parts) + "." + (f" Next: {what}." if what else "")


def _next(failure: Failure, address: str) -> str:
    if isinstance(failure, Overloaded):
        return (
            f"try again in {failure.retry_after_s:g} s, with the same --request-id where there"
            " was one"
        )
    if isinstance(failure, Deferred):
        again = "try again, with the same --request-id where there was one"
        if "peer_reason" not in failure.metadata:
            return f"see whether the service at {address} is up (`make run`), and {again}"
        first = NEXT.get(failure.metadata["peer_reason"], "")
        if away := failure.metadata.get("dependency"):
            first = first or f"see whether the {away} that the service at {address} needs is up"
        return f"{first}, and {again}" if first else again
    return NEXT.get(failure.reason) or next_step(failure.reason)


def next_step(reason: str) -> str:
    """Returns the contract's next step for a reason; empty for an unknown reason."""
    value = ErrorReason.DESCRIPTOR.values_by_name.get(f"ERROR_REASON_{reason}")
    if value is None:
        return ""
    step: str = value.GetOptions().Extensions[options_pb2.reason].next_step
    return step[:1].lower() + step[1:].rstrip(".")
