"""The table of the shipment's statuses, for every pair."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from shipping_svc.lifecycle import LABELLED, MOVES, REPORTABLE, STAGE, TERMINAL, Status, is_further

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

# Written by hand from the specification: a change of the table must be made twice.
LEGAL = {
    "pending": "created failed",
    "created": (
        "in_transit out_for_delivery delivery_failed delivered lost returned_to_sender voided"
    ),
    "in_transit": "out_for_delivery delivery_failed delivered lost returned_to_sender",
    "out_for_delivery": "delivery_failed delivered lost returned_to_sender",
    "delivery_failed": "out_for_delivery delivered lost returned_to_sender",
    "delivered": "",
    "lost": "",
    "returned_to_sender": "",
    "failed": "",
    "voided": "",
}


@pytest.mark.parametrize(("old", "new"), list(product(Status, Status)))
def test_each_pair_of_statuses_is_legal_or_not(old: Status, new: Status) -> None:
    """A shipment moves from one status to another exactly where the specification states it."""
    assert (new in MOVES[old]) == (new.value in LEGAL[old.value].split())


def test_sets_of_statuses_follow_the_table() -> None:
    """Terminal statuses have no next one. A label exists from created on. Every status but the
    initial one and the void label can be reported.
    """
    assert {"delivered", "lost", "returned_to_sender", "failed", "voided"} == TERMINAL
    assert set(Status) - LABELLED == {Status.PENDING, Status.FAILED}
    assert set(STAGE) == LABELLED - {Status.VOIDED}
    assert LABELLED - {Status.CREATED, Status.VOIDED} == REPORTABLE


@pytest.mark.parametrize(("here", "there"), list(product(Status, sorted(REPORTABLE))))
@pytest.mark.parametrize("later_s", [-1, 0, 1])
def test_report_moves_along_the_table(here: Status, there: Status, later_s: int) -> None:
    """A report that moves a shipment moves it along the table, for any time; a terminal status
    never moves.
    """
    here_time = None if here is Status.CREATED else NOON
    if is_further(here, here_time, there, NOON + timedelta(seconds=later_s)):
        assert there is here or there in MOVES[here]
        assert here not in TERMINAL
    elif here in LABELLED - TERMINAL:
        assert STAGE[there] <= STAGE[here]


@pytest.mark.parametrize(
    ("here", "there", "later_s", "moves"),
    [
        ("in_transit", "delivered", -60, True),  # a later stage, reported with an earlier time
        # an earlier stage, reported with a later time
        ("out_for_delivery", "in_transit", 60, False),
        ("out_for_delivery", "delivery_failed", 60, True),
        ("out_for_delivery", "delivery_failed", -60, False),  # the delivery attempt before this one
        ("delivery_failed", "out_for_delivery", 60, True),  # the second delivery attempt
        # of two reports with the same time, the failure is the later one
        ("delivery_failed", "out_for_delivery", 0, False),
        ("out_for_delivery", "delivery_failed", 0, True),
        ("delivered", "lost", 60, False),
        ("lost", "delivered", 60, False),
        ("pending", "delivered", 60, False),
        ("failed", "delivered", 60, False),
        ("voided", "in_transit", 60, False),
    ],
)
def test_how_far_a_report_is(here: str, there: str, later_s: int, moves: bool) -> None:
    """The stage decides first, then the carrier's clock. A terminal status, and one without a
    label, never move.
    """
    assert is_further(Status(here), NOON, Status(there), NOON + timedelta(seconds=later_s)) is moves
