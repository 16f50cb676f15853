"""Events as the services publish them, for a client that keeps no position in the stream.

A client that must not miss an event has a consumer of its own (chassis.consume.inbox). A subscriber
gets the events that are published while it is connected, and asks by RPC for the changes that it
may have missed.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import structlog
from google.protobuf.message import Message
from nats.aio.msg import Msg

from chassis.broker.event_payload import decode_event
from chassis.broker.stream import BROKER_ERRORS, Broker, raise_swallowed_cancellation
from chassis.values.errors import Invalid
from chassis.values.event_subjects import subject_of

# Handles an event of one type. It returns quickly and never raises.
EventCallback = Callable[[Any], None]

RENEW_S = 1.0
log = structlog.get_logger(__name__)


async def subscribe(broker: Broker, callbacks: Mapping[type[Message], EventCallback]) -> NoReturn:
    """Calls back for each event that is published, at each publication, until it is cancelled.

    Events that are published while the broker is away are lost to this subscriber.
    """
    generation = -1
    while True:
        if generation != broker.generation:
            try:
                for event, callback in callbacks.items():
                    # the client subscribes again after each reconnection
                    await broker.client.subscribe(
                        subject_of(event), cb=partial(_call_back, event, callback)
                    )
            except BROKER_ERRORS as error:
                log.debug("not subscribed yet", error=repr(error))
            else:
                generation = broker.generation
        raise_swallowed_cancellation()
        await asyncio.sleep(RENEW_S)


async def _call_back(event: type[Message], callback: EventCallback, message: Msg) -> None:
    """Calls back with the event of a message; ignores a message that is no such event."""
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
    callback(parsed)
