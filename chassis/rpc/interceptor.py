"""An interceptor of a server: puts one concern around the handlers of all methods.

Handlers are coroutines, or async generators where they stream. The concerns are in
chassis/rpc/interceptors.py and chassis/rpc/in_flight.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import grpc

# In quotes: they are generic only for the type checker.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Method:
    """The method of a call. `kind` is unary, client_stream, server_stream or bidi_stream."""

    service: str
    name: str
    kind: str

    @property
    def labels(self) -> tuple[str, str, str]:
        """The labels of its metrics."""
        return self.kind, self.service, self.name

    @property
    def streams(self) -> bool:
        """Whether it answers with a stream."""
        return self.kind in ("server_stream", "bidi_stream")


# By whether requests and whether responses are streams: the kind of the method, the handler's
# function that answers it, and gRPC's constructor of such a handler.
KINDS: Final[Mapping[tuple[bool, bool], tuple[str, str, Callable[..., Handler]]]] = {
    (False, False): ("unary", "unary_unary", grpc.unary_unary_rpc_method_handler),
    (True, False): ("client_stream", "stream_unary", grpc.stream_unary_rpc_method_handler),
    (False, True): ("server_stream", "unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, True): ("bidi_stream", "stream_stream", grpc.stream_stream_rpc_method_handler),
}


class Interceptor(grpc.aio.ServerInterceptor):
    """A concern around each call: a subclass overrides the hooks that it needs. An instance belongs
    to one server.
    """

    @cached_property
    def _wrapped(self) -> dict[str, Handler]:
        """The handlers that it has wrapped, by the path of their method."""
        return {}

    def around(self, method: Method, context: Context) -> AbstractAsyncContextManager[None]:
        """Surrounds a call, from before its request is read until its last response is handed
        over.
        """
        return nullcontext()

    def received(self, method: Method, message: Any) -> Any:
        """Returns a message that comes in, checked or changed."""
        return message

    def sent(self, method: Method, message: Any) -> Any:
        """Returns a message that goes out, checked or changed."""
        return message

    def responses(self, stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Returns the stream of a call's responses, checked or changed."""
        return stream

    def codec(self, method: Method, handler: Handler) -> tuple[Any, Any]:
        """Returns gRPC's decoder of requests and encoder of responses; None for bytes as they
        are.
        """
        return handler.request_deserializer, handler.response_serializer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Puts the concern around a method's handler, once: handlers do not depend on the call."""
        path = handler_call_details.method
        if path not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None or path.startswith("/grpc."):
                return handler
            self._wrapped[path] = self._wrap(path, handler)
        return self._wrapped[path]

    def _wrap(self, path: str, handler: Any) -> Handler:
        """Returns the handler with this concern around it."""
        service, name = path.lstrip("/").split("/", 1)
        kind, handle, make = KINDS[handler.request_streaming, handler.response_streaming]
        method = Method(service, name, kind)
        around = self._many if method.streams else self._one
        return make(around(method, getattr(handler, handle)), *self.codec(method, handler))

    def _one(self, method: Method, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a handler that answers once."""

        async def one(request: Any, context: Context) -> Any:
            async with self.around(method, context):
                return self.sent(method, await handle(self._request(method, request), context))

        return one

    def _many(self, method: Method, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a handler that answers with a stream. Its generator is closed here, in its own
        task, at every end of the call.
        """

        async def many(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self.around(method, context):
                stream = handle(self._request(method, request), context)
                async with aclosing(stream), aclosing(self.responses(stream)) as responses:
                    async for response in responses:
                        yield self.sent(method, response)

        return many

    def _request(self, method: Method, request: Any) -> Any:
        """Returns the request, or the stream of them, passed through `received`."""
        if method.kind not in ("client_stream", "bidi_stream"):
            return self.received(method, request)

        async def requests() -> AsyncIterator[Any]:
            async for message in request:
                yield self.received(method, message)

        return requests()
