"""Reports of the carrier, by tables: each report in each status."""

from dataclasses import replace
from datetime import timedelta

import pytest

from chassis.values.errors import Refused
from shipping_svc.decisions.deciders import decide
from shipping_svc.lifecycle import LABELLED, MOVES, REPORTABLE, STAGE, TERMINAL, Status
from shipping_svc.model.events import Delivered, StatusChanged
from shipping_svc.model.records import RecallClosed, TrackingEvent, Transition
from tests.unit.shipping.samples import (
    LABEL,
    LATER,
    NOON,
    SHIPMENT,
    as_transition,
    report,
    shipment,
)


@pytest.mark.parametrize("there", sorted(REPORTABLE))
def test_report_of_a_void_label_is_a_contradiction(there: Status) -> None:
    """The report is recorded, and the shipment is marked as contradicted, once."""
    before = shipment(Status.VOIDED)
    decided = decide(before, report(there, minute=30), LATER)
    after = decided.record
    assert decided.history[0] == TrackingEvent(
        shipment_id=SHIPMENT, report=report(there, minute=30).command.report, record_time=LATER
    )
    contradicted = replace(
        before,
        version=5,
        update_time=LATER,
        reason="REPORTED_AFTER_VOID",
        contradict_time=LATER,
    )
    assert replace(after, recorded_reports=frozenset()) == contradicted
    cause = f"{there}@30"
    assert decided.history[1:] == [
        Transition(
            shipment_id=SHIPMENT,
            version=5,
            old=Status.VOIDED,
            new=Status.VOIDED,
            reason="REPORTED_AFTER_VOID",
            actor="carrier",
            cause=cause,
            time=LATER,
        )
    ]
    assert decided.events == [StatusChanged(after, as_transition(decided.history[1]))]
    again = decide(after, report(there, minute=40), LATER)
    assert (again.record.version, len(again.history), again.events) == (5, 1, [])


@pytest.mark.parametrize("here", sorted(LABELLED - {Status.VOIDED}))
@pytest.mark.parametrize("there", sorted(REPORTABLE))
def test_each_report_in_each_status(here: Status, there: Status) -> None:
    """A later report is always recorded. If its status is further, it moves the shipment by one
    version and one row, else it moves nothing.
    """
    before = shipment(here)
    decided = decide(before, report(there, minute=30), LATER)
    after = decided.record
    assert decided.history[0] == TrackingEvent(
        shipment_id=SHIPMENT, report=report(there, minute=30).command.report, record_time=LATER
    )
    moves = here not in TERMINAL and here is not there and STAGE[there] >= STAGE[here]
    assert (after.status, after.version) == (
        (there, before.version + 1) if moves else (here, before.version)
    )
    if moves:
        cause = f"{there}@30"
        assert decided.history[1:] == [
            Transition(
                shipment_id=SHIPMENT,
                version=after.version,
                old=here,
                new=there,
                reason="CARRIER_REPORTED",
                actor="carrier",
                cause=cause,
                time=LATER,
            )
        ]
        assert (after.reason, after.update_time) == ("CARRIER_REPORTED", LATER)
        transition = as_transition(decided.history[1])
        assert decided.events[0] == StatusChanged(after, transition)
        assert decided.events[1:] == (
            [Delivered(after, transition)] if there is Status.DELIVERED else []
        )
        assert there in MOVES[here]
    else:
        assert not decided.history[1:]
        assert not decided.events
        assert after.update_time == before.update_time


def test_delivery_has_the_time_of_the_carrier() -> None:
    """The time of delivery is the carrier's, not the time of the record."""
    assert decide(
        shipment("created"), report("delivered", minute=7), LATER
    ).record.deliver_time == NOON + timedelta(minutes=7)


@pytest.mark.parametrize("here", sorted(LABELLED))
def test_repeated_report_is_skipped(here: Status) -> None:
    """A recorded report is skipped, also with another content."""
    there = shipment(here, recorded_reports=frozenset({"r1"}))
    decided = decide(there, report("delivered", minute=90, carrier_event_id="r1"), LATER)
    assert decided.record is there
    assert not decided.history


def test_repeated_report_within_a_set_is_skipped() -> None:
    """The second command of a set sees the records of the first."""
    first = decide(shipment("created"), report("in_transit", carrier_event_id="r1"), LATER)
    second = decide(first.record, report("in_transit", carrier_event_id="r1"), LATER)
    assert second.record is first.record


def test_second_delivery_attempt_has_its_own_time() -> None:
    """A failure with an earlier time is not that of the present delivery attempt, although it is
    recorded later.
    """
    out = decide(shipment("out_for_delivery"), report("out_for_delivery", minute=60), LATER).record
    assert (out.status, out.version) == (Status.OUT_FOR_DELIVERY, 3)
    assert (
        decide(out, report("delivery_failed", minute=30), LATER).record.status
        is Status.OUT_FOR_DELIVERY
    )
    assert (
        decide(out, report("delivery_failed", minute=90), LATER).record.status
        is Status.DELIVERY_FAILED
    )


@pytest.mark.parametrize(
    ("here", "reported"),
    [("pending", "in_transit"), ("failed", "delivered"), ("in_transit", "created")],
)
def test_impossible_report_is_refused(here: str, reported: str) -> None:
    """No report is accepted without a label, and none of the initial status. The refusal lists the
    allowed statuses.
    """
    with pytest.raises(Refused) as refused:
        decide(shipment(here), report(reported), LATER)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert refused.value.metadata == {
        "status": here,
        "allowed": ", ".join(sorted(MOVES[Status(here)])),
    }


@pytest.mark.parametrize("there", sorted(REPORTABLE))
def test_report_moves_a_recalled_shipment(there: Status) -> None:
    """Reports move it like any other, also to delivered. At an end its recall is closed."""
    recalled = shipment("created", recall_time=NOON, reason="RECALLED", version=3)
    decided = decide(recalled, report(there), LATER)
    assert (decided.record.status, decided.record.version, decided.record.recall_time) == (
        there,
        4,
        NOON,
    )
    assert decided.events[0] == StatusChanged(decided.record, as_transition(decided.history[1]))
    assert (RecallClosed(SHIPMENT, 0, LABEL.tracking_number) in decided.history) == (
        there in TERMINAL
    )
