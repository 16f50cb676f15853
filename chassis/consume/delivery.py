"""Reads a message as a Delivery, the form in which a handler gets an event. Pure: it acknowledges
and stores nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from google.protobuf.message import Message
from nats.aio.msg import Msg

from chassis.broker.event_payload import parse_event, wrong_type
from chassis.consume.failed_event_records import ConsumerEvent, digest_of
from chassis.values.errors import Defect, Deferred, Failure
from chassis.values.event_subjects import subject_of
from chassis.write.tables import FailedState

M = TypeVar("M", bound=Message)

TEXT_MAX = 2000
# An event that has been delivered more often than this without an outcome may be a poison message:
# it is stored as failed, then tried once more, alone.
POISON_AFTER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[M]):
    """An event as a handler gets it.

    key           the idempotency key, `<consumer>:<event_id>`
    request_hash  chassis.consume.failed_event_records.digest_of: one event id with another type is
                  another body
    time          when the event was stored in its outbox; without that, when the stream got it
    """

    event_id: UUID
    key: str
    request_hash: bytes
    message: M
    time: datetime

    @property
    def cause(self) -> str:
        """The cause that a command names when this event leads to it."""
        return str(self.event_id)


@dataclass(slots=True, kw_only=True)
class Received:
    """An event in hand: its message where it came from the stream, its state in failed_events, and
    its delivery from `parse`. An event that cannot be read has no delivery: `fault` says why.
    """

    event: ConsumerEvent
    raw: Msg | None = None
    state: FailedState | None = None
    delivery: Delivery[Any] | None = None
    fault: Failure | None = None

    @property
    def may_be_poison(self) -> bool:
        """Whether the stream delivered the event more than POISON_AFTER times without an outcome.

        A parked event has had one: its message comes again where its acknowledgement was lost.
        """
        return self.event.attempts > POISON_AFTER and self.state is not FailedState.DEFERRED

    def parse(self, kinds: Mapping[str, type[Message]]) -> None:
        """Reads the payload. `kinds` are the messages that have handlers, by their full names."""
        event = self.event
        try:
            message = parse_event(_kind_of(event, kinds), event.subject, event.payload)
        except Failure as fault:
            self.fault = fault
        except Exception as error:  # noqa: BLE001  # a defect of our own concerns this event alone
            self.fault = Defect(error)
        else:
            self.delivery = Delivery(
                event_id=event.event_id,
                key=f"{event.consumer}:{event.event_id}",
                request_hash=event.digest,
                message=message,
                time=event.event_time,
            )


def received_event(raw: Msg, consumer: str) -> ConsumerEvent:
    """Returns a message of the stream as its consumer received it, without a failure.

    It reads the headers alone, so the event can be stored even if its payload ends the process.
    """
    place, headers = raw.metadata, raw.headers or {}
    fallback = uuid5(NAMESPACE_URL, f"{place.stream}/{place.sequence.stream}")
    subject, kind = storable(raw.subject), storable(headers.get("ce-type", ""))
    return ConsumerEvent(
        consumer=consumer,
        event_id=_uuid(headers.get("ce-id") or headers.get("Nats-Msg-Id") or "") or fallback,
        digest=digest_of(subject, kind, raw.data),
        state=FailedState.FAILED,
        stream=place.stream,
        stream_seq=place.sequence.stream,
        subject=subject,
        type=kind,
        aggregate=storable(headers.get("ce-subject", "")),
        payload=raw.data,
        traceparent=storable(headers["traceparent"]) if "traceparent" in headers else None,
        event_time=_time(headers.get("ce-time", "")) or place.timestamp,
        reason="",
        error="",
        attempts=place.num_delivered,
    )


def _kind_of(event: ConsumerEvent, kinds: Mapping[str, type[Message]]) -> type[Message]:
    """Returns the event's message. Raises Invalid where its subject has another one.

    Raises Deferred where this process did not subscribe to its subject: a newer replica that shares
    the consumer did, and the event is deferred until it comes to that replica.
    """
    if event.type in kinds:
        return kinds[event.type]
    if event.subject in {subject_of(kind) for kind in kinds.values()}:
        raise wrong_type(event.type, event.subject)
    raise Deferred(
        "EVENT_AHEAD", f"no handler here takes events of type {event.type!r}: a newer version may"
    )


def storable(words: str) -> str:
    """Returns a text of another process as PostgreSQL can store it."""
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
