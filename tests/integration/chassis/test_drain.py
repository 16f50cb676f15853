"""A drain with open streams of the standard services: they stay open as long as their reader wants,
and do not delay the drain.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chassis.rpc.server import LAST_ANSWERS_S, Limits, Server
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually

# So long that a drain which waits for the grace fails the test.
LONG_GRACE = Limits(drain_delay_s=0.0, drain_grace_s=60.0)
SOON_S = 20.0

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@pytest.fixture
def sample() -> Sample:
    """The servicer, whose behaviour a test sets."""
    return Sample()


@asynccontextmanager
async def _watched(server: Server) -> AsyncIterator[Any]:
    """Opens a health watch, as a balancer does, which has received SERVING."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        yield watch


async def test_health_watch_does_not_delay_the_drain(sample: Sample) -> None:
    """With an open health watch and no other call, the drain ends long before its grace; the
    watcher receives NOT_SERVING.
    """
    async with serving(sample, limits=LONG_GRACE) as server, _watched(server) as watch:
        async with asyncio.timeout(SOON_S):
            await server.drain()
            assert (await watch.read()).status == NOT_SERVING


async def test_reflection_stream_does_not_delay_the_drain(sample: Sample) -> None:
    """A client that reads the contracts and keeps the stream open does not delay the drain
    either.
    """
    async with (
        serving(sample, limits=LONG_GRACE) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await ask.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert await ask.read()
        async with asyncio.timeout(SOON_S):
            await server.drain()


async def test_running_call_is_finished_during_a_health_watch(sample: Sample) -> None:
    """With an open health watch, a running call still has its grace: the drain waits for it, and it
    is answered.
    """
    free = asyncio.Event()

    async def behave() -> str:
        await free.wait()
        return "done"

    sample.behave = behave
    async with (
        serving(sample, limits=LONG_GRACE) as server,
        plain_stub(server) as stub,
        _watched(server) as watch,
    ):
        running = asyncio.ensure_future(stub.GetThing(contract()[0].GetThingRequest(thing_id="1")))
        await eventually(lambda: sample.calls == 1)
        drain = asyncio.create_task(server.drain())
        assert (await watch.read()).status == NOT_SERVING
        await asyncio.wait([drain], timeout=2 * LAST_ANSWERS_S)
        assert not running.done()
        assert not drain.done()
        free.set()
        async with asyncio.timeout(SOON_S):
            assert (await running).text == "done"
            await drain
