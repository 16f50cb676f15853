"""Stories: sets of commands that a test writes one after the other. No tests here.

A command is made when the story reaches its set, because most commands name what earlier sets have
made. All commands of a set are made of the same records, as those of separate callers are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from chassis.values.decision import Decision, Done
from chassis.values.envelope import Envelope
from tests.property.sets import BothWays, RecordKind

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
Records = Mapping[UUID, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a story: its kind, and the numbers that choose its fields."""

    kind: str
    first: int
    second: int

    def choose(self, records: Sequence[Any]) -> Any:
        """Returns one of the records; None where there is none."""
        return records[self.first % len(records)] if records else None


Story = Sequence[Sequence[Step]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """The commands of a service's Writer, and its records.

    kind   the functions of the Writer
    make   returns the command of a step; None where there is nothing that it could name. It gets
           the step, the number of the command, and the records
    renew  returns the command of a repeated request, which proposes new ids; it gets the number of
           the repeat
    id_of  returns the id of a record
    """

    kind: RecordKind
    make: Callable[[Step, int, Records], Envelope[Any] | None]
    id_of: Callable[[Any], UUID]
    renew: Callable[[Envelope[Any], int], Envelope[Any]] = lambda envelope, _: envelope


def stories(opening: Sequence[str], kinds: Sequence[str]) -> st.SearchStrategy[Story]:
    """Returns stories: a set of `opening` kinds, then sets of all kinds. A kind may be given more
    than once, to be more likely.
    """
    later = st.lists(_steps([*kinds, "again", "reused"]), min_size=1, max_size=14)
    return st.builds(
        lambda first, rest: [first, *rest],
        st.lists(_steps(opening), min_size=1, max_size=6),
        st.lists(later, min_size=1, max_size=4),
    )


def _steps(kinds: Sequence[str]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.sampled_from(kinds), st.integers(0, 5), st.integers(0, 5))


async def write_story(both: BothWays, commands: Commands, story: Story) -> None:
    """Writes each set of the story as a set, and its commands one by one.

    Raises AssertionError where the two differ. Each command is decided at a time of its own.
    """
    await both.clear()
    times: dict[str, datetime] = {}

    def decide(record: Any, envelope: Envelope[Any], _: datetime) -> Decision[Any, Any]:
        return commands.kind.decide(record, envelope, times[envelope.key])

    kind = replace(commands.kind, decide=decide)
    records: dict[UUID, Any] = {}
    written: list[Envelope[Any]] = []
    number = 0
    for steps in story:
        envelopes: dict[str, Envelope[Any]] = {}
        for step in steps:
            number += 1
            envelope = _next(commands, step, number, records, written)
            if envelope and envelope.key not in envelopes:
                envelopes[envelope.key] = envelope
                times[envelope.key] = NOON + timedelta(seconds=number)
        written += envelopes.values()
        for outcome in await both.write(kind, list(envelopes.values()), NOON):
            if isinstance(outcome, Done):
                records[commands.id_of(outcome.record)] = outcome.record


def _next(
    commands: Commands,
    step: Step,
    number: int,
    records: Records,
    written: Sequence[Envelope[Any]],
) -> Envelope[Any] | None:
    if step.kind not in ("again", "reused"):
        return commands.make(step, number, records)
    if not written:
        return None
    earlier = written[-1 - (6 * step.first + step.second) % len(written)]
    if step.kind == "reused":
        return replace(earlier, request_hash=b"another request")
    return commands.renew(earlier, number)
