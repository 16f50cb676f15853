"""What a person sees of `make run` when the machine itself refuses something while it is up."""

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
    """A stack that comes up, and whose watch then ends so."""

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
    ("error", "told"),
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
def test_what_fails_later_is_one_message(
    error: Exception,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever watches the terminal gets what happened in a line, exit code 1, and no traceback."""
    monkeypatch.setattr(command, "Stack", Refused)
    monkeypatch.setattr(Refused, "error", error, raising=False)
    monkeypatch.setattr(command, "_stop_on_signals", lambda _stack, _screen: None)
    monkeypatch.setattr(command, "_directions", lambda _stack: iter(()))
    monkeypatch.setattr(settings, "need_ports", lambda _settings: None)
    assert command.main(["--no-demo", "--folder", str(tmp_path / "stack")]) == 1
    assert capsys.readouterr().err.startswith(told)


class Dying(Refused):
    """A stack of which a service dies while the demo runs, and whose watch has not looked yet."""

    environment: Mapping[str, str] = {}

    async def watch(self) -> None:
        await asyncio.Event().wait()

    def check(self) -> None:
        raise DevstackError("The payment service was killed.")


def test_part_dying_under_the_demo_is_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo that fails because a service has died: the service is reported, and not the demo."""
    monkeypatch.setattr(command, "Stack", Dying)
    monkeypatch.setattr(command, "_stop_on_signals", lambda _stack, _screen: None)
    monkeypatch.setattr(settings, "need_ports", lambda _settings: None)
    monkeypatch.setattr(command, "DEMO", ["/bin/false"])
    assert command.main(["--folder", str(tmp_path / "stack")]) == 1
    assert capsys.readouterr().err == "The payment service was killed.\n"
