"""Opaque tokens: a few values in a text that a client returns unchanged. Pure.

This module has the encoding alone. chassis/values/paging.py (pages of a list) and
chassis/values/convert.py (watches) give tokens their meaning. A text is at most
TEXT_BYTES_MAX long, so the kinds of a token bound its length.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

# The kinds of values. A text in a token is a name of at most 64 characters, of up to 4 bytes each.
Kind = type[UUID] | type[int] | type[datetime] | type[str]
TEXT_BYTES_MAX = 4 * 64

_NUMBER_BYTES = 8
_UUID_BYTES = 16
_LENGTH_BYTES = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def pack(*values: UUID | int | datetime | str) -> str:
    """Returns the token of these values. Raises ValueError for a value that a token cannot hold."""
    return base64.urlsafe_b64encode(b"".join(map(_packed, values))).rstrip(b"=").decode()


def unpack(token: str, *kinds: Kind) -> tuple[Any, ...]:
    """Returns the values of a token. Raises ValueError for a token that `pack` has not made of such
    kinds.
    """
    try:
        raw = base64.b64decode(
            token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
        )
    except binascii.Error as error:
        raise ValueError("the token is not base64") from error
    values: list[UUID | int | datetime | str] = []
    at = 0
    for kind in kinds:
        size = _UUID_BYTES if kind is UUID else _NUMBER_BYTES
        if kind is str:
            size, at = int.from_bytes(raw[at : at + _LENGTH_BYTES]), at + _LENGTH_BYTES
        chunk, at = raw[at : at + size], at + size
        if len(chunk) < size:
            raise ValueError("the token is too short")
        values.append(_unpacked(kind, chunk))
    if at != len(raw):
        raise ValueError("the token is too long")
    return tuple(values)


def _packed(value: UUID | int | datetime | str) -> bytes:
    match value:
        case UUID():
            return value.bytes
        case datetime():
            return _number((value - _EPOCH) // _MICROSECOND)
        case int():
            return _number(value)
        case str():
            text = value.encode()
            if len(text) > TEXT_BYTES_MAX:
                raise ValueError(f"a text of more than {TEXT_BYTES_MAX} bytes")
            return len(text).to_bytes(_LENGTH_BYTES) + text


def _number(value: int) -> bytes:
    try:
        return value.to_bytes(_NUMBER_BYTES, signed=True)
    except OverflowError as error:
        raise ValueError("a number that no column holds") from error


def _unpacked(kind: Kind, chunk: bytes) -> UUID | int | datetime | str:
    if kind is UUID:
        return UUID(bytes=chunk)
    if kind is str:
        text = chunk.decode()
        if "\0" in text:
            raise ValueError("a text with a NUL, which no column holds")
        return text
    number = int.from_bytes(chunk, signed=True)
    if kind is int:
        return number
    try:
        return _EPOCH + number * _MICROSECOND
    except OverflowError as error:
        raise ValueError("a time beyond the year 9999") from error
