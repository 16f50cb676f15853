"""Texts of a message: characters that cannot be stored, and codes that are normalized.
`normalize_codes` changes the message; the rest is pure.

PostgreSQL's text holds every character but NUL, and no contract needs NUL.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from ordermesh.options.v1 import rules_pb2


def normalize_codes(message: Message) -> None:
    """Brings each SKU and warehouse id of the message (fields with the rule `code`) into Unicode's
    form NFC, in place: the same code in two encodings becomes one.
    """
    owner: Any = message
    for name, repeated in _codes(message.DESCRIPTOR).items():
        value = getattr(owner, name)
        if repeated:
            for index, text in enumerate(value):
                if not text.isascii():
                    value[index] = unicodedata.normalize("NFC", text)
        elif not value.isascii():
            setattr(owner, name, unicodedata.normalize("NFC", value))
    for name, repeated in _with_codes(message.DESCRIPTOR).items():
        if repeated:
            for part in getattr(owner, name):
                normalize_codes(part)
        elif message.HasField(name):
            normalize_codes(getattr(owner, name))


@cache
def _codes(of: Descriptor) -> Mapping[str, bool]:
    """Returns the fields of a message that are codes, and whether each is repeated."""
    return {field.name: field.is_repeated for field in of.fields if _is_code(field)}


@cache
def _with_codes(of: Descriptor) -> Mapping[str, bool]:
    """Returns the fields of a message whose messages hold codes at any depth, and whether each is
    repeated.
    """
    return {
        field.name: field.is_repeated
        for field in of.fields
        if field.message_type and _holds_codes(field.message_type)
    }


@cache
def _holds_codes(of: Descriptor) -> bool:
    return any(
        _is_code(field) or (field.message_type and _holds_codes(field.message_type))
        for field in of.fields
    )


def _is_code(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    text = rules.repeated.items.string if field.is_repeated else rules.string
    return bool(text.Extensions[rules_pb2.code])


def with_nul(message: Message) -> Iterator[str]:
    """Yields the paths of the fields whose text holds a NUL: `items[0].sku`.

    To encode the message is much cheaper than to check each field, and few messages have the byte
    at all.
    """
    if b"\0" in message.SerializePartialToString():
        yield from _in(message, "")


def _in(message: Message, path: str) -> Iterator[str]:
    for field, value in message.ListFields():
        for place, one in _each(field, value):
            where = f"{path}{field.name}{place}"
            if isinstance(one, str):
                if "\0" in one:
                    yield where
            elif isinstance(one, Message):
                yield from _in(one, f"{where}.")


def _each(field: FieldDescriptor, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the field's values with their places in it; of a map, keys as well."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key in value:
            yield f"[{key!r}]", key
            yield f"[{key!r}]", value[key]
    elif field.is_repeated:
        yield from ((f"[{index}]", one) for index, one in enumerate(value))
    else:
        yield "", value
