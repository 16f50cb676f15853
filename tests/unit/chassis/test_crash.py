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
def test_process_is_killed_at_the_planned_point(planned: str | None, killed: bool) -> None:
    """CRASH_AT names the point and its count. With any other plan, or none, the process
    continues.
    """
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


def test_crash_point_without_a_plan_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In production there is no plan, and the point returns."""
    monkeypatch.delenv("CRASH_AT", raising=False)
    crash_points.point("database.committed")
