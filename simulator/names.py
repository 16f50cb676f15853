"""The values of the contracts' enums as people write them. Pure."""

import re
from typing import Any


def name_of(enum: Any, value: int) -> str:
    """The value's name without its enum's prefix, in lower case: "in_transit"; the number itself where it is newer than this program."""
    known = enum.DESCRIPTOR.values_by_number.get(value)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"
    return known.name.removeprefix(prefix).lower() if known else str(value)
