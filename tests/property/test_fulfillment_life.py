"""A fulfilment's life under random commands: what must hold after every one of them, and where events lead in whatever order."""

from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.decision import Decision
from chassis.errors import Deferred, Failure
from fulfillment_svc.decisions import decide
from fulfillment_svc.lifecycle import FORWARD, MOVES, InspectionRule, Status
from fulfillment_svc.model import (
    Cancel,
    Complete,
    CompletePicking,
    Fulfillment,
    FulfillmentCommand,
    RecordInspection,
    Ship,
    StartPacking,
    StartPicking,
    StatusChanged,
    Transition,
    Withdraw,
)
from tests.unit.fulfillment.samples import LINES, NOW, SHIPMENT, WORK, command, pack_all, plan, scan_all, standing

COMMANDS: dict[str, FulfillmentCommand] = {
    "confirmed": plan(rule=InspectionRule.SKU),
    "confirmed, stock owed": plan(committed=False),
    "withdraw": command(Withdraw),
    "cancel": command(Cancel, work=WORK, order_number="OM-1", lines=LINES),
    "start picking": command(StartPicking),
    "scan": scan_all(LINES),
    "scan one": scan_all(LINES[:1]),
    "complete picking": command(CompletePicking),
    "start packing": command(StartPacking),
    "pack": pack_all(LINES),
    "pass": command(RecordInspection, passed=True, note=""),
    "fail": command(RecordInspection, passed=False, note="cracked"),
    "ship": command(Ship, shipment_id=SHIPMENT),
    "complete": command(Complete, shipment_id=SHIPMENT),
}
# In the order of a life, so that random walks get far: the next step is as likely as all others together.
LIFE = ["confirmed", "start picking", "scan", "complete picking", "start packing", "pack", "pass", "ship", "complete"]
WALKS = st.lists(st.one_of(st.none(), st.sampled_from(list(COMMANDS))), min_size=3, max_size=30)


def walked(names: list[str | None]) -> list[tuple[Fulfillment | None, Decision[Fulfillment, Transition]]]:
    """Every decision of the walk, with the record before it; None stands for the next step of a life."""
    record: Fulfillment | None = None
    decisions, step = [], 0
    for name in names:
        chosen = name or LIFE[step % len(LIFE)]
        step += name is None
        try:
            decision = decide(record, COMMANDS[chosen], NOW)
        except Failure:
            continue
        decisions.append((record, decision))
        record = decision.record
    return decisions


@given(WALKS)
def test_every_step_is_allowed_and_told(names: list[str | None]) -> None:
    """Each change of status is a move of the table, with a row of history and a fact of its own, and raises the version by one."""
    steps: list[Transition] = []
    for before, decision in walked(names):
        assert len(decision.facts) == len(decision.history)
        for row, fact in zip(decision.history, decision.facts, strict=True):
            assert isinstance(fact, StatusChanged)
            assert (fact.fulfillment.version, fact.fulfillment.status, fact.old) == (row.version, row.new, row.old)
            assert row.old is None or row.new in MOVES[row.old]
        steps += decision.history
        rise = max(len(decision.history), int(decision.record is not before))
        assert decision.record.version == (before.version if before else 0) + rise
    assert all(old.new is new.old and old.version < new.version for old, new in pairwise(steps))


@given(WALKS)
def test_what_stands_is_always_whole(names: list[str | None]) -> None:
    """No unit too many, nothing picked of stock that is owed, packages that hold exactly what was picked, a shipment once it is shipped."""
    for _, decision in walked(names):
        its = decision.record
        assert all(0 <= line.picked <= line.quantity for line in its.lines)
        assert its.stock_committed or its.status in (Status.PLANNING, Status.CANCELLED)
        assert (its.shipment_id is not None) == (its.status in (Status.SHIPPED, Status.COMPLETED))
        packed = Counter[int]()
        for package in its.packages:
            for item in package.items:
                packed[item.line_number] += item.quantity
        if its.status in (Status.PACKED, Status.READY, Status.SHIPPED, Status.COMPLETED):
            assert packed == {line.line_number: line.quantity for line in its.lines}
        elif its.status is not Status.CANCELLED:
            assert not packed


def delivered(record: Fulfillment | None, events: tuple[FulfillmentCommand, ...]) -> Fulfillment | None:
    """What the events make of the record: those that are deferred come again, until none is left or none can be had."""
    left = list(events)
    while left:
        waiting = []
        for event in left:
            try:
                record = decide(record, event, NOW).record
            except Deferred:
                waiting.append(event)
        if waiting == left:
            break
        left = waiting
    return record


@pytest.mark.parametrize("status", FORWARD[FORWARD.index(Status.READY) :])
def test_news_twice_and_in_every_order_ends_alike(status: Status) -> None:
    """Shipment, delivery and a second confirmation, each twice, in all orders: completed, and the same record but for nothing."""
    events = (COMMANDS["ship"], COMMANDS["complete"], COMMANDS["confirmed"])
    ends = {delivered(standing(status), order) for order in permutations(events * 2)}
    assert [end.status for end in ends if end] == [Status.COMPLETED]


def test_a_dead_order_stays_dead_in_every_order() -> None:
    """Confirmation and cancellation, each twice, in all orders: nothing lives."""
    events = (COMMANDS["confirmed"], COMMANDS["cancel"])
    ends = {end.status for order in permutations(events * 2) if (end := delivered(None, order))}
    assert ends == {Status.CANCELLED}
