"""Starts, watches and stops a server with its data in a folder: PostgreSQL or NATS."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from devstack import lock, ports
from devstack.child import Account, Child
from devstack.errors import DevstackError, refused

START_TIMEOUT_S = 120.0  # recovery after a crash, or reading large streams, may take its time
STOP_GRACE_S = 30.0
ORPHANS_GONE_S = 10.0  # how long the processes of a killed server may take to notice


class Server(ABC):
    """One server on 127.0.0.1 with its data in a folder. It may be started again after each
    stop or kill.
    """

    def __init__(
        self,
        name: str,
        data: Path,
        port: int,
        *,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """`data` is created by the first start; port 0 takes a free one, and keeps it. `account`
        runs the server (None: the current user), and `stop_signal` shuts it down.
        """
        self.name = name
        self.data = data
        self.port = port
        self.log = data.with_name(data.name + ".log")
        self.child: Child | None = None
        self._account = account
        self._stop_signal = stop_signal

    @abstractmethod
    def _prepare(self) -> None:
        """Creates the data if they are missing. Raises DevstackError or OSError if they cannot be
        used.
        """

    @abstractmethod
    def _command(self, port: int) -> Sequence[str | Path]:
        """Returns the command line of the server on `port`. No other server uses the data then."""

    @abstractmethod
    def _ready(self, child: Child) -> bool:
        """Returns whether the server accepts connections. A connection proves nothing: another
        server may have the port.
        """

    def start(self) -> None:
        """Starts the server, and returns when it accepts connections.

        Raises DevstackError; PortTaken if the port is in use. Takes under a second, longer after a
        crash and for large streams.
        """
        if self.child is not None and self.child.running:
            raise DevstackError(f"{self.name} runs already, on port {self.port}.")
        try:
            self._prepare()
        except OSError as error:
            raise refused(
                f"{self.name}'s data folder {self.data} cannot be used.", error
            ) from error
        if self.port:
            self._serve(self.port)
        else:
            self.port = ports.on_free_port(self._serve)

    def stop(self) -> None:
        """Shuts the server down. Does nothing if it does not run."""
        if self.child is not None:
            self.child.stop(self._stop_signal, grace_s=STOP_GRACE_S)

    def kill(self) -> None:
        """Kills the server (SIGKILL), as a crash would."""
        if self.child is not None:
            self.child.kill()

    def check(self) -> None:
        """Raises DevstackError if the server ended unexpectedly."""
        if self.child is not None:
            self.child.check(self.name)

    def _serve(self, port: int) -> None:
        """Starts the server on `port` and waits until it accepts connections."""
        other = (
            f"Another {self.name} server uses {self.data}: stop it first (a second `make run`, or"
            " one that was killed and still ends)."
        )
        held = lock.hold(
            self.data.with_name(self.data.name + ".lock"), wait_s=ORPHANS_GONE_S, taken=other
        )
        try:
            child = self.child = Child(
                self._command(port),
                log=self.log,
                account=self._account,
                dies_with=self._stop_signal,
                keeps=[held],
            )
        finally:
            os.close(held)
        child.wait_until(
            lambda: self._ready(child),
            f"{self.name} on 127.0.0.1:{port}",
            timeout_s=START_TIMEOUT_S,
        )
