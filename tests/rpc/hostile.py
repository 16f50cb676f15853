"""Requests that fill each field of a contract to a limit, on the wire. No tests here."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from chassis.rpc.server import MESSAGE_BYTES_MAX
from chassis.values.message_limits import limits_of

# The transport's limit, less the frame of the fields around what is filled.
TRANSPORT_BYTES = MESSAGE_BYTES_MAX - 1_024
CHUNK = 2  # the wire type of texts, bytes, messages and packed numbers
LISTED = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)

Path = tuple[FieldDescriptor, ...]


@dataclass(frozen=True)
class Hostile:
    """An encoded request, and what it is filled with where."""

    method: MethodDescriptor
    name: str
    make: Callable[[], bytes]


def requests(method: MethodDescriptor) -> Iterator[Hostile]:
    """Every repeated, map, string and bytes field of the method, filled."""
    limit = limits_of(method.input_type).bytes_max
    for path in paths(method.input_type):
        field, name = path[-1], ".".join(each.name for each in path)
        fillings = [
            ("empties", filled, b"", limit),
            ("garbage", filled, garbage(7), limit),
            ("one value", alone, b"", limit),
            ("empties beyond the limit", filled, b"", TRANSPORT_BYTES),
            ("one value beyond the limit", alone, b"", TRANSPORT_BYTES),
            ("numbers without an end", filled, b"\xff" * 1_000, TRANSPORT_BYTES),
        ]
        if field.is_repeated:
            fillings += [("as many empties as there may be", counted, b"", limit)]
            fillings += [("as much garbage as there may be", counted, garbage(7), limit)]
        for what, fill, value, size in fillings:
            yield Hostile(
                method,
                f"{method.full_name} {name} {what}",
                partial(within, path, fill, value, size),
            )


def paths(message: Descriptor) -> Iterator[Path]:
    """The fields to fill, each with those that it stands in."""
    for field in message.fields:
        if field.is_repeated or field.type in LISTED[:2]:
            yield (field,)
        if field.message_type is not None:
            yield from ((field, *path) for path in paths(field.message_type))


def within(
    path: Path, fill: Callable[[FieldDescriptor, bytes, int], bytes], value: bytes, size: int
) -> bytes:
    """The request in which the path's last field is filled, once in each message around it."""
    encoded = fill(path[-1], value, size)
    for field in reversed(path[:-1]):
        encoded = element(field, encoded)
    return encoded


def filled(field: FieldDescriptor, value: bytes, size: int) -> bytes:
    """The field as often as it fits into `size`, with the same value."""
    one = element(field, value)
    return one * (size // len(one))


def counted(field: FieldDescriptor, value: bytes, size: int) -> bytes:
    """The field as often as its contract allows; never more than fits."""
    items_max = limits_of(field.containing_type).fields[field.number].items_max or 1
    one = element(field, value)
    return one * min(items_max, size // len(one))


def alone(field: FieldDescriptor, value: bytes, size: int) -> bytes:
    """The field once, with a value of `size` bytes."""
    return element(field, b"a" * (size - 16))


def garbage(size: int) -> bytes:
    """Bytes by chance, the same each time."""
    return random.Random(size).randbytes(size)


def element(field: FieldDescriptor, value: bytes) -> bytes:
    """One value of the field with its tag and length."""
    return varint(field.number << 3 | CHUNK) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number as the wire has it."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
