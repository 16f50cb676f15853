"""Free ports of 127.0.0.1, and who may have one. No servers here."""

import itertools
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


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that were free a moment ago; another process may take one meanwhile, see `on_free_port`."""
    # Neighbours, from a place by chance: others who choose at the same time in this way hardly meet us.
    first = random.choice(CHOSEN)
    candidates = (*range(first, CHOSEN.stop), *range(CHOSEN.start, first))
    found = list(itertools.islice((port for port in candidates if not taken(port)), count))
    if len(found) < count:
        raise PortTaken(f"No {count} ports between {CHOSEN.start} and {CHOSEN.stop} are free: stop something that listens.")
    return found


def on_free_port(start: Callable[[int], None]) -> int:
    """Calls `start` with free ports until one is not taken by somebody else first; returns the port."""
    for _ in range(ATTEMPTS_MAX):
        [port] = free_ports(1)
        try:
            start(port)
        except PortTaken:
            continue
        return port
    raise PortTaken(f"Ports were taken by others {ATTEMPTS_MAX} times in a row between being found free and being used: try again.")
