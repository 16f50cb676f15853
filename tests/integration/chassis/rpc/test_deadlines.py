"""The deadline of a call at the server: the caller's, the server's own, or a refusal."""

import asyncio
from typing import Any

import grpc
import pytest

from chassis.values import deadline
from tests.rpc.calls import stream, unary
from tests.rpc.failures import details
from tests.rpc.sample import Sample, contract, plain_stub, serving


async def test_strict_deadlines(sample: Sample) -> None:
    """A strict server refuses a call without a deadline, also a stream, and answers one with a
    deadline.
    """
    async with serving(sample, strict_deadlines=True) as server, plain_stub(server) as stub:
        pb, _ = contract()
        for call in (
            stub.GetThing(pb.GetThingRequest(thing_id="1")),
            stub.WatchThing(pb.WatchThingRequest(thing_id="1")).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert details(caught.value)["ErrorInfo"].reason == "DEADLINE_REQUIRED"
        await unary(stub)
        await stream(stub)


async def test_handler_reads_the_callers_deadline(sample: Sample, stub: Any) -> None:
    """A handler reads the remaining time of its caller's deadline, in a stream as well; without a
    deadline it reads a default.
    """
    remaining: list[float | None] = []

    async def behave() -> str:
        remaining.append(deadline.remaining())
        return ""

    sample.behave = behave
    await unary(stub)
    await stream(stub)
    await stub.GetThing(contract()[0].GetThingRequest(thing_id="1"))
    assert remaining[0] is not None
    assert 4 < remaining[0] <= 5.1  # gRPC rounds it up on the way
    assert remaining[1] is not None
    assert 4 < remaining[1] <= 5.1  # gRPC rounds it up on the way
    assert remaining[2] is not None
    assert 29 < remaining[2] <= 30


async def test_call_without_a_deadline_ends_at_the_servers_limit(
    sample: Sample, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without a deadline ends after the server's own limit, as DEADLINE_EXCEEDED, and so
    does its handler.
    """
    monkeypatch.setattr("chassis.rpc.interceptors.DEFAULT_DEADLINE_S", 0.1)
    ended = asyncio.Event()

    async def behave() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    sample.behave = behave
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetThing(contract()[0].GetThingRequest(thing_id="1"))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert details(caught.value)["ErrorInfo"].reason == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(ended.wait(), 5)
