"""Code that fixtures and tests share: databases, broker accounts, servers, metrics, and waiting. No
tests here.
"""

import asyncio
import inspect
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol
from uuid import UUID

import nats
import psycopg
from google.protobuf.message import Message
from prometheus_client import REGISTRY
from psycopg import sql
from sqlalchemy import Table, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.circuit_breaker import Breaker
from chassis.rpc.client import Channel, connect
from chassis.rpc.server import Register
from chassis.values import deadline
from chassis.values.paging import FRAME_BYTES
from chassis.values.request_context import RequestContext
from chassis.write import stored_versions
from chassis.write.database import Database
from chassis.write.tables import StoredVersion
from tests.servers import quick_server

POLL_S = 0.01
MEMORY = Path("/dev/shm")  # where Linux has files in memory
ROOM_BYTES_MIN = 4 * 2**30


def _memory() -> Path | None:
    """Returns a folder in memory, if the machine has one with enough room: every test makes a
    database, and its files take most of the time.
    """
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return None
    # PostgreSQL's may have to be copied beside its data
    programs_run = not found.f_flag & os.ST_NOEXEC
    return (
        MEMORY
        if programs_run
        and os.access(MEMORY, os.W_OK)
        and found.f_bavail * found.f_frsize >= ROOM_BYTES_MIN
        else None
    )


@contextmanager
def reachable_folder(prefix: str) -> Iterator[Path]:
    """Makes a temporary folder that every user can reach, removed at the end: in memory where there
    is room, or where TMPDIR says.

    pytest's own folder is closed to all but its user, and where root runs the tests PostgreSQL runs
    as another user.
    """
    folder = Path(
        tempfile.mkdtemp(prefix=prefix, dir=None if "TMPDIR" in os.environ else _memory())
    )
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Databases:
    """Databases of the run's PostgreSQL server, made and dropped by name."""

    def __init__(self, url: str) -> None:
        """`url` is the SQLAlchemy URL of the server's own database `postgres`."""
        self._server = make_url(url)
        self._connection = psycopg.connect(
            self._server.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
        )

    def create(self, template: str | None = None) -> str:
        """Creates a database, empty or a copy of `template` (a name or a URL, without open
        connections); returns its URL.
        """
        name = f"test_{uuid.uuid4().hex}"
        source = "template0" if template is None else self._name(template)
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop(self, database: str) -> None:
        """Drops a database (a name or a URL), also one with open connections."""
        self._connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                sql.Identifier(self._name(database))
            )
        )

    def close(self) -> None:
        """Closes the connection that the other methods use."""
        self._connection.close()

    @staticmethod
    def _name(database: str) -> str:
        return (make_url(database).database or "") if "://" in database else database


class FreshDatabase(Protocol):
    """Creates a database for one test, as `Databases.create` does; it is dropped after the test."""

    def __call__(self, template: str | None = None) -> str: ...


class Accounts:
    """Accounts of the run's NATS server, handed out in turn. One account does not see another's
    streams.
    """

    def __init__(self, urls: list[str]) -> None:
        """`urls` are the addresses of the accounts that this process may use."""
        self._free = list(urls)

    async def take(self) -> str:
        """Deletes the streams of the account that was used longest ago, and returns its address."""
        if not self._free:
            raise RuntimeError(
                "every account of the broker is in use: give some back, or raise"
                " ACCOUNTS_PER_PROCESS"
            )
        url = self._free.pop(0)
        await self._empty(url)
        return url

    def give_back(self, url: str) -> None:
        """Takes an account back after its test."""
        self._free.append(url)

    @staticmethod
    async def _empty(url: str) -> None:
        client = await nats.connect(url)
        try:
            manager = client.jetstream()
            # Found and deleted page by page: a list of streams ends after 256.
            while streams := await manager.streams_info():
                for stream in streams:
                    await manager.delete_stream(stream.config.name or "")
        finally:
            await client.close()


@asynccontextmanager
async def channel_of(*services: Register, breaker: Breaker | None = None) -> AsyncIterator[Channel]:
    """Opens a client channel to a new server: `services` are contracts' `add_..._to_server`, each
    with its servicer.
    """
    async with (
        quick_server(services) as server,
        connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel,
    ):
        yield channel


@asynccontextmanager
async def cancelled_at_end(work: Coroutine[Any, Any, NoReturn]) -> AsyncIterator[None]:
    """Runs a task until the end of the block, and cancels it then. Raises AssertionError where it
    ended in any other way.

    The cancellation is repeated until the task ends, because nats-py can swallow one; a process
    ends its tasks in the same way (chassis.process).
    """
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
        assert task.cancelled(), repr(task.exception())


@contextmanager
def caller_deadline(seconds: float) -> Iterator[None]:
    """Runs its block as code whose caller has this time left."""
    token = deadline._expires.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline._expires.reset(token)


async def set_stored_version(
    database: Database,
    stored: Sequence[StoredVersion],
    order_id: UUID,
    version: int,
    fulfillment_id: UUID | None = None,
) -> None:
    """Sets a version as `omctl events set-version` does in a service that has these
    `stored_versions`.
    """
    request = RequestContext(key=f"set-version:{uuid.uuid4()}", request_hash=b"")
    await stored_versions.set_stored_version(
        database,
        stored,
        request,
        order_id=order_id,
        fulfillment_id=fulfillment_id,
        version=version,
    )


def room_for(*records: Message) -> int:
    """Returns the bound of an answer in which exactly these records fit."""
    return sum(record.ByteSize() + FRAME_BYTES for record in records)


def measured(name: str, **labels: str) -> float:
    """Returns the current value of a metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def numbered(engine: AsyncEngine, outbox: Table) -> dict[uuid.UUID, list[tuple[str, int]]]:
    """Returns the events of an outbox by their aggregates, in the order of their rows: each one's
    name and its sequence.
    """
    columns = (outbox.c.aggregate, outbox.c.type, outbox.c.sequence)
    found: dict[uuid.UUID, list[tuple[str, int]]] = {}
    async with engine.connect() as connection:
        for row in await connection.execute(select(*columns).order_by(outbox.c.id)):
            name = row.type.rpartition(".")[2]
            found.setdefault(row.aggregate, []).append((name, row.sequence))
    return found


class Eventually(Protocol):
    """Waits until `condition` holds and returns its answer; see `eventually`."""

    async def __call__(
        self, condition: Callable[[], Any], *, timeout_s: float = 10.0, what: str = ""
    ) -> Any: ...


def property_columns(kind: type, table: Table) -> list[str]:
    """The names of the table's columns that are properties of the record's class."""
    return [c.name for c in table.c if isinstance(getattr(kind, c.name, None), property)]


async def eventually(
    condition: Callable[[], Awaitable[Any] | Any], *, timeout_s: float = 10.0, what: str = ""
) -> Any:
    """Calls `condition` (a function or a coroutine function) until its answer is true, and returns
    that.

    A condition may also assert: an AssertionError means "not yet", and its message is shown at the
    timeout. Other exceptions end the wait at once. Raises AssertionError after `timeout_s` seconds,
    with the awaited condition (`what`) and its last answer.
    """
    end = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + max(end - time.monotonic(), POLL_S)
            ):
                answer = condition()
                last = await answer if inspect.isawaitable(answer) else answer
            if last:
                return last
        except AssertionError as error:
            last = str(error) or "an assertion failed"
        except TimeoutError:
            last = f"the condition itself did not answer in time; before that: {last!r}"
        if time.monotonic() >= end:
            raise AssertionError(
                f"not within {timeout_s} s: {what or _source(condition)}; last seen: {last!r}"
            )
        await asyncio.sleep(POLL_S)


def _source(condition: Callable[[], Any]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
