"""An event as it arrives, and as a handler gets it: from message to Delivery, pure. Nothing is
acknowledged or stored here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from google.protobuf.message import Message
from nats.aio.msg import Msg

from chassis.broker.event_payload import parse_event, wrong_type
from chassis.consume.failed_events import FailedEvent, digest_of
from chassis.values.errors import Defect, Deferred, Failure, Invalid
from chassis.values.event_subjects import subject_of
from chassis.write.tables import FailedState

M = TypeVar("M", bound=Message)

TEXT_MAX = 2000


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """An event as a handler gets it.

    key           the idempotency key, `<consumer>:<event_id>`
    request_hash  chassis.consume.failed_events.digest_of: one event id with another type is
                  another body
    time          when the event was published
    """

    event_id: UUID
    key: str
    request_hash: bytes
    message: M
    time: datetime

    @property
    def cause(self) -> str:
        """What a command that comes of it names as its cause."""
        return str(self.event_id)


@dataclass(slots=True)
class Received:
    """A message in hand: what it says, whom it is for, and how it stands. Without a delivery it
    cannot be read, and `fault` says why.
    """

    event: FailedEvent
    kind: type[Message] | None = None
    delivery: Delivery[Any] | None = None
    fault: Failure | None = None
    raw: Msg | None = None
    state: FailedState | None = None  # as it stands in failed_events
    settled: bool = False


def receive(raw: Msg, consumer: str, kinds: Mapping[str, type[Message]]) -> Received:
    """What a message of the stream is. `kinds` are the messages that there are handlers for, by
    their full names.
    """
    place = raw.metadata
    event = described(
        consumer,
        place.stream,
        place.sequence.stream,
        raw.subject,
        raw.headers or {},
        raw.data,
        place.timestamp,
        place.num_delivered,
    )
    received = understand(event, kinds)
    received.raw = raw
    return received


def described(
    consumer: str,
    stream: str,
    seq: int,
    subject: str,
    headers: Mapping[str, str],
    payload: bytes,
    time: datetime,
    attempts: int,
) -> FailedEvent:
    """A message as a row of failed events, whatever its headers: what went wrong is still to be
    said. `time` is the stream's.
    """
    fallback = uuid5(NAMESPACE_URL, f"{stream}/{seq}")
    subject, kind = storable(subject), storable(headers.get("ce-type", ""))
    return FailedEvent(
        consumer=consumer,
        event_id=_uuid(headers.get("ce-id") or headers.get("Nats-Msg-Id") or "") or fallback,
        digest=digest_of(subject, kind, payload),
        state=FailedState.FAILED,
        stream=stream,
        stream_seq=seq,
        subject=subject,
        type=kind,
        aggregate=storable(headers.get("ce-subject", "")),
        payload=payload,
        traceparent=storable(headers["traceparent"]) if "traceparent" in headers else None,
        event_time=_time(headers.get("ce-time", "")) or time,
        reason="",
        error="",
        attempts=attempts,
    )


def understand(event: FailedEvent, kinds: Mapping[str, type[Message]]) -> Received:
    """The same, of an event that was stored."""
    kind = kinds.get(event.type)
    if kind is None:
        return Received(event, fault=_unhandled(event, kinds))
    try:
        message = parse_event(kind, event.subject, event.payload)
    except Invalid as fault:
        return Received(event, fault=fault)
    except Exception as error:  # noqa: BLE001  # a defect of our own concerns this event alone
        return Received(event, fault=Defect(error))
    key = f"{event.consumer}:{event.event_id}"
    delivery = Delivery(
        event_id=event.event_id,
        key=key,
        request_hash=event.digest,
        message=message,
        time=event.event_time,
    )
    return Received(event, kind, delivery)


def _unhandled(event: FailedEvent, kinds: Mapping[str, type[Message]]) -> Failure:
    """Of a subject that nobody here asked for it is a newer replica's, which shares the
    consumer: it has it when it comes again.
    """
    if event.subject in {subject_of(kind) for kind in kinds.values()}:
        return wrong_type(event.type, event.subject)
    return Deferred(
        "EVENT_AHEAD", f"nobody handles events of type {event.type!r} here: does a newer version?"
    )


def storable(words: str) -> str:
    """Words of others, as far as PostgreSQL can hold them."""
    return (
        words.encode("utf-8", "replace")
        .decode("utf-8")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")[:TEXT_MAX]
    )


def _uuid(words: str) -> UUID | None:
    try:
        return UUID(words)
    except ValueError:
        return None


def _time(words: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(words)
    except ValueError:
        return None
    return time if time.tzinfo else None
