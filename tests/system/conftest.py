"""The five services as processes, on the PostgreSQL and the NATS of this test run."""

import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping

import pytest

from devstack.stack import Stack
from tests.support import Accounts, reachable_folder
from tests.system.readme import HAS_GRPCURL, ROOT


@pytest.fixture(scope="session")
async def stack(postgres: str, nats_server: Accounts) -> AsyncIterator[Stack]:
    """A stack that all system tests share. A test that kills a service starts it again."""
    nats_url = await nats_server.take()
    with reachable_folder("ordermesh-system-") as folder:
        prefix = f"system_{uuid.uuid4().hex[:8]}_"
        async with Stack(
            folder, database_url=postgres, nats_url=nats_url, database_prefix=prefix
        ) as stack:
            yield stack
    nats_server.give_back(nats_url)


@pytest.fixture(scope="session")
def terminal_variables() -> Mapping[str, str]:
    """The variables of a new terminal: those of an outer `make test` are removed."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }


@pytest.fixture(scope="session")
def environment(stack: Stack, terminal_variables: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of a terminal beside the stack: the addresses are set. grpcurl is built."""
    if HAS_GRPCURL:
        command = ["make", "--silent", "build/grpcurl"]
        subprocess.run(command, cwd=ROOT, env=terminal_variables, check=True)
    return {**terminal_variables, **stack.environment}
