"""Properties of every shipment, for all reports of its carrier in every order."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.values.envelope import Envelope
from shipping_svc.decisions.deciders import decide
from shipping_svc.lifecycle import MOVES, REPORTABLE, TERMINAL, Status
from shipping_svc.model.commands import RecordReport
from shipping_svc.model.events import StatusChanged
from shipping_svc.model.records import Row, Shipment, TrackingEvent, Transition
from tests.unit.shipping.samples import NOON, report, shipment

ENDS = [Status.DELIVERED, Status.LOST, Status.RETURNED_TO_SENDER]
UNDERWAY = st.sampled_from(sorted(REPORTABLE - set(ENDS)))
MINUTES = st.integers(0, 5)
# A few minutes and statuses, so that reports of one moment and repeats are common.
reports = st.lists(st.builds(report, UNDERWAY, MINUTES), max_size=6)
with_one_end = st.builds(
    lambda some, end, minute: [*some, report(end, minute)], reports, st.sampled_from(ENDS), MINUTES
)


def after_reports(
    commands: Sequence[Envelope[RecordReport]],
) -> tuple[Shipment, list[Row], list[object]]:
    """A created shipment after all these reports, with its history and its domain events."""
    here = shipment("created")
    rows: list[Row] = []
    events: list[object] = []
    for minute, command in enumerate(commands):
        decided = decide(here, command, NOON + timedelta(days=1, minutes=minute))
        here = decided.record
        rows.extend(decided.history)
        events.extend(decided.events)
    return here, rows, events


@given(st.data(), st.one_of(reports, with_one_end))
def test_reports_in_every_order_end_in_the_same_shipment(
    data: st.DataObject, commands: list[Envelope[RecordReport]]
) -> None:
    """Status, delivery time and tracking list do not depend on the order of arrival, nor on
    repeats.
    """
    straight, straight_rows, _ = after_reports(commands)
    shuffled, shuffled_rows, _ = after_reports(data.draw(st.permutations(commands + commands[:2])))
    assert (shuffled.status, shuffled.report_time, shuffled.deliver_time) == (
        straight.status,
        straight.report_time,
        straight.deliver_time,
    )
    assert tracking(shuffled_rows) == tracking(straight_rows)


@pytest.mark.parametrize("end", ENDS)
def test_every_order_of_a_whole_life(end: Status) -> None:
    """All 720 orders of a life with a failed try at the door and one end finish at that end."""
    life = [
        report("in_transit", 1),
        report("out_for_delivery", 2),
        report("delivery_failed", 3),
        report("in_transit", 4),
        report("out_for_delivery", 5),
        report(end, 6),
    ]
    ends = {
        (done.status, done.report_time, done.deliver_time)
        for done, _, _ in map(after_reports, permutations(life))
    }
    assert len(ends) == 1
    assert next(iter(ends))[0] is end


@given(st.lists(st.builds(report, st.sampled_from(sorted(REPORTABLE)), MINUTES), max_size=12))
def test_history_is_a_walk_along_the_table(commands: list[Envelope[RecordReport]]) -> None:
    """Versions rise by one with each transition. Each is a move of the table and starts where the
    last one ended; an end is the end.
    """
    here, rows, events = after_reports(commands)
    transitions = [row for row in rows if isinstance(row, Transition)]
    assert [row.version for row in transitions] == list(range(3, 3 + len(transitions)))
    before = Status.CREATED
    for row in transitions:
        assert row.old is before
        assert row.new in MOVES[before]
        before = row.new
    assert here.status is before
    assert all(row.new not in TERMINAL for row in transitions[:-1])
    assert [event.transition.old for event in events if isinstance(event, StatusChanged)] == [
        row.old for row in transitions
    ]
    assert (here.deliver_time is not None) == (here.status is Status.DELIVERED)


@given(st.lists(st.builds(report, st.sampled_from(sorted(REPORTABLE)), MINUTES), max_size=12))
def test_every_report_is_recorded_once(commands: list[Envelope[RecordReport]]) -> None:
    """The tracking list has each of the carrier's ids exactly once, also of reports that came
    after the end.
    """
    _, rows, _ = after_reports(commands)
    recorded = [row.report.carrier_event_id for row in rows if isinstance(row, TrackingEvent)]
    assert sorted(recorded) == sorted({each.command.report.carrier_event_id for each in commands})


def tracking(rows: list[Row]) -> set[object]:
    return {row.report for row in rows if isinstance(row, TrackingEvent)}
