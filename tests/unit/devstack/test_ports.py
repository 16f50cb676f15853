"""Free ports, and what happens when somebody else is faster."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from devstack.errors import PortTaken
from devstack.ports import free_ports, on_free_port, taken


def test_free_ports_are_free_different_and_safe_from_outgoing_connections() -> None:
    """Ports come from below the range that outgoing connections use, and none twice."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port < 32768 and not taken(port) for port in ports)


def test_a_port_that_was_let_go_is_not_chosen_again_soon() -> None:
    """Whoever stops a server finds its port free when he starts it again: nobody here, and none
    of the processes that started together.
    """
    chosen = [port for _ in range(100) for port in free_ports(1)]
    assert len(set(chosen)) == len(chosen)
    program = "from devstack.ports import free_ports; print(*free_ports(100))"
    together = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    theirs = [int(port) for process in together for port in process.communicate()[0].split()]
    assert len(set(theirs)) == len(theirs) == 400


def test_what_another_process_has_chosen_is_not_chosen(tmp_path: Path) -> None:
    """Wherever two begin to look: what one has, and does not use just now, the other is not
    given while the first lives.

    The two have a list of chosen ports of their own: the other tests of a run may have chosen most
    of these 200.
    """
    look = (
        "ports._walk = itertools.cycle(range(31000, 31200)); print(*ports.free_ports(50),"
        " flush=True)"
    )
    program = f"import itertools, sys; from devstack import ports; {look}; sys.stdin.read()"
    chosen: list[str] = []
    with ExitStack() as living:
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"TMPDIR": str(tmp_path)},
                text=True,
            )
            living.enter_context(process)
            assert process.stdout
            chosen += process.stdout.readline().split()
    assert len(set(chosen)) == len(chosen) == 100


def test_a_listener_is_seen() -> None:
    """A port with a listener counts as taken, and as free once that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert taken(port)
    assert not taken(port)


def test_a_lost_race_is_run_again() -> None:
    """Where the port is gone when it is to be used, another one is tried, and in the end given
    up.
    """
    tried: list[int] = []

    def start(port: int) -> None:
        tried.append(port)
        if len(tried) < 3:
            raise PortTaken("somebody was faster")

    assert on_free_port(start) == tried[2]
    assert len(tried) == 3

    def never(_: int) -> None:
        raise PortTaken("always somebody")

    with pytest.raises(PortTaken, match="try again"):
        on_free_port(never)
