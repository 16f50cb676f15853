"""The result of a decider and the outcome of a command: pure data, the same in every service."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from chassis.values.errors import Failure

R = TypeVar("R")
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Decision(Generic[R, H]):
    """The record afterwards (the same object: a skip), its new rows of history, and its domain
    events.
    """

    record: R
    history: Sequence[H] = ()
    events: Sequence[object] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[R]):
    """The record after the command, with the history and the domain events that the command added.

    repeat   the key had its effect before, and this command added nothing
    skipped  the decider found nothing to change
    """

    record: R
    repeat: bool = False
    skipped: bool = False
    history: Sequence[Any] = field(default=(), compare=False, repr=False)
    events: Sequence[object] = field(default=(), compare=False, repr=False)


Outcome = Done[R] | Failure


def unwrap(outcome: Outcome[R]) -> R:
    """Returns the record of a command that was done; raises the failure of one that was not."""
    if isinstance(outcome, Failure):
        raise outcome
    return outcome.record
