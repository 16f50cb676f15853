"""Histories of sets: sets of commands that a test writes one after the other, each as a set and one
by one (tests/property/sets.py). No tests here.

A command is made when the history reaches its set, because most commands name what earlier sets
have made. All commands of a set are made of the same records, as those of separate callers are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
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
    """One command of a history: its kind, and the numbers that choose its fields."""

    kind: str
    first: int
    second: int

    def choose(self, records: Sequence[Any]) -> Any:
        """Returns one of the records; None where there is none."""
        return records[self.first % len(records)] if records else None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A repeat of an earlier command by its key, by its key with another request hash, or on
    another path: the same command under a new key. `place` chooses the command.
    """

    by: str
    place: int


# The minutes before each set, and its repeats and other drawn commands.
History = Sequence[tuple[int, Sequence[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """The commands of a service's Writer, and its records.

    kind   the functions of the Writer
    make   returns the command of a step, or of another drawn value; None where there is nothing
           that it could name. It gets the value, the number of the command, and the records
    id_of  returns the id of a record; None where `make` reads no records
    renew  returns the command of a repeated request, which proposes new ids; it gets the number of
           the repeat
    start  the time of the first set
    """

    kind: RecordKind
    make: Callable[[Any, int, Records], Envelope[Any] | None]
    id_of: Callable[[Any], UUID] | None = None
    renew: Callable[[Envelope[Any], int], Envelope[Any]] = lambda envelope, _: envelope
    start: datetime = NOON


def numbered(command: Envelope[Any], number: int, _: Records) -> Envelope[Any]:
    """Returns the command with a key of its own, which is its cause too."""
    return replace(command, key=f"key:{number}", cause=f"key:{number}")


def steps(kinds: Sequence[str]) -> st.SearchStrategy[Step]:
    """Returns steps. A kind may be given more than once, to be more likely."""
    return st.builds(Step, st.sampled_from(kinds), st.integers(0, 5), st.integers(0, 5))


def openings(kinds: Sequence[str]) -> st.SearchStrategy[Sequence[Step]]:
    """Returns first sets of these kinds."""
    return st.lists(steps(kinds), min_size=1, max_size=6)


def histories(
    opening: st.SearchStrategy[Sequence[Any]],
    drawn: st.SearchStrategy[Any],
    scenarios: st.SearchStrategy[Sequence[Any]] | None = None,
) -> st.SearchStrategy[History]:
    """Returns histories: the opening set, then sets of drawn values, repeats and scenarios, a
    minute or an hour apart. A scenario is a short sequence that stands together in a set.
    """
    repeats = st.builds(Repeat, st.sampled_from(["key", "hash", "path"]), st.integers(0, 99))
    single, repeat = (values.map(lambda value: [value]) for values in (drawn, repeats))
    several = single if scenarios is None else scenarios
    weighted = [*[single] * 5, repeat, *[several] * 2]
    parts = st.lists(st.sampled_from(weighted).flatmap(lambda each: each), min_size=1, max_size=12)
    sets = st.tuples(st.sampled_from([1, 60]), parts.map(lambda each: list(chain(*each))))
    later = st.lists(sets, min_size=1, max_size=4)
    return st.builds(lambda first, rest: [(0, first), *rest], opening, later)


async def write_history(both: BothWays, commands: Commands, history: History) -> None:
    """Writes each set of the history as a set, and its commands one by one.

    Raises AssertionError where the two differ. Each command is decided at a time of its own.
    """
    await both.clear()
    times: dict[str, datetime] = {}

    def decide(record: Any, envelope: Envelope[Any], _: datetime) -> Decision[Any, Any]:
        return commands.kind.decide(record, envelope, times[envelope.key])

    kind = replace(commands.kind, decide=decide)
    records: dict[UUID, Any] = {}
    written: list[Envelope[Any]] = []
    number, time = 0, commands.start
    for minutes, some in history:
        time += timedelta(minutes=minutes)
        envelopes: dict[str, Envelope[Any]] = {}
        for each in some:
            number += 1
            envelope = (
                _repeated(commands, each, number, written, list(envelopes.values()))
                if isinstance(each, Repeat)
                else commands.make(each, number, records)
            )
            if envelope and envelope.key not in envelopes:
                envelopes[envelope.key] = envelope
                times[envelope.key] = time + timedelta(seconds=number)
        written += envelopes.values()
        for outcome in await both.write(kind, list(envelopes.values()), time):
            if commands.id_of and isinstance(outcome, Done):
                records[commands.id_of(outcome.record)] = outcome.record


def _repeated(
    commands: Commands,
    repeat: Repeat,
    number: int,
    written: Sequence[Envelope[Any]],
    of_set: Sequence[Envelope[Any]],
) -> Envelope[Any] | None:
    """Returns the repeat of a command of an earlier set, or on another path also of this set."""
    candidates = [*written, *(of_set if repeat.by == "path" else ())]
    if not candidates:
        return None
    earlier = candidates[-1 - repeat.place % len(candidates)]
    if repeat.by == "hash":
        return replace(earlier, request_hash=b"another request")
    again = commands.renew(earlier, number)
    return again if repeat.by == "key" else numbered(again, number, {})
