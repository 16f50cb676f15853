"""The tables of the warehouse agree with the specification, and with each other."""

from itertools import product

import pytest

from warehouse_svc.lifecycle import (
    EFFECTS,
    MOVES,
    TERMINAL,
    UNIT_MOVES,
    Bucket,
    Effect,
    MovementKind,
    Status,
    allowed,
    status_of,
)

# The specification's table: available, reserved, committed, damaged, outside.
MOVEMENTS = {
    "receive": (1, 0, 0, 0, -1),
    "adjust": (1, 0, 0, 0, -1),
    "reserve": (0, 1, 0, 0, 0),
    "confirm": (-1, -1, 1, 0, 0),
    "release": (0, -1, 0, 0, 0),
    "expire": (0, -1, 0, 0, 0),
    "uncommit": (1, 0, -1, 0, 0),
    "ship": (0, 0, -1, 0, 1),
    "short": (0, 0, -1, 0, 1),
    "spoil_committed": (0, 0, -1, 1, 0),
    "spoil_shelf": (-1, 0, 0, 1, 0),
    "restock": (1, 0, 0, 0, -1),
    "mark_damaged": (0, 0, 0, 1, -1),
    "ship_shelf": (-1, 0, 0, 0, 1),
}


def test_each_movement_has_its_specified_effect() -> None:
    """Every kind of movement has its specified effect only."""
    assert {kind.value: tuple(effect) for kind, effect in EFFECTS.items()} == MOVEMENTS
    assert set(EFFECTS) == set(MovementKind)


@pytest.mark.parametrize("effect", list(EFFECTS.values()))
def test_movement_sums_to_zero_over_all_balances(effect: Effect) -> None:
    """Over all balances, with the outside, a movement sums to zero; reserved is only a mark."""
    assert effect.available + effect.committed + effect.damaged + effect.outside == 0


@pytest.mark.parametrize("kind", list(UNIT_MOVES))
def test_line_and_balances_change_together(kind: MovementKind) -> None:
    """A change of a line's reserved and committed units is the same change of the balances."""
    taken, put = UNIT_MOVES[kind]
    for bucket in (Bucket.RESERVED, Bucket.COMMITTED):
        assert getattr(EFFECTS[kind], bucket) == (put is bucket) - (taken is bucket)


@pytest.mark.parametrize(("here", "there"), list(product(Status, Status)))
def test_every_pair_of_statuses(here: Status, there: Status) -> None:
    """active -> confirmed | released | expired; confirmed -> closed. No other move exists, and
    terminal statuses have none.
    """
    moves = {
        (Status.ACTIVE, Status.CONFIRMED),
        (Status.ACTIVE, Status.RELEASED),
        (Status.ACTIVE, Status.EXPIRED),
        (Status.CONFIRMED, Status.CLOSED),
    }
    assert allowed(here, there) == (here is there or (here, there) in moves)
    assert (here in TERMINAL) == (not MOVES[here])


@pytest.mark.parametrize(
    ("units", "status"),
    [
        ({"reserved": 2}, Status.ACTIVE),
        ({"reserved": 1, "released": 1}, Status.ACTIVE),
        ({"committed": 2}, Status.CONFIRMED),
        ({"committed": 1}, Status.CONFIRMED),
        ({"committed": 1, "released": 1}, Status.CONFIRMED),
        ({"released": 2}, Status.RELEASED),
        ({"released": 2, "expired": 1}, Status.EXPIRED),
        ({}, Status.CLOSED),
        ({"released": 1}, Status.CLOSED),
    ],
)
def test_units_determine_the_reservation_status(units: dict[str, int], status: Status) -> None:
    """The units of a reservation of two determine its status; units not named have shipped,
    returned or been written off.
    """
    nothing = dict.fromkeys(("reserved", "committed", "released", "expired"), 0)
    assert status_of(**nothing | units, quantity=2) is status
