"""Applies commands: each works on the record that the one before it left. Pure: it loads and saves
nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from chassis.values.decision import Decision, Done, Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Failure
from chassis.write.workspace import Workspace

R = TypeVar("R")
H = TypeVar("H")

# decide(record, envelope, the database's clock) -> decision; raises a Failure
Decide = Callable[[R | None, Envelope[Any], datetime], Decision[R, H]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied(Generic[R, H]):
    """The outcome of each command, by its key, and the history and domain events of all, in order.

    `causes` has the cause of each domain event's command.
    """

    outcomes: dict[str, Outcome[R]] = field(default_factory=dict)
    history: list[H] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    @property
    def undone(self) -> list[str]:
        """The keys of the commands that have had no effect, not even a skip."""
        return [key for key, outcome in self.outcomes.items() if not isinstance(outcome, Done)]


def apply_commands(
    workspace: Workspace[R],
    envelopes: Sequence[Envelope[Any]],
    decide: Decide[R, H],
    now: datetime,
) -> Applied[R, H]:
    """Decides one command after the other over the workspace, which ends as the commands leave it.

    A refused command does not affect the others, and neither does one whose decision raises an
    unexpected error. The first command is decided at `now`, each further one a microsecond after
    the one before: so times have the order of the decisions, as if each command were written alone.
    """
    applied: Applied[R, H] = Applied()
    for place, envelope in enumerate(envelopes):
        known = workspace.get(envelope.target)
        try:
            decision = decide(known, envelope, now + timedelta(microseconds=place))
        except Failure as failure:
            failure.target = envelope.target
            applied.outcomes[envelope.key] = failure
        # a decision is pure: any other error that it raises concerns its command alone
        except Exception as bug:  # noqa: BLE001
            applied.outcomes[envelope.key] = Defect(bug)
        else:
            if decision.record is not known:
                workspace.put(envelope.target, decision.record)
            skipped = decision.record is known and not decision.history and not decision.events
            applied.outcomes[envelope.key] = Done(
                record=decision.record,
                skipped=skipped,
                history=decision.history,
                events=decision.events,
            )
            applied.history.extend(decision.history)
            applied.events.extend(decision.events)
            applied.causes.extend([envelope.cause] * len(decision.events))
    return applied
