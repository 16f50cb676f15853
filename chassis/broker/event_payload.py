"""Parses an event's payload as the message of its type. Pure."""

from collections.abc import Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import DecodeError, Message

from chassis.values.errors import Invalid, Violation
from chassis.values.event_subjects import subject_of
from chassis.values.message_limits import OverLimit, limits_of_event, measured
from chassis.values.texts import normalize_codes
from chassis.values.validation import summary, violations

M = TypeVar("M", bound=Message)


def parse_event(kind: type[M], subject: str, payload: bytes) -> M:
    """Returns the message of an event of this kind, and checks the rules of its contract.

    Raises Invalid EVENT_UNREADABLE as `decode_event` does, and where a field breaks a rule: the
    text names the first such field.
    """
    message = decode_event(kind, kind.DESCRIPTOR.full_name, subject, payload)
    normalize_codes(message)
    if found := violations(message, fail_fast=True):
        raise unreadable(f"{kind.DESCRIPTOR.full_name}: {summary(found, 'the event')}", found)
    return message


def decode_event(kind: type[M], name: str, subject: str, payload: bytes) -> M:
    """Returns the message of an event of this kind. `name` is the type that its header states.

    Raises Invalid EVENT_UNREADABLE where the header states another type, where the subject is that
    of another type, and as `decode_payload` does.
    """
    if name != kind.DESCRIPTOR.full_name or subject != subject_of(kind):
        raise wrong_type(name, subject)
    return decode_payload(kind, payload)


def decode_payload(kind: type[M], payload: bytes) -> M:
    """Returns the message of a payload. It checks the bounds on the bytes, before it makes a
    message.

    Raises Invalid EVENT_UNREADABLE where the payload is no such message, or is larger than the
    message may be: the text names the field and its bound.
    """
    name = kind.DESCRIPTOR.full_name
    try:
        measured(limits_of_event(kind.DESCRIPTOR), payload)
        return kind.FromString(payload)
    except OverLimit as over:
        found = [over.violation]
        raise unreadable(f"{name}: {summary(found, 'the event')}", found) from None
    except DecodeError:
        raise unreadable(f"The payload is no {name}") from None


def unknown_values(message: Message) -> Iterator[str]:
    """Yields the fields of the message, and of the records in it, whose enum value this version
    does not define. A newer publisher may send one: it means no change.
    """
    for path, enum in _enum_fields(message.DESCRIPTOR):
        if attrgetter(path)(message) not in enum.values_by_number:
            yield path


@cache
def _enum_fields(of: Descriptor) -> Sequence[tuple[str, EnumDescriptor]]:
    """Returns the singular enum fields of a message and of the records in it, by their dotted
    paths.
    """
    found: list[tuple[str, EnumDescriptor]] = []
    for field in of.fields:
        if field.is_repeated:
            continue
        if field.enum_type is not None:
            found.append((field.name, field.enum_type))
        elif field.message_type is not None:
            found += [
                (f"{field.name}.{path}", enum) for path, enum in _enum_fields(field.message_type)
            ]
    return found


def wrong_type(name: str, subject: str) -> Invalid:
    """Returns the refusal of an event whose type belongs to another subject."""
    return unreadable(f"The type {name!r} does not belong to the subject {subject}")


def unreadable(text: str, found: Sequence[Violation] = ()) -> Invalid:
    """Returns the refusal of an event that no handler can process, also at a replay."""
    return Invalid(
        "EVENT_UNREADABLE", f"{text}. Discard it: a replay ends the same.", violations=found
    )
