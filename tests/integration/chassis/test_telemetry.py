"""Telemetry of a process's calls: spans from end to end with their status, metrics by code, and the
addresses where they are read.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chassis.observe import telemetry
from chassis.rpc import client
from chassis.rpc.client import ask, connect
from chassis.rpc.server import Server
from chassis.values.errors import Deferred, Refused
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.rpc.spans import named, recorded
from tests.support import eventually, measured


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that end in this test."""
    with recorded() as exporter:
        yield exporter


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
    async with connect(f"127.0.0.1:{server.port}", services=()) as channel:
        yield contract()[1].SampleServiceStub(channel)


def _get() -> Any:
    return contract()[0].GetThingRequest(thing_id="1")


async def _unary(stub: Any, timeout_s: float = 5) -> None:
    await stub.GetThing(_get(), timeout=timeout_s)


async def _stream(stub: Any, timeout_s: float = 5) -> None:
    async for _ in stub.WatchThing(
        contract()[0].WatchThingRequest(thing_id="1"), timeout=timeout_s
    ):
        pass


BOTH_WAYS = pytest.mark.parametrize(
    ("call", "name"), [(_unary, "GetThing"), (_stream, "WatchThing")]
)


async def _pair(spans: InMemorySpanExporter, name: str) -> tuple[ReadableSpan, ReadableSpan]:
    """Returns the client's and the server's span of the one call to `name`, once both have
    ended.
    """

    def both() -> tuple[ReadableSpan, ReadableSpan] | None:
        client, server = named(spans, name, SpanKind.CLIENT), named(spans, name, SpanKind.SERVER)
        return (client[0], server[0]) if len(client) == len(server) == 1 else None

    pair: tuple[ReadableSpan, ReadableSpan] = await eventually(both)
    return pair


def _outcome(span: ReadableSpan) -> tuple[int, StatusCode]:
    attributes = span.attributes or {}
    code = attributes["rpc.grpc.status_code"]
    assert isinstance(code, int)
    return code, span.status.status_code


@BOTH_WAYS
async def test_a_trace_goes_from_end_to_end(
    sample: Sample, stub: Any, spans: InMemorySpanExporter, call: Any, name: str
) -> None:
    """The client, the server, and the server's own calls are one trace, each span the child of the
    one before.
    """
    async with (
        serving(Sample()) as behind,
        connect(f"127.0.0.1:{behind.port}", services=()) as channel,
    ):
        peer = contract()[1].SampleServiceStub(channel)

        async def behave() -> str:
            await ask(peer.KickThing, contract()[0].KickThingRequest())
            return telemetry.traceparent() or ""

        sample.behave = behave
        await call(stub)
    client, server = await _pair(spans, name)
    inner_client, inner_server = await _pair(spans, "KickThing")
    chain = [client, server, inner_client, inner_server]
    assert len({span.context.trace_id for span in chain}) == 1
    for parent, child in pairwise(chain):
        assert child.parent is not None
        assert child.parent.span_id == parent.context.span_id
    assert [_outcome(span) for span in chain] == [(0, StatusCode.UNSET)] * 4


@BOTH_WAYS
@pytest.mark.parametrize(
    ("error", "code", "server_status"),
    [
        (Refused("ILLEGAL_TRANSITION"), 9, StatusCode.UNSET),
        (Deferred("CONTENTION"), 14, StatusCode.ERROR),
        (ValueError("Jane Doe"), 13, StatusCode.ERROR),
    ],
)
async def test_spans_have_the_calls_status(
    sample: Sample,
    stub: Any,
    spans: InMemorySpanExporter,
    call: Any,
    name: str,
    error: Exception,
    code: int,
    server_status: StatusCode,
) -> None:
    """Both spans have the code that the client got. A refusal is no error of the server; a defect
    is, and its text is in no span.
    """
    sample.fail(error)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(stub)
    client, server = await _pair(spans, name)
    assert _outcome(client) == (code, StatusCode.ERROR)
    assert _outcome(server) == (code, server_status)
    assert "Jane" not in client.to_json() + server.to_json()


@BOTH_WAYS
async def test_a_cancelled_call_ends_both_spans(
    sample: Sample, stub: Any, spans: InMemorySpanExporter, call: Any, name: str
) -> None:
    """The caller's cancellation reaches the server at once, and both spans end as CANCELLED."""
    cancelled = sample.hang()
    task = asyncio.create_task(call(stub, 60))
    await eventually(lambda: sample.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cancelled.wait(), 5)
    client, server = await _pair(spans, name)
    assert _outcome(client) == (1, StatusCode.ERROR)
    assert _outcome(server) == (1, StatusCode.UNSET)


@BOTH_WAYS
async def test_tracing_alone_passes_a_cancellation(
    sample: Sample, server: Server, spans: InMemorySpanExporter, call: Any, name: str
) -> None:
    """Without the chassis' other interceptors a cancellation reaches the server at once too, and
    both spans end.
    """
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{server.port}", interceptors=client._interceptors(client._traced)
    ) as channel:
        cancelled = sample.hang()
        task = asyncio.create_task(call(contract()[1].SampleServiceStub(channel), 60))
        await eventually(lambda: sample.calls == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(cancelled.wait(), 5)
        outer, _ = await _pair(spans, name)
    assert _outcome(outer) == (1, StatusCode.ERROR)


@BOTH_WAYS
async def test_call_beyond_its_deadline_is_late_in_both_spans(
    sample: Sample, stub: Any, spans: InMemorySpanExporter, call: Any, name: str
) -> None:
    """A call that exceeds its deadline is DEADLINE_EXCEEDED in both spans."""
    sample.hang()
    with pytest.raises(grpc.aio.AioRpcError):
        await call(stub, 0.2)
    client, server = await _pair(spans, name)
    assert _outcome(client) == (4, StatusCode.ERROR)
    assert _outcome(server) == (4, StatusCode.ERROR)


async def test_cancelled_stream_ends_its_span(
    sample: Sample, stub: Any, spans: InMemorySpanExporter
) -> None:
    """A reader that cancels a watch after its first message leaves no open span on either side."""
    sample.hang()
    watch = stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"))
    await watch.read()
    await eventually(lambda: sample.calls == 1)
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch.read()
    client, server = await _pair(spans, "WatchThing")
    assert (_outcome(client)[0], _outcome(server)[0]) == (1, 1)


async def test_stream_cancelled_while_sending_leaves_its_context(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream whose caller goes away while the server waits to send ends its span in the task
    that began it; OpenTelemetry logs an error where another task does.
    """

    class Flood(Sample):
        async def WatchThing(self, request: Any, context: Any) -> AsyncIterator[Any]:
            while True:
                self.calls += 1
                yield contract()[0].WatchThingResponse(text="x" * 1_000_000)

    sample = Flood()

    async def sends_no_more() -> bool:
        sent = sample.calls
        await asyncio.sleep(0.1)
        return 0 < sent == sample.calls

    async with serving(sample) as server, plain_stub(server) as stub:
        watch = stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"))
        await watch.read()
        while not await sends_no_more():
            pass
        watch.cancel()
        await eventually(lambda: named(spans, "WatchThing", SpanKind.SERVER))
    gc.collect()
    await asyncio.sleep(0)
    assert "Failed to detach context" not in caplog.text


async def test_consumer_span_has_the_trace_of_its_events(spans: InMemorySpanExporter) -> None:
    """The span of one event is a child of the event's trace; a batch's is a root with a link to
    each. Without a trace it is a root without links.

    An error is in the span's status by its type, without its text.
    """
    parents = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]
    with telemetry.consuming("orders.order.status_changed", parents[:1]):
        inside = telemetry.traceparent()
    with telemetry.consuming("orders.order.status_changed", parents):
        pass
    with (
        pytest.raises(ValueError, match="Jane"),
        telemetry.consuming("orders.order.status_changed", [None]),
    ):
        raise ValueError("Jane")
    one, batch, none = named(spans, "process orders.order.status_changed", SpanKind.CONSUMER)
    assert one.parent is not None
    assert one.parent.trace_id == 1
    assert inside is not None
    assert inside.startswith(f"00-{1:032x}-")
    assert batch.parent is None
    assert [link.context.trace_id for link in batch.links] == [1, 2]
    assert none.parent is None
    assert not none.links
    assert (none.status.status_code, none.status.description) == (StatusCode.ERROR, "ValueError")
    assert "Jane" not in none.to_json()
    assert telemetry.traceparent() is None


@pytest.mark.parametrize(
    ("call", "name", "kind", "sent"),
    [(_unary, "GetThing", "unary", (1, 0)), (_stream, "WatchThing", "server_stream", (2, 1))],
)
async def test_calls_are_counted_by_code(
    sample: Sample, stub: Any, call: Any, name: str, kind: str, sent: tuple[int, int]
) -> None:
    """Both sides count each call once: its start, its code, its time and its messages."""
    which = {"grpc_type": kind, "grpc_service": "sample.v1.SampleService", "grpc_method": name}
    counted = [
        *[(f"grpc_{side}_started_total", which) for side in ("server", "client")],
        *[(f"grpc_{side}_handling_seconds_count", which) for side in ("server", "client")],
        *[
            (f"grpc_{side}_handled_total", which | {"grpc_code": code})
            for side in ("server", "client")
            for code in ("OK", "INTERNAL")
        ],
        *[(f"grpc_server_msg_{way}_total", which) for way in ("received", "sent")],
    ]

    def since(before: Sequence[float]) -> list[float]:
        return [
            measured(name, **labels) - early
            for (name, labels), early in zip(counted, before, strict=True)
        ]

    before, expected = since([0.0] * len(counted)), [2, 2, 2, 2, 1, 1, 1, 1, 2, sum(sent)]
    await call(stub)
    sample.fail(ValueError())
    with pytest.raises(grpc.aio.AioRpcError):
        await call(stub)
    # The caller can have its status before the server has counted it.
    await eventually(
        lambda: all(now >= enough for now, enough in zip(since(before), expected, strict=True))
    )
    assert since(before) == expected


@BOTH_WAYS
@pytest.mark.parametrize(("late", "code"), [(True, "DEADLINE_EXCEEDED"), (False, "CANCELLED")])
async def test_unfinished_calls_are_counted(
    sample: Sample, stub: Any, call: Any, name: str, late: bool, code: str
) -> None:
    """Calls that exceed their deadline and calls whose caller cancels have different codes, on both
    sides.
    """
    kind = "unary" if call is _unary else "server_stream"
    which = {
        "grpc_type": kind,
        "grpc_service": "sample.v1.SampleService",
        "grpc_method": name,
        "grpc_code": code,
    }
    # streams that other tests have left are counted now instead of during this count
    gc.collect()
    before = [measured(f"grpc_{side}_handled_total", **which) for side in ("server", "client")]
    sample.hang()
    task = asyncio.create_task(call(stub, 0.2 if late else 60))
    await eventually(lambda: sample.calls == 1)
    if not late:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    def one_more() -> bool:
        assert [
            measured(f"grpc_{side}_handled_total", **which) for side in ("server", "client")
        ] == [early + 1 for early in before]
        return True

    await eventually(one_more)


def test_metrics_are_served_and_stop() -> None:
    """The process's metrics are served at their address until the end; an address in use is named
    in the error.
    """
    telemetry.counter("sample_things_total", "Things", "colour").labels("red").inc(3)
    with telemetry.serve_metrics("127.0.0.1:0") as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert 'sample_things_total{colour="red"} 3.0' in text
        assert "process_resident_memory_bytes" in text
        with (
            pytest.raises(OSError, match=f"METRICS_ADDRESS 127.0.0.1:{port} cannot be listened on"),
            telemetry.serve_metrics(f"127.0.0.1:{port}"),
        ):
            pass
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_silent_client_does_not_block_the_metrics(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client connects and sends nothing. Other clients are answered meanwhile, and the server
    closes the silent connection after a while, without a log line.

    A silent client at the end does not delay it.
    """
    monkeypatch.setattr(telemetry._Scrape, "timeout", 1.0)
    with (
        telemetry.serve_metrics("127.0.0.1:0") as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as silent,
    ):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert answer.status == 200
        assert silent.recv(1) == b"", "the server has closed the connection"
        monkeypatch.setattr(telemetry._Scrape, "timeout", 60)
        late = socket.create_connection(("127.0.0.1", port), timeout=5)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    late.close()
    assert capfd.readouterr().err == ""


SPANS = """
import logging, sys, time
from opentelemetry import trace
from chassis.observe import telemetry
telemetry.configure_log("sample")
begin = time.monotonic()
with telemetry.tracing("sample"):
    with trace.get_tracer("t").start_as_current_span("s") as span:
        print(span.is_recording(), span.get_span_context().is_valid, telemetry.traceparent())
print(time.monotonic() - begin)
print(*sorted(sys.modules))
"""


def _spans(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SPANS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout.splitlines()


def test_spans_without_an_endpoint_are_not_exported() -> None:
    """Without the standard variable spans have ids and no exporter is loaded; a caller's trace is
    still handed down.
    """
    first, _, modules = _spans()
    recording, valid, parent = first.split()
    assert (recording, valid) == ("False", "True")
    sampled = int(parent.rpartition("-")[2], 16) & 1
    assert not sampled
    assert "opentelemetry.exporter.otlp.proto.grpc.trace_exporter" not in modules


async def test_spans_are_exported_to_the_configured_endpoint() -> None:
    """With OTEL_EXPORTER_OTLP_ENDPOINT the spans arrive at a collector under the service's name."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    arrived: list[Any] = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:
            arrived.append(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.aio.server()
    register = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(Collector(), collector)  # type: ignore[no-untyped-call]  # generated without types
    port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    try:
        first, *_ = await asyncio.to_thread(
            _spans, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}"
        )
    finally:
        await collector.stop(None)
    assert first.startswith("True True")
    (resource,) = arrived[0].resource_spans
    names = {
        attribute.key: attribute.value.string_value for attribute in resource.resource.attributes
    }
    assert names["service.name"] == "ordermesh-sample"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["s"]


def test_absent_collector_does_not_delay_the_end() -> None:
    """Without a server at the endpoint the process ends all the same, after a bounded wait."""
    _, seconds, _ = _spans(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="30"
    )
    assert float(seconds) < telemetry.FLUSH_S + 10  # includes the modules that it loads
