"""The programs for people print an error without personal data when they fail."""

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
def test_failing_program_prints_no_personal_data(command: list[str]) -> None:
    """A client with a defect prints a traceback without the values in it. Log lines go to stderr,
    errors only, with private fields hidden. stdout, which scripts read, is empty.
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
