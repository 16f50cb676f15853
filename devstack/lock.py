"""Locks on folders. A lock ends with the last process that has its file open."""

import fcntl
import os
import time
from pathlib import Path

from devstack.errors import DevstackError, refused

POLL_S = 0.05


def hold(path: Path, *, wait_s: float = 0.0, taken: str) -> int:
    """Locks the file at `path`, waiting at most `wait_s` seconds for its holder, and returns it as
    an open file descriptor.

    A child that gets the descriptor holds the lock as well, so the lock can outlive this process.
    Raises DevstackError with the message `taken` if another process holds it.
    """
    deadline = time.monotonic() + wait_s
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise refused(f"The lock file {path} cannot be opened.", error) from error
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise DevstackError(taken) from None
            time.sleep(POLL_S)  # flock has no timeout; the deadline bounds the loop
        else:
            return descriptor
