"""The person or service that a caller claims to act for, from a call's metadata to the request's
key.

A claim is an opaque id without personal data. It is stored as claimed: the services do not verify
it.
"""

import re
from contextvars import ContextVar
from typing import Final

from chassis.values.errors import Invalid, Violation

METADATA_KEY: Final = "ordermesh-actor"
PATTERN: Final = re.compile(r"(customer|staff|service):[A-Za-z0-9._-]{1,64}")

_claimed: ContextVar[str | None] = ContextVar("claimed_actor", default=None)


def set_claimed_actor(value: str | None) -> None:
    """Sets the claimed actor of this context. Raises Invalid VALIDATION_FAILED where the value
    breaks PATTERN.
    """
    if value is not None and not PATTERN.fullmatch(value):
        rule = f"must match ^{PATTERN.pattern}$"
        text = f"The metadata {METADATA_KEY} {rule}, e.g. staff:7f3a."
        raise Invalid("VALIDATION_FAILED", text, violations=[Violation(METADATA_KEY, rule)])
    _claimed.set(value)


def claimed_actor() -> str | None:
    """Returns the claimed actor of the call in this context; None where its metadata has none,
    and outside a call.
    """
    return _claimed.get()
