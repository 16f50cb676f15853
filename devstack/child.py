"""Starts, watches and stops one child process, with its output in a file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack import tether
from devstack.errors import failure, refused

LOG_BYTES_MAX = 16 * 1024 * 1024
LAST_WORDS_BYTES_MAX = 32 * 1024
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Account:
    """The user and the group that a process runs as."""

    uid: int
    gid: int


def tethered(
    command: Sequence[str | Path],
    *,
    account: Account | None = None,
    dies_with: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """Returns the command line that runs `command` as `account` (None: the current user), and makes
    it die with the thread that starts it.
    """
    as_user = account or Account(-1, -1)
    tie = [os.getpid(), int(dies_with), as_user.uid, as_user.gid]
    return [sys.executable, "-I", "-S", tether.__file__, *map(str, tie), *map(str, command)]


class Child:
    """A running process in its own session (Ctrl-C does not reach it), which dies with its parent
    (Linux).

    It dies when the thread that started it ends: start children from a thread that lives as long as
    they do.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        account: Account | None = None,
        dies_with: signal.Signals = signal.SIGKILL,
        keeps: Sequence[int] = (),
        folder: Path = Path("/"),
    ) -> None:
        """Starts `command` in `folder`, with `environment` (None: this process's) and the open
        files `keeps`. Only tests set `folder`: they start `make run`, which prints paths that are
        relative to it.

        `log` gets its output; `dies_with` is its signal when this process dies. Raises
        DevstackError if it cannot be started.
        """
        self.log = log
        self.wanted = True  # until `stop`, `kill` or `wait`
        try:
            if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
                log.replace(log.with_name(log.name + ".1"))
            with log.open("ab") as output:
                self._log_start = output.tell()
                self._process = subprocess.Popen(
                    tethered(command, account=account, dies_with=dies_with),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                    pass_fds=keeps,
                )
        except OSError as error:
            raise refused(f"{command[0]} could not be started.", error) from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal that ended it); None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process runs. A frozen process runs."""
        return self.exit_code is None

    def check(self, what: str) -> None:
        """Raises DevstackError with the end of its output if it ended unexpectedly; `what` names
        it.
        """
        code = self.exit_code
        if code is not None and self.wanted:
            how = (
                f"was killed ({signal.Signals(-code).name})"
                if code < 0
                else f"ended (exit code {code})"
            )
            raise failure(f"{what} {how}; its log is {self.log}.", self.output())

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_s: float) -> None:
        """Waits until `ready` returns True. Raises DevstackError if the process ends first, or
        after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check(what)
            if time.monotonic() > deadline:
                output = self.output()
                self.kill()
                raise failure(
                    f"{what} was not ready within {timeout_s:.0f} s; its log is {self.log}.", output
                )
            time.sleep(POLL_S)  # the process sends no event; the deadline bounds the loop

    def output(self) -> str:
        """Returns the last 32 KiB of the process's output."""
        try:
            with self.log.open("rb") as printed:
                end = printed.seek(0, os.SEEK_END)
                printed.seek(max(self._log_start, end - LAST_WORDS_BYTES_MAX))
                return printed.read().decode(errors="replace")
        except FileNotFoundError:
            return ""  # the log was removed; an error report must not fail for that

    def wait(self) -> int:
        """Waits until the process ends; returns its exit code."""
        self.wanted = False
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal. Does nothing if the process has ended."""
        self._process.send_signal(number)

    def stop(self, polite: signal.Signals = signal.SIGTERM, *, grace_s: float) -> int:
        """Sends `polite`, and SIGKILL if the process runs after `grace_s` seconds; returns its exit
        code.
        """
        self.wanted = False
        self.send(polite)
        self.send(signal.SIGCONT)  # a frozen process handles no other signal
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kills the process (SIGKILL) and waits for its end; returns its exit code."""
        self.wanted = False
        self.send(signal.SIGKILL)
        return self._process.wait()
