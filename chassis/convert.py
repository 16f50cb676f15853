"""What every service's wire needs: times, optional fields, money that names its field, enums of two worlds with the same names. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2

from chassis.errors import Invalid, Violation
from chassis.money import Money, MoneyError, from_message

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", bound=int)


def names(of: type[E], prefix: str, value: Callable[[str], V]) -> dict[E, V]:
    """Our enum's members and the contract's values, by name: PENDING is PREFIX_PENDING. Raises ValueError where the contract lacks one."""
    return {member: value(f"{prefix}_{member.name}") for member in of}


def timestamp(time: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(time)
    return message


def timestamp_or_none(time: datetime | None) -> Timestamp | None:
    return timestamp(time) if time else None


def moment(message: Timestamp) -> datetime:
    """The time that a message says, in UTC."""
    return message.ToDatetime(tzinfo=UTC)


def given(message: Message, field: str) -> Any:
    """A field's value, None where it is unset (times as datetime): the field has presence, or this raises ValueError."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return moment(value) if isinstance(value, Timestamp) else value


def money(message: money_pb2.Money, field: str, currency: str | None = None) -> Money:
    """An amount of a request or an event. Raises Invalid, naming the field, for what is no amount, or not in `currency`."""
    if currency and message.currency_code != currency:
        raise invalid(f"{field}.currency_code", f"must be {currency}")
    try:
        return from_message(message)
    except MoneyError as error:
        raise invalid(field, str(error)) from error


def invalid(field: str, rule: str) -> Invalid:
    """A request whose field breaks a rule that the contract cannot say."""
    return Invalid("VALIDATION_FAILED", f"{field}: {rule}.", violations=[Violation(field, rule)])
