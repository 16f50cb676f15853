"""An outgoing event: a service's wire makes it of a domain event, and the outbox stores it."""

from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """The message of an event, and the records that its headers name.

    aggregate  the versioned record that changed, `ce-subject` and `ce-partitionkey`: its events
               are numbered, and published one after the other
    order_id   the order that it concerns, `ce-correlationid`; None where it concerns no order
    """

    aggregate: UUID
    order_id: UUID | None
    message: Message
