"""Converts failed events, and their filter, between protobuf and the project's records. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from ordermesh.ops.v1 import ops_service_pb2 as api

from chassis.broker.event_payload import decode_payload
from chassis.consume.failed_event_records import OPEN, FailedEventFilter, FailedEventRow, Name
from chassis.values.convert import enum_values, optional_field, timestamp, timestamp_or_none
from chassis.values.errors import Invalid
from chassis.values.paging import ANSWER_BYTES_MAX
from chassis.write.tables import FailedState

STATES = enum_values(FailedState, "FAILED_EVENT_STATE", api.FailedEventState.Value)
STATES_BY_VALUE = {value: state for state, value in STATES.items()}
JSON_MAX = 2**20


def wanted(message: api.FailedEventFilter) -> FailedEventFilter:
    """Returns the filter of a request; an empty one selects all open events. Raises Invalid for a
    time that is none.
    """
    return FailedEventFilter(
        states=frozenset(STATES_BY_VALUE[value] for value in message.states) or OPEN,
        consumer=optional_field(message, "consumer"),
        subject=optional_field(message, "subject"),
        type=optional_field(message, "type"),
        reason=optional_field(message, "reason"),
        aggregate=optional_field(message, "aggregate_id"),
        since=optional_field(message, "first_fail_time_from", "filter"),
        before=optional_field(message, "first_fail_time_before", "filter"),
        updated_since=optional_field(message, "update_time_from", "filter"),
        updated_before=optional_field(message, "update_time_before", "filter"),
    )


def named(
    message: api.GetFailedEventRequest
    | api.ReplayFailedEventRequest
    | api.DiscardFailedEventRequest,
) -> FailedEventFilter:
    """Returns the filter for the one event that a request names, in any state."""
    digest = bytes.fromhex(message.digest) if message.HasField("digest") else None
    every = frozenset(FailedState)
    return FailedEventFilter(
        states=every, consumer=message.consumer, event_id=UUID(message.event_id), digest=digest
    )


def failed_event(entry: FailedEventRow) -> api.FailedEvent:
    """Returns a row without its payload."""
    event = entry.event
    return api.FailedEvent(
        consumer=event.consumer,
        event_id=str(event.event_id),
        state=STATES[event.state],
        subject=event.subject,
        type=event.type,
        aggregate_id=event.aggregate,
        reason=event.reason,
        error=event.error,
        attempts=event.attempts,
        event_time=timestamp(event.event_time),
        first_fail_time=timestamp(entry.first_time),
        update_time=timestamp(entry.update_time),
        digest=event.digest.hex(),
        next_try_time=timestamp_or_none(entry.next_try_time),
    )


def with_payload(entry: FailedEventRow, kinds: Mapping[str, type[Message]]) -> api.FailedEvent:
    """Returns a row with its payload. The payload is JSON too where its type is one of `kinds`, it
    can be read, and the answer has room for it.
    """
    message = failed_event(entry)
    message.payload = entry.event.payload
    text = _json(entry, kinds)
    if message.ByteSize() + len(text.encode()) < ANSWER_BYTES_MAX:
        message.payload_json = text
    return message


def as_replayed(
    name: Name, now: FailedEventRow | None, before: FailedEventRow | None
) -> api.FailedEvent:
    """Returns an event that was replayed, in its present state.

    If its row is gone, its consumer handled it at the same time and deleted the row: the event had
    its effect. Then the other fields come from the row `before`. A repeat for which that row is
    gone too has the event's name alone.
    """
    if entry := now or before:
        replayed = replace(entry.event, state=FailedState.REPLAYED)
        return failed_event(now or replace(entry, event=replayed, next_try_time=None))
    consumer, event_id, digest = name
    state = api.FAILED_EVENT_STATE_REPLAYED
    return api.FailedEvent(
        consumer=consumer, event_id=str(event_id), digest=digest.hex(), state=state
    )


def is_digest(text: str) -> bool:
    """Returns whether the text of a page token is a digest in the form that the service writes."""
    try:
        return len(bytes.fromhex(text)) == sha256().digest_size
    except ValueError:
        return False


def _json(entry: FailedEventRow, kinds: Mapping[str, type[Message]]) -> str:
    if kind := kinds.get(entry.event.type):
        try:
            words = MessageToJson(decode_payload(kind, entry.event.payload))
            return words if len(words) <= JSON_MAX else ""
        except (Invalid, ValueError):  # JSON cannot express every time: ValueError
            return ""
    return ""
