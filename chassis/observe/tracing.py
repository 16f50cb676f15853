"""The span of an RPC, on either side.

The interceptors call these functions: chassis/rpc/interceptors.py on the server's side,
chassis/rpc/client.py on the client's. A span has no exception's text: the text may quote data.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import grpc
from opentelemetry import context, propagate, trace

# The codes that make a span an error. By OpenTelemetry's convention these are a server's faults;
# for a client it is every code but OK.
FAULTS: Final = {
    trace.SpanKind.SERVER: frozenset(
        {
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DATA_LOSS,
        }
    ),
    trace.SpanKind.CLIENT: frozenset(grpc.StatusCode) - {grpc.StatusCode.OK},
}

EndSpan = Callable[[grpc.StatusCode], None]


@contextmanager
def server_span(service: str, method: str, metadata: Mapping[str, Any]) -> Iterator[EndSpan]:
    """Starts the span of a call that came with `metadata`, a child of its caller's, and makes it
    the current one meanwhile. Yields the function that ends it with the code of the call.
    """
    caller = propagate.extract(metadata)
    span = _started(trace.SpanKind.SERVER, service, method, caller)
    current = context.attach(trace.set_span_in_context(span, caller))
    try:
        yield partial(_end, trace.SpanKind.SERVER, span)
    finally:
        context.detach(current)


def client_span(service: str, method: str, metadata: grpc.aio.Metadata) -> EndSpan:
    """Starts the span of a call to a peer, a child of the current one, and adds it to the
    `metadata` of the call. Returns the function that ends it with the code of the call.
    """
    span = _started(trace.SpanKind.CLIENT, service, method, context.get_current())
    propagate.inject(metadata, trace.set_span_in_context(span))
    return partial(_end, trace.SpanKind.CLIENT, span)


def _started(
    kind: trace.SpanKind, service: str, method: str, parent: context.Context
) -> trace.Span:
    return trace.get_tracer("ordermesh.grpc").start_span(
        f"/{service}/{method}",
        context=parent,
        kind=kind,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )


def _end(kind: trace.SpanKind, span: trace.Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in FAULTS[kind]:
        span.set_status(trace.Status(trace.StatusCode.ERROR, code.name))
    span.end()
