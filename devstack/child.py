"""One process of ours: started, watched, stopped; its output in a file. What it serves is not
known here.
"""

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
    """The command line that runs `command`, as `account` (None: as we are), and lets it die with
    the thread that starts it.
    """
    as_user = account or Account(-1, -1)
    tie = [os.getpid(), int(dies_with), as_user.uid, as_user.gid]
    return [sys.executable, "-I", "-S", tether.__file__, *map(str, tie), *map(str, command)]


class Child:
    """A running process, in a session of its own (Ctrl-C does not reach it), that dies when its
    parent dies (Linux).

    To be exact, when the thread that started it ends: start children from a thread that lives as
    long as they do.
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
        """Starts `command` in `folder`, with `environment` (None: ours) and the open files `keeps`.

        `log` gets what it prints; `dies_with` is what it gets when we die. Raises DevstackError
        when it cannot be started.
        """
        self.log = log
        self.wanted = True  # until somebody ends it, or waits for its end
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
        """What it ended with (negative: by that signal); None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it has not ended. A frozen process runs."""
        return self.exit_code is None

    def check(self, what: str) -> None:
        """Raises DevstackError with its last words when it has ended although nobody wanted
        that; `what` names it.
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
        """Waits until `ready` answers true. Raises DevstackError when it ends instead, or
        `timeout_s` seconds are over.
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
            time.sleep(POLL_S)  # another process: nothing to wait on; the deadline bounds the loop

    def output(self) -> str:
        """What this process has printed, the last 32 KiB of it."""
        try:
            with self.log.open("rb") as printed:
                end = printed.seek(0, os.SEEK_END)
                printed.seek(max(self._log_start, end - LAST_WORDS_BYTES_MAX))
                return printed.read().decode(errors="replace")
        except FileNotFoundError:
            return ""  # somebody tidied up: an error report must not fail for want of a log

    def wait(self) -> int:
        """Waits until it ends by itself; returns its exit code."""
        self.wanted = False
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the process has ended."""
        self._process.send_signal(number)

    def stop(self, polite: signal.Signals = signal.SIGTERM, *, grace_s: float) -> int:
        """Asks it to end, and kills it when it has not after `grace_s` seconds; returns its exit
        code.
        """
        self.wanted = False
        self.send(polite)
        self.send(signal.SIGCONT)  # a frozen process hears nothing else
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kills it (SIGKILL), and waits until it is gone; returns its exit code."""
        self.wanted = False
        self.send(signal.SIGKILL)
        return self._process.wait()
