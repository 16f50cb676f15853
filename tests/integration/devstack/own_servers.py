"""Starts servers of its own in the given folder, as the user that runs it. Tests, which cannot
change their user, run it as a program.

`own_servers.py FOLDER restart` writes, restarts and reads; `own_servers.py FOLDER hold` prints
process ids and waits to be killed.
"""

import os
import signal
import sys
from pathlib import Path

import psycopg

from devstack.nats import Nats
from devstack.postgres import Postgres


def main(folder: Path, action: str) -> None:
    """Runs the command line's action."""
    postgres, nats = Postgres(folder / "postgres"), Nats(folder / "nats")
    postgres.start()
    nats.start()
    if action == "hold":
        assert postgres.child is not None
        assert nats.child is not None
        print(postgres.child.pid, nats.child.pid, flush=True)  # noqa: T201  the test reads it
        signal.pause()
    with psycopg.connect(postgres.url().replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS answer")
    postgres.stop()
    postgres.start()
    with psycopg.connect(postgres.url().replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    owner = postgres.data.stat().st_uid
    nats.stop()
    postgres.stop()
    print(os.geteuid(), owner, row, flush=True)  # noqa: T201  the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
