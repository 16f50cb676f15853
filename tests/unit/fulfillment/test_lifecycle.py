"""The fulfilment's table of moves, over the whole product of statuses."""

from itertools import product

import pytest

from fulfillment_svc.lifecycle import (
    FORWARD,
    MOVES,
    TERMINAL,
    TRIGGERS,
    Status,
    is_before,
    path_between,
)

# lifecycle.md section 3, written down a second time: the specification, not the code.
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
def test_every_pair_is_as_specified(here: Status, there: Status) -> None:
    """A move stands in the table exactly when the specification has it."""
    assert (there in MOVES[here]) == (there in SPECIFIED[here])


@pytest.mark.parametrize(("here", "there"), PAIRS)
def test_the_way_forward_follows_the_table(here: Status, there: Status) -> None:
    """A way has only allowed moves, ends where it is to lead, and exists exactly where `there`
    lies ahead on the way.
    """
    path = path_between(here, there)
    for old, new in zip((here, *path), path, strict=False):
        assert new in MOVES[old]
    ahead = here in FORWARD and there in FORWARD and FORWARD.index(here) < FORWARD.index(there)
    assert bool(path) == ahead == is_before(here, there)
    assert not path or path[-1] is there


def test_terminal_statuses_are_the_two_ends() -> None:
    """Nothing follows completed and cancelled, and something follows everything else."""
    assert {Status.COMPLETED, Status.CANCELLED} == TERMINAL


def test_every_trigger_moves_and_every_move_has_one_trigger() -> None:
    """No trigger is idle, and no two triggers make the same move: a row of history says by its
    statuses what happened.
    """
    moves = [(old, new) for steps in TRIGGERS.values() for old, new in steps.items()]
    assert all(TRIGGERS.values())
    assert len(moves) == len(set(moves)) == sum(map(len, MOVES.values()))
