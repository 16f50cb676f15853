"""What the histories of an order and of its returns have in common."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTransition(Generic[S]):
    """A row of a record's history: its version and status after the change.

    `cause` is what led to the transition:

    event                  its id
    call of OrderService   its request_id
    call of ReturnService  its idempotency key, `method:request_id`
    expiry of an order     the idempotency key of that expiry

    `claimed_actor` and `note` are those of a call, else None.
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
