"""One PostgreSQL and one NATS server for a whole run of the tests, also where pytest-xdist spreads
it over processes.

Each test gets a database and a broker account of its own, so that tests do not affect each other.
No test doubles here.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import structlog
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships none

from chassis.write.migration import migrate
from devstack.postgres import UNSAFE_ON_POWER_LOSS, Postgres
from tests.nats_accounts import NatsWithAccounts
from tests.support import (
    Accounts,
    Databases,
    Eventually,
    FreshDatabase,
    eventually,
    reachable_folder,
)

# An example may take any time: benchmarks measure speed, and no test fails by it. Each run tries
# the same examples, so that a failure comes from the last change. `make explore` looks for others
# (docs/decisions/0027).
settings.register_profile("ordermesh", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("ordermesh")

# Where rich is installed, structlog draws a traceback with all local variables: up to seconds each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

ACCOUNTS_PER_PROCESS = 16
SERVERS = pytest.StashKey["Servers"]()


class Servers:
    """The servers of a run, started by its leading process."""

    def __init__(self, processes: int) -> None:
        with ExitStack() as cleanup:
            folder = cleanup.enter_context(reachable_folder("ordermesh-tests-"))
            self.postgres = Postgres(folder / "postgres", settings=UNSAFE_ON_POWER_LOSS)
            self.nats = NatsWithAccounts(folder / "nats", ACCOUNTS_PER_PROCESS * processes)
            for server in (self.postgres, self.nats):
                cleanup.callback(server.stop)
                server.start()
            self.stop = cleanup.pop_all().close

    def addresses(self, process: int) -> dict[str, Any]:
        """Returns the addresses that a process of the run needs, as values that xdist can send."""
        mine = range(process * ACCOUNTS_PER_PROCESS, (process + 1) * ACCOUNTS_PER_PROCESS)
        return {
            "postgres": self.postgres.url(),
            "nats": [self.nats.account_url(number) for number in mine],
        }


def _servers(config: pytest.Config, processes: int = 1) -> Servers:
    """Returns the servers of this run, started at the first call: a run of tests that need none
    starts none.
    """
    if SERVERS not in config.stash:
        config.stash[SERVERS] = Servers(processes)
        config.add_cleanup(config.stash[SERVERS].stop)
    return config.stash[SERVERS]


# pytest-xdist calls this in the leading process, for each worker before it starts
@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Sends the servers' addresses to a worker."""
    number = int(node.gateway.id.removeprefix("gw"))
    workers = len(node.config.getoption("tx"))
    node.workerinput["servers"] = _servers(node.config, workers).addresses(number % workers)


class Together(LoadScopeScheduling):  # type: ignore[misc]  # a base without types
    """Sends all system tests to one process of a run that is spread over several: a second stack
    would only slow down the first.

    They come first, as the largest group. The other processes run the other tests meanwhile, one by
    one. xdist's own marks for groups have no effect with pytest 9.2 (pytest-xdist #1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return "system" if nodeid.startswith("tests/system/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Returns the scheduler that assigns tests to processes."""
    return Together(config, log)


@pytest.fixture(scope="session")
def addresses(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The servers' addresses: from the leading process of the run, or started here where there is
    only one.
    """
    handed_over: dict[str, Any] | None = getattr(request.config, "workerinput", {}).get("servers")
    return handed_over or _servers(request.config).addresses(0)


@pytest.fixture(scope="session")
def postgres(addresses: dict[str, Any]) -> str:
    """The SQLAlchemy URL of the run's PostgreSQL server, its database `postgres`, as a
    superuser.
    """
    return str(addresses["postgres"])


@pytest.fixture(scope="session")
def databases(postgres: str) -> Iterator[Databases]:
    """Makes and drops databases; for those that outlive a test, such as a migrated template."""
    databases = Databases(postgres)
    yield databases
    databases.close()


@pytest.fixture
def fresh_database(databases: Databases) -> Iterator[FreshDatabase]:
    """A function that creates a database, empty or a copy of a template, and returns its URL. All
    are dropped after the test.
    """
    created: list[str] = []

    def create(template: str | None = None) -> str:
        created.append(databases.create(template))
        return created[-1]

    yield create
    for url in created:
        databases.drop(url)


@pytest.fixture(scope="session")
def templates(databases: Databases) -> Iterator[dict[str, str]]:
    """Migrated databases by service, to be copied; see `migrated_database`."""
    urls: dict[str, str] = {}
    yield urls
    for url in urls.values():
        databases.drop(url)


@pytest.fixture
def migrated_database(
    databases: Databases, templates: dict[str, str], fresh_database: FreshDatabase
) -> Callable[[str], str]:
    """A function that returns the URL of a database with the tables of a service ("order_svc"),
    this test's alone.
    """

    def create(service: str) -> str:
        if service not in templates:
            templates[service] = databases.create()
            migrate(templates[service], service)
        return fresh_database(templates[service])

    return create


@pytest.fixture
def database_url(fresh_database: FreshDatabase) -> str:
    """The SQLAlchemy URL (postgresql+psycopg) of a new, empty database, dropped after the test."""
    return fresh_database()


@pytest.fixture(scope="session")
def nats_server(addresses: dict[str, Any]) -> Accounts:
    """The accounts of the run's NATS server that belong to this process."""
    return Accounts(addresses["nats"])


@pytest.fixture
async def nats_url(nats_server: Accounts) -> AsyncIterator[str]:
    """The address of a NATS account without streams, this test's alone."""
    url = await nats_server.take()
    yield url
    nats_server.give_back(url)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Eventually:
    """Waits until a condition holds, with a deadline: see tests.support.eventually."""
    return eventually
