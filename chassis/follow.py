"""To follow what happens, as a client does: the responses of a stream, and events as they are
published.

What lives here: listening alone. Who must not miss an event has a consumer of its own
(chassis.inbox); who listens here keeps up with what happens while it happens, and asks by RPC for
what it may have missed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.errors import Deferred, Invalid
from chassis.event_payload import decode_event
from chassis.status import decode
from chassis.stream import BROKER_ERRORS, Broker, heed_cancellation, subject_of

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


# What to do with an event of a kind: quickly, and without raising.
Hear = Callable[[Any], None]

RENEW_S = 1.0
AGAIN_S = 0.2
log = structlog.get_logger(__name__)


async def responses(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
    request: Request,
    *,
    timeout_s: float | None = None,
) -> AsyncGenerator[Response, None]:
    """What a method streams, until it ends. Raises a chassis.errors Failure, and never a gRPC
    error: see `chassis.client.ask`.

    `timeout_s` bounds the whole stream (an hour where unset). Who stops early closes the iterator
    (contextlib.aclosing).
    """
    call = method(request, timeout=timeout_s)
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
    patience_s: float,
) -> AsyncGenerator[Response, None]:
    """A Watch method's responses, heartbeats included, until the server ends the watch with OK.

    After a breach it goes on where it was, by resume_token. Raises the Failure that ends it: a
    refusal at once, Deferred when nothing has come for `patience_s` seconds of trying.
    """
    # Every Watch method has a resume_token in its request and in its responses: a rule of the
    # contracts, which no type says.
    asked: Any = type(request)()
    asked.CopyFrom(request)
    heard = time.monotonic()
    while True:
        try:
            async with aclosing(responses(method, asked)) as stream:
                async for response in stream:
                    told: Any = response
                    asked.resume_token, heard = told.resume_token, time.monotonic()
                    yield response
            return
        except Deferred as trouble:
            if time.monotonic() - heard > patience_s:
                raise
            log.debug("watch broken off", reason=trouble.reason)
        await asyncio.sleep(AGAIN_S)


async def listen(
    broker: Broker, hear: Mapping[type[Message], Hear], *, renew_s: float = RENEW_S
) -> NoReturn:
    """Hears events until it is cancelled: those that are published meanwhile, each as often as it
    is published.

    While the broker is away nothing is heard, and what was published then is not made up for.
    """
    generation = -1
    while True:
        if generation != broker.generation:
            try:
                await _subscribe(broker.client, hear)
            except BROKER_ERRORS as error:
                log.debug("nothing is heard yet", error=repr(error))
            else:
                generation = broker.generation
        heed_cancellation()
        await asyncio.sleep(renew_s)


async def _subscribe(client: Client, hear: Mapping[type[Message], Hear]) -> None:
    """Subscribes with this client; where it reconnects, it does so again by itself."""
    for event, tell in hear.items():
        await client.subscribe(subject_of(event), cb=_reader(event, tell))
    await client.flush()


def _reader(event: type[Message], tell: Hear) -> Any:
    async def on_message(message: Msg) -> None:
        try:
            parsed = decode_event(
                event, (message.headers or {}).get("ce-type", ""), message.subject, message.data
            )
        except Invalid as unreadable:
            log.warning(
                "event ignored",
                subject=message.subject,
                reason=unreadable.reason,
                error=unreadable.message,
            )
            return
        tell(parsed)

    return on_message
