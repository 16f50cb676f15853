"""The length of the longest token of some kinds of values. No tests here."""

from datetime import UTC, datetime
from uuid import UUID

from chassis.values.tokens import Kind, pack

LONGEST: dict[Kind, UUID | int | datetime | str] = {
    UUID: UUID(int=0),
    int: 0,
    datetime: datetime(2026, 1, 1, tzinfo=UTC),
    str: "\U0001f375" * 64,  # a name of 64 characters, of 4 bytes each
}


def characters_max(*kinds: Kind) -> int:
    """Returns the greatest length of a token of such values."""
    return len(pack(*(LONGEST[kind] for kind in kinds)))
