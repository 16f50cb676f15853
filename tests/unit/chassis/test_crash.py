"""Points at which a process can be killed."""

import os
import signal
import subprocess
import sys

import pytest

from chassis.values import crash_points

PROGRAM = (
    "from chassis.values.crash_points import point; [point(name) for name in ('a', 'b', 'b', 'c')];"
    " print('alive')"
)


@pytest.mark.parametrize(
    ("planned", "killed"),
    [
        ("b", True),
        ("b:2", True),
        ("c:1", True),
        ("b:3", False),
        ("d", False),
        ("", False),
        (None, False),
    ],
)
def test_a_process_dies_where_it_was_told_to(planned: str | None, killed: bool) -> None:
    """CRASH_AT names the point, and which time; any other plan, or none, lets the process live."""
    environment = {k: v for k, v in os.environ.items() if k != "CRASH_AT"} | (
        {} if planned is None else {"CRASH_AT": planned}
    )
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == (-signal.SIGKILL if killed else 0)
    assert (ended.stdout == "alive\n") is not killed


def test_a_point_costs_nothing_without_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """In production no plan is made: the point returns."""
    monkeypatch.delenv("CRASH_AT", raising=False)
    crash_points.point("database.committed")
