"""How much time a call has left, carried from the server's door to the calls that it causes.

What lives here: one context variable and its arithmetic. No transport: the server's interceptor
sets it, the client's reads it. Time is the monotonic clock in seconds; wall clocks jump.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

# What a caller keeps for itself of the time that it was given, to answer in. The longer the
# deadline, the more calls wait for a frozen peer and time out together, and the longer it takes to
# see that before the callers hang up.
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


def margin(left_s: float) -> float:
    """How much of `left_s` seconds is kept for the answer, when a peer is asked."""
    return min(max(MARGIN_SHARE * left_s, MARGIN_MIN_S), MARGIN_MAX_S)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the calls inside share `seconds`, or what is left already when that is less."""
    left = remaining()
    token = _expires.set(time.monotonic() + (seconds if left is None else min(seconds, left)))
    try:
        yield
    finally:
        _expires.reset(token)
