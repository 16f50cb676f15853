"""The whole stack, with stand-ins for the five services: it starts in order, reports dead
processes, and ends all of them.
"""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from devstack import databases, processes, stack
from devstack.errors import DevstackError
from devstack.health import serving
from devstack.nats import Nats
from devstack.postgres import UNSAFE_ON_POWER_LOSS
from devstack.processes import Service
from devstack.stack import DATABASES, SERVICES, Stack
from tests.integration.devstack.processes import alive, descendants, environment_of
from tests.services import crash, freeze, restart, resume
from tests.support import Databases, Eventually, reachable_folder

FAKE_SERVICE = Path(__file__).parent / "fake_service.py"


def fake(service: str) -> Sequence[str]:
    """Returns the command line of a stand-in."""
    return [sys.executable, str(FAKE_SERVICE), service]


def made(folder: Path, **environment: str) -> Stack:
    """Returns a stack of stand-ins, not started."""
    return Stack(folder, program=fake, settings=UNSAFE_ON_POWER_LOSS, environment=environment)


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Stack]:
    """A started stack of stand-ins, for all tests that leave it unchanged."""
    with reachable_folder("ordermesh-stack-") as folder:
        async with made(folder) as running:
            yield running


async def test_end_stops_every_process_and_keeps_the_data(folder: Path) -> None:
    """Every process that the stack started has ended, PostgreSQL's own children included; a second
    run finds the first one's data.
    """
    mine = descendants(os.getpid())
    for run in (1, 2):
        async with made(folder) as running:
            started = descendants(os.getpid()) - mine
            assert len(started) > len(SERVICES) + 2
            assert [await serving(running.addresses[name]) for name in SERVICES] == [True] * 5
            for name in SERVICES:
                with psycopg.connect(
                    running.database_urls[name].replace("+psycopg", "")
                ) as connection:
                    assert connection.execute("SELECT current_database()").fetchone() == (
                        DATABASES[name],
                    )
                    assert connection.execute("SELECT count(*) FROM migrations").fetchone() == (
                        run,
                    )
        assert not alive(started)


async def test_kill_ends_everything_at_once(folder: Path) -> None:
    """A kill ends all processes, also one that still drains."""
    async with made(folder) as running:
        running.kill()
    children = [
        part.child
        for part in (running.postgres, running.nats, *running.services.values())
        if part is not None
    ]
    assert [child.exit_code for child in children if child is not None] == [-signal.SIGKILL] * 7


async def test_services_get_their_own_and_their_peers_addresses(running: Stack) -> None:
    """Each process has its database, the broker, its own addresses and those of all others."""
    for name, service in running.services.items():
        assert service.child is not None
        given = environment_of(service.child.pid)
        assert make_url(given["DATABASE_URL"]).database == DATABASES[name]
        assert given["NATS_URL"] == running.nats_url
        assert (
            given["LISTEN_ADDRESS"] == given[f"{name.upper()}_ADDRESS"] == running.addresses[name]
        )
        assert given["METRICS_ADDRESS"] == running.metrics_addresses[name]
        assert running.environment.items() <= given.items()
    assert len({*running.addresses.values(), *running.metrics_addresses.values()}) == 10


async def test_route_changes_the_environment_of_services(folder: Path) -> None:
    """A service gets the environment that a route returns, at its migration and at each start; the
    stack itself uses the direct addresses.
    """
    environments: dict[str, Mapping[str, str]] = {}

    def route(service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        environments[service] = environment
        return {**environment, "NATS_URL": f"nats://detour.of.{service}"}

    async with Stack(folder, program=fake, settings=UNSAFE_ON_POWER_LOSS, route=route) as running:
        assert set(environments) == set(SERVICES)
        for name, service in running.services.items():
            assert service.child is not None
            assert environment_of(service.child.pid)["NATS_URL"] == f"nats://detour.of.{name}"
            assert environments[name]["NATS_URL"] == running.nats_url


async def test_restarted_server_lives_as_long_as_the_stack(running: Stack) -> None:
    """`tend` runs blocking calls on the thread that is the servers' parent: a killed server starts
    there again.
    """
    assert running.nats is not None
    running.nats.kill()
    await running.tend(running.nats.start)
    running.check()


async def test_a_service_can_be_killed_frozen_and_restarted(
    running: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill or a freeze by a test is not reported as a failure, and each time the service starts
    again at the same address.
    """
    monkeypatch.setattr(processes, "STOP_GRACE_S", 30.0)
    order = running.services["order"]
    order.kill()
    running.check()
    assert not await serving(order.address)
    await order.start()
    freeze(order)
    running.check()
    assert not await serving(order.address)
    resume(order)
    await order.ready()
    before = order.child
    await restart(order)
    assert order.child is not before
    assert await serving(order.address)
    freeze(order)
    await order.stop()
    assert order.child is not None
    assert order.child.exit_code == 0, "a frozen process is woken to end in an orderly way"
    await order.start()


async def test_requested_crash_is_awaited(running: Stack) -> None:
    """A test can wait for a process that is to end; a process that does not end is an error."""
    order = running.services["order"]
    with pytest.raises(TimeoutError):
        await crash(order, timeout_s=0.1)
    assert order.child is not None
    assert order.child.wanted, "an end after the awaited time is a failure"
    os.kill(order.child.pid, signal.SIGKILL)
    assert await crash(order, timeout_s=10) == -signal.SIGKILL
    running.check()
    await order.start()


async def test_a_dead_child_is_reported_at_any_time(running: Stack) -> None:
    """A process that dies while the stack is up ends the watch with its name and its last lines."""
    assert running.postgres is not None
    assert running.nats is not None
    for part, name in (
        (running.postgres, "PostgreSQL"),
        (running.nats, "NATS"),
        (running.services["payment"], "The payment service"),
    ):
        assert part.child is not None
        os.kill(part.child.pid, signal.SIGKILL)
        with pytest.raises(
            DevstackError, match=rf"(?s){name} was killed \(SIGKILL\); its log is .*\n    "
        ):
            await asyncio.wait_for(running.watch(), 10)
        answer = part.start()
        if answer is not None:
            await answer


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            "warehouse:migration",
            r"(?s)migrations of warehouse failed \(exit code 1\).*the migration 0007 is broken",
        ),
        (
            "shipping:start",
            r"(?s)The shipping service ended \(exit code 1\).*WAREHOUSE_ADDRESS is missing",
        ),
        (
            "warehouse:silent,order:start",
            r"(?s)The order service ended \(exit code 1\).*WAREHOUSE_ADDRESS is missing",
        ),
        (
            "order:silent",
            (
                r"(?s)The order service was not ready within 3 s; its log is .*order\.log.*order"
                r" serves"
            ),
        ),
    ],
)
async def test_failed_start_names_the_service_and_ends_all(
    folder: Path, fault: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the service and has its own text, and no started process still runs."""
    if fault.endswith(":silent"):
        plain_ready = Service.ready

        async def ready(service: Service) -> None:
            with monkeypatch.context() as patched:
                # the others have all the time that they need
                if service.name == fault.removesuffix(":silent"):
                    patched.setattr(processes, "START_TIMEOUT_S", 3.0)
                await plain_ready(service)

        monkeypatch.setattr(Service, "ready", ready)
    mine = descendants(os.getpid())
    with pytest.raises(DevstackError, match=says):
        async with made(folder, FAULT=fault):
            pytest.fail("it started all the same")
    assert descendants(os.getpid()) <= mine


async def test_an_interrupted_start_leaves_nothing(folder: Path, eventually: Eventually) -> None:
    """A cancellation while PostgreSQL is initialised leaves no server running."""
    mine = descendants(os.getpid())
    starting = asyncio.create_task(made(folder).__aenter__())
    await eventually(lambda: descendants(os.getpid()) - mine, what="initdb runs")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert descendants(os.getpid()) <= mine


async def test_full_disk_is_reported(running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with little room ends the watch, and prevents a start, with an advice."""
    monkeypatch.setattr(stack, "FREE_BYTES_MIN", 2**60)
    with pytest.raises(DevstackError, match=r"all but full .* free some space"):
        await running.watch()
    with pytest.raises(DevstackError, match=r"all but full"):
        await made(running.folder / "another").__aenter__()


@pytest.fixture
def names(databases: Databases) -> Iterator[dict[str, str]]:
    """Names of two databases that do not exist yet."""
    names = {"order": f"orders_{uuid.uuid4().hex}", "payment": f"payment_{uuid.uuid4().hex}"}
    yield names
    for name in names.values():
        databases.drop(name)


def test_missing_databases_are_made_on_a_given_server(postgres: str, names: dict[str, str]) -> None:
    """The URL may name any database, also an unknown one: the missing databases are made, once."""
    plain = (
        make_url(postgres)
        .set(drivername="postgresql", database="not_there_yet")
        .render_as_string(hide_password=False)
    )
    first = databases.ensure(plain, {"order": names["order"]})
    again = databases.ensure(postgres, names)
    assert first == {"order": again["order"]}
    for service, url in again.items():
        assert make_url(url).drivername == "postgresql+psycopg"
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (names[service],)


def test_missing_permission_names_the_databases(postgres: str, names: dict[str, str]) -> None:
    """Another user can make them then; the password of the URL is not in the message."""
    role = f"poor_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret-word'")
        poor = (
            make_url(postgres)
            .set(username=role, password="secret-word")
            .render_as_string(hide_password=False)
        )
        with pytest.raises(
            DevstackError, match=f"create these for it: {names['order']} {names['payment']}"
        ) as caught:
            databases.ensure(poor, names)
        connection.execute(f"DROP ROLE {role}")
    assert "secret-word" not in str(caught.value)


def test_unreachable_server_is_named_in_the_error() -> None:
    """The error has the address, and no password; an invalid URL is reported too."""
    with pytest.raises(
        DevstackError, match=r"PostgreSQL server at 127\.0\.0\.1:9 does not let us in"
    ) as caught:
        databases.ensure("postgresql://me:secret-word@127.0.0.1:9/orders", DATABASES)
    assert "secret-word" not in str(caught.value)
    with pytest.raises(DevstackError, match="is no URL"):
        databases.ensure("no url at all", DATABASES)


async def test_given_servers_are_used_and_left_running(folder: Path, running: Stack) -> None:
    """With both URLs given the stack starts no server, and stops none."""
    assert running.postgres is not None
    assert running.nats is not None
    async with Stack(
        folder / "two", program=fake, database_url=running.postgres.url(), nats_url=running.nats.url
    ) as second:
        assert (second.postgres, second.nats) == (None, None)
        assert second.nats_url == running.nats_url
        assert second.database_urls == running.database_urls
    running.check()


async def test_unreachable_broker_is_named_in_the_error(folder: Path, running: Stack) -> None:
    """A NATS_URL without a server is reported before any service starts."""
    assert running.postgres is not None
    away = Stack(
        folder / "two",
        program=fake,
        database_url=running.postgres.url(),
        nats_url="nats://me:secret-word@127.0.0.1:9",
    )
    with pytest.raises(DevstackError, match=r"No NATS server answers at 127\.0\.0\.1:9") as caught:
        await away.__aenter__()
    assert "secret-word" not in str(caught.value)
    assert isinstance(running.nats, Nats)
