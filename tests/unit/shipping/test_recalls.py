"""Recalls, withdrawals and the carrier's answers, by tables: each in each status."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused, Stale
from shipping_svc.decisions.deciders import decide
from shipping_svc.decisions.transitions import ShipmentDecision
from shipping_svc.lifecycle import TERMINAL, Reason, Status
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import RecallAnswer, RecallClosed, RecallOpened, Transition
from tests.unit.shipping.samples import (
    LATER,
    NOON,
    SHIPMENT,
    as_transition,
    cancel_shipment,
    close_shipment,
    fail_label,
    record_recall_answer,
    shipment,
    withdraw_shipment,
)

RECALLS = [
    (cancel_shipment(), "RECALLED", "staff", "q1"),
    (close_shipment(), "ORDER_CLOSED", "order", "e9"),
]
CLOSED = fail_label(Reason.ORDER_CLOSED, None, purchase=None)


@pytest.mark.parametrize(("command", "reason", "actor", "cause"), RECALLS, ids=["cancel", "close"])
@pytest.mark.parametrize("here", sorted(set(Status) - TERMINAL - {Status.PENDING}))
def test_recall_of_labelled_shipment_keeps_status(
    here: Status, command: Envelope[Any], reason: str, actor: str, cause: str
) -> None:
    """In every status in which the carrier has the label: recall_time, one version, one row and one
    event at once, and the carrier is to be asked.
    """
    before = shipment(here)
    decided = decide(before, command, LATER)
    after = decided.record
    assert after == replace(
        before, recall_time=LATER, reason=reason, version=before.version + 1, update_time=LATER
    )
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=after.version,
            old=here,
            new=here,
            reason=reason,
            actor=actor,
            cause=cause,
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number="SBX0000000001", time=LATER),
    ]
    assert decided.events == [StatusChanged(after, as_transition(decided.history[0]))]
    for again in (command, cancel_shipment(), close_shipment()):
        twice = decide(after, again, LATER + timedelta(hours=1))
        assert twice.record is after
        assert not twice.history
        assert not twice.events


@pytest.mark.parametrize(
    ("command", "reason", "actor", "cause"),
    [*RECALLS, (CLOSED, "ORDER_CLOSED", "shipping", "c1")],
    ids=["cancel", "close", "closed"],
)
def test_recall_before_the_label_fails_the_shipment(
    command: Envelope[Any], reason: str, actor: str, cause: str
) -> None:
    """pending -> failed, with an event. The sale's answer may be lost or late: a label that may
    have been sold is recalled.
    """
    decided = decide(shipment("pending"), command, LATER)
    assert decided.record == shipment("failed", reason=reason, update_time=LATER)
    assert decided.history == [
        Transition(
            shipment_id=SHIPMENT,
            version=2,
            old=Status.PENDING,
            new=Status.FAILED,
            reason=reason,
            actor=actor,
            cause=cause,
            time=LATER,
        ),
        RecallOpened(shipment_id=SHIPMENT, purchase=0, tracking_number=None, time=LATER),
    ]
    assert decided.events == [StatusChanged(decided.record, as_transition(decided.history[0]))]


@pytest.mark.parametrize("here", sorted(TERMINAL))
def test_recall_of_a_terminal_shipment_is_refused(here: Status) -> None:
    """The caller gets a refusal; the closing of the order changes nothing."""
    there = shipment(here)
    with pytest.raises(Refused) as refused:
        decide(there, cancel_shipment(), LATER)
    assert (refused.value.reason, refused.value.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": here, "allowed": ""},
    )
    decided = decide(there, close_shipment(), LATER)
    assert decided.record is there
    assert not decided.history
    assert not decided.events


def test_cancel_with_other_version_is_refused() -> None:
    """A stated version must be the shipment's, also for a terminal or recalled one."""
    for there in (
        shipment("in_transit"),
        shipment("delivered"),
        shipment("in_transit", recall_time=NOON),
    ):
        with pytest.raises(Stale) as stale:
            decide(there, cancel_shipment(expected_version=2), LATER)
        assert stale.value.metadata == {"expected": "2", "actual": "3"}
    assert (
        decide(
            shipment("in_transit"), cancel_shipment(expected_version=3), LATER
        ).record.recall_time
        == LATER
    )


@pytest.mark.parametrize("answer", RecallAnswer)
@pytest.mark.parametrize("here", sorted(set(Status) - {Status.PENDING}))
def test_each_answer_to_a_recall_in_each_status(here: Status, answer: RecallAnswer) -> None:
    """Void ends a shipment that waits for its carrier, for the reason of its recall; otherwise
    reports decide. The recall closes, unless the carrier does not stop parcels that were recalled
    since.
    """
    before = shipment(
        here, reason="ORDER_CLOSED", recall_time=None if here is Status.FAILED else NOON
    )
    decided = decide(before, record_recall_answer(answer), LATER)
    after = decided.record
    if here is Status.CREATED and answer is RecallAnswer.TOO_LATE:
        assert (after, len(decided.history), len(decided.events)) == (before, 0, 0)
        return
    assert decided.history[-1] == RecallClosed(SHIPMENT, 0, None)
    if here is Status.CREATED and answer is RecallAnswer.VOIDED:
        assert after == replace(before, status=Status.VOIDED, version=3, update_time=LATER)
        assert decided.history[:-1] == [
            Transition(
                shipment_id=SHIPMENT,
                version=3,
                old=here,
                new=Status.VOIDED,
                reason="ORDER_CLOSED",
                actor="carrier",
                cause="r1",
                time=LATER,
            )
        ]
        assert decided.events == [StatusChanged(after, as_transition(decided.history[0]))]
    else:
        assert after is before
        assert len(decided.history) == 1
        assert not decided.events


def status_changes(decided: ShipmentDecision) -> list[tuple[Status, str]]:
    """Returns the status and the reason of each published change."""
    return [
        (event.shipment.status, event.shipment.reason)
        for event in decided.events
        if isinstance(event, StatusChanged)
    ]


@pytest.mark.parametrize("here", Status)
def test_withdrawal_in_each_status_has_an_answer(here: Status) -> None:
    """No label is bought any more. A sold one is voided at the carrier, without bringing back
    parcels in transit. A known answer is published at once. A repeat changes nothing.
    """
    before = shipment(here)
    decided = decide(before, withdraw_shipment(), LATER)
    after = decided.record
    assert (after.withdraw_version, after.recall_time) == (8, before.recall_time)
    assert after.version == before.version + 1
    changes = status_changes(decided)
    recall = RecallOpened(
        shipment_id=SHIPMENT,
        purchase=0,
        tracking_number=after.tracking_number,
        time=LATER,
        bring_back=here is Status.PENDING,
    )
    if here is Status.PENDING:
        assert (changes, decided.history[1:]) == (
            [(Status.FAILED, "FULFILLMENT_WITHDRAWN")],
            [recall],
        )
    elif here is Status.CREATED:
        assert (changes, decided.history[1:], after.reason) == (
            [],
            [recall],
            "FULFILLMENT_WITHDRAWN",
        )
    else:
        has_left = here not in (Status.FAILED, Status.VOIDED)
        assert changes == [(here, "WITHDRAWAL_TOO_LATE" if has_left else "FULFILLMENT_WITHDRAWN")]
        assert len(decided.history) == 1
    assert decide(after, withdraw_shipment(), LATER).record is after


@pytest.mark.parametrize("answer", RecallAnswer)
@pytest.mark.parametrize("recalled", [False, True])
def test_each_answer_to_withdrawal_is_published(answer: RecallAnswer, recalled: bool) -> None:
    """The answer is void, or too late. If the parcels were recalled since, only an answer to that
    recall counts.
    """
    before = shipment(
        "created",
        withdraw_version=8,
        reason="FULFILLMENT_WITHDRAWN",
        recall_time=NOON if recalled else None,
    )
    decided = decide(before, record_recall_answer(answer), LATER)
    changes = status_changes(decided)
    if recalled and answer is RecallAnswer.TOO_LATE:
        assert (decided.record, len(decided.history), changes) == (before, 0, [])
        return
    assert decided.history[-1] == RecallClosed(SHIPMENT, 0, None)
    void = answer is RecallAnswer.VOIDED
    assert changes == [
        (Status.VOIDED, "FULFILLMENT_WITHDRAWN")
        if void
        else (Status.CREATED, "WITHDRAWAL_TOO_LATE")
    ]


def test_void_label_of_an_older_purchase_ends_nothing() -> None:
    """The shipment waits for its carrier with the label of a newer purchase."""
    there = shipment("created", purchase=1, reason="RECALLED", recall_time=NOON)
    decided = decide(there, record_recall_answer(), LATER)
    assert decided.record is there
    assert decided.history == [RecallClosed(SHIPMENT, 0, None)]
