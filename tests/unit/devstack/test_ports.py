"""The choice of free ports, and a new choice when another process has taken one."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from devstack.errors import PortTaken
from devstack.ports import free_ports, on_free_port, taken


def test_free_ports_are_distinct_and_below_the_outgoing_range() -> None:
    """Free ports are distinct, and lie below the range of outgoing connections."""
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port < 32768 and not taken(port) for port in ports)


def test_released_port_is_not_chosen_again_soon() -> None:
    """A restarted server finds its port free: neither this process nor one started at the same time
    chooses it again.
    """
    chosen = [port for _ in range(100) for port in free_ports(1)]
    assert len(set(chosen)) == len(chosen)
    program = "from devstack.ports import free_ports; print(*free_ports(100))"
    together = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    chosen_together = [
        int(port) for process in together for port in process.communicate()[0].split()
    ]
    assert len(set(chosen_together)) == len(chosen_together) == 400


def test_port_chosen_by_a_live_process_is_not_chosen(tmp_path: Path) -> None:
    """A port that one process has chosen and does not use yet is not chosen by another while the
    first lives.

    The two processes have their own list of chosen ports: other tests of a run may have chosen most
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


def test_port_with_a_listener_is_taken() -> None:
    """A port is taken while it has a listener, and free afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert taken(port)
    assert not taken(port)


def test_start_on_a_taken_port_is_tried_on_another() -> None:
    """If the port is taken at the start, another one is tried; after a bounded number of tries the
    error is raised.
    """
    tried: list[int] = []

    def start(port: int) -> None:
        tried.append(port)
        if len(tried) < 3:
            raise PortTaken("taken before the start")

    assert on_free_port(start) == tried[2]
    assert len(tried) == 3

    def never(_: int) -> None:
        raise PortTaken("always taken")

    with pytest.raises(PortTaken, match="try again"):
        on_free_port(never)
