"""A drain: it loses no call, ends the streams at once, and is not delayed by open streams of the
standard services.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chassis.rpc.server import LAST_ANSWERS_S, Server
from tests.rpc.calls import unary
from tests.rpc.failures import details
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


# So long that a drain which waits for the grace fails the test.
LONG_GRACE_S = 60.0


SOON_S = 20.0


SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


@asynccontextmanager
async def _watched(server: Server) -> AsyncIterator[Any]:
    """Opens a health watch, as a balancer does, which has received SERVING."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        yield watch


async def test_a_drain_loses_no_call(sample: Sample) -> None:
    """While a server drains, health answers NOT_SERVING, calls are still answered for the delay,
    and a running call is finished.
    """
    free = asyncio.Event()

    async def behave() -> str:
        await free.wait()
        return "done"

    sample.behave = behave
    async with (
        serving(sample, drain_delay_s=1.5, drain_grace_s=5) as server,
        plain_stub(server) as stub,
    ):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            running = asyncio.ensure_future(
                stub.GetThing(contract()[0].GetThingRequest(thing_id="1"))
            )
            await eventually(lambda: sample.calls == 1)
            # connected: the delay is for the calls alone
            await health.Check(health_pb2.HealthCheckRequest())
            drain = asyncio.create_task(server.drain())
            await asyncio.sleep(0)
            for name in ("", "sample.v1.SampleService"):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            late = asyncio.ensure_future(stub.GetThing(contract()[0].GetThingRequest(thing_id="1")))
            await eventually(lambda: sample.calls == 2)
            free.set()
            assert [(await running).text, (await late).text] == ["done", "done"]
            await drain
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(stub)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_drain_ends_streams_at_once(sample: Sample) -> None:
    """A watch that is open when the drain begins ends as UNAVAILABLE, DRAINING, long before the
    grace; its handler is closed.
    """
    closed = asyncio.Event()

    async def behave() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()
        return ""

    sample.behave = behave
    async with (
        serving(sample, drain_grace_s=30) as server,
        plain_stub(server) as stub,
    ):
        watch = stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"))
        assert (await watch.read()).text == "first"
        await eventually(lambda: sample.calls == 1)
        async with asyncio.timeout(5):
            await server.drain()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(caught.value)["ErrorInfo"].reason == "DRAINING"
        assert closed.is_set()


async def test_a_drain_waits_for_the_finally_of_aborted_calls(sample: Sample) -> None:
    """A call that exceeds the grace is aborted, and the drain returns after the `finally` of its
    handler.
    """
    steps: list[str] = []

    async def behave() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            steps.append("finally")
        return ""

    sample.behave = behave
    async with (
        serving(sample, drain_grace_s=0.1) as server,
        plain_stub(server) as stub,
    ):
        running = asyncio.create_task(unary(stub))
        await eventually(lambda: sample.calls == 1)
        await server.drain()
        steps.append("drained")
        with pytest.raises(grpc.aio.AioRpcError):
            await running
    assert steps == ["finally", "drained"]


async def test_health_watch_does_not_delay_the_drain(sample: Sample) -> None:
    """With an open health watch and no other call, the drain ends long before its grace; the
    watcher receives NOT_SERVING.
    """
    async with serving(sample, drain_grace_s=LONG_GRACE_S) as server, _watched(server) as watch:
        async with asyncio.timeout(SOON_S):
            await server.drain()
            assert (await watch.read()).status == NOT_SERVING


async def test_reflection_stream_does_not_delay_the_drain(sample: Sample) -> None:
    """A client that reads the contracts and keeps the stream open does not delay the drain
    either.
    """
    async with (
        serving(sample, drain_grace_s=LONG_GRACE_S) as server,
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
        serving(sample, drain_grace_s=LONG_GRACE_S) as server,
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
