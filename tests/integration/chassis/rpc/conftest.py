"""The sample's server and stubs on it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chassis.rpc.client import connect
from chassis.rpc.server import Server
from tests.rpc.sample import Sample, contract, plain_stub, serving


@pytest.fixture
def sample() -> Sample:
    """The servicer, whose behaviour a test sets."""
    return Sample()


@pytest.fixture
async def server(sample: Sample) -> AsyncIterator[Server]:
    """A server of the servicer."""
    async with serving(sample) as server:
        yield server


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[Any]:
    """A client that uses none of the chassis' code."""
    async with plain_stub(server) as stub:
        yield stub


@pytest.fixture
async def sample_stub(server: Server) -> AsyncIterator[Any]:
    """A stub on the chassis' own channel to the server."""
    services = contract()[0].DESCRIPTOR.services_by_name.values()
    async with connect(f"127.0.0.1:{server.port}", services=services) as channel:
        yield contract()[1].SampleServiceStub(channel)
