"""Whether a write is under way where this runs: what may not happen inside one asks here, and fails
at its first try, not at a deadlock.

What lives here: one context variable, known to chassis/write/writer.py, which writes, and to
chassis/rpc/client.py, which calls peers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_inside: Final[ContextVar[bool]] = ContextVar("inside a write", default=False)


@contextmanager
def write_in_progress() -> Iterator[None]:
    """Surrounds a write: rows are locked in it. Raises RuntimeError inside another one."""
    never("write")
    here = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(here)


def never(what: str) -> None:
    """Raises RuntimeError inside a write: `what` (a noun) has no place there."""
    if _inside.get():
        raise RuntimeError(f"no {what} inside a write")
