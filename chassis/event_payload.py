"""An event's payload as the message of its type, or why it is none. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from chassis.errors import Invalid, Violation
from chassis.stream import subject_of
from chassis.validation import summary, violations

M = TypeVar("M", bound=Message)


def parse(kind: type[M], subject: str, payload: bytes) -> M:
    """The message of an event of this kind.

    Raises Invalid EVENT_UNREADABLE where the subject is not that of the kind, the payload is no such
    message, or a field breaks a rule of the contract; the text names the first such field.
    """
    name = kind.DESCRIPTOR.full_name
    if subject != subject_of(kind):
        raise wrong_type(name, subject)
    try:
        message = kind.FromString(payload)
    except DecodeError:
        raise unreadable(f"The payload is no {name}") from None
    if found := violations(message, fail_fast=True):
        raise unreadable(f"{name}: {summary(found, 'the event')}", found)
    return message


def wrong_type(name: str, subject: str) -> Invalid:
    """The refusal of an event whose type belongs to another subject."""
    return unreadable(f"The type {name!r} does not belong to the subject {subject}")


def unreadable(text: str, found: Sequence[Violation] = ()) -> Invalid:
    """The refusal of an event that no handler can act on, however often it is replayed."""
    return Invalid("EVENT_UNREADABLE", f"{text}. Discard it: a replay ends the same.", violations=found)
