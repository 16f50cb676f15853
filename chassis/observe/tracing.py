"""Spans around RPCs, on both sides: OpenTelemetry's own gRPC interceptors, with what they leave out
put right.

What lives here: a subclass for each interceptor that we use, saying what it puts right, and the two
functions that the server and the client call. Exception texts stay out of spans: they may quote
data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

import grpc
from opentelemetry import trace
from opentelemetry.instrumentation.grpc._aio_client import (
    UnaryStreamAioClientInterceptor,
    UnaryUnaryAioClientInterceptor,
)
from opentelemetry.instrumentation.grpc._aio_server import OpenTelemetryAioServerInterceptor

from chassis.observe import telemetry

_SCOPE: Final = "ordermesh.grpc"
_LAST_MOMENTS_S: Final = 0.05
# By OpenTelemetry's convention these are a server's faults, and its span is an error; for a client
# every code but OK is one.
_SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


def server_interceptor() -> grpc.aio.ServerInterceptor:
    """The outermost interceptor of a server. The standard services (health, reflection,
    channelz) are left out.
    """
    make: Any = _ServerTrace  # its base is untyped
    interceptor: grpc.aio.ServerInterceptor = make(
        trace.get_tracer(_SCOPE), lambda details: not details.method.startswith("/grpc.")
    )
    return interceptor


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """The outermost interceptors of a channel, for unary calls and for streams of responses."""
    kinds: tuple[Any, Any] = (_UnaryTrace, _StreamTrace)  # their bases are untyped
    return [make(trace.get_tracer(_SCOPE)) for make in kinds]


def code_of_cancelled(context: grpc.aio.ServicerContext[Any, Any]) -> grpc.StatusCode:
    """Why gRPC cancelled a handler: its deadline has passed, or its caller went away.

    The caller's own timer mostly comes first, by the time that the call was on its way: the last
    moments count as the deadline.
    """
    left: float | None = context.time_remaining()
    return (
        grpc.StatusCode.DEADLINE_EXCEEDED
        if left is not None and left < _LAST_MOMENTS_S
        else grpc.StatusCode.CANCELLED
    )


class _ServerTrace(OpenTelemetryAioServerInterceptor):
    """Gives the span the status that the call ended with (it stays at OK when a call is
    cancelled or raises), and closes a stream's generator in the task that opened it: left to the
    garbage collector, it is closed in a context where the span is not current.
    """

    def _intercept_aio_server_unary(
        self, behavior: Callable[..., Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._span(handler_call_details.method, context):
                return await behavior(request, context)

        return unary

    def _intercept_aio_server_stream(
        self, behavior: Callable[..., Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            with self._span(handler_call_details.method, context):
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        await context.write(response)

        return stream

    @contextmanager
    def _span(self, path: str, context: Any) -> Iterator[None]:
        """The span of one call, a child of its caller's. The context's code is None until
        somebody sets it.
        """
        service, method = path.lstrip("/").split("/", 1)
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        with (
            self._set_remote_context(context),
            self._tracer.start_as_current_span(
                path,
                kind=trace.SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
        ):
            try:
                yield
            except asyncio.CancelledError:
                _mark(span, code_of_cancelled(context), _SERVER_FAULTS)
                raise
            except Exception:  # whatever ends the call is in its span, and goes on
                _mark(span, context.code() or grpc.StatusCode.UNKNOWN, _SERVER_FAULTS)
                raise
            else:
                _mark(span, context.code() or grpc.StatusCode.OK, _SERVER_FAULTS)


class _UnaryTrace(UnaryUnaryAioClientInterceptor):
    """Hands a cancellation on to the call (else the server works on until the deadline), and
    ends the span whatever happens.
    """

    async def _wrap_unary_response(
        self, continuation: Callable[[], Awaitable[Any]], span: trace.Span
    ) -> Any:
        call = None
        with _ending(span):
            try:
                call = await continuation()
                _mark(span, await call.code())
            except asyncio.CancelledError:
                if call is not None:
                    call.cancel()
                raise
            return call


class _StreamTrace(UnaryStreamAioClientInterceptor):
    """Ends the span also of a stream that was refused before it began, cancelled, or left before
    its end; hands that on to the call.
    """

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        start: Callable[..., Any] = self._start_interceptor_span
        with start(client_call_details.method) as span:
            try:
                call = await continuation(
                    self.propagate_trace_in_details(client_call_details), request
                )
            except BaseException:  # a cancellation too: nobody would end the span later
                with _ending(span):
                    raise
        return self._responses(call, span)

    async def _responses(self, call: Any, span: trace.Span) -> AsyncIterator[Any]:
        with _ending(span):
            try:
                async for response in call:
                    yield response
                _mark(span, grpc.StatusCode.OK)
            finally:
                # gRPC by itself does not tell the server when the first response is still awaited
                call.cancel()


@contextmanager
def _ending(span: trace.Span) -> Iterator[None]:
    """Ends a client's span with what comes out of the block; a stream that its reader leaves
    counts as cancelled.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        _mark(span, error.code())
        raise
    except (asyncio.CancelledError, GeneratorExit):
        _mark(span, grpc.StatusCode.CANCELLED)
        raise
    except Exception as error:  # whatever it is, the span has its kind, and it goes on
        span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        telemetry.at_end(span.end)


def _mark(span: trace.Span, code: grpc.StatusCode, faults: frozenset[str] | None = None) -> None:
    """Writes the call's status into its span: an error for the codes in `faults`, or for every
    code but OK.
    """
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code.name in faults if faults is not None else code is not grpc.StatusCode.OK:
        span.set_status(trace.Status(trace.StatusCode.ERROR, code.name))
