"""What the programs for people print when they break: the error, and nobody's data."""

import subprocess
import sys

import pytest

BROKEN = """
import asyncio, runpy, sys
import structlog

def broken(work):
    work.close()
    name = "Jane " + "Doe"
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().error("failed", recipient=name, exc_info=True)
    structlog.get_logger().warning("slow")
    raise ValueError("broken " + "twice")

asyncio.run = broken
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "command",
    [["omctl", "order", "list", "--json"], ["simulator", "demo"]],
    ids=lambda command: str(command[0]),
)
def test_a_broken_program_shows_nobody_s_data(command: list[str]) -> None:
    """Where a client itself is broken, people get the traceback without the values in it; log
    lines go to stderr, errors alone, with private fields hidden. Scripts, which read stdout, get
    nothing.
    """
    ended = subprocess.run(
        [sys.executable, "-c", BROKEN, *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "ValueError: broken twice" in ended.stderr
    assert '"recipient": "(hidden)"' in ended.stderr
    assert "Jane" not in ended.stderr
    assert "slow" not in ended.stderr
    assert ended.stdout == ""
