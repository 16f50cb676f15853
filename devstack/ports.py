"""Free ports of 127.0.0.1, and who may have one. No servers here."""

import random
import socket
from collections.abc import Callable

from devstack.errors import PortTaken

# Below the range from which outgoing connections get theirs (32768 and up): a server that restarts finds its port still free.
CHOSEN = range(20000, 32000)
ATTEMPTS_MAX = 20


def taken(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # A port whose last connections are in TIME_WAIT is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago; another process may take it meanwhile, see `on_free_port`."""
    for port in random.sample(CHOSEN, k=ATTEMPTS_MAX):
        if not taken(port):
            return port
    raise PortTaken(f"None of {ATTEMPTS_MAX} ports tried between {CHOSEN.start} and {CHOSEN.stop} is free: stop something that listens.")


def on_free_port(start: Callable[[int], None]) -> int:
    """Calls `start` with free ports until one is not taken by somebody else first; returns the port."""
    for _ in range(ATTEMPTS_MAX):
        port = free_port()
        try:
            start(port)
        except PortTaken:
            continue
        return port
    raise PortTaken(f"Ports were taken by others {ATTEMPTS_MAX} times in a row between being found free and being used: try again.")
