"""How much time a call has left, carried from the server's door to the calls that it causes.

What lives here: one context variable and its arithmetic. No transport: the server's interceptor sets it, the client's reads it.
Time is the monotonic clock in seconds; wall clocks jump.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_expires: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_budget(seconds: float) -> None:
    """Say that whatever runs in this context from now on has `seconds` left. A context has one caller, so nothing is put back."""
    _expires.set(time.monotonic() + seconds)


def remaining() -> float | None:
    """Seconds left to whoever asked for what is running now, 0 when the time is over; None when nobody set a limit (a worker)."""
    expires = _expires.get()
    return None if expires is None else max(expires - time.monotonic(), 0.0)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the calls inside share `seconds`, or what is left already when that is less."""
    left = remaining()
    token = _expires.set(time.monotonic() + (seconds if left is None else min(seconds, left)))
    try:
        yield
    finally:
        _expires.reset(token)
