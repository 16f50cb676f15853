"""Which texts of a message cannot be stored: PostgreSQL's text holds every character but NUL, and no contract has a use for it. Pure."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message


def with_nul(message: Message, path: str = "") -> Iterator[str]:
    """The paths of the fields whose text holds a NUL, as one would write them: `items[0].sku`."""
    for field, value in message.ListFields():
        for place, one in _each(field, value):
            where = f"{path}{field.name}{place}"
            if isinstance(one, str):
                if "\0" in one:
                    yield where
            elif isinstance(one, Message):
                yield from with_nul(one, f"{where}.")


def _each(field: FieldDescriptor, value: Any) -> Iterator[tuple[str, Any]]:
    """The field's values with their places in it; of a map, keys as well."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key in value:
            yield f"[{key!r}]", key
            yield f"[{key!r}]", value[key]
    elif field.is_repeated:
        yield from ((f"[{index}]", one) for index, one in enumerate(value))
    else:
        yield "", value
