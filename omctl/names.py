"""The values of the contracts' enums as people write them. Pure."""

import re
from typing import Any


def name_of(enum: Any, value: int) -> str:
    """The value's name without its enum's prefix, in lower case: "in_transit"; the number itself
    where it is newer than this program.
    """
    known = enum.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix(_prefix(enum)).lower() if known else str(value)


def values_of(enum: Any) -> dict[str, int]:
    """Every value but "unspecified" by its name."""
    return {name_of(enum, number): number for number in enum.DESCRIPTOR.values_by_number if number}


def _prefix(enum: Any) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"
