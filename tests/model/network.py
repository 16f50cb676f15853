"""The streams in memory: every message waits for each consuming service, in no order, until it is
acknowledged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from chassis.consume.delivery import Delivery
from chassis.consume.failed_event_records import digest_of
from chassis.values.decision import Done
from chassis.values.errors import Deferred, Failure, NotFound
from chassis.values.event_subjects import stream_of, subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that a service has not acknowledged yet."""

    service: str
    event_id: UUID
    kind: type[Message]
    payload: bytes
    time: datetime

    def __str__(self) -> str:
        return f"{self.kind.DESCRIPTOR.name} -> {self.service}"


class Network:
    """The consumers of each message, and the waiting messages. `failed` has the failed events with
    their reasons.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._handlers: dict[str, dict[type[Message], Any]] = {}
        self._published = 0
        self.waiting: list[Waiting] = []
        self.failed: list[tuple[Waiting, Failure]] = []
        self.history: list[Waiting] = []

    def subscribe(self, service: str, handlers: dict[type[Message], Any]) -> None:
        """The service consumes these messages from now on."""
        self._handlers[service] = handlers

    def publish(self, aggregate: UUID, message: Message) -> None:
        """Stores the message for each consuming service, as bytes."""
        self._published += 1
        event_id = UUID(int=self._published)
        for service, handlers in self._handlers.items():
            if type(message) in handlers:
                waiting = Waiting(
                    service=service,
                    event_id=event_id,
                    kind=type(message),
                    payload=message.SerializeToString(deterministic=True),
                    time=self._clock(),
                )
                self.waiting.append(waiting)
                self.history.append(waiting)

    async def deliver(self, waiting: Waiting, *, keep: bool = False) -> str:
        """Hands a message to its service, and returns the result. It stays waiting if it was
        deferred, or (`keep`) if its acknowledgement is lost.
        """
        consumer = f"{waiting.service}-{stream_of(subject_of(waiting.kind)).lower()}"
        delivery: Delivery[Any] = Delivery(
            event_id=waiting.event_id,
            key=f"{consumer}:{waiting.event_id}",
            request_hash=digest_of(
                subject_of(waiting.kind), waiting.kind.DESCRIPTOR.full_name, waiting.payload
            ),
            message=waiting.kind.FromString(waiting.payload),
            time=waiting.time,
        )
        [outcome] = await self._handlers[waiting.service][waiting.kind]([delivery])
        if isinstance(outcome, (Deferred, NotFound)):
            return f"deferred: {outcome!r}"
        if isinstance(outcome, Failure):
            self.failed.append((waiting, outcome))
        if not keep and waiting in self.waiting:
            self.waiting.remove(waiting)
        return "done" if isinstance(outcome, Done) else f"failed: {outcome!r}"
