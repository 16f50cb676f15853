"""The effects of an order's events on its fulfilments, by tables: planned, committed, cut and
ended, from every status and in every order.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import InspectionRule, Status, WithdrawReason
from fulfillment_svc.model.commands import (
    StartPicking,
)
from fulfillment_svc.model.events import StatusChanged
from fulfillment_svc.model.records import (
    Allocation,
    FulfillmentKey,
    Line,
    RemainingUnits,
    remaining_by_line,
)
from tests.unit.fulfillment.samples import (
    ID,
    KEY,
    LINES,
    NOW,
    changed,
    cut,
    done,
    envelope,
    fulfillment_in,
    id_at,
    is_withdrawn,
    order_fulfillments,
    picking_line,
    plan,
    published,
    record_commit,
    units,
    withdrawal_confirmed,
)

COMMIT_PENDING = replace(fulfillment_in(Status.PLANNING), stock_committed=False)
CARRIED = (Status.SHIPPED, Status.COMPLETED)
D3, L2 = (picking_line(1, "mug", 3),), (picking_line(1, "mug", 2),)

# --- planned


def test_confirmed_order_is_planned_in_one_decision() -> None:
    """One decision makes pending and planning, each with its version, history row and domain
    event.
    """
    asked = plan(rule=InspectionRule.SKU)
    record, [decision] = done(None, [asked])
    assert (record.id, record.status, record.version, record.lines, record.stock_committed) == (
        ID,
        Status.PLANNING,
        2,
        LINES,
        True,
    )
    assert (record.key, record.inspection_rule) == (KEY, InspectionRule.SKU)
    assert [(t.version, t.old, t.new, t.cause) for t in decision.history] == [
        (1, None, Status.PENDING, asked.cause),
        (2, Status.PENDING, Status.PLANNING, asked.cause),
    ]
    events = [event for event in decision.events if isinstance(event, StatusChanged)]
    assert [(f.fulfillment.status, f.fulfillment.version, f.old) for f in events] == [
        (Status.PENDING, 1, None),
        (Status.PLANNING, 2, Status.PENDING),
    ]


@pytest.mark.parametrize("status", Status)
def test_existing_fulfilment_is_not_planned_again(status: Status) -> None:
    """A second plan for the same fulfilment is skipped in every status: a cancelled fulfilment
    stays cancelled.
    """
    here = order_fulfillments(fulfillment_in(status))
    assert decide(here, plan(), NOW).record is here


# --- pending commits


def test_picking_waits_for_committed_stock() -> None:
    """After the commit the fulfilment can be picked. Its status is the same, so no event is
    published.
    """
    committed, [decision] = done(COMMIT_PENDING, [record_commit()])
    assert (committed.stock_committed, committed.version, decision.history, decision.events) == (
        True,
        3,
        (),
        (),
    )
    picking = decide(decision.record, envelope(StartPicking), NOW).record
    assert picking.fulfillments[0].status is Status.PICKING


@pytest.mark.parametrize("event", [plan, record_commit])
def test_picklist_has_the_committed_units(event: type) -> None:
    """A late commit may have other units than the reservation: the lines follow the commit."""
    assert done(COMMIT_PENDING, [event(LINES[:1])])[0].lines == LINES[:1]


def test_pending_commit_stays_pending_after_second_plan() -> None:
    """Only committed stock ends a pending commit."""
    here = order_fulfillments(COMMIT_PENDING)
    assert decide(here, plan(committed=False), NOW).record is here


def test_fulfilment_committed_elsewhere_is_cancelled() -> None:
    """The fulfilment is cancelled and published without units: they are neither restocked nor
    refunded.
    """
    record, [decision] = done(COMMIT_PENDING, [record_commit({"YORK": LINES})])
    assert (record.status, record.lines) == (Status.CANCELLED, ())
    york = decision.record.in_warehouse("YORK", 1)
    assert york
    assert (york.id, york.status, york.lines, york.stock_committed) == (
        id_at("YORK"),
        Status.PLANNING,
        LINES,
        True,
    )
    assert [t.reason for t in decision.history if t.fulfillment_id == ID] == [
        "STOCK_COMMITTED_ELSEWHERE"
    ]


@pytest.mark.parametrize(
    ("york", "places", "rules"),
    [
        (L2, {"YORK": (*D3, *LINES[1:])}, {"YORK": InspectionRule.SKU}),
        (LINES[1:2], {"YORK": (*D3, *LINES[1:])}, {"YORK": InspectionRule.SKU}),
        (L2, {"YORK": L2, "LEEDS": D3}, {"YORK": None, "LEEDS": InspectionRule.SKU}),
        (L2, {"DOVER": D3, "YORK": L2}, {"DOVER": InspectionRule.SKU, "YORK": None}),
    ],
    ids=["more units", "another line", "elsewhere", "as planned"],
)
def test_moved_units_keep_their_inspection_rule(
    york: tuple[Line, ...],
    places: Mapping[str, tuple[Line, ...]],
    rules: Mapping[str, InspectionRule | None],
) -> None:
    """DOVER's part of the order is to be inspected, and YORK's is not. A warehouse with more units
    than planned takes DOVER's rule, also beside another planned part.
    """
    dover = replace(COMMIT_PENDING, inspection_rule=InspectionRule.SKU)
    beside = replace(
        COMMIT_PENDING, id=id_at("YORK"), key=replace(KEY, warehouse_id="YORK"), lines=york
    )
    committed = decide(order_fulfillments(dover, beside), record_commit(places), NOW).record
    found = {
        each.key.warehouse_id: each.inspection_rule
        for each in committed.fulfillments
        if each.status is not Status.CANCELLED
    }
    assert found == rules


@pytest.mark.parametrize("status", Status)
def test_commit_without_pending_fulfilment_is_skipped(status: Status) -> None:
    """Without a pending commit, a late answer changes nothing."""
    here = order_fulfillments(fulfillment_in(status))
    assert decide(here, record_commit({"YORK": LINES}), NOW).record is here


def test_cut_while_commit_is_pending_waits() -> None:
    """Uncommitted units are not published as cut: the commit shows the real units, and the surplus
    is uncommitted.
    """
    waiting, decisions = done(COMMIT_PENDING, [cut(1, 1, 0)])
    assert (waiting, published(*decisions)) == (COMMIT_PENDING, [])
    committed, [decision] = done(decisions[-1].record, [record_commit()])
    assert [(line.quantity, line.cut) for line in committed.lines] == [(1, 1), (1, 0), (0, 3)]
    assert published(decision) == [("lines", 4, "UNITS_CUT")]
    # the rest was released
    lately, [decision] = done(
        decisions[-1].record,
        [record_commit((picking_line(1, "mug", 1), picking_line(2, "Lamp, blue", 1)))],
    )
    assert [(line.quantity, line.cut) for line in lately.lines] == [(1, 0), (1, 0)]
    assert published(decision) == []


@pytest.mark.parametrize("asked_later", [True, False])
def test_commit_of_a_cancelled_unit_is_cut_at_once(asked_later: bool) -> None:
    """A unit was cancelled before the order was confirmed, and the warehouse committed it, now or
    later: it is cut at once.
    """
    needs = changed(
        plan(L2, committed=False), remaining=RemainingUnits(1, 3, (Allocation("DOVER", 1, 2),))
    )
    at_once = changed(needs, picklists=plan(D3).command.picklists, stock_committed=True)
    events: list[Envelope[Any]] = [needs, record_commit(D3)] if asked_later else [at_once]
    record, decisions = done(None, events)
    assert [(line.quantity, line.cut) for line in record.lines] == [(2, 1)]
    assert published(decisions[-1])[-1][2] == "UNITS_CUT"


def test_moved_stock_after_cut_remains_in_its_warehouse() -> None:
    """The order lost a unit, and has not consumed the new place of its stock: as many units are cut
    there as the order lost.
    """
    _, decisions = done(
        order_fulfillments(replace(COMMIT_PENDING, lines=D3)),
        [cut(2, lines=D3), record_commit({"DOVER": (picking_line(1, "mug", 1),), "YORK": L2})],
    )
    assert units(decisions[-1].record) == {"DOVER": [(1, 0)], "YORK": [(1, 1)]}


# --- cut


# The statuses after a cut of a fulfilment that continues.
CUT = {status: status for status in Status} | {Status.PACKED: Status.PACKING}


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.PENDING])
def test_cut_in_every_status(status: Status) -> None:
    """Before the shipment, the units leave the picklist and the scans, and packages are undone. A
    ready fulfilment is withdrawn first. A shipped or cancelled one stays unchanged.
    """
    here = fulfillment_in(status)
    record, [decision] = done(here, [cut(1, 0, 3)])
    if status in (*CARRIED, Status.CANCELLED):
        assert (record, published(decision)) == (here, [])
        return
    if status is Status.READY:
        assert is_withdrawn(here, record, decision, WithdrawReason.UNITS_CUT)
        return
    assert [(line.quantity, line.cut) for line in record.lines] == [(1, 1), (0, 1), (3, 0)]
    picked = [line.quantity if line.picked else 0 for line in here.lines]
    assert [line.picked for line in record.lines] == [
        min(line.quantity, p) for line, p in zip(record.lines, picked, strict=True)
    ]
    assert (record.status, record.packages) == (CUT[status], ())
    steps = [("status", here.version + 2, "UNITS_CUT")] if CUT[status] is not status else []
    assert published(decision) == [("lines", here.version + 1, "UNITS_CUT"), *steps]
    assert [(t.old, t.new) for t in decision.history] == (
        [(status, Status.PACKING)] if steps else []
    )


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.PENDING])
def test_cut_of_all_units_cancels_the_fulfilment(status: Status) -> None:
    """The last units leave with the change of status, in one event. A ready fulfilment is withdrawn
    first.
    """
    here = fulfillment_in(status)
    record, [decision] = done(here, [cut(0, 0, 0)])
    if status in (*CARRIED, Status.CANCELLED):
        assert record == here
        return
    if status is Status.READY:
        assert is_withdrawn(here, record, decision, WithdrawReason.UNITS_CUT)
        record, [decision] = done(decision.record, [withdrawal_confirmed(label_void=False)])
        here = replace(here, version=here.version + 1)
    assert (record.status, [(line.quantity, line.picked, line.cut) for line in record.lines]) == (
        Status.CANCELLED,
        [(0, 0, 2), (0, 0, 1), (0, 0, 3)],
    )
    assert published(decision) == [("status", here.version + 1, "NO_UNITS_REMAINING")]


def test_cut_below_the_scanned_units_reduces_the_scans() -> None:
    """Half of the line is scanned. A cut above that leaves the scans, one below reduces them."""
    here = replace(fulfillment_in(Status.PICKING), lines=(picking_line(1, "mug", 4, picked=2),))
    for stays, picked in [(3, 2), (2, 2), (1, 1)]:
        record, _ = done(here, [cut(stays, lines=D3)])
        assert record.lines == (picking_line(1, "mug", stays, picked=picked, cut=4 - stays),)


def test_cut_of_same_or_older_version_is_skipped() -> None:
    """The order's version decides, not the order of arrival."""
    first, _ = done(fulfillment_in(Status.PLANNING), [cut(1, 1, 1, version=5)])
    assert [line.quantity for line in first.lines] == [1, 1, 1]
    for late in (cut(0, 0, 1, version=4), cut(0, 0, 0, version=5)):
        record, decisions = done(fulfillment_in(Status.PLANNING), [cut(1, 1, 1, version=5), late])
        assert record.lines == first.lines
        assert decisions[-1].record is decisions[0].record


def test_cut_adds_no_units() -> None:
    """The order may still count units that the picker did not find: the cut does not add them."""
    here = replace(fulfillment_in(Status.PLANNING), lines=(picking_line(1, "mug", 1, short=2),))
    assert done(here, [cut(3, lines=D3)])[0] == here


def test_cut_of_another_attempt_changes_nothing() -> None:
    """The remaining units of a later attempt do not concern this one."""
    here = fulfillment_in(Status.PLANNING)
    remaining = RemainingUnits(2, 9, ())
    assert done(here, [changed(cut(0, 0, 0), attempt=2, remaining=remaining)])[0] == here


Places = Mapping[str, Mapping[int, int]]


@pytest.mark.parametrize(
    ("remaining_units", "planned", "stays"),
    [
        ({"DOVER": {1: 2}}, {"DOVER": {1: 3}}, {"DOVER": {1: 2}}),
        (
            {"DOVER": {1: 3}, "LEEDS": {1: 1}},
            {"DOVER": {1: 3}, "LEEDS": {1: 2}},
            {"DOVER": {1: 3}, "LEEDS": {1: 1}},
        ),
        (
            {"DOVER": {1: 3}},
            {"DOVER": {1: 3}, "LEEDS": {1: 2, 2: 1}},
            {"DOVER": {1: 3}, "LEEDS": {1: 0, 2: 0}},
        ),
        ({"DOVER": {1: 3}}, {"YORK": {1: 3}}, {"YORK": {1: 3}}),
        ({"DOVER": {1: 2}}, {"DOVER": {1: 1}, "YORK": {1: 2}}, {"DOVER": {1: 1}, "YORK": {1: 1}}),
        (
            {"DOVER": {1: 2, 2: 1}},
            {"LEEDS": {1: 1}, "YORK": {1: 2, 2: 2}},
            {"LEEDS": {1: 1}, "YORK": {1: 1, 2: 1}},
        ),
        ({}, {"DOVER": {1: 3}}, {"DOVER": {1: 0}}),
        ({"DOVER": {1: 3}}, {}, {}),
    ],
)
def test_remaining_units_by_warehouse(
    remaining_units: Places, planned: Places, stays: Places
) -> None:
    """Each warehouse keeps the units of the order. Units that the order counts in a wrong warehouse
    stay in the line's warehouse.
    """
    remaining = RemainingUnits(
        1,
        3,
        tuple(
            Allocation(at, number, n)
            for at, lines in remaining_units.items()
            for number, n in lines.items()
        ),
    )
    fulfillments = [
        replace(
            fulfillment_in(Status.PLANNING),
            key=FulfillmentKey(KEY.order_id, at, 1),
            lines=tuple(picking_line(number, "mug", n) for number, n in lines.items()),
        )
        for at, lines in planned.items()
    ]
    found = remaining_by_line(remaining, fulfillments)
    here = {(at, number): units for at, lines in stays.items() for number, units in lines.items()}
    for at, lines in planned.items():
        for number, most in lines.items():
            assert min(found[at, number], most) == here[at, number]
