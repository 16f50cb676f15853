"""What `make run` prints when the machine refuses something while the stack is up."""

import asyncio
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from devstack import __main__ as command
from devstack import settings
from devstack.errors import DevstackError


class Refused:
    """A stack that starts, and whose watch then raises this error."""

    error: Exception

    def __init__(self, folder: Path, **_options: Any) -> None:
        self.folder = folder

    async def __aenter__(self) -> "Refused":
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    def kill(self) -> None:
        pass

    async def watch(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The stack could not run. The disk is full: free some space, and start again",
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            "The stack could not run. ([Errno 5] Input/output error)",
        ),
        (DevstackError("The order service was killed."), "The order service was killed."),
    ],
)
def test_failure_while_up_is_one_message(
    error: Exception,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The terminal shows the failure in one line without a traceback; the exit code is 1."""
    monkeypatch.setattr(command, "Stack", Refused)
    monkeypatch.setattr(Refused, "error", error, raising=False)
    monkeypatch.setattr(command, "_stop_on_signals", lambda _stack, _screen: None)
    monkeypatch.setattr(command, "_directions", lambda _stack: "")
    monkeypatch.setattr(settings, "need_ports", lambda _settings: None)
    assert command.main(["--no-demo", "--folder", str(tmp_path / "stack")]) == 1
    assert capsys.readouterr().err.startswith(message)


class Dying(Refused):
    """A stack whose service ends during the demo, before the watch has checked it."""

    environment: Mapping[str, str] = {}

    async def watch(self) -> None:
        await asyncio.Event().wait()

    def check(self) -> None:
        raise DevstackError("The payment service was killed.")


def test_part_dying_under_the_demo_is_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the demo fails because a service ended, devstack reports the service instead of the
    demo.
    """
    monkeypatch.setattr(command, "Stack", Dying)
    monkeypatch.setattr(command, "_stop_on_signals", lambda _stack, _screen: None)
    monkeypatch.setattr(settings, "need_ports", lambda _settings: None)
    monkeypatch.setattr(command, "DEMO", ["/bin/false"])
    assert command.main(["--folder", str(tmp_path / "stack")]) == 1
    assert capsys.readouterr().err == "The payment service was killed.\n"
