"""A server over a real channel: the status of every failure as a client sees it, and the drain."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from chassis.rpc.server import Limits, Server
from chassis.values import deadline
from chassis.values.actor import claimed_actor
from chassis.values.errors import (
    Defect,
    Deferred,
    Denied,
    Exists,
    Failure,
    Invalid,
    InvalidField,
    NotFound,
    OutOfRange,
    OutOfTime,
    Overloaded,
    Refused,
    Stale,
    Unauthenticated,
    Violation,
)
from chassis.values.request_context import KeyReused
from tests.rpc.plain import plain_tracebacks
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually

VIOLATION = Violation("SKU-1", "requested 3, sellable 1", "STOCK")
# Every kind of failure, and the code that a client gets for it.
FAILURES: list[tuple[Failure, str]] = [
    (
        Refused("INSUFFICIENT_STOCK", "not enough", violations=[VIOLATION], sku="SKU-1"),
        "FAILED_PRECONDITION",
    ),
    (Invalid("VALIDATION_FAILED", "bad", violations=[VIOLATION]), "INVALID_ARGUMENT"),
    (KeyReused("/sample.v1.SampleService/DoThing:1"), "INVALID_ARGUMENT"),
    (InvalidField("VALIDATION_FAILED", "bad", violations=[VIOLATION]), "INVALID_ARGUMENT"),
    (NotFound("ORDER_NOT_FOUND", "no such order", order_id="1"), "NOT_FOUND"),
    (Exists("PAYMENT_ALREADY_EXISTS", payment_id="2"), "ALREADY_EXISTS"),
    (Stale(expected="1", actual="2"), "ABORTED"),
    (OutOfRange("WATCH_TOKEN_EXPIRED"), "OUT_OF_RANGE"),
    (Denied("INTERNAL"), "PERMISSION_DENIED"),
    (Unauthenticated("WEBHOOK_SIGNATURE_INVALID"), "UNAUTHENTICATED"),
    (Defect(ValueError("secret")), "INTERNAL"),
    (Deferred("DEPENDENCY_UNAVAILABLE", retry_after_s=2.5), "UNAVAILABLE"),
    (Overloaded("OVERLOADED", retry_after_s=0.25), "RESOURCE_EXHAUSTED"),
    (OutOfTime("DEADLINE_EXCEEDED"), "DEADLINE_EXCEEDED"),
]

__all__ = ["plain_tracebacks"]  # a fixture of this module


def _kinds() -> set[type[Failure]]:
    """Returns all subclasses of Failure that the chassis defines, without those that only a client
    raises.
    """
    found, open_ = set(), [Failure]
    while open_:
        kinds = open_.pop().__subclasses__()
        found.update(kinds)
        open_ += kinds
    return {kind for kind in found if kind.__module__.startswith("chassis.")}


def _details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Returns the details of a status, by the name of their type."""
    status = Status.FromString(error.trailing_metadata()["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = {}
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, PreconditionFailure, RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found


async def _unary(stub: Any) -> None:
    await stub.GetThing(contract()[0].GetThingRequest(thing_id="1"), timeout=5)


async def _stream(stub: Any) -> None:
    async for _ in stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"), timeout=5):
        pass


async def _collect(stub: Any) -> None:
    await stub.CollectThings([contract()[0].CollectThingsRequest(thing_id="1")], timeout=5)


async def _echo(stub: Any) -> None:
    async for _ in stub.EchoThings([contract()[0].EchoThingsRequest(thing_id="1")], timeout=5):
        pass


EVERY_WAY = pytest.mark.parametrize("call", [_unary, _stream, _collect, _echo])


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


def _raw(method: Any) -> Any:
    """Returns a method that sends bytes unchanged, which its types do not declare."""
    return method


async def test_table_of_failures_is_whole() -> None:
    """The table has every kind of failure."""
    assert {type(failure) for failure, _ in FAILURES} == _kinds()


@EVERY_WAY
@pytest.mark.parametrize(
    ("failure", "code"), FAILURES, ids=[type(failure).__name__ for failure, _ in FAILURES]
)
async def test_each_failure_has_its_status(
    sample: Sample, stub: Any, call: Any, failure: Failure, code: str
) -> None:
    """For every failure that a handler raises, unary or streaming, the client gets its code and one
    ErrorInfo of the system's domain with reason and metadata.

    A wrong request has BadRequest, other violations have PreconditionFailure, and a deferral has
    RetryInfo.
    """
    sample.fail(failure)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub)
    assert caught.value.code().name == code
    details = _details(caught.value)
    info = details.pop("ErrorInfo")
    assert (info.domain, info.reason) == ("ordermesh", failure.reason)
    if isinstance(failure, Defect):
        assert set(info.metadata) == {"error_id"}
    else:
        assert dict(info.metadata) == failure.metadata
    if failure.violations and isinstance(failure, Invalid):
        (field,) = details.pop("BadRequest").field_violations
        assert (field.field, field.description, field.reason) == (
            "SKU-1",
            "requested 3, sellable 1",
            "STOCK",
        )
    elif failure.violations:
        (broken,) = details.pop("PreconditionFailure").violations
        assert (broken.subject, broken.description, broken.type) == (
            "SKU-1",
            "requested 3, sellable 1",
            "STOCK",
        )
    if isinstance(failure, Deferred):
        assert (
            details.pop("RetryInfo").retry_delay.ToTimedelta().total_seconds()
            == failure.retry_after_s
        )
    assert not details


@EVERY_WAY
async def test_text_of_an_exception_is_only_logged(sample: Sample, stub: Any, call: Any) -> None:
    """An exception that is no Failure is INTERNAL with an error id; its text is in the log beside
    that id and nowhere else.
    """
    sample.fail(ValueError("customer Jane Doe"))
    with capture_logs() as log, pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(stub)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    sent = str(caught.value) + str(caught.value.trailing_metadata())
    assert "Jane" not in sent
    assert "ValueError" not in sent
    error_id = _details(caught.value)["ErrorInfo"].metadata["error_id"]
    (line,) = [line for line in log if line.get("error_id") == error_id]
    assert str(line["exc_info"]) == "customer Jane Doe"


async def test_request_that_is_no_message_is_refused(server: Server) -> None:
    """Bytes that are not the method's request are INVALID_ARGUMENT, instead of gRPC's UNKNOWN with
    a parser's text.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _raw(channel.unary_unary("/sample.v1.SampleService/GetThing"))(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert _details(caught.value)["ErrorInfo"].reason == "VALIDATION_FAILED"


async def test_a_wrong_answer_is_a_defect(sample: Sample) -> None:
    """A handler that answers with an object that is no message has a defect: INTERNAL, without
    Python text in the message.
    """

    async def get(request: Any, context: Any) -> Any:
        return "just a text"

    sample.GetThing = get  # type: ignore[method-assign]  # the defect in question
    async with serving(sample) as server, plain_stub(server) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _unary(stub)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "error_id" in str(caught.value)
    assert "str" not in str(caught.value.details())


async def test_each_bad_field_is_named(stub: Any) -> None:
    """A request that breaks several bounds is refused once, with the path of every field as a
    caller would write it, and its bound.
    """
    pb, _ = contract()
    request = pb.GetThingRequest(
        parts=[pb.Part(name="ok", quantity=1), pb.Part(name="much too long")],
        places={"top": pb.Part(name="a")},
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetThing(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = _details(caught.value)
    assert details["ErrorInfo"].reason == "VALIDATION_FAILED"
    named = {
        violation.field: violation.description
        for violation in details["BadRequest"].field_violations
    }
    assert set(named) == {
        "thing_id",
        "parts[1].name",
        "parts[1].quantity",
        "places['top'].quantity",
    }
    assert "8" in named["parts[1].name"]


@pytest.mark.parametrize("streams_answers", [False, True])
async def test_each_message_of_a_request_stream_is_validated(
    sample: Sample, stub: Any, streams_answers: bool
) -> None:
    """The second message of a request stream breaks its bound: the call ends with the field's
    name.
    """
    pb, _ = contract()
    if streams_answers:
        call = stub.EchoThings(
            [pb.EchoThingsRequest(thing_id="1"), pb.EchoThingsRequest()], timeout=5
        )
        assert await call.read()
        ended = call.read()
    else:
        ended = stub.CollectThings(
            [pb.CollectThingsRequest(thing_id="1"), pb.CollectThingsRequest()], timeout=5
        )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ended
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [
        violation.field for violation in _details(caught.value)["BadRequest"].field_violations
    ] == ["thing_id"]


async def test_a_status_fits_into_any_clients_limits(sample: Sample, stub: Any) -> None:
    """With 500 violations the client still gets the status within its limit of 8 KiB: as many
    violations as fit, and their total.
    """
    violations = [
        Violation(
            f"Größe {number:03} \N{SNOWMAN}", "requested 1000, sellable 0", "INSUFFICIENT_STOCK"
        )
        for number in range(500)
    ]
    sample.fail(
        Refused("INSUFFICIENT_STOCK", "not enough of " + "\N{SNOWMAN}" * 400, violations=violations)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _unary(stub)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    details = _details(caught.value)
    assert details["ErrorInfo"].metadata["violations_total"] == "500"
    assert 30 < len(details["PreconditionFailure"].violations) < 500


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
            assert _details(caught.value)["ErrorInfo"].reason == "DEADLINE_REQUIRED"
        await _unary(stub)
        await _stream(stub)


async def test_handler_reads_the_callers_deadline(sample: Sample, stub: Any) -> None:
    """A handler reads the remaining time of its caller's deadline, in a stream as well; without a
    deadline it reads a default.
    """
    left: list[float | None] = []

    async def behave() -> str:
        left.append(deadline.remaining())
        return ""

    sample.behave = behave
    await _unary(stub)
    await _stream(stub)
    await stub.GetThing(contract()[0].GetThingRequest(thing_id="1"))
    assert left[0] is not None
    assert 4 < left[0] <= 5.1  # gRPC rounds it up on the way
    assert left[1] is not None
    assert 4 < left[1] <= 5.1  # gRPC rounds it up on the way
    assert left[2] is not None
    assert 29 < left[2] <= 30


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
    assert _details(caught.value)["ErrorInfo"].reason == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("call", [_unary, _stream])
async def test_call_over_the_limit_is_refused(sample: Sample, call: Any) -> None:
    """The call over the limit is refused at once with RetryInfo, and admitted after another has
    ended. Streams and unary calls have separate places.
    """
    limits = Limits(calls_max=2, streams_max=2, drain_delay_s=0, drain_grace_s=2)
    free = asyncio.Event()

    async def behave() -> str:
        await free.wait()
        return ""

    sample.behave = behave
    async with serving(sample, limits=limits) as server, plain_stub(server) as stub:
        running = [asyncio.create_task(call(stub)) for _ in range(2)]
        await eventually(lambda: sample.calls == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(stub)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = _details(caught.value)
        assert details["ErrorInfo"].reason == "OVERLOADED"
        assert details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() > 0
        other = asyncio.create_task((_stream if call is _unary else _unary)(stub))
        await eventually(lambda: sample.calls == 3)
        free.set()
        await asyncio.gather(*running, other)
        await call(stub)


async def test_cancelled_call_frees_its_place(sample: Sample) -> None:
    """A client that disconnects frees its place: the handler is cancelled, and the next call is
    admitted.
    """
    limits = Limits(calls_max=1, streams_max=1, drain_delay_s=0, drain_grace_s=2)
    cancelled = asyncio.Event()

    async def behave() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    async with serving(sample, limits=limits) as server, plain_stub(server) as stub:
        for call in (_unary, _stream):
            sample.behave, sample.calls = behave, 0
            cancelled.clear()
            task = asyncio.create_task(call(stub))
            await eventually(lambda: sample.calls == 1)
            task.cancel()
            await asyncio.wait_for(cancelled.wait(), 5)
            sample.behave = sample.nothing
            await call(stub)


async def test_unread_stream_is_closed_in_its_own_task(sample: Sample) -> None:
    """A watch whose reader stops reading and then disconnects is closed in its own task. The
    garbage collector would close it in another context.
    """
    tasks: list[asyncio.Task[Any] | None] = []
    closed = asyncio.Event()

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        tasks.append(asyncio.current_task())
        try:
            while True:
                sample.calls += 1
                yield contract()[0].WatchThingResponse(text="x" * 100_000)
        finally:
            tasks.append(asyncio.current_task())
            closed.set()

    # more than a client accepts without reading
    sample.WatchThing = watch  # type: ignore[method-assign]
    async with serving(sample) as server, plain_stub(server) as stub:
        call = stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"))
        await call.read()
        await _no_longer(lambda: sample.calls)
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)
    assert tasks[0] is tasks[1]


async def _no_longer(count: Callable[[], int]) -> None:
    """Waits until `count` has not changed for a while."""
    seen, since = count(), time.monotonic()

    def stands_still() -> bool:
        nonlocal seen, since
        if count() != seen:
            seen, since = count(), time.monotonic()
        return time.monotonic() - since > 0.2

    await eventually(stands_still)


async def test_taken_port_is_named_in_the_error(server: Server, sample: Sample) -> None:
    """A second server on the address does not share it silently: it fails, and names the address
    and its variable.
    """
    with pytest.raises(
        OSError, match=f"LISTEN_ADDRESS 127.0.0.1:{server.port} cannot be listened on"
    ):
        async with serving(sample, f"127.0.0.1:{server.port}"):
            pass


async def test_health_and_reflection(server: Server) -> None:
    """Health answers for the process and for each service, also to callers without a deadline;
    reflection answers under both its names.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "sample.v1.SampleService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for version in ("v1", "v1alpha"):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            requests = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(
                    file_containing_symbol="sample.v1.SampleService"
                ),
            ]
            names, file = [answer async for answer in ask(iter(requests))]
            listed = {service.name for service in names.list_services_response.service}
            assert listed == {
                "sample.v1.SampleService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1alpha.ServerReflection",
            }
            assert file.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off(sample: Sample) -> None:
    """With reflection off no caller can read the contracts."""
    async with (
        serving(sample, reflect=False) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        ask = _raw(
            channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(iter([b""])).read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_channelz_lists_servers(sample: Sample) -> None:
    """With channelz on, a client can list the process's servers."""
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    async with (
        serving(sample, channelz=True) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        answer = await channelz_pb2_grpc.ChannelzStub(channel).GetServers(
            channelz_pb2.GetServersRequest()
        )
    assert answer.server


async def test_a_drain_loses_no_call(sample: Sample) -> None:
    """While a server drains, health answers NOT_SERVING, calls are still answered for the delay,
    and a running call is finished.
    """
    limits = Limits(drain_delay_s=1.5, drain_grace_s=5)
    free = asyncio.Event()

    async def behave() -> str:
        await free.wait()
        return "done"

    sample.behave = behave
    async with serving(sample, limits=limits) as server, plain_stub(server) as stub:
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
            await _unary(stub)
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
        serving(sample, limits=Limits(drain_delay_s=0, drain_grace_s=30)) as server,
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
        assert _details(caught.value)["ErrorInfo"].reason == "DRAINING"
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
        serving(sample, limits=Limits(drain_delay_s=0, drain_grace_s=0.1)) as server,
        plain_stub(server) as stub,
    ):
        running = asyncio.create_task(_unary(stub))
        await eventually(lambda: sample.calls == 1)
        await server.drain()
        steps.append("drained")
        with pytest.raises(grpc.aio.AioRpcError):
            await running
    assert steps == ["finally", "drained"]


async def test_claimed_actor_reaches_the_handler(sample: Sample) -> None:
    """A handler reads the call's own claimed actor, from the metadata ordermesh-actor; a call
    without one has none.
    """
    seen: list[str | None] = []

    async def behave() -> str:
        seen.append(claimed_actor())
        return ""

    sample.behave = behave
    async with serving(sample) as server, plain_stub(server) as stub:
        request = contract()[0].GetThingRequest(thing_id="1")
        for metadata in (
            [("ordermesh-actor", "staff:7f3a")],
            [],
            [("ordermesh-actor", "customer:A-b_c.9")],
        ):
            await stub.GetThing(request, timeout=5, metadata=metadata)
    assert seen == ["staff:7f3a", None, "customer:A-b_c.9"]


@pytest.mark.parametrize(
    "values",
    [
        ["anna"],
        ["admin:anna"],
        ["staff:"],
        ["staff:" + "a" * 65],
        ["staff:anna b"],
        ["staff:a@b.de"],
        ["staff:a", "staff:b"],
    ],
)
async def test_malformed_actor_is_refused(sample: Sample, values: list[str]) -> None:
    """A claimed actor that breaks the pattern, or comes twice, is VALIDATION_FAILED and names the
    metadata key; no handler runs.
    """
    async with serving(sample) as server, plain_stub(server) as stub:
        metadata = [("ordermesh-actor", value) for value in values]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetThing(
                contract()[0].GetThingRequest(thing_id="1"), timeout=5, metadata=metadata
            )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = _details(caught.value)
    assert details["ErrorInfo"].reason == "VALIDATION_FAILED"
    assert [violation.field for violation in details["BadRequest"].field_violations] == [
        "ordermesh-actor"
    ]
    assert sample.calls == 0
