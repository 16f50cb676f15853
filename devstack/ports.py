"""Chooses free ports of 127.0.0.1; concurrent processes get different ones."""

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from devstack.errors import PortTaken

# Below the range from which outgoing connections get theirs (32768 and up): a server that restarts
# finds its port still free.
CHOSEN = range(20000, 32000)
ATTEMPTS_MAX = 20
# Processes that start together have neighbouring numbers; the fractions of their multiples of this
# one lie far apart.
GOLDEN_RATIO = 0.618033988749895

# Each process walks through all of them, from a place of its own, and gives each once.
_walk = itertools.islice(
    itertools.cycle(CHOSEN), int(os.getpid() * GOLDEN_RATIO % 1 * len(CHOSEN)), None
)


def taken(port: int) -> bool:
    """Returns whether a process listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # A port whose last connections are in TIME_WAIT is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@cache
def _claims() -> int:
    """Returns a file in which a process locks one byte for each port that it has chosen. Each user
    has a file: users cannot lock each other's ports.
    """
    path = Path(tempfile.gettempdir()) / f"ordermesh-ports-{os.geteuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def claimed(port: int) -> bool:
    """Returns whether this process now holds the port, until its end. Other processes do not choose
    it, even while its server is down.
    """
    claims = _claims()
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Returns different free ports of 127.0.0.1. A process that does not use this function may take
    one first: see `on_free_port`.
    """
    candidates = itertools.islice(_walk, len(CHOSEN))
    found = list(
        itertools.islice((port for port in candidates if claimed(port) and not taken(port)), count)
    )
    if len(found) < count:
        raise PortTaken(
            f"No {count} ports between {CHOSEN.start} and {CHOSEN.stop} are free: stop something"
            " that listens."
        )
    return found


def on_free_port(start: Callable[[int], None]) -> int:
    """Calls `start` with free ports until no other process has taken one first; returns the
    port.
    """
    for _ in range(ATTEMPTS_MAX):
        [port] = free_ports(1)
        try:
            start(port)
        except PortTaken:
            continue
        return port
    raise PortTaken(
        f"Ports were taken by others {ATTEMPTS_MAX} times in a row between being found free and"
        " being used: try again."
    )
