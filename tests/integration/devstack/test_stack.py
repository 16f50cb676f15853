"""The whole stack, with stand-ins for the five services: it starts in order, notices what dies,
and leaves nothing behind.
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
from tests.support import Databases, Eventually, reachable_folder

FAKE_SERVICE = Path(__file__).parent / "fake_service.py"


def fake(service: str) -> Sequence[str]:
    """The command line of a stand-in."""
    return [sys.executable, str(FAKE_SERVICE), service]


def made(folder: Path, **environment: str) -> Stack:
    """A stack of stand-ins, not started."""
    return Stack(folder, program=fake, settings=UNSAFE_ON_POWER_LOSS, environment=environment)


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Stack]:
    """A stack of stand-ins, started, for all tests that leave it as it was."""
    with reachable_folder("ordermesh-stack-") as folder:
        async with made(folder) as running:
            yield running


async def test_nothing_is_left_after_the_end_and_data_are_kept(folder: Path) -> None:
    """Every process that the stack started, PostgreSQL's own children included, is gone; a
    second run finds the first one's data.
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
    """Whoever does not want to wait gets no process that still drains."""
    async with made(folder) as running:
        running.kill()
    children = [
        part.child
        for part in (running.postgres, running.nats, *running.services.values())
        if part is not None
    ]
    assert [child.exit_code for child in children if child is not None] == [-signal.SIGKILL] * 7


async def test_services_know_their_own_places_and_their_peers(running: Stack) -> None:
    """Each process has its database, the broker, its own addresses and everybody's."""
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


async def test_services_can_be_led_another_way(folder: Path) -> None:
    """What a route answers is what a service is told, at its migration and at each start; the
    stack itself goes the direct way.
    """
    told: dict[str, Mapping[str, str]] = {}

    def route(service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        told[service] = environment
        return {**environment, "NATS_URL": f"nats://detour.of.{service}"}

    async with Stack(folder, program=fake, settings=UNSAFE_ON_POWER_LOSS, route=route) as running:
        assert set(told) == set(SERVICES)
        for name, service in running.services.items():
            assert service.child is not None
            assert environment_of(service.child.pid)["NATS_URL"] == f"nats://detour.of.{name}"
            assert told[name]["NATS_URL"] == running.nats_url


async def test_a_server_can_be_started_again_and_lives_as_long_as_the_stack(running: Stack) -> None:
    """`tend` does what blocks on the thread that servers hang from: one that was killed comes
    back there.
    """
    assert running.nats is not None
    running.nats.kill()
    await running.tend(running.nats.start)
    running.check()


async def test_a_service_can_be_killed_frozen_and_restarted(running: Stack) -> None:
    """What tests do to a service is not taken for an accident, and each time it comes back at
    the same address.
    """
    order = running.services["order"]
    order.kill()
    running.check()
    assert not await serving(order.address)
    await order.start()
    order.freeze()
    running.check()
    assert not await serving(order.address)
    order.resume()
    await order.ready()
    before = order.child
    await order.restart()
    assert order.child is not before
    assert await serving(order.address)
    order.freeze()
    await order.stop(grace_s=30)
    assert order.child is not None
    assert order.child.exit_code == 0, "a frozen process is woken to end in an orderly way"
    await order.start()


async def test_a_crash_that_a_test_asked_for_is_waited_for(running: Stack) -> None:
    """A process that is to end by itself can be waited for; that it does not is an error."""
    order = running.services["order"]
    with pytest.raises(TimeoutError):
        await order.wait(timeout_s=0.1)
    assert order.child is not None
    assert order.child.wanted, "an end that did not come is an accident when it comes"
    os.kill(order.child.pid, signal.SIGKILL)
    assert await order.wait(timeout_s=10) == -signal.SIGKILL
    running.check()
    await order.start()


async def test_a_dead_child_is_reported_at_any_time(running: Stack) -> None:
    """Whatever dies while the stack is up ends the watch with its name and its last words."""
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
async def test_a_failed_start_says_what_failed_and_leaves_nothing(
    folder: Path, fault: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the service, has its own words, and nothing that was started before runs
    on.
    """
    if fault.endswith(":silent"):
        patient = Service.ready

        async def ready(service: Service) -> None:
            with monkeypatch.context() as patched:
                # the others have all the time that they need
                if service.name == fault.removesuffix(":silent"):
                    patched.setattr(processes, "START_TIMEOUT_S", 3.0)
                await patient(service)

        monkeypatch.setattr(Service, "ready", ready)
    mine = descendants(os.getpid())
    with pytest.raises(DevstackError, match=says):
        async with made(folder, FAULT=fault):
            pytest.fail("it started all the same")
    assert descendants(os.getpid()) <= mine


async def test_an_interrupted_start_leaves_nothing(folder: Path, eventually: Eventually) -> None:
    """Somebody who loses patience while PostgreSQL is being initialised leaves no server behind."""
    mine = descendants(os.getpid())
    starting = asyncio.create_task(made(folder).__aenter__())
    await eventually(lambda: descendants(os.getpid()) - mine, what="initdb runs")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert descendants(os.getpid()) <= mine


async def test_a_full_disk_is_told_before_servers_suffer(
    running: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk with little room ends the watch, and keeps the stack from starting, with a word
    about what to do.
    """
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


def test_missing_databases_are_made_on_a_server_of_the_user_s(
    postgres: str, names: dict[str, str]
) -> None:
    """Whatever database the URL names, also one that is not there, the missing ones are made,
    once.
    """
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


def test_a_user_who_may_not_make_databases_is_told_which(
    postgres: str, names: dict[str, str]
) -> None:
    """Somebody else can make them then; the password of the URL is not in the message."""
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


def test_a_server_that_is_away_is_told() -> None:
    """The error has the address, and no password; what is no URL is told too."""
    with pytest.raises(
        DevstackError, match=r"PostgreSQL server at 127\.0\.0\.1:9 does not let us in"
    ) as caught:
        databases.ensure("postgresql://me:secret-word@127.0.0.1:9/orders", DATABASES)
    assert "secret-word" not in str(caught.value)
    with pytest.raises(DevstackError, match="is no URL"):
        databases.ensure("no url at all", DATABASES)


async def test_servers_of_the_user_s_own_are_used_and_left_running(
    folder: Path, running: Stack
) -> None:
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


async def test_a_broker_that_is_away_is_told(folder: Path, running: Stack) -> None:
    """A NATS_URL where nobody answers is told before any service starts."""
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
