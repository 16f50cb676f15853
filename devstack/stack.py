"""Starts and stops PostgreSQL, NATS and the five services together on one machine.

The other modules run one server or service each; __main__ has the terminal's output.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from devstack import databases
from devstack.errors import DevstackError
from devstack.nats import Nats
from devstack.ports import free_ports
from devstack.postgres import Postgres
from devstack.processes import Program, Service, program

# In start order: a service starts before its callers and stops after them.
SERVICES = ("warehouse", "payment", "shipping", "fulfillment", "order")
DATABASES = {
    "warehouse": "warehouse",
    "payment": "payment",
    "shipping": "shipping",
    "fulfillment": "fulfillment",
    "order": "orders",  # `order` is a reserved word of SQL
}
FREE_BYTES_MIN = 256 * 1024 * 1024
WATCH_S = 0.25
CONNECT_TIMEOUT_S = 5.0
NATS_PORT = 4222  # of a URL without a port

# Called with the name of a step; the step runs inside the returned context manager.
Step = Callable[[str], AbstractContextManager[object]]

# Called with a service's name and its environment with all addresses; returns the environment that
# the service gets. Tests insert proxies.
Route = Callable[[str, Mapping[str, str]], Mapping[str, str]]


def directly(_service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
    """A Route without proxies."""
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of 127.0.0.1; 0, or a service that is not named, means a free one."""

    services: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, int] = field(default_factory=dict)
    postgres: int = 0
    nats: int = 0


class Stack:
    """PostgreSQL, NATS and the five services. All run inside `async with`, and none runs after
    it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: Ports | None = None,
        database_url: str | None = None,
        nats_url: str | None = None,
        database_prefix: str = "",
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        program: Program = program,
        route: Route = directly,
        step: Step = nullcontext,
    ) -> None:
        """Data and logs go to `folder`.

        `database_url` and `nats_url` name servers of the user's own, used in place of embedded
        ones. `program` returns a service's command line.

        Only tests set the others, because they start stacks that differ from `make run`: with a
        `database_prefix` before the databases' names several of them share a PostgreSQL;
        `settings` are for the embedded PostgreSQL; `environment` adds to the services' variables,
        and `route` changes them.
        """
        wanted = ports or Ports()
        self.folder = folder.absolute()
        free = iter(free_ports(2 * len(SERVICES)))
        self.addresses = {
            name: f"127.0.0.1:{wanted.services.get(name) or next(free)}" for name in SERVICES
        }
        self.metrics_addresses = {
            name: f"127.0.0.1:{wanted.metrics.get(name) or next(free)}" for name in SERVICES
        }
        self.postgres = (
            None if database_url else Postgres(self.folder / "postgres", wanted.postgres, settings)
        )
        self.nats = None if nats_url else Nats(self.folder / "nats", wanted.nats)
        self._servers = [server for server in (self.postgres, self.nats) if server is not None]
        self.nats_url = nats_url or ""
        self.database_urls: dict[str, str] = {}
        self.services: dict[str, Service] = {}
        self._database_url = database_url or ""
        self._databases = {service: database_prefix + name for service, name in DATABASES.items()}
        self._environment = dict(environment or {})
        self._program, self._route = program, route
        self._step = step
        self._cleanup = AsyncExitStack()
        self._thread: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Starts everything, and returns when all services are SERVING. If it raises DevstackError,
        it has stopped everything.
        """
        try:
            await self._start()
        except BaseException:  # an interrupt too: it leaves no process behind, and is raised
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops everything in reverse order."""
        await self._cleanup.aclose()

    @property
    def environment(self) -> dict[str, str]:
        """The clients' variables for the services and the broker: ORDER_ADDRESS and so on,
        NATS_URL.
        """
        return {f"{name.upper()}_ADDRESS": address for name, address in self.addresses.items()} | {
            "NATS_URL": self.nats_url
        }

    def check(self) -> None:
        """Raises DevstackError if a process ended unexpectedly, or a disk is almost full."""
        self._need_disks()
        for part in (*self._servers, *self.services.values()):
            part.check()

    async def tend(self, work: Callable[[], None]) -> None:
        """Runs a server's blocking work, e.g. `stack.nats.start`, in the servers' thread: see
        `_start`.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def watch(self) -> None:
        """Calls `check` periodically, without end. Raises what `check` raises."""
        while True:
            self.check()
            await asyncio.sleep(WATCH_S)  # the interval of the checks

    def kill(self) -> None:
        """Kills all processes at once."""
        for part in (*self.services.values(), *reversed(self._servers)):
            part.kill()

    def _need_disks(self) -> None:
        """Checks the disks of the folder and of PostgreSQL's data, which may be elsewhere (see
        devstack.rooms).
        """
        for folder in (self.folder, *([self.postgres.data] if self.postgres else [])):
            need_disk(folder)

    async def _start(self) -> None:
        self._need_disks()
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        # A child dies with the thread that started it, so the servers have a thread that lives as
        # long as they do. It is a single one, so that a stop runs after an interrupted start.
        self._thread = self._cleanup.enter_context(ThreadPoolExecutor(1, "devstack"))
        for server in self._servers:
            with self._step(server.name):
                self._cleanup.push_async_callback(self.tend, server.stop)
                await self.tend(server.start)
        if self.nats is not None:
            self.nats_url = self.nats.url
        else:
            await _need_answer(self.nats_url)
        with self._step("databases"):
            server_url = self.postgres.url() if self.postgres else self._database_url
            self.database_urls = await asyncio.to_thread(
                databases.ensure, server_url, self._databases
            )
        self.services = {name: self._service(name) for name in SERVICES}
        with self._step("migrations"):
            await self._migrate()
        # All services start before the first is awaited: each needs a second of processor time for
        # its imports.
        for service in self.services.values():
            self._cleanup.push_async_callback(service.stop)
            service.spawn()
        for service in self.services.values():
            with self._step(service.name):
                await beside(self.watch(), service.ready())

    async def _migrate(self) -> None:
        failures: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                for service in self.services.values():
                    group.create_task(service.migrate())
        except* DevstackError as failed:
            failures += failed.exceptions
        # raised here: before Python 3.11.4 an error raised inside `except*` becomes a group
        if failures:
            raise DevstackError("\n".join(map(str, failures)))

    def _service(self, name: str) -> Service:
        environment = {
            **os.environ,
            **self._environment,
            **self.environment,
            "DATABASE_URL": self.database_urls[name],
            "LISTEN_ADDRESS": self.addresses[name],
            "METRICS_ADDRESS": self.metrics_addresses[name],
        }
        log = self.folder / "logs" / f"{name}.log"
        return Service(
            name,
            self._program(name),
            address=self.addresses[name],
            environment=self._route(name, environment),
            log=log,
        )


async def beside(watch: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
    """Runs `work`, and cancels it if `watch` fails first. Raises the failure."""
    tasks = [asyncio.create_task(watch), asyncio.create_task(work)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def need_disk(folder: Path) -> None:
    """Raises DevstackError if the disk of `folder` has less than 256 MiB free: servers fail less
    clearly on a full disk.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES_MIN:
        raise DevstackError(
            f"The disk of {existing} is all but full ({free // 2**20} MiB free,"
            f" {FREE_BYTES_MIN // 2**20} MiB needed): free some space, and start again; nothing is"
            " lost."
        )


async def _need_answer(nats_url: str) -> None:
    """Raises DevstackError if no server listens at any address of a NATS URL."""
    servers = [urlsplit(part.strip()) for part in nats_url.split(",")]
    for server in servers:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(server.hostname, server.port or NATS_PORT)
        except (OSError, ValueError):
            continue
        writer.close()
        return
    places = ", ".join(f"{server.hostname}:{server.port or NATS_PORT}" for server in servers)
    raise DevstackError(
        f"No NATS server answers at {places} (NATS_URL): start it, or unset NATS_URL to use an"
        " embedded one."
    )
