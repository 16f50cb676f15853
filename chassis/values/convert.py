"""Conversions that every service's wire needs: times, optional fields, money, enums and resume
tokens. Pure.
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
    """Returns the contract's value of each member of a project's enum, by name: PENDING is
    PREFIX_PENDING. Raises ValueError where the contract lacks one.
    """
    return {member: value(f"{prefix}_{member.name}") for member in of}


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def timestamp_or_none(time: datetime | None) -> Timestamp | None:
    return timestamp(time) if time else None


def parse_time(message: Timestamp, field: str) -> datetime:
    """Returns the time of a request or an event, in UTC. Raises Invalid, naming the field, for a
    value that is no time.
    """
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid_field(field, YEARS) from None


def optional_field(message: Message, field: str, under: str = "") -> Any:
    """Returns a field's value, None where it is unset (times as datetime): the field has presence,
    or this raises ValueError.

    A bound (`..._time_from`, `..._time_before`) is rounded up to the next microsecond, because
    stored times have microseconds: so the rounded bound separates the same times. `under` is the
    message's path in its request, to name the field. Raises Invalid for a time that is none.
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
    """Returns an amount of a request or an event. Raises Invalid, naming the field, for a value
    that is no amount, or not in `currency`.
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
        record, version = None, -1  # no resume token: refused below
    if record == watched and isinstance(version, int) and version >= 0:
        return version
    raise invalid_field("resume_token", "must be one that a watch of this record has sent")


def invalid_field(field: str, rule: str) -> InvalidField:
    """Returns the refusal of a request or event whose field breaks a rule that the contract cannot
    state.
    """
    return InvalidField(
        "VALIDATION_FAILED", f"{field}: {rule}.", violations=[Violation(field, rule)]
    )
