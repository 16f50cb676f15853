"""What the histories of an order and of its returns have in common."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[S]):
    """A row of a record's history: its version and status after the step.

    `cause` is the id of the event that led to it. For a call it is the request_id (of an order's
    step) or the key (of a return's step). `claimed_actor` and `note` are the call's, and None for
    an event.
    """

    version: int
    old: S | None
    new: S
    reason: str
    actor: str
    cause: str
    time: datetime
    claimed_actor: str | None = None
    note: str | None = None
