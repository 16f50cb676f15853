"""To follow what happens, as a client does: the responses of a stream, and events as they are published.

What lives here: listening alone. Who must not miss an event has a consumer of its own (chassis.inbox); who listens here keeps up with
what happens while it happens, and asks by RPC for what it may have missed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis.status import decode
from chassis.stream import BROKER_ERRORS, Broker, subject_of

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")
# What to do with an event of a kind: quickly, and without raising.
Hear = Callable[[Any], None]

RENEW_S = 1.0
log = structlog.get_logger(__name__)


async def responses(
    method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, *, timeout_s: float | None = None
) -> AsyncIterator[Response]:
    """What a method streams, until it ends. Raises a chassis.errors Failure, and never a gRPC error: see `chassis.client.ask`.

    `timeout_s` bounds the whole stream (an hour where unset). Who stops early closes the iterator (contextlib.aclosing).
    """
    call = method(request, timeout=timeout_s)
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise decode(error, request.DESCRIPTOR.file.package) from error
    finally:
        call.cancel()


async def listen(broker: Broker, hear: Mapping[type[Message], Hear], *, renew_s: float = RENEW_S) -> NoReturn:
    """Hears events until it is cancelled: those that are published meanwhile, each as often as it is published.

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
        await asyncio.sleep(renew_s)


async def _subscribe(client: Client, hear: Mapping[type[Message], Hear]) -> None:
    """Subscribes with this client; where it reconnects, it does so again by itself."""
    for event, tell in hear.items():
        await client.subscribe(subject_of(event), cb=_reader(event, tell))
    await client.flush()


def _reader(event: type[Message], tell: Hear) -> Any:
    async def read(message: Msg) -> None:
        try:
            parsed = event.FromString(message.data)
        except DecodeError:
            log.warning("an event that cannot be read", subject=message.subject)
            return
        tell(parsed)

    return read
