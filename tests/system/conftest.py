"""The five services as processes, as people run them; on the PostgreSQL and the NATS of this run of the tests."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.support import Accounts, reachable_folder


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All system tests go to one process of a run that is spread over several: a second stack would only slow down the first.

    They come first, since they take longest; the other processes do the rest meanwhile.
    """
    system = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    chosen = set(system)
    for item in system:
        item.add_marker(pytest.mark.xdist_group("system"))
    items[:] = [*system, *(item for item in items if item not in chosen)]


@pytest.fixture(scope="session")
async def stack(postgres: str, nats_server: Accounts) -> AsyncIterator[Stack]:
    """A stack that all system tests share. Who kills a service of it starts it again."""
    nats_url = await nats_server.take()
    with reachable_folder("ordermesh-system-") as folder:
        prefix = f"system_{uuid.uuid4().hex[:8]}_"
        async with Stack(folder, database_url=postgres, nats_url=nats_url, database_prefix=prefix) as stack:
            yield stack
    nats_server.give_back(nats_url)
