"""The interceptors around each call of a server: one class for each concern, for unary calls and
streams alike.

    Trace        the span of the call, a child of its caller's; outermost
    Metrics      counts and times, by the code that the caller gets
    Errors       a Failure becomes a status with details; any other error an INTERNAL with an
                 error id; encodes responses
    InFlight     chassis/rpc/in_flight.py: counts the running calls, so that a drain can wait for
                 them, and ends the streams
    Deadline     each call has one; the calls that it causes get the remaining time
    Admission    a bound on calls at once
    Actor        the person or service that the caller claims to act for
    Validation   decodes each message that comes in, and checks the bounds of its contract

chassis/rpc/interceptor.py puts a concern around a handler. The standard services (health,
reflection, channelz) have no interceptors: they must answer when no other service does.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import (
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from functools import cache, partial
from typing import Any, Final

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError, Message

from chassis.observe import telemetry, tracing
from chassis.rpc.interceptor import Context, Handler, Interceptor, Method
from chassis.rpc.status import encode
from chassis.values import actor, deadline, paging
from chassis.values.errors import Defect, Failure, Invalid, OutOfTime, Overloaded, Violation
from chassis.values.message_limits import Limits, OverLimit, limits_of, measured
from chassis.values.texts import normalize_codes
from chassis.values.validation import summary, violations

# The deadline of a call that has none, where deadlines are not required. A stream may last for
# ever.
DEFAULT_DEADLINE_S: Final = 30.0
# Beyond this number of values in its lists, a message is refused with its first violation alone.
ELEMENTS_MAX: Final = 100
LAST_MOMENTS_S: Final = 0.05

_log = structlog.get_logger(__name__)


class Trace(Interceptor):
    """Makes the span of each call, a child of its caller's, and makes it the current one
    meanwhile.
    """

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        with (
            tracing.server_span(method.service, method.name, metadata) as end_span,
            _reporting(context, end_span),
        ):
            yield

    def _many(self, method: Method, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Writes the responses itself: gRPC leaves the generator of a cancelled stream to the
        garbage collector, which closes it where the span is not current.
        """

        async def many(request: Any, context: Context) -> None:
            async with (
                self.around(method, context),
                aclosing(handle(request, context)) as responses,
            ):
                async for response in responses:
                    await context.write(response)

        return many


class Metrics(Interceptor):
    """Counts calls and messages and times calls, by method and by the code that the caller gets."""

    def __init__(self) -> None:
        which = ("grpc_type", "grpc_service", "grpc_method")
        self._families = (
            telemetry.counter("grpc_server_started_total", "Calls that came in", *which),
            telemetry.histogram("grpc_server_handling_seconds", "How long calls took", *which),
            telemetry.counter("grpc_server_msg_received_total", "Messages that came in", *which),
            telemetry.counter("grpc_server_msg_sent_total", "Messages that went out", *which),
        )
        self._handled = telemetry.counter(
            "grpc_server_handled_total", "Calls that ended, by status code", *which, "grpc_code"
        )
        self._of = cache(self._labelled)

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        self._of(method)[0].inc()
        with _reporting(context, partial(self._ended, method, time.monotonic())):
            yield

    def _ended(self, method: Method, begin: float, code: grpc.StatusCode) -> None:
        self._of(method)[1].observe(time.monotonic() - begin)
        self._handled.labels(*method.labels, code.name).inc()

    def received(self, method: Method, message: Any) -> Any:
        self._of(method)[2].inc()
        return message

    def sent(self, method: Method, message: Any) -> Any:
        self._of(method)[3].inc()
        return message

    def _labelled(self, method: Method) -> tuple[Any, ...]:
        """Returns the method's own started, seconds, received and sent. A look-up by labels at each
        call would cost more than the rest.
        """
        return tuple(family.labels(*method.labels) for family in self._families)


class Errors(Interceptor):
    """Turns an exception of a handler into a status. A caller never gets an exception's text.

    Responses are encoded here and not by gRPC, which answers with the exception's text when that
    fails.
    """

    def __init__(self) -> None:
        self._encode: dict[Method, Any] = {}

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        structlog.contextvars.bind_contextvars(rpc=f"{method.service}/{method.name}")
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except Defect as defect:
            await context.abort(*encode(_logged(defect.__cause__ or defect)))
        except Failure as failure:
            _log.debug("call refused or deferred", code=failure.code, reason=failure.reason)
            await context.abort(*encode(failure))
        # the caller gets an id, and the log the whole error
        except Exception as error:  # noqa: BLE001
            await context.abort(*encode(_logged(error)))

    def sent(self, method: Method, message: Any) -> Any:
        return self._encode[method](message)

    def codec(self, method: Method, handler: Handler) -> tuple[Any, Any]:
        self._encode[method] = handler.response_serializer
        return handler.request_deserializer, None


class Deadline(Interceptor):
    """Sets the time that the caller waits, for the calls that this one causes. A call without a
    deadline gets DEFAULT_DEADLINE_S, or is refused if `strict`.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        remaining_s: float | None = context.time_remaining()
        if remaining_s is not None:
            deadline.set_budget(remaining_s)
            yield
        elif self._strict:
            raise Invalid(
                "DEADLINE_REQUIRED", "this server answers only calls that have a deadline"
            )
        elif method.streams:
            yield
        else:
            deadline.set_budget(DEFAULT_DEADLINE_S)
            limit = asyncio.timeout(DEFAULT_DEADLINE_S)
            try:
                async with limit:
                    yield
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise OutOfTime(
                    "DEADLINE_EXCEEDED", f"not done in {DEFAULT_DEADLINE_S:g} s"
                ) from error


class Actor(Interceptor):
    """Reads the claimed actor from the call's metadata (chassis/values/actor.py). Refuses one
    that is malformed or given twice.
    """

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        values = [
            str(value)
            for key, value in context.invocation_metadata() or ()
            if key == actor.METADATA_KEY
        ]
        actor.set_claimed_actor(", ".join(values) if values else None)
        yield


class Admission(Interceptor):
    """Refuses calls over the limit at once: an early refusal is worth more than a late answer.
    Streams have a limit of their own.
    """

    def __init__(self, *, calls_max: int, streams_max: int) -> None:
        self._free = {False: calls_max, True: streams_max}

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        if not self._free[method.streams]:
            raise Overloaded(
                "OVERLOADED", "the server has as many calls as it admits", retry_after_s=0.5
            )
        self._free[method.streams] -= 1
        try:
            yield
        finally:
            self._free[method.streams] += 1


class Validation(Interceptor):
    """Checks each message that comes in against its contract. It is innermost, so that a call that
    is not admitted costs nothing here.

    1. Its size and its counts, on the bytes, up to the first that is too large
      (chassis/values/message_limits.py).
    2. The rules of `buf.validate`. The refusal names every broken one of a message with
      ELEMENTS_MAX elements or fewer, and the first one of a larger message: to find them all would
      delay other calls for too long.

    SKUs and warehouse ids are brought into one form.
    """

    def __init__(self) -> None:
        self._decode: dict[Method, Any] = {}
        self._limits: dict[Method, Limits] = {}

    def codec(self, method: Method, handler: Handler) -> tuple[Any, Any]:
        self._decode[method] = handler.request_deserializer
        pool = descriptor_pool.Default()
        self._limits[method] = limits_of(
            pool.FindMethodByName(f"{method.service}.{method.name}").input_type
        )
        return None, handler.response_serializer

    def received(self, method: Method, message: bytes) -> Message:
        try:
            elements = measured(self._limits[method], message)
            request: Message = self._decode[method](message)
        except OverLimit as over:
            raise _invalid([over.violation]) from None
        except DecodeError:
            raise Invalid(
                "VALIDATION_FAILED",
                "the request is not the protobuf message that this method takes",
            ) from None
        normalize_codes(request)
        if found := violations(request, fail_fast=elements > ELEMENTS_MAX):
            raise _invalid(found)
        return request


def _invalid(found: Sequence[Violation]) -> Invalid:
    """Returns the refusal of a request for these violations; a page_token has a reason of its
    own.
    """
    if {violation.subject for violation in found} == {paging.FIELD}:
        return paging.refused()
    return Invalid("VALIDATION_FAILED", summary(found, "the request"), violations=found)


def _logged(error: BaseException) -> Defect:
    """Writes a defect to the log, with its traceback. The caller gets only the id of that line."""
    defect = Defect(error)
    error_id = defect.metadata["error_id"] = uuid.uuid4().hex
    defect.message = f"a defect of the service: the log has it under error_id {error_id}"
    _log.error("call failed by a defect of the service", error_id=error_id, exc_info=error)
    return defect


@contextmanager
def _reporting(context: Any, ended: Callable[[grpc.StatusCode], None]) -> Iterator[None]:
    """Surrounds a call, and calls `ended` at its end with the code that the caller gets."""
    code = grpc.StatusCode.UNKNOWN
    try:
        yield
        code = context.code() or grpc.StatusCode.OK  # None while no code is set
    except (asyncio.CancelledError, GeneratorExit):
        code = _code_of_cancelled(context)
        raise
    except grpc.aio.AbortError:
        code = context.code() or code
        raise
    finally:
        telemetry.at_end(partial(ended, code))


def _code_of_cancelled(context: Context) -> grpc.StatusCode:
    """Returns the code for a handler that gRPC has cancelled: its deadline has passed, or its
    caller has gone.

    The caller's own timer mostly ends first, by the call's time on the way: the last LAST_MOMENTS_S
    count as the deadline.
    """
    remaining_s: float | None = context.time_remaining()
    if remaining_s is not None and remaining_s < LAST_MOMENTS_S:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
