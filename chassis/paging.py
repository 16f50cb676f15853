"""Pages of a list: an opaque token that is bound to its filter, and the cut of a page from the rows found."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from chassis.errors import Invalid, Violation
from chassis.tokens import Kind, pack, unpack

SIZE_DEFAULT = 50
# What a page's records may have in lines together, so that it fits into the 4 MiB that clients take where nobody tells them otherwise: a
# line has some hundred bytes.
LINES_MAX = 5_000
FIELD = "page_token"
HASH_BYTES = 8
T = TypeVar("T")


class ListRequest(Protocol):
    """A request that pages: `page_size` (0: the default; its upper bound is a rule of the contract) and `page_token`."""

    page_size: int
    page_token: str


class Listed(NamedTuple):
    """A record that a list has found and nobody has read yet: its place in the list, which ends with its id; how many lines it has."""

    place: tuple[Any, ...]
    lines: int


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for: at most `size` rows that come after the position `after` (None: from the start)."""

    size: int
    after: tuple[Any, ...] | None
    filter: int

    def choose(self, found: Sequence[Listed]) -> tuple[list[UUID], str]:
        """The ids of the page's records and the token of the next page, as of `cut`: with LINES_MAX lines in all at most, or one record."""
        fit = sum(so_far <= LINES_MAX for so_far in accumulate(its.lines for its in found[: self.size]))
        kept, token = replace(self, size=max(fit, 1)).cut(found, attrgetter("place"))
        return [its.place[-1] for its in kept], token

    def cut(self, rows: Sequence[T], position: Callable[[T], tuple[Any, ...]]) -> tuple[Sequence[T], str]:
        """The page's rows and the token of the next page ("": that was the last). `rows`: up to size + 1."""
        kept = rows[: self.size]
        if len(rows) <= self.size:
            return kept, ""
        return kept, pack(self.filter, *position(kept[-1]))


def asked(request: ListRequest, *place: Kind) -> Page:
    """The page that a List request asks for; `place` are the kinds of the values that name a row's place in the list (one UUID where
    not given).

    Raises Invalid PAGE_TOKEN_INVALID where the token is not ours or belongs to another filter.
    """
    size, filter_hash = request.page_size or SIZE_DEFAULT, _filter_hash(request)
    if not request.page_token:
        return Page(size, None, filter_hash)
    try:
        filtered, *after = unpack(request.page_token, int, *(place or (UUID,)))
    except ValueError as error:  # whatever a token that is not ours can break
        raise refused() from error
    if filtered != filter_hash:
        raise refused("it belongs to a request with other filters")
    return Page(size, tuple(after), filter_hash)


def _filter_hash(request: ListRequest) -> int:
    """What the request filters by: all of it but its page. A message's type is part of it."""
    assert isinstance(request, Message)
    filters = type(request)()
    filters.CopyFrom(request)
    for name in ("page_size", FIELD):
        filters.ClearField(name)
    body = request.DESCRIPTOR.full_name.encode() + b"\0" + filters.SerializeToString(deterministic=True)
    return int.from_bytes(hashlib.sha256(body).digest()[:HASH_BYTES], signed=True)


def refused(why: str = "it is not one of ours") -> Invalid:
    """The refusal of a token."""
    message = f"page_token cannot be used: {why}. Ask for the first page again, without a token."
    return Invalid("PAGE_TOKEN_INVALID", message, violations=[Violation(FIELD, why)])
