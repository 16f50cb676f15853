"""The five services as processes, as people run them; on the PostgreSQL and the NATS of this run
of the tests.
"""

import uuid
from collections.abc import AsyncIterator

import pytest

from devstack.stack import Stack
from tests.support import Accounts, reachable_folder


@pytest.fixture(scope="session")
async def stack(postgres: str, nats_server: Accounts) -> AsyncIterator[Stack]:
    """A stack that all system tests share. Who kills a service of it starts it again."""
    nats_url = await nats_server.take()
    with reachable_folder("ordermesh-system-") as folder:
        prefix = f"system_{uuid.uuid4().hex[:8]}_"
        async with Stack(
            folder, database_url=postgres, nats_url=nats_url, database_prefix=prefix
        ) as stack:
            yield stack
    nats_server.give_back(nats_url)
