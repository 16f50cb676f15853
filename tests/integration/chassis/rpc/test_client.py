"""A client over a real channel: it raises a peer's failures as the peer raised them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from chassis.rpc.client import ask, connect
from chassis.rpc.server import Server
from chassis.values import actor
from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Invalid,
    InvalidField,
    OutOfTime,
    Overloaded,
    Refused,
)
from chassis.values.request_context import KeyReused
from devstack.ports import free_ports
from tests.rpc.failures import FAILURES
from tests.rpc.requests import get_thing, watch_thing
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually


@pytest.mark.parametrize(
    ("failure", "code"), FAILURES, ids=[type(failure).__name__ for failure, _ in FAILURES]
)
async def test_client_raises_the_peers_failure(
    sample: Sample, sample_stub: Any, failure: Failure, code: str
) -> None:
    """`ask` raises the failure that the peer raised: class, reason, message, metadata and
    violations.

    A deferral of the peer is an unavailable dependency, with the peer's reason and retry time. A
    reused key is an Invalid, because only its owner has the key.
    """
    sample.fail(failure)
    with pytest.raises(Failure) as caught:
        await ask(
            sample_stub.ReleaseReservation, contract()[0].ReleaseReservationRequest(), timeout_s=5
        )
    got = caught.value
    as_received = {OutOfTime: Deferred, KeyReused: Invalid, InvalidField: Invalid}
    assert type(got) is as_received.get(type(failure), type(failure))
    if isinstance(failure, Deferred):
        assert isinstance(got, Deferred)
        assert got.retry_after_s == failure.retry_after_s
        assert got.metadata["peer"] == "sample.v1.SampleService"
        assert isinstance(failure, Overloaded) or got.metadata["peer_reason"] == failure.reason
    if isinstance(failure, (Deferred, Defect)):
        return
    assert (got.reason, got.message) == (failure.reason, failure.message or failure.reason)
    assert (got.metadata, got.violations) == (failure.metadata, failure.violations)


async def test_metadata_may_have_any_name(sample: Sample, sample_stub: Any) -> None:
    """Metadata keys that are names of Failure's own parameters arrive like any others."""
    failure = Refused("ILLEGAL_TRANSITION")
    failure.metadata = {"reason": "a", "message": "b", "violations": "c"}
    sample.fail(failure)
    with pytest.raises(Refused) as caught:
        await ask(sample_stub.KickThing, contract()[0].KickThingRequest())
    assert caught.value.metadata == failure.metadata


async def test_an_absent_peer_is_deferred() -> None:
    """A call to an address without a server raises Deferred, DEPENDENCY_UNAVAILABLE, instead of a
    gRPC error.
    """
    async with connect("127.0.0.1:1") as channel:
        stub = contract()[1].SampleServiceStub(channel)
        with pytest.raises(Deferred) as caught:
            await ask(stub.KickThing, contract()[0].KickThingRequest())
    assert (caught.value.reason, caught.value.metadata["peer_code"]) == (
        "DEPENDENCY_UNAVAILABLE",
        "UNAVAILABLE",
    )


async def test_a_slow_peer_is_deferred(sample: Sample, sample_stub: Any) -> None:
    """A call without an answer in time raises Deferred, and the peer's handler is cancelled."""
    await ask(sample_stub.GetThing, get_thing())  # connected: only the peer uses the time
    cancelled = sample.hang()
    with pytest.raises(Deferred) as caught:
        await ask(sample_stub.GetThing, get_thing(), timeout_s=0.5)
    assert (caught.value.reason, caught.value.metadata["peer_code"]) == (
        "DEPENDENCY_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
    )
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_an_unknown_method_is_deferred(server: Server) -> None:
    """A peer of an older version lacks the method: the call is deferred, because services restart
    in any order.
    """
    async with connect(f"127.0.0.1:{server.port}") as channel:
        method: Any = channel.unary_unary(
            "/sample.v1.SampleService/NotYet",
            request_serializer=type(get_thing()).SerializeToString,
        )
        with pytest.raises(Deferred):
            await ask(method, get_thing())


async def test_an_answer_outside_the_contract_is_a_defect(sample_stub: Any, sample: Sample) -> None:
    """A refusal without the chassis' ErrorInfo comes from no peer of this system: it is a defect,
    with the error as its cause.
    """

    async def get(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "not yours")

    sample.GetThing = get  # type: ignore[method-assign]  # as another server answers
    async with serving(sample) as stranger, connect(f"127.0.0.1:{stranger.port}") as channel:
        with pytest.raises(Defect) as caught:
            await ask(contract()[1].SampleServiceStub(channel).GetThing, get_thing())
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_a_cancelled_caller_cancels_the_call(sample: Sample, sample_stub: Any) -> None:
    """The cancelled caller stays cancelled, and the peer's handler is cancelled at once. The call
    is unary or a stream, passes every interceptor, and has a late deadline.
    """

    async def watch() -> None:
        async for _ in sample_stub.WatchThing(watch_thing()):
            pass

    for call in (lambda: ask(sample_stub.GetThing, get_thing(), timeout_s=60), watch):
        cancelled = sample.hang()
        task = asyncio.create_task(call())
        await eventually(lambda: sample.calls == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_watch_is_ended_before_its_first_response(sample: Sample, sample_stub: Any) -> None:
    """A watch is cancelled while it waits for its first response: it ends at the peer at once, also
    while a reference to the call exists.
    """
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        yield contract()[0].WatchThingResponse()

    sample.WatchThing = watch  # type: ignore[method-assign]  # it sends no response
    async with serving(sample) as server, connect(f"127.0.0.1:{server.port}") as channel:
        call = contract()[1].SampleServiceStub(channel).WatchThing(watch_thing())
        task = asyncio.create_task(call.read())
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_the_channel_comes_back_within_a_second(sample: Sample) -> None:
    """After an outage the same channel reaches the peer again at once, without gRPC's long
    back-off.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    async with connect(address) as channel:
        stub = contract()[1].SampleServiceStub(channel)
        for _ in range(5):
            with pytest.raises(Deferred):
                await ask(stub.KickThing, contract()[0].KickThingRequest())

        async def answered() -> bool:
            with suppress(Deferred):
                await ask(stub.KickThing, contract()[0].KickThingRequest())
                return True
            return False

        async with serving(sample, address):
            await eventually(answered, timeout_s=5)


async def test_streams_end_and_resume_over_a_drain(sample: Sample) -> None:
    """A reader of a stream on our channel gets the server's drain as UNAVAILABLE."""
    async with (
        serving(sample, drain_grace_s=5) as server,
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        sample.hang()
        watch = contract()[1].SampleServiceStub(channel).WatchThing(watch_thing())
        assert (await watch.read()).text == "first"
        await server.drain()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_plain_grpc_client_is_answered(sample: Sample, server: Server) -> None:
    """The same server answers a client that uses none of the chassis' code: the protocol has no
    private part.
    """
    async with plain_stub(server) as stub:
        await stub.GetThing(get_thing())
        assert [answer.text async for answer in stub.WatchThing(watch_thing())] == ["first", ""]


def test_import_of_the_client_loads_no_server() -> None:
    """The import of the client loads no module of the server's side, so that command lines start
    fast.
    """
    code = "import sys, chassis.rpc.client; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "chassis.rpc.client" in modules
    assert not {
        "chassis.rpc.server",
        "chassis.rpc.interceptors",
        "chassis.write.database",
        "protovalidate",
        "sqlalchemy",
    } & set(modules)


async def test_claimed_actor_is_passed_to_the_peer(sample: Sample, sample_stub: Any) -> None:
    """A call made during another call claims that call's actor; outside a call it claims none."""
    seen: list[str | None] = []

    async def behave() -> str:
        seen.append(actor.claimed_actor())
        return ""

    sample.behave = behave
    await ask(sample_stub.GetThing, get_thing(), timeout_s=5)

    async def answering() -> None:
        actor.set_claimed_actor("staff:7f3a")
        await ask(sample_stub.GetThing, get_thing(), timeout_s=5)

    await asyncio.create_task(answering())
    assert seen == [None, "staff:7f3a"]
