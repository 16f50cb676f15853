"""Calls to a peer: a channel on which each call has a deadline, safe calls are retried, and a
circuit breaker refuses calls to an absent peer.

This module has channels and their interceptors, outermost first: trace, metrics, deadline, breaker.
It imports nothing of the server's side, so that command lines and simulators can import it alone.

    channel = connect("127.0.0.1:15052", breaker=Breaker("warehouse"))
    answer = await ask(ReservationServiceStub(channel).ReserveStock, request, timeout_s=2)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from chassis.observe import telemetry, tracing
from chassis.rpc.circuit_breaker import Attempt, Breaker, Open
from chassis.rpc.retries import published_services, service_config
from chassis.rpc.status import decode, encode
from chassis.values import actor, deadline
from chassis.values.errors import Deferred, Refused
from chassis.write import in_write

Request = TypeVar("Request")
Response = TypeVar("Response")
Channel = grpc.aio.Channel  # peers use this name and import no gRPC
Details = grpc.aio.ClientCallDetails

# By the kind of the call. Streams (watches) stay open; their readers resume when they end.
DEFAULT_TIMEOUTS_S: Final = {"unary": 10.0, "server_stream": 3_600.0}
# Methods whose caller waits no longer than this (full paths).
TIMEOUTS_S: Final[Mapping[str, float]] = {
    "/ordermesh.warehouse.v1.ReservationService/ConfirmReservation": 5.0,
    "/ordermesh.warehouse.v1.ReservationService/BatchConfirmReservations": 5.0,
}

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # After an outage the channel reconnects within a second, and not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Detects a connection that broke without a sign; chassis/rpc/server.py permits these pings.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", 4 << 20),
)


def connect(
    address: str,
    *,
    breaker: Breaker | None = None,
    services: Iterable[ServiceDescriptor] | None = None,
) -> Channel:
    """Returns a channel to `address` (host:port, or a gRPC target such as dns:///name:port). It
    connects at the first call, and again when needed.

    With a `breaker`, every call of the channel passes it. `services` are those whose safe methods
    are retried: by default all that the project publishes.
    """
    interceptors = [*_interceptors(_traced), *_interceptors(_Metrics().around)]
    interceptors += _interceptors(_handing_down)
    if breaker:
        interceptors += [_Unary(partial(_guarded, breaker)), _StreamBreaker(breaker)]
    config = service_config(published_services() if services is None else services)
    options = [("grpc.service_config", json.dumps(config)), *OPTIONS]
    return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)


async def ask(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    *,
    timeout_s: float | None = None,
) -> Response:
    """Returns the peer's answer. Raises a chassis.values.errors Failure, and never a gRPC error.

    A refusal comes as the peer raised it. A peer that is out of reach, too slow or behind an open
    breaker is Deferred, DEPENDENCY_UNAVAILABLE. The call takes `timeout_s` at most (by default 10
    s), less when the own caller's deadline is earlier. Inside a write it is a RuntimeError: rows
    would stay locked until the peer answers.
    """
    in_write.refuse_inside("call of a peer")
    try:
        return await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise decode(error, _peer(request)) from error


def halves(refused: Refused, size: int) -> int:
    """Returns where to cut a batch of so many records in two, whose answer was too large; 0 where
    it was refused for another reason.
    """
    return size // 2 if refused.reason == "ANSWER_TOO_LARGE" else 0


async def pages(
    method: Any,
    request: Any,
    field: str,
    *,
    size: int,
    limit: int = 0,
    timeout_s: float | None = None,
) -> AsyncGenerator[Sequence[Any], None]:
    """Yields the records of a List method page by page; the answers have them as `field`. It yields
    `limit` records in all at most, 0: as many as there are.

    Afterwards the request's page_token names the rest, if there is one. Each page is requested, and
    fails, as by `ask`.
    """
    remaining = limit
    while True:
        request.page_size = min(size, remaining) if limit else size
        answer: Any = await ask(method, request, timeout_s=timeout_s)
        records = getattr(answer, field)
        remaining -= len(records)
        request.page_token = answer.next_page_token
        yield records
        if not request.page_token or (limit and remaining <= 0):
            return


# --- interceptors for one concern of a call, which may change the call's details

Around = Callable[[str, Details], AbstractContextManager[Details]]


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Details, request: Any
    ) -> Any:
        with self._around("unary", client_call_details) as details:
            call = await continuation(details, request)
            await call  # raises its error
            return call


class _Stream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Details, request: Any
    ) -> Any:
        with ExitStack() as stack:
            details = stack.enter_context(self._around("server_stream", client_call_details))
            call = await continuation(details, request)
            # Without this gRPC does not cancel a call whose first response is still awaited.
            stack.callback(call.cancel)
            return _until_end(call, stack.pop_all())


def _interceptors(around: Around) -> list[grpc.aio.ClientInterceptor]:
    """Returns the interceptors that put a concern around unary calls and around streams of
    responses.
    """
    return [_Unary(around), _Stream(around)]


@contextmanager
def _reporting(ended: Callable[[grpc.StatusCode], None]) -> Iterator[None]:
    """Surrounds a call, and calls `ended` at its end with the code that came back. A stream that
    its reader leaves counts as cancelled.
    """
    code = grpc.StatusCode.UNKNOWN
    try:
        yield
        code = grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        code = error.code()
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED
        raise
    finally:
        telemetry.at_end(partial(ended, code))


@contextmanager
def _traced(_kind: str, details: Details) -> Iterator[Details]:
    """Makes the span of the call, and sends it along."""
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    with _reporting(tracing.client_span(*_service_and_method(details), metadata)):
        yield _replaced(details, metadata, details.timeout)


class _Metrics:
    """Counts and times calls, by method and by the code that came back."""

    def __init__(self) -> None:
        which = ("grpc_type", "grpc_service", "grpc_method")
        self._started = telemetry.counter(
            "grpc_client_started_total", "Calls that were made", *which
        )
        self._handled = telemetry.counter(
            "grpc_client_handled_total", "Calls that ended, by status code", *which, "grpc_code"
        )
        self._seconds = telemetry.histogram(
            "grpc_client_handling_seconds", "How long calls took", *which
        )

    @contextmanager
    def around(self, kind: str, details: Details) -> Iterator[Details]:
        method = (kind, *_service_and_method(details))
        self._started.labels(*method).inc()
        with _reporting(partial(self._ended, method, time.monotonic())):
            yield details

    def _ended(self, method: Sequence[str], begin: float, code: grpc.StatusCode) -> None:
        self._seconds.labels(*method).observe(time.monotonic() - begin)
        self._handled.labels(*method, code.name).inc()


@contextmanager
def _handing_down(kind: str, details: Details) -> Iterator[Details]:
    """Adds the claimed actor and the deadline to the call: the time-out that was requested (else
    the default). The method's own bound, and the remaining time of the own caller less a margin,
    limit it.
    """
    timeout_s = DEFAULT_TIMEOUTS_S[kind] if details.timeout is None else details.timeout
    timeout_s = min(timeout_s, TIMEOUTS_S.get(_path(details), timeout_s))
    remaining_s = deadline.remaining()
    if remaining_s is not None:
        timeout_s = min(timeout_s, remaining_s - deadline.margin(remaining_s))
    if timeout_s <= 0:
        raise _status(grpc.StatusCode.DEADLINE_EXCEEDED, "no time is left for this call")
    metadata = details.metadata
    if claimed := actor.claimed_actor():
        metadata = grpc.aio.Metadata(*(metadata or ()), (actor.METADATA_KEY, claimed))
    yield _replaced(details, metadata, timeout_s)


# --- breaker: innermost, so that it has the call's final time-out


@contextmanager
def _guarded(breaker: Breaker, _kind: str, details: Details) -> Iterator[Details]:
    try:
        with breaker.attempt(details.timeout):
            yield details
    except Open as refusal:
        raise _refused(breaker, refusal) from None


class _StreamBreaker(grpc.aio.UnaryStreamClientInterceptor):
    """Reports a stream to the breaker by its first response, which proves that the peer answers.
    The end of the stream, much later, is no evidence.
    """

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Details, request: Any
    ) -> Any:
        try:
            attempt = self._breaker.admit(client_call_details.timeout)
        except Open as refusal:
            raise _refused(self._breaker, refusal) from None
        try:
            call = await continuation(client_call_details, request)
        except BaseException:  # a cancellation too: else the breaker stays half-open
            attempt.over()
            raise
        call.add_done_callback(partial(_ended, attempt))
        return _proving(call, attempt)


def _ended(attempt: Attempt, call: Any) -> None:
    """Ends the attempt of a stream. Cancelled before its first response, the stream may have waited
    for longer than the peer's time-out.
    """
    if call.cancelled():
        attempt.cancelled()
    attempt.over()


async def _proving(call: Any, attempt: Attempt) -> AsyncIterator[Any]:
    """Yields the call's responses; the first settles the attempt."""
    try:
        async for response in call:
            attempt.succeeded()
            yield response
    except grpc.aio.AioRpcError as error:
        attempt.failed(error)
        raise


def _refused(breaker: Breaker, refusal: Open) -> grpc.aio.AioRpcError:
    """Returns the error of a call that an open breaker refuses: the same status that a server would
    send.
    """
    text = f"{breaker.name} has not answered lately, and gets no calls for the moment"
    code, message, trailing = encode(
        Deferred(
            "DEPENDENCY_UNAVAILABLE", text, retry_after_s=refusal.retry_after_s, peer=breaker.name
        )
    )
    return _status(code, message, trailing)


# --- shared by the interceptors


async def _until_end(call: Any, around: ExitStack) -> AsyncIterator[Any]:
    """Yields the call's responses, with `around` around them all."""
    with around:
        async for response in call:
            yield response


def _status(
    code: grpc.StatusCode, message: str, trailing: Iterable[tuple[str, bytes]] = ()
) -> grpc.aio.AioRpcError:
    """Returns an error as gRPC would raise it, for a call that was never made."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), message)


def _replaced(
    details: Details, metadata: grpc.aio.Metadata | None, timeout_s: float | None
) -> Details:
    return Details(
        method=details.method,
        timeout=timeout_s,
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def _path(details: Details) -> str:
    """Returns the method's full path; gRPC passes bytes to interceptors, contrary to its types."""
    method: Any = details.method
    path: str = method.decode() if isinstance(method, bytes) else method
    return path


def _service_and_method(details: Details) -> tuple[str, str]:
    service, _, method = _path(details).lstrip("/").partition("/")
    return service, method


def _peer(request: Any) -> str:
    """Returns the full name of the service that has a method for the request."""
    name: str = next(
        service.full_name
        for service in request.DESCRIPTOR.file.services_by_name.values()
        if any(method.input_type == request.DESCRIPTOR for method in service.methods)
    )
    return name
