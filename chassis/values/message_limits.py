"""How large a request or an event may be: the bounds of its contract, checked on the bytes that
arrived.

The rules of `buf.validate` bound each field, but their evaluation costs time and memory in
proportion to the message, and rules over lists run before `max_items`. So these bounds come first:

    size     the largest request that keeps every bound of the contract; REQUEST_BYTES_MAX at most
    counts   `max_items` and `max_pairs` of each field, and `max_inner_items` (ordermesh.options.v1)

The size of an event is bounded by its stream, and not by its contract: a newer publisher may add
fields that this version does not define.

One pass over the wire format checks both, before a message is made of the bytes. It stops at the
first field beyond its bound, so that it takes no longer than the largest legal request does. The
bounds are derived from the descriptors, once for each message type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from ordermesh.options.v1 import options_pb2

from chassis.values.errors import Violation
from chassis.values.event_subjects import MESSAGE_BYTES_MAX as STREAM_BYTES_MAX

# The transport takes 4 MiB (chassis/rpc/server.py): a size between the two is refused here, with a
# reason.
REQUEST_BYTES_MAX: Final = 1 << 20
# Room for fields that a newer contract has and this one does not define.
UNKNOWN_BYTES_MAX: Final = 4 << 10
UNKNOWN_FIELDS_MAX: Final = 1_000

_CHARACTER_BYTES: Final = 4
_UUID_BYTES: Final = 36
_VARINT_BYTES: Final = 10
# Google's messages carry no rules of their own: the rules of each amount bound its currency.
_TEXT_BYTES: Final = {"google.type.Money.currency_code": 3 * _CHARACTER_BYTES}
_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_CHUNKS: Final = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_FIXED_KINDS: Final = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
_CONTINUED: Final = bytes(range(0x80, 0x100))  # bytes of a number that others follow


class OverLimit(Exception):
    """A message is larger than its contract allows; `violation` names the field and its bound."""

    def __init__(self, path: str, rule: str, name: str) -> None:
        super().__init__(f"{path or 'the message'}: {rule}")
        self.violation = Violation(path, rule, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a message. `fields_max` counts the fields of the messages within it as well.

    `has_lists`: it has a repeated field, or a message within it has one.
    """

    fields: dict[int, Field]
    bytes_max: int
    fields_max: int
    has_lists: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """The limits of a field, and of each of its values: `bytes_max` without tag and length.

    `items_max` is None where the field is not repeated. `pair` is the message of a map's pairs.
    """

    name: str
    number: int
    kind: int  # one of FieldDescriptor's TYPE_ constants
    bytes_max: int
    items_max: int | None = None
    inner: Limits | None = None
    inner_items_max: int | None = None
    pair: Any = None


def measured(limits: Limits, data: bytes) -> int:
    """Returns how many values all lists and maps of the encoded message have.

    Raises OverLimit where it is larger than its contract allows, DecodeError where it is no
    message.
    """
    scan = _Scan(data, limits)
    try:
        scan.message(0, len(data), limits, "")
    except IndexError:
        raise DecodeError("the bytes end within a field") from None
    if scan.too_large:
        raise OverLimit("", f"must be at most {limits.bytes_max} bytes", "request.max_bytes")
    return scan.elements


# --- what a contract allows


@cache
def limits_of(request: Descriptor) -> Limits:
    """Returns the limits of a method's request."""
    limits = _message(request)
    bytes_max = min(limits.bytes_max + UNKNOWN_BYTES_MAX, REQUEST_BYTES_MAX)
    return replace(limits, bytes_max=bytes_max, fields_max=limits.fields_max + UNKNOWN_FIELDS_MAX)


@cache
def limits_of_event(event: Descriptor) -> Limits:
    """Returns the limits of an event."""
    limits = _message(event)
    fields_max = limits.fields_max + UNKNOWN_FIELDS_MAX
    return replace(limits, bytes_max=STREAM_BYTES_MAX, fields_max=fields_max)


def _message(descriptor: Descriptor) -> Limits:
    """Returns the limits of a message that its contract gives. No message contains itself."""
    return _together(_field(each) for each in descriptor.fields)


def _together(several: Iterable[Field]) -> Limits:
    """Returns the limits of a message with these fields."""
    fields = {each.number: each for each in several}
    sizes = [_whole(each) for each in fields.values()]
    return Limits(
        fields=fields,
        bytes_max=sum(size.bytes for size in sizes),
        fields_max=sum(size.fields for size in sizes),
        has_lists=any(
            each.items_max is not None or (each.inner is not None and each.inner.has_lists)
            for each in fields.values()
        ),
    )


def _field(descriptor: FieldDescriptor) -> Field:
    options = descriptor.GetOptions()
    rules: validate_pb2.FieldRules = options.Extensions[validate_pb2.field]
    message = descriptor.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = (message.fields_by_name[name] for name in ("key", "value"))
        pair = (_value(key, rules.map.keys), _value(value, rules.map.values))
        inner = _together(replace(each, name="") for each in pair)  # its place is its key
        most = rules.map.max_pairs if rules.map.HasField("max_pairs") else REQUEST_BYTES_MAX
        return Field(
            name=descriptor.name,
            number=descriptor.number,
            kind=descriptor.type,
            bytes_max=inner.bytes_max,
            items_max=most,
            inner=inner,
            pair=GetMessageClass(message),
        )
    if not descriptor.is_repeated:
        return _value(descriptor, rules)
    repeated = rules.repeated
    return replace(
        _value(descriptor, repeated.items),
        items_max=repeated.max_items if repeated.HasField("max_items") else REQUEST_BYTES_MAX,
        inner_items_max=options.Extensions[options_pb2.max_inner_items] or None,
    )


def _value(descriptor: FieldDescriptor, rules: validate_pb2.FieldRules) -> Field:
    """Returns the limits of a field with one value."""
    inner = None if descriptor.message_type is None else _message(descriptor.message_type)
    most = _bytes_max(descriptor, rules) if inner is None else inner.bytes_max
    return Field(
        name=descriptor.name,
        number=descriptor.number,
        kind=descriptor.type,
        bytes_max=most,
        inner=inner,
    )


def _bytes_max(descriptor: FieldDescriptor, rules: validate_pb2.FieldRules) -> int:
    """Returns how many bytes a value has at most; REQUEST_BYTES_MAX where no rule bounds it."""
    bounds = [REQUEST_BYTES_MAX]
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        string = rules.string
        bounds += [string.max_len * _CHARACTER_BYTES] if string.HasField("max_len") else []
        bounds += [string.max_bytes] if string.HasField("max_bytes") else []
        bounds += [_UUID_BYTES] if string.uuid else []
        bounds += [_TEXT_BYTES.get(descriptor.full_name, REQUEST_BYTES_MAX)]
    elif descriptor.type == FieldDescriptor.TYPE_BYTES:
        bounds += [rules.bytes.max_len] if rules.bytes.HasField("max_len") else []
    else:
        bounds = [_VARINT_BYTES]
    return min(bounds)


class _Size(NamedTuple):
    """The largest size on the wire: bytes, and fields with those within them."""

    bytes: int
    fields: int


def _each(field: Field) -> _Size:
    """Returns the size of one value, with its tag and length."""
    tag = _varint_bytes(field.number << 3)
    length = _varint_bytes(field.bytes_max) if field.inner or field.kind in _CHUNKS else 0
    return _Size(tag + length + field.bytes_max, 1 + (field.inner.fields_max if field.inner else 0))


def _whole(field: Field) -> _Size:
    """Returns the size of all values of the field."""
    each = _each(field)
    if field.items_max is None:
        return each
    if field.inner is None or field.inner_items_max is None:
        return _Size(field.items_max * each.bytes, field.items_max * each.fields)
    lists = [one for one in field.inner.fields.values() if one.items_max is not None]
    return _Size(
        field.items_max * (each.bytes - sum(_whole(one).bytes for one in lists))
        + field.inner_items_max * max(_each(one).bytes for one in lists),
        field.items_max * (each.fields - sum(_whole(one).fields for one in lists))
        + field.inner_items_max * max(_each(one).fields for one in lists),
    )


def _varint_bytes(value: int) -> int:
    return max(value.bit_length() + 6, 7) // 7


# --- what has arrived


class _Scan:
    """One pass over an encoded message."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.elements = 0
        self.too_large = len(data) > limits.bytes_max
        self._data, self._limits, self._fields_remaining = data, limits, limits.fields_max

    # One loop over the bytes: a call for each field would take as long as the loop.
    def message(self, at: int, end: int, limits: Limits, path: str) -> int:  # noqa: C901, PLR0912
        """Checks the message in `data[at:end]`; `path` is the beginning of its fields' paths.

        Returns how many values its lists have. Raises OverLimit, DecodeError or IndexError.
        """
        data, fields = self._data, limits.fields
        counts: dict[int, int] = {}
        inner_items: dict[int, int] = {}
        while at < end:
            self._fields_remaining -= 1
            if self._fields_remaining < 0:
                raise _too_many_fields(self._limits.fields_max)
            tag, at = (data[at], at + 1) if data[at] < 0x80 else self._varint(at)
            kind, start = tag & 7, at
            if kind == _CHUNK:
                size, start = (data[at], at + 1) if data[at] < 0x80 else self._varint(at)
                at = start + size
            elif kind == _VARINT:
                at = at + 1 if data[at] < 0x80 else self._varint(at)[1]
            elif kind in _FIXED_BYTES:
                at += _FIXED_BYTES[kind]
            else:
                raise DecodeError("a group, which no contract has")
            if at > end:
                raise DecodeError("a field ends beyond its message")
            field = fields.get(tag >> 3)
            if field is None:
                continue
            place = ""
            if field.items_max is not None:
                so_far = counts.get(field.number, 0)
                number = _values(field, kind, data, start, at)
                if so_far + number > field.items_max:
                    raise _too_many(path, field)
                counts[field.number] = so_far + number
                self.elements += number
                place = f"[{so_far}]"
            if kind != _CHUNK:
                continue
            if field.inner is not None:
                if not (field.inner.has_lists or self.too_large):
                    continue  # nothing in it can be beyond a limit
                listed = self._inner(field, start, at, path + field.name + place)
                if field.inner_items_max is not None:
                    listed += inner_items.get(field.number, 0)
                    inner_items[field.number] = listed
                    if listed > field.inner_items_max:
                        rule = f"must contain no more than {field.inner_items_max} item(s) in all"
                        raise OverLimit(path + field.name, rule, "repeated.max_inner_items")
            elif self.too_large and field.kind in _CHUNKS and start + field.bytes_max < at:
                raise _too_long(path + field.name + place, field)
        return sum(counts.values())

    def _inner(self, field: Field, start: int, end: int, path: str) -> int:
        """Checks a message within, or a pair of a map, whose place is its key."""
        assert field.inner is not None
        if field.pair is None:
            return self.message(start, end, field.inner, path + ".")
        of_map = path.rpartition("[")[0]
        if start + field.bytes_max < end:
            rule = f"a pair must be at most {field.bytes_max} bytes"
            raise OverLimit(of_map, rule, "map.max_bytes")
        key = field.pair.FromString(self._data[start:end]).key
        return self.message(start, end, field.inner, f"{of_map}[{key!r}]")

    def _varint(self, at: int) -> tuple[int, int]:
        """Returns the number that begins there, and the position after it."""
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self._data[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value, at + place + 1
        raise DecodeError("a number of more than 64 bits")


def _values(field: Field, kind: int, data: bytes, start: int, end: int) -> int:
    """Returns how many values a field of a list has: numbers come packed, several in a chunk."""
    if kind != _CHUNK or field.inner is not None or field.kind in _CHUNKS:
        return 1
    if field.kind in _FIXED_KINDS:
        return (end - start) // _FIXED_KINDS[field.kind]
    if field.items_max is not None and end - start > field.items_max * _VARINT_BYTES:
        return end - start  # too many, however they are encoded
    return len(data[start:end].translate(None, _CONTINUED))


def _too_many_fields(fields_max: int) -> OverLimit:
    return OverLimit("", f"must have at most {fields_max} fields", "request.max_fields")


def _too_many(path: str, field: Field) -> OverLimit:
    if field.pair is None:
        rule = f"must contain no more than {field.items_max} item(s)"
        return OverLimit(path + field.name, rule, "repeated.max_items")
    rule = f"map must be at most {field.items_max} entries"
    return OverLimit(path + field.name, rule, "map.max_pairs")


def _too_long(path: str, field: Field) -> OverLimit:
    kind = "string" if field.kind == FieldDescriptor.TYPE_STRING else "bytes"
    return OverLimit(path, f"must be at most {field.bytes_max} bytes", f"{kind}.max_bytes")
