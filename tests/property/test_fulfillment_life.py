"""A fulfilment's life under random commands: the invariants after each of them."""

from collections import Counter
from itertools import pairwise

from hypothesis import given

from fulfillment_svc.lifecycle import MOVES, Status
from fulfillment_svc.model.commands import (
    RecordInspection,
)
from fulfillment_svc.model.events import StatusChanged
from fulfillment_svc.model.records import (
    Transition,
)
from tests.property.fulfillment_life import OUT, WALKS, Walk, counts, events_of, walked
from tests.unit.fulfillment.samples import (
    envelope,
)


@given(WALKS)
def test_every_step_is_allowed_and_published(steps: Walk) -> None:
    """Each change of status is a move of the table with a row of history and an event; a
    withdrawal, a scan and a finding of spoiled units have a row with the status that stays.
    Every event of a fulfilment has a version of its own, the next; what is not published (scans,
    stock that is committed at last) raises the version as well.
    """
    versions = Counter[object]()
    history: dict[object, list[Transition]] = {}
    for before, decision in walked(steps).decisions:
        changes = [event for event in events_of(decision) if isinstance(event, StatusChanged)]
        moves = [row for row in decision.history if row.old is not row.new]
        spots = {row.new for row in decision.history if row not in moves}
        assert spots <= {Status.PICKING, Status.PACKED, Status.READY}
        for row, event in zip(moves, changes, strict=True):
            assert (event.fulfillment.version, event.fulfillment.status, event.old) == (
                row.version,
                row.new,
                row.old,
            )
            assert row.old is None or row.new in MOVES[row.old]
            history.setdefault(row.fulfillment_id, []).append(row)
        for each in decision.record.fulfillments:
            was = before and before.find(each.id)
            events = [
                event.fulfillment.version
                for event in events_of(decision)
                if event.fulfillment.id == each.id
            ]
            silent = (
                bool(
                    was
                    and was.status is Status.PLANNING
                    and was.stock_committed != each.stock_committed
                )
                or not events
            )
            first = versions[each.id] + 1 + (silent and bool(events))
            assert events == list(range(first, first + len(events)))
            versions[each.id] += len(events) + (silent and each is not was)
            assert each.version == versions[each.id]
    assert all(
        old.new is new.old and old.version < new.version
        for rows in history.values()
        for old, new in pairwise(rows)
    )


@given(WALKS)
def test_what_stands_is_always_whole(steps: Walk) -> None:
    """No unit too many, nothing picked while a commit is pending, packages that hold exactly what
    was picked (or spoiled units more, which were found once they were closed), a shipment once
    it is shipped (and nothing ready that has one, unless it is withdrawn), and no unit left of
    what is cancelled.
    """
    for _, decision in walked(steps).decisions:
        for fulfillment in decision.record.fulfillments:
            assert all(
                0 <= line.picked <= line.quantity and min(line.cut, line.short, line.spoiled) >= 0
                for line in fulfillment.lines
            )
            assert fulfillment.stock_committed or fulfillment.status in (
                Status.PLANNING,
                Status.CANCELLED,
            )
            assert fulfillment.shipment_id or fulfillment.status not in (
                Status.SHIPPED,
                Status.COMPLETED,
            )
            assert (
                not fulfillment.shipment_id
                or fulfillment.withdraw_reason
                or fulfillment.status in (Status.SHIPPED, Status.COMPLETED)
            )
            assert not fulfillment.withdraw_reason or fulfillment.status is Status.READY
            found_late = {
                line.line_number: line.spoiled
                for line in fulfillment.lines
                if fulfillment.status in OUT
            }
            whole = any(line.quantity for line in fulfillment.lines)
            assert whole == (fulfillment.status is not Status.CANCELLED) or (
                not whole and any(found_late.values())
            )
            packed = Counter[int]()
            for package in fulfillment.packages:
                for item in package.items:
                    packed[item.line_number] += item.quantity
            if fulfillment.status in (Status.PACKED, *OUT):
                for line in fulfillment.lines:
                    more = packed[line.line_number] - line.quantity
                    assert more == 0 or 0 < more <= found_late.get(line.line_number, 0)
            else:
                assert not packed
            if fulfillment.status in (Status.PICKED, Status.PACKING):
                assert all(line.picked == line.quantity for line in fulfillment.lines)


@given(WALKS)
def test_every_unit_is_accounted_for(steps: Walk) -> None:
    """What is to be picked, was cut, not found or spoiled is what the warehouse ever committed,
    and so says the last event. (A line that was cut to nothing while the warehouse's answer was
    lost has no more events.)
    """
    world = walked(steps)
    if any(line.unposted_spoiled for line in world.fulfillment.lines):
        world.inspect(envelope(RecordInspection, passed=True, note=""))
    fulfillment = world.fulfillment
    for line in fulfillment.lines:
        number = line.line_number
        if line.quantity or number not in world.lost:
            assert (line.planned, line.spoiled) == (world.units[number], world.spoiled[number])
            assert world.committed(line) >= line.quantity
            world.consume(line)
            assert (world.committed(line), world.back[number]) == (line.quantity, line.cut)
    last = {
        event.fulfillment.id: event.fulfillment
        for _, decision in world.decisions
        for event in events_of(decision)
    }
    for each in world.record.fulfillments if world.record else ():
        assert counts(last[each.id].lines) == counts(each.lines)


@given(WALKS)
def test_closed_attempt_stays_cancelled(steps: Walk) -> None:
    """After the order's cancellation nothing goes on that has not shipped, and nothing begins;
    what is ready waits for shipping, withdrawn.
    """
    ended = False
    for _, decision in walked(steps).decisions:
        ended = ended or decision.record.closed_attempt > 0
        alive = {
            each.status for each in decision.record.fulfillments if not each.withdraw_reason
        } - {
            Status.CANCELLED,
            Status.SHIPPED,
            Status.COMPLETED,
        }
        assert not (ended and alive)


@given(WALKS)
def test_never_started_attempt_never_gets_stock(steps: Walk) -> None:
    """Once that is published, no fulfilment of it has stock, then or later, so that all of its
    units can go back wherever they lie.
    """
    said = False
    for _, decision in walked(steps).decisions:
        said = said or any(event.never_started for event in events_of(decision))
        assert not (said and any(each.stock_committed for each in decision.record.fulfillments))
