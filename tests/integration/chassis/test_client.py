"""A client over a real channel: it hands deadlines down, retries safe calls, and raises a peer's
failures as the peer raised them.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from chassis.rpc import circuit_breaker, client
from chassis.rpc.circuit_breaker import Breaker
from chassis.rpc.client import ask, connect
from chassis.rpc.server import Limits, Server
from chassis.values import actor, deadline
from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Invalid,
    InvalidField,
    NotFound,
    OutOfTime,
    Overloaded,
    Refused,
    Violation,
)
from chassis.values.request_context import KeyReused
from devstack.ports import free_ports
from tests.integration.chassis.test_server import FAILURES
from tests.rpc.plain import plain_tracebacks
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually

__all__ = ["plain_tracebacks"]  # a fixture of this module


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
    """A stub on the chassis' own channel to the server."""
    services = contract()[0].DESCRIPTOR.services_by_name.values()
    async with connect(f"127.0.0.1:{server.port}", services=services) as channel:
        yield contract()[1].SampleServiceStub(channel)


def _get() -> Any:
    return contract()[0].GetThingRequest(thing_id="1")


def _create() -> Any:
    return contract()[0].CreateThingRequest(request_id="1")


def _watch() -> Any:
    return contract()[0].WatchThingRequest(thing_id="1")


@pytest.mark.parametrize(
    ("failure", "code"), FAILURES, ids=[type(failure).__name__ for failure, _ in FAILURES]
)
async def test_client_raises_the_peers_failure(
    sample: Sample, stub: Any, failure: Failure, code: str
) -> None:
    """`ask` raises the failure that the peer raised: class, reason, message, metadata and
    violations.

    A deferral of the peer is an unavailable dependency, with the peer's reason and retry time. A
    reused key is an Invalid, because only its owner has the key.
    """
    sample.fail(failure)
    with pytest.raises(Failure) as caught:
        await ask(stub.ReleaseReservation, contract()[0].ReleaseReservationRequest(), timeout_s=5)
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


async def test_metadata_may_have_any_name(sample: Sample, stub: Any) -> None:
    """Metadata keys that are names of Failure's own parameters arrive like any others."""
    failure = Refused("ILLEGAL_TRANSITION")
    failure.metadata = {"reason": "a", "message": "b", "violations": "c"}
    sample.fail(failure)
    with pytest.raises(Refused) as caught:
        await ask(stub.KickThing, contract()[0].KickThingRequest())
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


async def test_a_slow_peer_is_deferred(sample: Sample, stub: Any) -> None:
    """A call without an answer in time raises Deferred, and the peer's handler is cancelled."""
    await ask(stub.GetThing, _get())  # connected: only the peer uses the time
    cancelled = sample.hang()
    with pytest.raises(Deferred) as caught:
        await ask(stub.GetThing, _get(), timeout_s=0.5)
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
        method: Any = channel.unary_unary("/sample.v1.SampleService/NotYet")
        with pytest.raises(Deferred):
            await ask(method, b"")


async def test_an_answer_outside_the_contract_is_a_defect(stub: Any, sample: Sample) -> None:
    """A refusal without the chassis' ErrorInfo comes from no peer of this system: it is a defect,
    with the error as its cause.
    """

    async def get(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "who are you?")

    sample.GetThing = get  # type: ignore[method-assign]  # as another server answers
    async with serving(sample) as stranger, connect(f"127.0.0.1:{stranger.port}") as channel:
        with pytest.raises(Defect) as caught:
            await ask(contract()[1].SampleServiceStub(channel).GetThing, _get())
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


async def test_a_cancelled_caller_cancels_the_call(sample: Sample, stub: Any) -> None:
    """The cancelled caller stays cancelled, and the peer's handler is cancelled at once. The call
    is unary or a stream, passes every interceptor, and has a late deadline.
    """

    async def watch() -> None:
        async for _ in stub.WatchThing(_watch()):
            pass

    for call in (lambda: ask(stub.GetThing, _get(), timeout_s=60), watch):
        cancelled = sample.hang()
        task = asyncio.create_task(call())
        await eventually(lambda: sample.calls == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_watch_is_ended_before_its_first_response(sample: Sample, stub: Any) -> None:
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
        call = contract()[1].SampleServiceStub(channel).WatchThing(_watch())
        task = asyncio.create_task(call.read())
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(cancelled.wait(), 5)


async def _left(sample: Sample) -> list[float]:
    """Returns the list to which the peer's handlers append their remaining time, one entry a
    call.
    """
    left: list[float] = []

    async def behave() -> str:
        left.append(deadline.remaining() or -1)
        return ""

    sample.behave = behave
    return left


async def test_every_call_has_a_deadline(sample: Sample, stub: Any) -> None:
    """A call without a given time has 10 s and a stream an hour; with one it has that time."""
    left = await _left(sample)
    await ask(stub.GetThing, _get())
    await stub.GetThing(_get())
    await ask(stub.GetThing, _get(), timeout_s=3)
    async for _ in stub.WatchThing(_watch()):
        pass
    unsaid, bare, said, stream = left
    # gRPC rounds up on the way
    assert (5 < unsaid < 10.2, 5 < bare < 10.2, 0 < said < 3.1) == (True, True, True), left
    assert 3500 < stream < 3700


async def test_call_has_less_time_than_its_caller(sample: Sample, stub: Any) -> None:
    """In a call with 9 s left, an outgoing call has a margin less than that for any longer timeout;
    a shorter timeout stays.
    """
    left = await _left(sample)
    with deadline.within(9):
        await ask(stub.GetThing, _get())
        await ask(stub.GetThing, _get(), timeout_s=60)
        async for _ in stub.WatchThing(_watch()):
            pass
        await ask(stub.GetThing, _get(), timeout_s=3)
    *bounded, short = left
    assert [3 < seconds < 8.98 for seconds in bounded] == [True] * 3
    assert 0 < short < 3.1


async def test_deadline_is_handed_down_through_a_service(sample: Sample, stub: Any) -> None:
    """A call that a service makes while it answers has less time than its own caller gave it: the
    deadline crosses a real server.
    """
    inner = Sample()
    left = await _left(inner)
    async with serving(inner) as behind, connect(f"127.0.0.1:{behind.port}") as channel:
        peer = contract()[1].SampleServiceStub(channel)

        async def behave() -> str:
            return str((await ask(peer.GetThing, _get())).text)

        sample.behave = behave
        await ask(stub.GetThing, _get(), timeout_s=9)
    assert 0 < left[0] < 8.98


async def test_call_without_time_is_not_made(sample: Sample, stub: Any) -> None:
    """With less time left than the margin, the call is not made."""
    with deadline.within(0.04), pytest.raises(Deferred):
        await ask(stub.GetThing, _get())
    assert sample.calls == 0


async def test_confirmations_have_five_seconds(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse's confirmations have 5 s at most, as the contract says; the table applies to
    any method in it.
    """
    service = "/ordermesh.warehouse.v1.ReservationService"
    assert dict(client.TIMEOUTS_S) == {
        f"{service}/ConfirmReservation": 5.0,
        f"{service}/BatchConfirmReservations": 5.0,
    }
    monkeypatch.setattr(client, "TIMEOUTS_S", {"/sample.v1.SampleService/GetThing": 7.0})
    left = await _left(sample)
    async with serving(sample) as server, connect(f"127.0.0.1:{server.port}") as channel:
        await ask(contract()[1].SampleServiceStub(channel).GetThing, _get(), timeout_s=60)
    assert 0 < left[0] < 7.1


@pytest.mark.parametrize(
    ("method", "request_name", "attempts"),
    [
        ("GetThing", "GetThingRequest", 4),
        ("CreateThing", "CreateThingRequest", 4),
        ("KickThing", "KickThingRequest", 1),
        ("ReleaseReservation", "ReleaseReservationRequest", 1),
    ],
)
async def test_only_safe_calls_are_tried_again(
    sample: Sample, stub: Any, method: str, request_name: str, attempts: int
) -> None:
    """After UNAVAILABLE, reads and calls with a request_id are retried. Other calls, and releases,
    are not.
    """
    sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
    request = getattr(contract()[0], request_name)()
    if method == "GetThing":
        request.thing_id = "1"
    with pytest.raises(Deferred):
        await ask(getattr(stub, method), request)
    assert sample.calls == attempts


@pytest.mark.parametrize(
    "failure", [Refused("ILLEGAL_TRANSITION"), Overloaded("OVERLOADED"), Defect(ValueError())]
)
async def test_only_unavailable_is_tried_again(sample: Sample, stub: Any, failure: Failure) -> None:
    """After any code but UNAVAILABLE the call is not retried."""
    sample.fail(failure)
    with pytest.raises(Failure):
        await ask(stub.GetThing, _get())
    assert sample.calls == 1


async def test_a_retry_succeeds(sample: Sample, stub: Any) -> None:
    """A call whose first try gets UNAVAILABLE is answered by the second."""

    async def behave() -> str:
        if sample.calls == 1:
            raise Deferred("DEPENDENCY_UNAVAILABLE")
        return "done"

    sample.behave = behave
    assert (await ask(stub.CreateThing, _create())).text == "done"


def test_default_config_names_every_safe_method() -> None:
    """The default service config names exactly the reads and the methods with a request_id of the
    published contracts.
    """
    config = client.service_config(client._published())
    (method_config,) = config["methodConfig"]
    names = {
        f"{name['service'].rpartition('.')[2]}/{name['method']}" for name in method_config["name"]
    }
    assert {
        "OrderService/CreateOrder",
        "OrderService/GetOrder",
        "OrderService/BatchGetOrders",
        "OrderService/ListOrders",
    } <= names
    assert "ReservationService/ReserveStock" in names
    assert "ReservationService/BatchConfirmReservations" in names
    assert not [name for name in names if "Watch" in name or "Release" in name]
    assert method_config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert config["retryThrottling"]["tokenRatio"] > 0
    json.dumps(config)


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
            await stub.WatchThing(_watch()).read()
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
                    await ask(stub.GetThing, _get())
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
        unread = stub.WatchThing(_watch())
        await eventually(lambda: sample.calls == 1, what="the probe is under way")
        unread.cancel()
        sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
        watch = stub.WatchThing(_watch())
        assert (await watch.read()).text == "first"
        assert breaker.state == "closed"
        with pytest.raises(grpc.aio.AioRpcError):
            await watch.read()
        assert breaker.state == "closed"


async def test_streams_end_and_resume_over_a_drain(sample: Sample) -> None:
    """A reader of a stream on our channel gets the server's drain as UNAVAILABLE."""
    async with (
        serving(sample, limits=Limits(drain_delay_s=0, drain_grace_s=5)) as server,
        connect(f"127.0.0.1:{server.port}") as channel,
    ):
        sample.hang()
        watch = contract()[1].SampleServiceStub(channel).WatchThing(_watch())
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
        await stub.GetThing(_get())
        assert [answer.text async for answer in stub.WatchThing(_watch())] == ["first", ""]


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


async def test_claimed_actor_is_passed_to_the_peer(sample: Sample, stub: Any) -> None:
    """A call made during another call claims that call's actor; outside a call it claims none."""
    seen: list[str | None] = []

    async def behave() -> str:
        seen.append(actor.claimed_actor())
        return ""

    sample.behave = behave
    await ask(stub.GetThing, _get(), timeout_s=5)

    async def answering() -> None:
        actor.set_claimed_actor("staff:7f3a")
        await ask(stub.GetThing, _get(), timeout_s=5)

    await asyncio.create_task(answering())
    assert seen == [None, "staff:7f3a"]
