"""What a decider returns and what a write answers: pure data, the same in every service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.errors import Failure

R = TypeVar("R")
H = TypeVar("H")


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
