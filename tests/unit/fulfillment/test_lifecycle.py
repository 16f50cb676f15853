"""The fulfilment's table of moves, for every pair of statuses."""

from itertools import product

import pytest

from fulfillment_svc.lifecycle import (
    FORWARD,
    MOVES,
    TERMINAL,
    TRIGGERS,
    Status,
    path_between,
)

# lifecycle.md section 3, written a second time: the specification, not the code.
SPECIFIED = {
    "pending": {"planning", "cancelled"},
    "planning": {"picking", "cancelled"},
    "picking": {"picked", "cancelled"},
    "picked": {"packing", "cancelled"},
    "packing": {"packed", "cancelled"},
    "packed": {"ready", "picking", "packing", "cancelled"},
    "ready": {"shipped", "packing", "cancelled"},
    "shipped": {"completed"},
    "completed": set(),
    "cancelled": set(),
}

PAIRS = list(product(Status, Status))


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_every_move_is_as_specified(here: Status, there: Status) -> None:
    """The table has a move exactly if the specification has it."""
    assert (there in MOVES[here]) == (there in SPECIFIED[here])


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_path_forward_follows_the_table(here: Status, there: Status) -> None:
    """A path has only allowed moves and ends at its target. It exists exactly if the target lies
    ahead.
    """
    path = path_between(here, there)
    for old, new in zip((here, *path), path, strict=False):
        assert new in MOVES[old]
    ahead = here in FORWARD and there in FORWARD and FORWARD.index(here) < FORWARD.index(there)
    assert bool(path) == ahead
    assert not path or path[-1] is there


def test_completed_and_cancelled_are_terminal() -> None:
    """Completed and cancelled have no next status, and every other status has one."""
    assert {Status.COMPLETED, Status.CANCELLED} == TERMINAL


def test_every_move_has_exactly_one_trigger() -> None:
    """Each trigger makes a move, and no two triggers make the same one. The statuses of a history
    row determine its trigger.
    """
    moves = [(old, new) for steps in TRIGGERS.values() for old, new in steps.items()]
    assert all(TRIGGERS.values())
    assert len(moves) == len(set(moves)) == sum(map(len, MOVES.values()))
