"""Whether a write is in progress in this context. Code that must not run inside a write checks it,
and fails at its first try, not at a deadlock.

This module has one context variable. chassis/write/writer.py sets it, and chassis/rpc/client.py,
which calls peers, reads it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_inside: Final[ContextVar[bool]] = ContextVar("inside a write", default=False)


@contextmanager
def write_in_progress() -> Iterator[None]:
    """Surrounds a write, in which rows are locked. Raises RuntimeError inside another one."""
    refuse_inside("write")
    here = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(here)


def refuse_inside(what: str) -> None:
    """Raises RuntimeError inside a write: `what` (a noun) is not allowed there."""
    if _inside.get():
        raise RuntimeError(f"no {what} inside a write")
