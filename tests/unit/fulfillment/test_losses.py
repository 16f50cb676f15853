"""Units that leave a picklist because the staff report them, by tables: not found, found damaged,
cancelled.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, Invalid, Refused, Stale
from fulfillment_svc.lifecycle import InspectionRule, Status, WithdrawReason
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    CompletePicking,
    RecordInspection,
    RecordSpoiled,
    Request,
)
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import Line, ReplacedLine
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    changed,
    decide_one,
    envelope,
    fulfillment_in,
    picking_line,
)

RULE = InspectionRule.SKU
CARRIED = (Status.SHIPPED, Status.COMPLETED)


def published(events: object) -> list[tuple[str, int, Status, str]]:
    """Returns for each domain event its kind, the fulfilment's version and status, and the
    reason.
    """
    return [
        (
            "status" if isinstance(event, StatusChanged) else "lines",
            event.fulfillment.version,
            event.fulfillment.status,
            event.reason,
        )
        for event in events  # type: ignore[attr-defined]  # a sequence of events
        if isinstance(event, StatusChanged | LinesChanged)
    ]


def failed(spoiled: Mapping[int, int], *replaced_lines: ReplacedLine) -> Envelope[RecordInspection]:
    """The inspector found these units damaged, and the warehouse posted them."""
    return envelope(
        RecordInspection,
        passed=False,
        note="cracked",
        spoiled=spoiled,
        replaced_lines=replaced_lines,
    )


# --- not found


def test_line_is_closed_short_with_its_unscanned_units() -> None:
    """The unscanned units of the line leave the picklist. The changed lines are published first,
    then the status, each with its version.
    """
    here = replace(
        fulfillment_in(Status.PICKING),
        lines=(picking_line(1, "mug", 3, picked=1), picking_line(2, "cup", 2, picked=2)),
    )
    decision = decide_one(here, envelope(CompletePicking, short_line_numbers=frozenset({1})), NOW)
    assert decision.record.lines == (
        picking_line(1, "mug", 1, picked=1, short=2),
        picking_line(2, "cup", 2, picked=2),
    )
    assert published(decision.events) == [
        ("lines", here.version + 1, Status.PICKING, "SHORT_PICK"),
        ("status", here.version + 2, Status.PICKED, "PICKING_COMPLETED"),
    ]
    assert [(t.version, t.new) for t in decision.history] == [(here.version + 2, Status.PICKED)]


def test_picklist_without_a_found_unit_is_cancelled() -> None:
    """The last units leave with the change of status."""
    here = fulfillment_in(Status.PICKING)
    asked = envelope(CompletePicking, short_line_numbers=frozenset({1, 2, 4}))
    decision = decide_one(here, asked, NOW)
    assert [(line.quantity, line.short, line.cut) for line in decision.record.lines] == [
        (0, 2, 0),
        (0, 1, 0),
        (0, 3, 0),
    ]
    assert published(decision.events) == [
        ("status", here.version + 1, Status.CANCELLED, "NO_UNITS_REMAINING")
    ]


@pytest.mark.parametrize(
    ("short", "open_"),
    [({1}, ["line 4"]), ({2}, ["line 1", "line 4"]), (set(), ["line 1", "line 4"])],
)
def test_open_line_that_is_not_named_short_stays_open(short: set[int], open_: list[str]) -> None:
    """PICKING_INCOMPLETE names each line that is neither scanned nor closed short."""
    here = replace(
        fulfillment_in(Status.PICKING),
        lines=(
            picking_line(1, "mug", 2),
            picking_line(2, "cup", 1, picked=1),
            picking_line(4, "mug", 3),
        ),
    )
    with pytest.raises(Refused) as caught:
        decide_one(here, envelope(CompletePicking, short_line_numbers=frozenset(short)), NOW)
    assert (caught.value.reason, [v.subject for v in caught.value.violations]) == (
        "PICKING_INCOMPLETE",
        open_,
    )


def test_fully_scanned_line_is_not_closed_short() -> None:
    """A named line without missing units loses none, and no change of lines is published."""
    here = replace(fulfillment_in(Status.PICKING), lines=(picking_line(1, "mug", 2, picked=2),))
    decision = decide_one(here, envelope(CompletePicking, short_line_numbers=frozenset({1})), NOW)
    assert decision.record.lines == here.lines
    assert published(decision.events) == [
        ("status", here.version + 1, Status.PICKED, "PICKING_COMPLETED")
    ]


def test_short_line_of_another_picklist_is_refused() -> None:
    """A caller that names it uses another picklist. VALIDATION_FAILED has the field and each such
    number, also beside open lines.
    """
    with pytest.raises(Invalid) as caught:
        decide_one(
            fulfillment_in(Status.PICKING),
            envelope(CompletePicking, short_line_numbers=frozenset({1, 3, 7})),
            NOW,
        )
    rule = "must be on the picklist: {} is not"
    assert caught.value.reason == "VALIDATION_FAILED"
    assert [(v.subject, v.description) for v in caught.value.violations] == [
        ("short_line_numbers", rule.format(3)),
        ("short_line_numbers", rule.format(7)),
    ]


# --- found damaged


@pytest.mark.parametrize(
    ("units", "quantity"),
    [(4, 3), (3, 2)],
    ids=["replaced", "no other is left"],
)
def test_spoiled_units_restart_the_picking(units: int, quantity: int) -> None:
    """Replacements of spoiled units are picked like all others; without replacements the picklist
    is shorter.
    """
    here = fulfillment_in(Status.PACKED, rule=RULE)
    decision = decide_one(
        here,
        failed({4: 1}, ReplacedLine(line_number=4, units=units, committed=units - 1, spoiled=1)),
        NOW,
    )
    record = decision.record
    assert record.lines == (LINES[0], LINES[1], picking_line(4, "mug", quantity, spoiled=1))
    assert (record.status, record.packages) == (Status.PICKING, ())
    assert published(decision.events) == [
        ("lines", here.version + 1, Status.PACKED, "INSPECTION_FAILED"),
        ("status", here.version + 2, Status.PICKING, "INSPECTION_FAILED"),
    ]
    assert [(t.new, t.note) for t in decision.history] == [(Status.PICKING, "cracked")]


def test_fulfilment_with_all_units_spoiled_is_cancelled() -> None:
    """There are no replacements, so the fulfilment has no units."""
    here = fulfillment_in(Status.PACKED, (picking_line(1, "mug", 2),), rule=RULE)
    decision = decide_one(
        here, failed({1: 2}, ReplacedLine(line_number=1, units=2, committed=0, spoiled=2)), NOW
    )
    assert decision.record.lines == (picking_line(1, "mug", 0, spoiled=2),)
    assert published(decision.events) == [
        ("status", here.version + 1, Status.CANCELLED, "NO_UNITS_REMAINING")
    ]


@pytest.mark.parametrize("spoiled", [{1: 3}, {3: 1}, {1: 1, 4: 4}])
def test_more_spoiled_units_than_remain_are_refused(spoiled: dict[int, int]) -> None:
    """The request is refused before the call to the warehouse, with each line that has fewer
    units.
    """
    with pytest.raises(Refused) as caught:
        decide_one(
            fulfillment_in(Status.PACKED, rule=RULE), envelope(RecordSpoiled, spoiled=spoiled), NOW
        )
    units = {1: 2, 2: 1, 4: 3}
    beyond = [f"line {number}" for number, n in spoiled.items() if n > units.get(number, 0)]
    assert (caught.value.reason, [v.subject for v in caught.value.violations]) == (
        "QUANTITY_EXCEEDS_PICKLIST",
        beyond,
    )


@pytest.mark.parametrize("passed", [True, False])
def test_inspection_with_unposted_units_waits(passed: bool) -> None:
    """Unposted units are stored without an event, with the largest count that an inspector found.
    An inspection waits for the warehouse's answer.
    """
    here = fulfillment_in(Status.PACKED, rule=RULE)
    recorded = decide_one(here, envelope(RecordSpoiled, spoiled={4: 2}), NOW)
    again = decide_one(recorded.record, envelope(RecordSpoiled, spoiled={1: 1, 4: 1}), NOW)
    assert (
        recorded.events,
        recorded.record.status,
        recorded.record.version,
    ) == ((), Status.PACKED, here.version + 1)
    assert [(row.old, row.new, row.reason) for row in recorded.history] == [
        (Status.PACKED, Status.PACKED, "SPOILED_UNITS_FOUND"),
    ]
    assert [(line.line_number, line.unposted_spoiled) for line in again.record.lines] == [
        (1, 1),
        (2, 0),
        (4, 2),
    ]
    with pytest.raises(Deferred) as caught:
        decide_one(again.record, envelope(RecordInspection, passed=passed, note=""), NOW)
    assert caught.value.reason == "CONTENTION"


@pytest.mark.parametrize("answers", [(1, 2), (2, 1), (2,)], ids=str)
def test_replacements_in_any_order_post_all_spoiled_units(
    answers: tuple[int, ...],
) -> None:
    """One inspector records a unit, another one two units of the same line. The older answer
    neither posts the remaining unit nor takes the posted one back.
    """
    line = picking_line(4, "mug", 3).with_found_spoiled(1).with_found_spoiled(2)
    for spoiled in answers:
        line = line.with_replacements(
            ReplacedLine(line_number=4, units=3, committed=3 - spoiled, spoiled=spoiled)
        )
    assert (line.spoiled, line.quantity, line.unposted_spoiled, line.planned) == (2, 1, 0, 3)
    assert (
        picking_line(4, "mug", 3)
        .with_found_spoiled(2)
        .with_replacements(ReplacedLine(line_number=4, units=3, committed=2, spoiled=1))
        .unposted_spoiled
        == 1
    )
    assert picking_line(4, "mug", 3).with_found_spoiled(3).cut_to(1).unposted_spoiled == 1


# The statuses after the warehouse's answer is applied, by the status at that time.
MEANWHILE = {status: status for status in Status} | {Status.PACKED: Status.PICKING}


def test_spoiled_units_of_withdrawn_work_are_published() -> None:
    """The units that the warehouse posted while shipping is asked for the parcels have their own
    version, history row and event.
    """
    asked = replace(
        fulfillment_in(Status.READY, rule=RULE), withdraw_reason=WithdrawReason.UNITS_CUT
    )
    decision = decide_one(
        asked, failed({4: 1}, ReplacedLine(line_number=4, units=2, committed=1, spoiled=1)), NOW
    )
    assert decision.record.withdraw_reason is WithdrawReason.UNITS_CUT
    assert [row.version for row in decision.history] == [asked.version + 1]
    assert published(decision.events) == [
        ("lines", asked.version + 1, Status.READY, "INSPECTION_FAILED")
    ]


@pytest.mark.parametrize("units", [3, 4])
@pytest.mark.parametrize("status", Status)
def test_replacement_in_every_status_is_applied(status: Status, units: int) -> None:
    """Between the warehouse's answer and the write, the fulfilment may have any status: the records
    agree unit by unit. A fulfilment that is ready by then is withdrawn, with unchanged packages.
    """
    here = fulfillment_in(status, rule=RULE)
    answer = failed(
        {4: 1}, ReplacedLine(line_number=4, units=units, committed=units - 1, spoiled=1)
    )
    if status in CARRIED:
        with pytest.raises(Refused) as caught:
            decide_one(here, answer, NOW)
        assert caught.value.reason == "ILLEGAL_TRANSITION"
        return
    decision = decide_one(here, answer, NOW)
    line = decision.record.lines[-1]
    assert decision.record.status is MEANWHILE[status]
    assert line.planned == units
    assert (line.spoiled, line.quantity) == (1, 0 if status is Status.CANCELLED else units - 1)
    assert line.picked <= line.quantity
    assert decision.record.packages == (here.packages if status is Status.READY else ())
    assert (decision.record.withdraw_reason is WithdrawReason.INSPECTION_FAILED) == (
        status is Status.READY
    )
    assert decide_one(decision.record, answer, NOW).record.lines == decision.record.lines


@pytest.mark.parametrize(
    ("committed", "line"),
    [
        (2, picking_line(4, "mug", 1, cut=1, spoiled=1)),
        (0, picking_line(4, "mug", 0, cut=2, spoiled=1)),
    ],
    ids=["answer before the cut", "answer after the cut"],
)
def test_cut_between_answer_and_write_is_counted_once(committed: int, line: Line) -> None:
    """Two of three units were cut during the call to the warehouse about one spoiled unit without a
    replacement. Before the warehouse consumed the cut, the spoiled unit is one of the two;
    afterwards, no unit remains.
    """
    here = replace(
        fulfillment_in(Status.PACKING, rule=RULE),
        lines=(picking_line(1, "mug", 2, picked=2), picking_line(4, "mug", 1, picked=1, cut=2)),
    )
    decision = decide_one(
        here,
        failed({4: 1}, ReplacedLine(line_number=4, units=3, committed=committed, spoiled=1)),
        NOW,
    )
    assert decision.record.lines[-1] == replace(line, picked=line.quantity)
    assert published(decision.events) == [
        ("lines", here.version + 1, Status.PACKING, "INSPECTION_FAILED")
    ]


# --- cancelled by the staff


@pytest.mark.parametrize("status", Status)
def test_cancel_fulfillment_from_every_status(status: Status) -> None:
    """Before the shipment, the units return to the shelf, with the reason in the history;
    afterwards the request is refused. A ready fulfilment is withdrawn first, once.
    """
    here = fulfillment_in(status)
    asked = envelope(CancelFulfillment, note="the hall is flooded")
    if status in (*CARRIED, Status.CANCELLED):
        with pytest.raises(Refused) as caught:
            decide_one(here, asked, NOW)
        assert (caught.value.reason, caught.value.metadata["status"]) == (
            "ILLEGAL_TRANSITION",
            status,
        )
        return
    decision = decide_one(here, asked, NOW)
    if status is Status.READY:
        assert decision.record == replace(
            here, withdraw_reason=WithdrawReason.CANCEL_REQUESTED, version=here.version + 1
        )
        assert published(decision.events) == [
            ("lines", here.version + 1, Status.READY, "WITHDRAWN")
        ]
        assert [(t.new, t.actor, t.note) for t in decision.history] == [
            (Status.READY, "tester", "the hall is flooded")
        ]
        assert decide_one(decision.record, asked, NOW).record is decision.record
        return
    assert [(line.quantity, line.picked, line.cut) for line in decision.record.lines] == [
        (0, 0, 2),
        (0, 0, 1),
        (0, 0, 3),
    ]
    assert published(decision.events) == [
        ("status", here.version + 1, Status.CANCELLED, "CANCEL_REQUESTED")
    ]
    assert [(t.actor, t.note) for t in decision.history] == [("tester", "the hall is flooded")]


def test_cancel_while_commit_is_pending_is_refused() -> None:
    """Another warehouse may have committed the units by now. Only this fulfilment waits for the
    commit: without it the order would be paid without work.
    """
    here = replace(fulfillment_in(Status.PLANNING), stock_committed=False)
    with pytest.raises(Refused) as caught:
        decide_one(here, envelope(CancelFulfillment, note="the hall is flooded"), NOW)
    assert caught.value.reason == "STOCK_NOT_COMMITTED"


@pytest.mark.parametrize(
    "asked",
    [
        envelope(CancelFulfillment, note="", expected_version=1),
        changed(failed({1: 1}), expected_version=1),
    ],
)
def test_cancel_with_stale_version_is_refused(asked: Envelope[Request]) -> None:
    """expected_version is compared here too."""
    with pytest.raises(Failure) as caught:
        decide_one(fulfillment_in(Status.PACKED, rule=RULE), asked, NOW)
    assert isinstance(caught.value, Stale)
