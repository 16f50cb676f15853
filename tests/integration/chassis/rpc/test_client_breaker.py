"""The circuit breaker on a client's channel."""

import asyncio
from typing import Any

import grpc
import pytest

from chassis.rpc import circuit_breaker
from chassis.rpc.circuit_breaker import Breaker
from chassis.rpc.client import ask, connect
from chassis.rpc.server import Server
from chassis.values.errors import (
    Defect,
    Deferred,
    Invalid,
    NotFound,
    Refused,
    Violation,
)
from tests.rpc.requests import get_thing, watch_thing
from tests.rpc.sample import Sample, contract, serving
from tests.support import eventually


async def test_every_call_of_a_channel_passes_its_breaker(
    sample: Sample, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a breaker every call of the channel passes it, unary or stream. After consecutive
    failures the peer is not called, and the caller gets DEPENDENCY_UNAVAILABLE with the time of the
    next try.

    Then one successful call closes the breaker.
    """
    now = 0.0
    monkeypatch.setattr(circuit_breaker, "monotonic", lambda: now)
    monkeypatch.setattr(circuit_breaker, "FAILURES_MAX", 3)
    breaker = Breaker("sample", open_s=10.0)
    async with connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel:
        stub = contract()[1].SampleServiceStub(channel)
        sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
        for _ in range(3):
            with pytest.raises(Deferred):
                await ask(stub.KickThing, contract()[0].KickThingRequest())
        assert breaker.state == "open"
        with pytest.raises(Deferred) as caught:
            await ask(stub.KickThing, contract()[0].KickThingRequest())
        assert caught.value.metadata["peer_reason"] == "DEPENDENCY_UNAVAILABLE"
        assert caught.value.retry_after_s == 10.0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.WatchThing(watch_thing()).read()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert sample.calls == 3
        sample.behave = sample.nothing
        now = 10.0
        await ask(stub.KickThing, contract()[0].KickThingRequest())
        assert breaker.state == "closed"


async def test_business_answers_keep_the_breaker_closed(sample: Sample, server: Server) -> None:
    """Twenty refusals count as twenty answers of a working peer."""
    breaker = Breaker("sample")
    async with connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel:
        stub = contract()[1].SampleServiceStub(channel)
        for failure in (
            Refused("ILLEGAL_TRANSITION"),
            NotFound("ORDER_NOT_FOUND"),
            Invalid("VALIDATION_FAILED", violations=[Violation("a", "b")]),
        ):
            sample.fail(failure)
            for _ in range(7):
                with pytest.raises(type(failure)):
                    await ask(stub.GetThing, get_thing())
    assert breaker.state == "closed"


async def test_messages_too_large_keep_the_breaker_closed(
    sample: Sample, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request over its contract's bound is refused; a request or an answer over gRPC's own cap is
    a defect. None counts as an outage.
    """
    monkeypatch.setattr(circuit_breaker, "FAILURES_MAX", 3)
    breaker = Breaker("sample")
    pb = contract()[0]

    async def large() -> str:
        return "x" * (5 << 20)

    sample.behave = large
    async with connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel:
        stub = contract()[1].SampleServiceStub(channel)
        for request, kind in (
            (pb.CreateThingRequest(name="x" * (2 << 20)), Invalid),
            (pb.CreateThingRequest(name="x" * (5 << 20)), Defect),
            (pb.CreateThingRequest(name="x"), Defect),
        ):
            for _ in range(4):
                with pytest.raises(kind):
                    await ask(stub.CreateThing, request)
    assert breaker.state == "closed"


async def test_first_response_of_a_stream_closes_the_breaker(
    sample: Sample, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the half-open state, the first message of a watch closes the breaker while the watch goes
    on, and the watch's end does not count.

    A watch that is cancelled before its first message frees the probe's place.
    """
    now = 0.0
    monkeypatch.setattr(circuit_breaker, "monotonic", lambda: now)
    monkeypatch.setattr(circuit_breaker, "FAILURES_MAX", 1)
    breaker = Breaker("sample", open_s=10.0)
    sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
    async with connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel:
        stub = contract()[1].SampleServiceStub(channel)
        with pytest.raises(Deferred):
            await ask(stub.KickThing, contract()[0].KickThingRequest())
        now = 10.0
        sample.hang()
        unread = stub.WatchThing(watch_thing())
        await eventually(lambda: sample.calls == 1, what="the probe is under way")
        unread.cancel()
        sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
        watch = stub.WatchThing(watch_thing())
        assert (await watch.read()).text == "first"
        assert breaker.state == "closed"
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
        assert breaker.state == "closed"


@pytest.mark.parametrize("method", ["GetThing", "WatchThing"])
async def test_calls_cancelled_on_a_frozen_peer_open_the_breaker(
    sample: Sample, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls and watches that are cancelled after the peer's time-out count as failures, though
    their deadlines are later.
    """

    async def silent(request: Any, context: Any) -> Any:
        await sample.behave()
        yield contract()[0].WatchThingResponse()

    monkeypatch.setattr(circuit_breaker, "PEER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(circuit_breaker, "FAILURES_MAX", 3)
    breaker = Breaker("sample")
    sample.WatchThing = silent  # type: ignore[method-assign]  # it sends no first response
    sample.hang()
    async with (
        serving(sample) as server,
        connect(f"127.0.0.1:{server.port}", breaker=breaker) as channel,
    ):
        ask_peer = getattr(contract()[1].SampleServiceStub(channel), method)
        request = getattr(contract()[0], f"{method}Request")(thing_id="1")
        calls = [ask_peer(request, timeout=30) for _ in range(3)]
        waiting = [
            asyncio.ensure_future(call if method == "GetThing" else call.read()) for call in calls
        ]
        await asyncio.wait(waiting, timeout=0.5)  # longer than the peer's time-out
        assert breaker.state == "closed"
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)
        await eventually(lambda: breaker.state == "open", what="the breaker opens")
