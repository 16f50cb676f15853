"""The client's side of a server stream: its responses, and a watch that resumes after a break."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import deepcopy
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from chassis.rpc.status import decode
from chassis.values.errors import Deferred

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")

AGAIN_S = 0.2
log = structlog.get_logger(__name__)


async def responses(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request
) -> AsyncGenerator[Response, None]:
    """Yields a method's stream of responses, until it ends. Raises a chassis.values.errors Failure,
    and never a gRPC error: see `chassis.rpc.client.ask`.

    It lasts an hour at most. A reader that stops early closes the iterator (contextlib.aclosing).
    """
    call = method(request)
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise decode(error, request.DESCRIPTOR.file.package) from error
    finally:
        call.cancel()


async def watch(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
    request: Request,
    *,
    idle_timeout_s: float,
) -> AsyncGenerator[Response, None]:
    """Yields a Watch method's responses, heartbeats included, until the server ends the watch with
    OK.

    After a break it resumes by resume_token. Raises the Failure that ends it: a refusal at once,
    Deferred when no response has come for `idle_timeout_s` seconds of trying.
    """
    # Every Watch method has a resume_token in its request and in its responses: a rule of the
    # contracts, which no type states.
    resumed: Any = deepcopy(request)
    last_response_time = time.monotonic()
    while True:
        try:
            async with aclosing(responses(method, resumed)) as stream:
                async for response in stream:
                    resumable: Any = response
                    resumed.resume_token, last_response_time = (
                        resumable.resume_token,
                        time.monotonic(),
                    )
                    yield response
            return
        except Deferred as trouble:
            if time.monotonic() - last_response_time > idle_timeout_s:
                raise
            log.debug("watch interrupted", reason=trouble.reason)
        await asyncio.sleep(AGAIN_S)
