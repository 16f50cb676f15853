"""Migrates, starts, watches and stops the processes of the five services."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devstack.child import Child
from devstack.errors import DevstackError, failure
from devstack.health import serving

START_TIMEOUT_S = 60.0
MIGRATE_TIMEOUT_S = 120.0
# a service finishes its running calls, for at most 10 s, and closes its connections
STOP_GRACE_S = 20.0
POLL_S = 0.05

# Returns the command line of a service, by its name; tests replace it.
Program = Callable[[str], Sequence[str]]


def program(service: str) -> Sequence[str]:
    """The command line of one of the five services."""
    return [sys.executable, "-m", f"{service}_svc"]


class Service:
    """One service: a process that may be started again after each stop, kill or death."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        address: str,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        """`command` runs the service at `address` (host:port), `command migrate` its migrations,
        both with `environment`.
        """
        self.name = name
        self.address = address
        self.log = log
        self.child: Child | None = None
        self._command = command
        self._environment = dict(environment)

    async def migrate(self) -> None:
        """Migrates the database to the newest schema. Raises DevstackError with the migration's
        output if it fails.
        """
        child = Child([*self._command, "migrate"], log=self.log, environment=self._environment)
        try:
            async with asyncio.timeout(MIGRATE_TIMEOUT_S):
                while child.exit_code is None:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)  # a process sets no asyncio.Event when it ends
        except TimeoutError:
            raise failure(
                f"The migrations of {self.name} did not end within {MIGRATE_TIMEOUT_S:.0f} s.",
                child.output(),
            ) from None
        finally:
            child.kill()
        if child.exit_code != 0:
            raise failure(
                f"The migrations of {self.name} failed (exit code {child.exit_code}).",
                child.output(),
            )

    async def start(self, **environment: str) -> None:
        """Starts the process, and returns when it is SERVING; `environment` is for this start
        only.
        """
        self.spawn(**environment)
        await self.ready()

    def spawn(self, **environment: str) -> None:
        """Starts the process without waiting for it; `environment` is for this start only."""
        if self.child is not None and self.child.running:
            raise DevstackError(f"The {self.name} service runs already (process {self.child.pid}).")
        self.child = Child(self._command, log=self.log, environment=self._environment | environment)

    async def ready(self) -> None:
        """Waits until the process is SERVING. Raises DevstackError if it dies first, or after a
        minute.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await serving(self.address):
                    self.check()
                    await asyncio.sleep(POLL_S)  # another process; the time-out bounds the loop
        except TimeoutError:
            output = self.child.output() if self.child else ""
            raise failure(
                f"The {self.name} service was not ready within {START_TIMEOUT_S:.0f} s; its log is"
                f" {self.log}.",
                output,
            ) from None
        self.check()  # another process may have answered

    def check(self) -> None:
        """Raises DevstackError if the process ended unexpectedly."""
        if self.child is not None:
            self.child.check(f"The {self.name} service")

    async def stop(self) -> None:
        """Drains the process (SIGTERM), and kills it if it runs after STOP_GRACE_S seconds."""
        if self.child is not None:
            await asyncio.to_thread(self.child.stop, grace_s=STOP_GRACE_S)

    def kill(self) -> None:
        """Kills the process (SIGKILL), as a crash would, and waits for its end."""
        if self.child is not None:
            self.child.kill()
