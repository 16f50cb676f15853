"""What every service's wire needs: times, optional fields, money that names its field, enums of
two worlds with the same names, and where a watch has come to. Pure.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2

from chassis.values.errors import InvalidField, Violation
from chassis.values.money import Money, MoneyError, from_message
from chassis.values.tokens import pack, unpack

BOUNDS = ("_time_from", "_time_before")
NANOS_IN_MICROSECOND = 1_000
YEARS = "must be a time between the years 1 and 9999"
E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", bound=int)


def enum_values(of: type[E], prefix: str, value: Callable[[str], V]) -> dict[E, V]:
    """Our enum's members and the contract's values, by name: PENDING is PREFIX_PENDING. Raises
    ValueError where the contract lacks one.
    """
    return {member: value(f"{prefix}_{member.name}") for member in of}


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def timestamp_or_none(time: datetime | None) -> Timestamp | None:
    return timestamp(time) if time else None


def parse_time(message: Timestamp, field: str) -> datetime:
    """The time that a request or an event says, in UTC. Raises Invalid, naming the field, for
    what is no time.
    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid_field(field, YEARS) from None


def optional_field(message: Message, field: str, under: str = "") -> Any:
    """A field's value, None where it is unset (times as datetime): the field has presence, or this
    raises ValueError.

    A bound (`..._time_from`, `..._time_before`) is rounded up to the next microsecond, which is
    what our times have: so it divides them as the time that was asked for does. `under` is where
    the message stands in its request, to name the field by its path. Raises Invalid for a time that
    is none.
    """
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    if not isinstance(value, Timestamp):
        return value
    path = f"{under}.{field}" if under else field
    time = parse_time(value, path)
    if value.nanos % NANOS_IN_MICROSECOND == 0 or not field.endswith(BOUNDS):
        return time
    try:
        return time + timedelta(microseconds=1)
    except OverflowError:
        raise invalid_field(path, YEARS) from None


def money(message: money_pb2.Money, field: str, currency: str | None = None) -> Money:
    """An amount of a request or an event. Raises Invalid, naming the field, for what is no
    amount, or not in `currency`.
    """
    if currency and message.currency_code != currency:
        raise invalid_field(f"{field}.currency_code", f"must be {currency}")
    try:
        return from_message(message)
    except MoneyError as error:
        raise invalid_field(field, str(error)) from error


def resume_token(watched: UUID, version: int) -> str:
    """Returns the token with which a client resumes its watch: the watched record and the version
    that the watch sent last.
    """
    return pack(watched, version)


def parse_resume_token(resume_token: str, watched: UUID) -> int | None:
    """Returns the version after which a watch resumes; None: from the start.

    Raises Invalid for a token of another record, or of no watch.
    """
    if not resume_token:
        return None
    try:
        record, version = unpack(resume_token, UUID, int)
    except ValueError:
        record, version = None, -1  # not one of ours: refused below, as one of another record is
    if record == watched and isinstance(version, int) and version >= 0:
        return version
    raise invalid_field("resume_token", "must be one that a watch of this record has sent")


def invalid_field(field: str, rule: str) -> InvalidField:
    """The refusal of a request or event whose field breaks a rule that the contract cannot say."""
    return InvalidField(
        "VALIDATION_FAILED", f"{field}: {rule}.", violations=[Violation(field, rule)]
    )
