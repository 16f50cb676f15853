"""Names of the contracts: enum values on the command line, and methods. Pure."""

import re
from typing import Any

from google.protobuf.message import Message


def name_of(enum: Any, value: int) -> str:
    """Returns the value's name without its enum's prefix, in lower case: "in_transit".

    A value that this program's contracts lack is returned as a number.
    """
    known = enum.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix(_prefix(enum)).lower() if known else str(value)


def values_of(enum: Any) -> dict[str, int]:
    """Returns every value except "unspecified", by its name."""
    return {name_of(enum, number): number for number in enum.DESCRIPTOR.values_by_number if number}


def method_name(request: Message) -> str:
    """Returns the name of the method that takes the request: a rule of the contracts."""
    return request.DESCRIPTOR.name.removesuffix("Request")


def _prefix(enum: Any) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"
