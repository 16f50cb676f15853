"""One PostgreSQL and one NATS server for a whole run of the tests, also where pytest-xdist spreads
it over processes.

Each test gets a database and an account of the broker of its own, so that tests do not meet. No
test doubles here.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it ships none

from chassis.write.migration import migrate
from devstack.nats import Nats
from devstack.postgres import UNSAFE_ON_POWER_LOSS, Postgres
from tests.support import (
    Accounts,
    Databases,
    Eventually,
    FreshDatabase,
    eventually,
    reachable_folder,
)

# How long an example takes is the machine's affair: speed is measured in benchmarks, and no test
# fails by it. And each run tries the same examples: what fails today has been changed today. Others
# are looked for by `make explore` (docs/decisions/0027).
settings.register_profile("ordermesh", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("ordermesh")

ACCOUNTS_PER_PROCESS = 16
SERVERS = pytest.StashKey["Servers"]()


class Servers:
    """The servers of a run, started by the process that leads it."""

    def __init__(self, processes: int) -> None:
        with ExitStack() as cleanup:
            folder = cleanup.enter_context(reachable_folder("ordermesh-tests-"))
            self.postgres = Postgres(folder / "postgres", settings=UNSAFE_ON_POWER_LOSS)
            self.nats = Nats(folder / "nats", accounts=ACCOUNTS_PER_PROCESS * processes)
            for server in (self.postgres, self.nats):
                cleanup.callback(server.stop)
                server.start()
            self.stop = cleanup.pop_all().close

    def addresses(self, process: int) -> dict[str, Any]:
        """What one process of the run needs to know, in words that xdist can carry."""
        mine = range(process * ACCOUNTS_PER_PROCESS, (process + 1) * ACCOUNTS_PER_PROCESS)
        return {
            "postgres": self.postgres.url(),
            "nats": [self.nats.account_url(number) for number in mine],
        }


def _servers(config: pytest.Config, processes: int = 1) -> Servers:
    """The servers of this run, started at the first call: a run of tests that need none starts
    none.
    """
    if SERVERS not in config.stash:
        config.stash[SERVERS] = Servers(processes)
        config.add_cleanup(config.stash[SERVERS].stop)
    return config.stash[SERVERS]


# pytest-xdist calls it, in the process that leads, for each worker before it starts
@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker where the servers are."""
    number = int(node.gateway.id.removeprefix("gw"))
    workers = len(node.config.getoption("tx"))
    node.workerinput["servers"] = _servers(node.config, workers).addresses(number % workers)


class Together(LoadScopeScheduling):  # type: ignore[misc]  # a base without types
    """All system tests go to one process of a run that is spread over several: a second stack would
    only slow down the first.

    They come first, as the largest group. The other processes do the rest meanwhile, test by test.
    Not by xdist's own marks for groups: with pytest 9.2 they have no effect (pytest-xdist #1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return "system" if nodeid.startswith("tests/system/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Which process does which tests."""
    return Together(config, log)


@pytest.fixture(scope="session")
def addresses(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the servers are: from the process that leads the run, or started here where there is
    but one.
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
    """Makes and drops databases; for what outlives a test, such as a migrated template."""
    databases = Databases(postgres)
    yield databases
    databases.close()


@pytest.fixture
def fresh_database(databases: Databases) -> Iterator[FreshDatabase]:
    """A function that creates a database, empty or a copy of a template, and returns its URL.
    All go after the test.
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
    made: dict[str, str] = {}
    yield made
    for url in made.values():
        databases.drop(url)


@pytest.fixture
def migrated_database(
    databases: Databases, templates: dict[str, str], fresh_database: FreshDatabase
) -> Callable[[str], str]:
    """A function that gives the URL of a database with the tables of a service ("order_svc"),
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
    """The address of a NATS account with no streams in it, this test's alone."""
    url = await nats_server.take()
    yield url
    nats_server.give_back(url)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Eventually:
    """Waits until a condition holds, with a deadline: see tests.support.eventually."""
    return eventually
