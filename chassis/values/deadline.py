"""The time that a call has left, passed from the server's interceptor to the calls that it causes.

This module has one context variable and its arithmetic, and no transport: the server's interceptor
sets the variable, the client's reads it. Times are seconds of the monotonic clock, because wall
clocks jump.
"""

import time
from contextvars import ContextVar
from typing import Final

# The part of its time that a caller keeps to answer in. The longer the deadline, the more calls
# wait for a frozen peer and time out together, and the longer the service takes to see that before
# its callers hang up.
MARGIN_SHARE: Final = 0.05
MARGIN_MIN_S: Final = 0.05
MARGIN_MAX_S: Final = 1.0

_expires: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_budget(seconds: float) -> None:
    """Sets the time that the code of this context has left, in seconds. A context has one caller,
    so no earlier value is restored.
    """
    _expires.set(time.monotonic() + seconds)


def remaining() -> float | None:
    """Returns the seconds that the caller of the running code has left, 0 when its time is over;
    None without a limit (a worker).
    """
    expires = _expires.get()
    return None if expires is None else max(expires - time.monotonic(), 0.0)


def margin(remaining_s: float) -> float:
    """Returns how much of `remaining_s` seconds a call to a peer leaves for the answer."""
    return min(max(MARGIN_SHARE * remaining_s, MARGIN_MIN_S), MARGIN_MAX_S)
