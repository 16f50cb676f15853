"""What goes into a write and what comes out: pure data, the same in every service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from chassis.errors import Failure

R = TypeVar("R")
H = TypeVar("H")


class Idempotent(Protocol):
    """What has an effect once for its key; see Command for both properties."""

    @property
    def key(self) -> str: ...

    @property
    def digest(self) -> bytes: ...


class Command(Idempotent, Protocol):
    """What can be written: it says what it is idempotent on, and which record it concerns.

    key     `method:request_id`, `consumer:event_id`, or `...:step` where one thing needs several
            writes
    digest  a hash of what is asked without its request_id: the same key with another digest is
            refused
    target  the id of the one record that the command names, known before the write; for a new
            record its proposed id
    cause   what led to it: a request_id, an event's id, or a name that a worker gives its turn.
            Empty: nothing that has a name
    """

    @property
    def target(self) -> UUID: ...

    @property
    def cause(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Decision(Generic[R, H]):
    """The record afterwards (the same object: a skip), what its history gains, what the world is
    told.
    """

    record: R
    history: Sequence[H] = ()
    facts: Sequence[object] = ()


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The record as it stands. A repeat did nothing this time; what was skipped found that it
    changes nothing.
    """

    record: R
    repeat: bool = False
    skipped: bool = False


Outcome = Done[R] | Failure


def unwrap(outcome: Outcome[R]) -> R:
    """The record of what was done; what was not done is raised."""
    if isinstance(outcome, Failure):
        raise outcome
    return outcome.record
