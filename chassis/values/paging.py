"""Pages of a list: a token that is bound to the filter, and as many rows as an answer takes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from chassis.values.errors import Invalid, Refused, Violation
from chassis.values.tokens import Kind, pack, unpack

SIZE_DEFAULT = 50
# The bound of an answer's records together: any client takes 4 MiB by default, and the frame of
# each record and the token need some room.
ANSWER_BYTES_MAX = (4 << 20) - (64 << 10)
FRAME_BYTES = 8
# The number of lines that are read and encoded at a time: other calls are answered between.
READ_LINES_MAX = 1_000
FIELD = "page_token"
HASH_BYTES = 8
# The bounds of the numbers in a place: below the highest bigint, so that a query may add 1.
NUMBERS = range(2**63 - 1)
T = TypeVar("T")


class Listed(NamedTuple):
    """A record of a list that is not read yet: its place in the list, which ends with its id, and
    its number of lines.
    """

    place: tuple[Any, ...]
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list: at most `size` rows that come after the position `after` (None: from the
    start).

    `encode` makes the answer's message of a record. A page has fewer records where they would have
    more than ANSWER_BYTES_MAX together.
    """

    size: int
    after: tuple[Any, ...] | None
    filter: int
    encode: Callable[[Any], Message]

    async def fill(
        self,
        found: Sequence[Listed],
        read: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Any]]],
    ) -> tuple[list[Any], str]:
        """Returns the page's records, encoded, and the token of the next page, as `cut` does;
        `read` reads a few records at a time.
        """
        kept = _Records()
        for ids in _portions(found[: self.size]):
            records = await read(ids)
            if not kept.take(self.encode(records[id]) for id in ids):
                break
        return kept.messages, self._token([row.place for row in found], kept)

    def cut(
        self, rows: Sequence[T], position: Callable[[T], tuple[Any, ...]]
    ) -> tuple[list[Any], str]:
        """Returns the page's records, encoded, and the token of the next page ("": there is none).
        `rows`: up to size + 1.
        """
        kept = _Records()
        kept.take(map(self.encode, rows[: self.size]))
        return kept.messages, self._token([position(row) for row in rows], kept)

    def token(self, place: tuple[Any, ...]) -> str:
        """Returns the token of the page that begins after this place."""
        return pack(self.filter, *place)

    def _token(self, places: Sequence[tuple[Any, ...]], kept: _Records) -> str:
        number = len(kept.messages)
        return self.token(places[number - 1]) if number < len(places) else ""


class _Records:
    """The records that fit into an answer. The first one always fits, because no single record is
    too large.
    """

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._room = ANSWER_BYTES_MAX

    def take(self, several: Iterable[Message]) -> bool:
        """Takes records up to the first that does not fit. Returns whether all fitted."""
        for message in several:
            self._room -= message.ByteSize() + FRAME_BYTES
            if self._room < 0 and self.messages:
                return False
            self.messages.append(message)
        return True


def _portions(found: Sequence[Listed]) -> Iterator[list[UUID]]:
    """Yields the records' ids, in portions with READ_LINES_MAX lines at most, or of one record."""
    portion, lines = list[UUID](), 0
    for row in found:
        if portion and lines + row.lines > READ_LINES_MAX:
            yield portion
            portion, lines = [], 0
        portion.append(row.place[-1])
        lines += row.lines + 1
    if portion:
        yield portion


def batch(ids: Sequence[UUID], encode: Callable[[Any], Message]) -> Page:
    """Returns the page that holds all of these records: a batch, which is answered whole or not at
    all.
    """
    return Page(size=len(ids), after=None, filter=0, encode=encode)


def too_large(records_max: int, records: int, bound: str) -> Refused:
    """Returns the refusal of a batch whose answer would be larger than clients take; the answer
    of `records_max` of its `records` would fit.
    """
    text = f"The answer would be larger than {ANSWER_BYTES_MAX} bytes. Ask for {bound}."
    return Refused(
        "ANSWER_TOO_LARGE",
        text,
        bytes_max=str(ANSWER_BYTES_MAX),
        records=str(records),
        records_max=str(records_max),
    )


def page_request(request: Any, encode: Callable[[Any], Message], *place: Kind) -> Page:
    """Returns the page that a List request asks for, by its `page_size` (0: SIZE_DEFAULT) and its
    `page_token`. `place` has the kinds of the values of a row's
    place in the list (one UUID where not given), and `encode` makes the answer's message of a row.

    Raises Invalid PAGE_TOKEN_INVALID where no list has made the token, or one with another filter
    has.
    """
    size, filter_hash = request.page_size or SIZE_DEFAULT, _filter_hash(request)
    if not request.page_token:
        return Page(size=size, after=None, filter=filter_hash, encode=encode)
    try:
        filtered, *after = unpack(request.page_token, int, *(place or (UUID,)))
    except ValueError as error:  # a token that no list has made
        raise refused() from error
    if filtered != filter_hash:
        raise refused("it belongs to a request with other filters")
    if any(isinstance(value, int) and value not in NUMBERS for value in after):
        raise refused()
    return Page(size=size, after=tuple(after), filter=filter_hash, encode=encode)


def _filter_hash(request: Any) -> int:
    """Returns a hash of the request's filter: all its fields without those of the page, and its
    type.
    """
    filters = deepcopy(request)
    for name in ("page_size", FIELD):
        filters.ClearField(name)
    body = (
        request.DESCRIPTOR.full_name.encode()
        + b"\0"
        + filters.SerializeToString(deterministic=True)
    )
    return int.from_bytes(hashlib.sha256(body).digest()[:HASH_BYTES], signed=True)


def refused(why: str = "no list has made it") -> Invalid:
    """Returns the refusal of a token."""
    message = f"page_token cannot be used: {why}. Ask for the first page again, without a token."
    return Invalid("PAGE_TOKEN_INVALID", message, violations=[Violation(FIELD, why)])
