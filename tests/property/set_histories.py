"""Histories of sets for the tests that compare sets with their commands (tests/property/sets.py):
drawn commands with keys of their own, scenarios of several, and repeats of earlier ones. No tests
here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from chassis.values.envelope import Envelope

# How a command repeats an earlier one: by its key, by its key with another request hash, or on
# another path: the same command under a new key.
Repeat = str | None
REPEATS: list[Repeat] = [*[None] * 8, "key", "hash", "path"]
DRAWN_MAX = 8  # commands and scenarios in a set

Drawn = tuple[Envelope[Any], Repeat, int]
History = list[tuple[datetime, list[Envelope[Any]]]]
# number(command, key, how many commands come before it) -> the command with that key
Number = Callable[[Envelope[Any], str, int], Envelope[Any]]


def numbered(command: Envelope[Any], key: str, _: int) -> Envelope[Any]:
    """Returns the command with this key, which is its cause too."""
    return replace(command, key=key, cause=key)


def histories(
    commands: st.SearchStrategy[Envelope[Any]],
    scenarios: st.SearchStrategy[Sequence[Envelope[Any]]],
    beginning: Sequence[Envelope[Any]],
    start: datetime,
    number: Number = numbered,
) -> st.SearchStrategy[History]:
    """Returns the strategy of histories: sets with their times. The first set is `beginning`, at
    `start`; a minute or an hour is between two sets. The keys in a set differ.

    A scenario is a short sequence whose commands stand together in a set.
    """
    single = st.tuples(commands, st.sampled_from(REPEATS), st.integers(0, 99)).map(
        lambda one: [one]
    )
    several = scenarios.map(lambda some: [(command, None, 0) for command in some])
    sets = st.lists(st.one_of(single, single, several), min_size=2, max_size=DRAWN_MAX)
    steps = st.tuples(sets.map(lambda parts: list(chain(*parts))), st.sampled_from([1, 60]))

    def history_of(several: list[tuple[list[Drawn], int]]) -> History:
        first = [number(each, f"begin:{place}", place) for place, each in enumerate(beginning)]
        time, past, history = start, list[Envelope[Any]](), [(start, first)]
        for some, minutes in several:
            time += timedelta(minutes=minutes)
            one = _set(some, past, number)
            past += one
            history.append((time, one))
        return history

    return st.lists(steps, min_size=1, max_size=3).map(history_of)


def _set(
    some: Sequence[Drawn], past: Sequence[Envelope[Any]], number: Number
) -> list[Envelope[Any]]:
    """Returns the set of drawn commands. `past` has the commands of the sets before."""
    one: dict[str, Envelope[Any]] = {}
    for command, repeat, which in some:
        count = len(past) + len(one)
        new = number(command, f"key:{count}", 100 + count)
        candidates = [*past, *(one.values() if repeat == "path" else ())]
        if repeat and candidates:
            earlier = candidates[which % len(candidates)]
            new = {
                "key": earlier,
                "hash": replace(new, key=earlier.key, request_hash=b"another"),
                "path": replace(earlier, key=new.key, cause=new.cause),
            }[repeat]
        one.setdefault(new.key, new)
    return list(one.values())
