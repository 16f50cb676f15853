"""An event as a consumer received it, its row in failed_events, and a filter of rows. Pure."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.write.tables import FailedState

OPEN = (FailedState.DEFERRED, FailedState.FAILED)
Name = tuple[str, UUID, bytes]  # the consumer, the event's id, and the digest of its body


def digest_of(subject: str, kind: str, payload: bytes) -> bytes:
    """Returns the SHA-256 of an event's subject, type and payload, as they are stored.

    Two bodies under one event id have different digests, and each has its own row.
    """
    return hashlib.sha256(b"\0".join((subject.encode(), kind.encode(), payload))).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerEvent:
    """An event as one consumer received it, with its last failure. `reason` and `error` are empty
    before the first one.
    """

    consumer: str
    event_id: UUID
    digest: bytes
    state: FailedState
    stream: str
    stream_seq: int
    subject: str
    type: str
    aggregate: str
    payload: bytes
    traceparent: str | None
    event_time: datetime
    reason: str
    error: str
    attempts: int
    waits_for: UUID | None = None

    @property
    def name(self) -> Name:
        """The key of the row."""
        return self.consumer, self.event_id, self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEventRow:
    """A row: the event, when its consumer first stored it, when the row last changed, and when the
    event is tried again.
    """

    event: ConsumerEvent
    first_time: datetime
    update_time: datetime
    next_try_time: datetime | None

    @property
    def place(self) -> tuple[datetime, str, UUID, str]:
        """The row's place in a list: the oldest failure first."""
        consumer, event_id, digest = self.event.name
        return self.first_time, consumer, event_id, digest.hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEventFilter:
    """Which rows. Every field that is set must match. `since` (included) and `before` (excluded)
    bound the first failure, `updated_since` and `updated_before` the last update.
    """

    states: Collection[FailedState] = OPEN
    consumer: str | None = None
    subject: str | None = None
    type: str | None = None
    reason: str | None = None
    aggregate: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    updated_since: datetime | None = None
    updated_before: datetime | None = None
    event_id: UUID | None = None
    digest: bytes | None = None
