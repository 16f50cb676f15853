"""Errors of servers on one machine, with advice for the user."""

import errno
import re


class DevstackError(Exception):
    """The stack cannot run on this machine; the message has the cause and the remedy."""


class PortTaken(DevstackError):
    """The address that a server was to listen on is in use."""


# Advice by a pattern in a server's last output, for causes that a user can remove. The first match
# wins.
CAUSES = (
    (
        re.compile(r"shared memory segment.*No space left on device"),
        (
            "Shared memory is full: give the container a larger /dev/shm (docker run"
            " --shm-size=256m), and try again."
        ),
    ),
    (
        re.compile(r"No space left on device|no space left on device"),
        "The disk is full: free some space, and start again; nothing is lost.",
    ),
    (
        re.compile(r"Disk quota exceeded"),
        "Your disk quota is used up: free some space, and start again; nothing is lost.",
    ),
    (
        re.compile(r"Read-only file system"),
        "The file system is read-only: choose a folder that can be written to.",
    ),
    (
        re.compile(r"Cannot allocate memory"),
        "The machine has too little free memory: close something, and start again.",
    ),
    (
        re.compile(r"Too many open files"),
        "The limit of open files is too low: raise it (ulimit -n 4096), and start again.",
    ),
    (
        re.compile(r'lock file "postmaster\.pid" already exists|pre-existing shared memory block'),
        "Another PostgreSQL runs on the same data folder: stop it first.",
    ),
    (
        re.compile(r"[Pp]ermission denied"),
        (
            "The data folder belongs to another user: give it back (chown -R), or remove it to"
            " start afresh."
        ),
    ),
)

LINES_MAX = 15  # of a server's output, in an error
ADDRESS_IN_USE = re.compile(r"address already in use", re.IGNORECASE)


def advice(output: str) -> str:
    """Returns the advice for the first known cause in a server's output; empty if none matches."""
    return next((what_to_do for pattern, what_to_do in CAUSES if pattern.search(output)), "")


def failure(what: str, output: str) -> DevstackError:
    """Returns an error for the failure `what`, with advice and the last lines of the output."""
    tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-LINES_MAX:])
    kind = PortTaken if ADDRESS_IN_USE.search(output) else DevstackError
    return kind("\n".join(part for part in (f"{what} {advice(output)}".strip(), tail) if part))


def refused(what: str, error: OSError) -> DevstackError:
    """Returns an error for `what`, which the operating system refused."""
    known = advice(error.strerror or "")
    if error.errno == errno.EADDRINUSE:
        return PortTaken(what)
    return DevstackError(f"{what} {known}" if known else f"{what} ({error})")
