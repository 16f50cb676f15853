"""`make run` as its user sees it: it starts, prints its addresses, and ends with one clear
message.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import rooms
from devstack.child import Child
from devstack.ports import free_ports
from devstack.settings import METRICS_PORTS, SERVICE_PORTS
from tests.integration.devstack.processes import alive, command_of, descendants
from tests.support import Eventually

ROOT = Path(__file__).parents[3]
FAKE_RUN = Path(__file__).parent / "fake_run.py"
FAKE_SERVICE = Path(__file__).parent / "fake_service.py"
UP = "Ctrl-C stops everything."

Run = Callable[..., Child]


@pytest.fixture
def environment() -> dict[str, str]:
    """An environment in which every port is free."""
    variables = [f"{name.upper()}_PORT" for name in SERVICE_PORTS] + [
        f"{name.upper()}_METRICS_PORT" for name in METRICS_PORTS
    ]
    variables += ["POSTGRES_PORT", "NATS_PORT"]
    chosen = {
        name: str(port) for name, port in zip(variables, free_ports(len(variables)), strict=True)
    }
    unset = {"DATABASE_URL", "NATS_URL"}
    return {name: value for name, value in os.environ.items() if name not in unset} | chosen


@pytest.fixture
def run(folder: Path, environment: dict[str, str]) -> Iterator[Run]:
    """Starts `make run` with a stack of stand-ins in the test's folder."""
    started: list[Child] = []

    def start(*arguments: str, demo: int = 0, **more: str) -> Child:
        command: list[str | Path] = [
            sys.executable,
            FAKE_RUN,
            str(demo),
            "--folder",
            folder / "stack",
            *arguments,
        ]
        started.append(
            Child(
                command,
                log=folder / f"run-{len(started)}.log",
                environment=environment | more,
                folder=folder,
            )
        )
        return started[-1]

    yield start
    for child in started:
        child.kill()


async def ended(child: Child, eventually: Eventually) -> int:
    """Waits for the end of a process; returns its exit code."""
    await eventually(lambda: not child.running, timeout_s=60, what="make run ends")
    return child.wait()


async def test_run_starts_and_ctrl_c_ends_it(
    run: Run, environment: dict[str, str], eventually: Eventually
) -> None:
    """`make run` prints each step, the demo and the addresses. A second one names the process that
    is up. Ctrl-C ends all processes with a success message.
    """
    first = run()
    await eventually(lambda: UP in first.output(), timeout_s=60, what="the stack is up")
    order = f"127.0.0.1:{environment['ORDER_PORT']}"
    steps = [
        "PostgreSQL",
        "NATS",
        "databases",
        "migrations",
        "warehouse",
        "payment",
        "shipping",
        "fulfillment",
        "order",
    ]
    assert re.findall(r"^  (\S+) +ready in \d+\.\d s$", first.output(), re.MULTILINE) == steps
    assert first.output().index(f"the demo asks {order}") < first.output().index("ordermesh is up:")
    assert f"{order} ordermesh.order.v1.OrderService/ListOrders" in first.output()
    assert f"http://{order}/ordermesh.order.v1.OrderService/ListOrders" in first.output()
    assert f"http://127.0.0.1:{environment['ORDER_METRICS_PORT']}/metrics" in first.output()

    second = run()
    assert await ended(second, eventually) == 1
    assert (
        second.output()
        .strip()
        .endswith(
            f"`make run` is up already (process {first.pid}): use that one, or stop it first, "
            f"with Ctrl-C in its terminal or `kill {first.pid}`."
        )
    )
    processes = descendants(first.pid)
    assert alive(processes) == processes
    first.send(signal.SIGINT)
    assert await ended(first, eventually) == 0
    assert first.output().strip().endswith("Stopped.")
    assert not alive(processes)


async def test_service_that_dies_later_ends_the_run(
    run: Run, folder: Path, eventually: Eventually
) -> None:
    """The message names the service, its log and its last lines, while the other services still
    run: one of them does not end at once.

    Then everything is stopped, with the exit code of a failure.
    """
    up = run("--no-demo", FAULT="order:deaf")
    await eventually(lambda: UP in up.output(), timeout_s=60, what="the stack is up")
    assert "the demo asks" not in up.output()
    processes = descendants(up.pid)
    [shipping], [order] = (fakes(processes, name) for name in ("shipping", "order"))
    os.kill(shipping, signal.SIGKILL)
    expected = (
        f"The shipping service was killed (SIGKILL); its log is {folder}/stack/logs/shipping.log."
    )
    await eventually(
        lambda: expected in up.output(), timeout_s=60, what="the end of the service is reported"
    )
    await eventually(lambda: up.output().rstrip().endswith("Stopping everything ..."))
    assert alive({order}), "the report came after the end of all services"
    os.kill(order, signal.SIGKILL)
    assert await ended(up, eventually) == 1
    assert "    shipping serves" in up.output()
    assert up.output().count(expected) == 1
    assert not alive(processes)


def fakes(processes: set[int], name: str) -> list[int]:
    """Returns the ids of the stand-ins for a service among these processes."""
    return [pid for pid in processes if command_of(pid)[1:] == [str(FAKE_SERVICE), name]]


async def test_failed_demo_ends_the_run(run: Run, eventually: Eventually) -> None:
    """A failed demo is a failure, and the message names the option that leaves it out."""
    failed = run(demo=3)
    assert await ended(failed, eventually) == 1
    assert "The demo failed (exit code 3)" in failed.output()
    assert "--no-demo" in failed.output()
    assert "ordermesh is up" not in failed.output()


async def test_run_with_invalid_settings_does_not_start(
    run: Run, folder: Path, eventually: Eventually
) -> None:
    """The port is invalid, the folder is a file, or the database is unreachable. `make run` prints
    one message without a traceback, exits with 1, and starts no server.
    """
    (folder / "file").write_text("not a folder")
    outputs = []
    for failed in (
        run(ORDER_PORT=os.environ.get("ORDER_PORT", "0"), NATS_PORT="many"),
        run("--folder", str(folder / "file")),
        run(DATABASE_URL="postgresql://me:secret-word@127.0.0.1:9/x"),
    ):
        assert await ended(failed, eventually) == 1
        outputs.append(failed.output())
    assert "ORDER_PORT=0 is no port" in outputs[0]
    assert "NATS_PORT=many is no port" in outputs[0]
    assert str(folder / "file") in outputs[1]
    assert "127.0.0.1:9 does not let us in" in outputs[2]
    assert all("Traceback" not in words and "secret-word" not in words for words in outputs)


async def test_an_interrupted_start_ends_quickly(run: Run, eventually: Eventually) -> None:
    """Ctrl-C during the start stops the started processes; the exit code is that of an interrupted
    program.
    """
    starting = run("--no-demo", FAULT="order:silent")
    await eventually(
        lambda: "fulfillment" in starting.output(),
        timeout_s=60,
        what="all but the last service are ready",
    )
    processes = descendants(starting.pid)
    starting.send(signal.SIGTERM)
    assert await ended(starting, eventually) == 130
    assert not alive(processes)
    assert "Traceback" not in starting.output()


async def test_clean_removes_all_data_in_every_folder(
    run: Run, folder: Path, eventually: Eventually
) -> None:
    """A running stack is left alone, and the message says how to stop it. Then all data are
    removed, also those that root's server stores elsewhere.
    """
    private = folder / "private"
    private.mkdir(mode=0o700)
    place = str(private / "stack")
    data = rooms.room_for(private / "stack" / "postgres").data
    up = run("--no-demo", "--folder", place)
    await eventually(lambda: UP in up.output(), timeout_s=60, what="the stack is up")
    assert (data / "PG_VERSION").exists()

    early = run("--clean", "--folder", place)
    assert await ended(early, eventually) == 1
    expected = (
        f"`make run` is up already (process {up.pid}): stop it first, with Ctrl-C in its terminal"
        f" or `kill {up.pid}`."
    )
    assert early.output().strip() == expected
    assert up.running
    up.kill()  # the wait covers the end of its servers
    assert await ended(run("--clean", "--folder", place), eventually) == 0
    assert not (private / "stack").exists()
    assert not data.parent.exists()
    assert private.exists()
    again = run("--clean", "--folder", place)
    assert await ended(again, eventually) == 0, "without data to remove there is no message"
    assert again.output() == ""


async def test_clean_follows_no_link_of_another_user(
    run: Run, folder: Path, eventually: Eventually, tmp_path: Path
) -> None:
    """In a folder that every user can write to, a link with the right name is not followed, and its
    target stays.
    """
    if os.geteuid() != 0:
        pytest.skip("only root's servers store data there")
    (tmp_path / "thesis.txt").write_text("years of work")
    outside = rooms.elsewhere(folder / "stack" / "postgres")
    outside.symlink_to(tmp_path)
    try:
        assert await ended(run("--clean"), eventually) == 0
        assert (tmp_path / "thesis.txt").exists()
        assert outside.is_symlink()
    finally:
        outside.unlink()


async def test_clean_refuses_a_folder_with_other_things_in_it(
    run: Run, folder: Path, eventually: Eventually
) -> None:
    """A home folder given by mistake loses no file."""
    thesis = folder / "stack" / "thesis.txt"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    again = run("--clean")
    assert await ended(again, eventually) == 1
    assert "thesis.txt" in again.output()
    assert thesis.exists()


def test_make_clean_cleans() -> None:
    """`make clean` also removes data elsewhere, where Python is installed to do it."""
    planned = subprocess.run(
        ["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert ".venv/bin/python -m devstack --clean" in planned
