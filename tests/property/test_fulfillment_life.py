"""A fulfilment's life under random commands: the invariants after each of them, and the results of
events in any order.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.values.decision import Decision
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import FORWARD, MOVES, InspectionRule, Status
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    Complete,
    CompletePicking,
    ConfirmWithdrawal,
    Pack,
    RecordInspection,
    RecordSpoiled,
    Ship,
    ShipmentCommand,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.events import LinesChanged, StatusChanged
from fulfillment_svc.model.records import (
    Fulfillment,
    Line,
    OrderFulfillments,
    Package,
    PackedItem,
    ReplacedLine,
    Transition,
    VoidLabel,
)
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    SHIPMENT,
    changed,
    close_attempt,
    cut,
    envelope,
    order_fulfillments,
    plan,
    record_commit,
    scan_all,
    standing,
)

LeftOver = tuple[tuple[int, int, int, int], ...]


def pack(fulfillment: Fulfillment) -> Envelope[Pack]:
    """Everything that was picked, in one package."""
    items = tuple(
        PackedItem(line.line_number, line.picked) for line in fulfillment.lines if line.picked
    )
    return envelope(
        Pack,
        packages=(
            Package(
                number=0, weight_grams=1200, length_mm=300, width_mm=200, height_mm=100, items=items
            ),
        ),
    )


def short(fulfillment: Fulfillment) -> Envelope[CompletePicking]:
    """Returns the command that closes all unscanned units short."""
    numbers = frozenset(line.line_number for line in fulfillment.lines)
    return envelope(CompletePicking, short_line_numbers=numbers)


def fixed(asked: Envelope[Any]) -> Callable[[Fulfillment], Envelope[Any]]:
    """Returns a command that is the same in each status of the fulfilment."""
    return lambda _: asked


# Events of the order and of shipments; each of the order's can come at any time and again.
EVENTS: dict[str, Callable[[Fulfillment], Envelope[Any]]] = {
    "confirmed": fixed(plan(rule=InspectionRule.SKU)),
    "confirmed, commit pending": fixed(
        changed(
            plan(committed=False, rule=InspectionRule.SKU),
            remaining=cut(2, 1, 3, version=2).command.remaining,
        )
    ),
    "record commit": fixed(record_commit()),
    "record commit elsewhere": fixed(record_commit({"YORK": LINES})),
    "cancel": fixed(close_attempt()),
    "cut": fixed(cut(2, 1, 2, version=3)),
    "cut a line": fixed(cut(1, 0, 2, version=5)),
    "cut all": fixed(cut(0, 0, 0, version=7)),
    "ship": fixed(envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=99)),
    "complete": fixed(envelope(Complete, shipment_id=SHIPMENT, fulfillment_version=99)),
    "gone": fixed(envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=99, shipped=True)),
    "void": fixed(
        envelope(ConfirmWithdrawal, shipment_id=SHIPMENT, fulfillment_version=99, label_void=True)
    ),
    "void and gone": fixed(
        envelope(
            ConfirmWithdrawal,
            shipment_id=SHIPMENT,
            fulfillment_version=99,
            label_void=True,
            shipped=True,
        ),
    ),
}
COMMANDS: dict[str, Callable[[Fulfillment], Envelope[Any]]] = EVENTS | {
    "start picking": fixed(envelope(StartPicking)),
    "scan": lambda fulfillment: scan_all(fulfillment.lines),
    "scan one": lambda fulfillment: scan_all(fulfillment.lines[:1]),
    "complete picking": fixed(envelope(CompletePicking)),
    "short": short,
    "start packing": fixed(envelope(StartPacking)),
    "pack": pack,
    "pass": fixed(envelope(RecordInspection, passed=True, note="")),
    "fail": fixed(envelope(RecordInspection, passed=False, note="cracked")),
    "more is found": fixed(envelope(RecordSpoiled, spoiled={1: 2})),
    "cancel work": fixed(envelope(CancelFulfillment, note="")),
}
# In the order of a life, so that random walks get far: the next step is as likely as all others
# together.
LIFE = [
    "confirmed",
    "start picking",
    "scan",
    "complete picking",
    "start packing",
    "pack",
    "pass",
    "ship",
    "complete",
]
# The events that may happen during the call to the warehouse about spoiled units.
MEANWHILE = [
    "cut",
    "cut a line",
    "cut all",
    "cancel",
    "cancel work",
    "pass",
    "fail",
    "more is found",
    "more is found and written",
]


@dataclass(frozen=True)
class Spoil:
    """The inspector finds units of a line damaged, and so many replacements exist. The warehouse
    has consumed the cuts, or not yet; other events happen before the write. The write may be lost:
    then the next inspection repeats it.
    """

    line: int
    quantity: int
    others: int
    cuts_consumed: bool
    meanwhile: list[str]
    written: bool


SPOIL = st.builds(
    Spoil,
    st.integers(0, len(LINES) - 1),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.lists(st.sampled_from(MEANWHILE), max_size=2),
    st.booleans(),
)
WALKS = st.lists(
    st.one_of(st.none(), st.none(), st.sampled_from(list(COMMANDS)), SPOIL), min_size=3, max_size=40
)
Walk = list[str | Spoil | None]


@dataclass
class World:
    """The order's record, its decisions, and the warehouse's balances of each line: units ever
    committed, spoiled, and back.
    """

    record: OrderFulfillments | None = None
    decisions: list[tuple[OrderFulfillments | None, Decision[OrderFulfillments, Transition]]] = (
        field(default_factory=list)
    )
    units: Counter[int] = field(
        default_factory=lambda: Counter({line.line_number: line.quantity for line in LINES})
    )
    spoiled: Counter[int] = field(default_factory=Counter)
    back: Counter[int] = field(default_factory=Counter)
    lost: set[int] = field(default_factory=set)  # lines of which an answer was lost

    @property
    def fulfillment(self) -> Fulfillment:
        """The fulfilment in DOVER; before there is one, one that waits to be planned."""
        return (self.record and self.record.in_warehouse("DOVER", 1)) or standing(Status.PENDING)

    def take(self, asked: Envelope[Any]) -> None:
        """Decides the command; a refused one changes nothing."""
        try:
            decision = decide(self.record, asked, NOW)
        except Failure:
            return
        self.decisions.append((self.record, decision))
        self.record = decision.record

    def inspect(self, asked: Envelope[RecordInspection]) -> None:
        """Inspects as the service does: units found before are posted first."""
        if any(line.unposted_spoiled for line in self.fulfillment.lines):
            self.take(changed(asked, replaced_lines=self.replace_spoiled(others=0)))
        else:
            self.take(asked)

    def spoil(self, found: Spoil) -> None:
        """Posts spoiled units as the service does: record, call the warehouse, write. The request
        is repeated once.
        """
        spoiled = {LINES[found.line].line_number: found.quantity}
        self.take(envelope(RecordSpoiled, spoiled=spoiled))
        if found.cuts_consumed:
            for line in self.fulfillment.lines:
                self.consume(line)
        asked = envelope(
            RecordInspection,
            passed=False,
            note="cracked",
            spoiled=spoiled,
            replaced_lines=self.replace_spoiled(found.others),
        )
        for name in found.meanwhile:
            self.take(COMMANDS[name.removesuffix(" and written")](self.fulfillment))
            if name.endswith(" and written"):
                self.inspect(envelope(RecordInspection, passed=False, note="cracked"))
        if not found.written:
            self.lost |= {answer.line_number for answer in asked.command.replaced_lines}
        for _ in range(2 if asked.command.replaced_lines and found.written else 0):
            self.take(asked)

    def replace_spoiled(self, others: int) -> tuple[ReplacedLine, ...]:
        """The warehouse posts the damaged units, and answers with its balances; of each line it has
        so many replacements.
        """
        answers = []
        for line in (
            self.fulfillment.lines if self.fulfillment.status is not Status.CANCELLED else ()
        ):
            if line.unposted_spoiled:
                number, target = line.line_number, line.spoiled + line.unposted_spoiled
                self.units[number] += max(0, min(target - self.spoiled[number], others))
                self.spoiled[number] = max(target, self.spoiled[number])
                answers.append(
                    ReplacedLine(
                        line_number=number,
                        units=self.units[number],
                        committed=self.committed(line),
                        spoiled=self.spoiled[number],
                    )
                )
        return tuple(answers)

    def committed(self, line: Line) -> int:
        """Returns the units that the warehouse has committed for the line, with the short ones."""
        number = line.line_number
        return self.units[number] - self.spoiled[number] - line.short - self.back[number]

    def consume(self, line: Line) -> None:
        """The warehouse consumes the line's event: committed units beyond it go back to the
        shelf.
        """
        self.back[line.line_number] += max(0, self.committed(line) - line.quantity)


OUT = (Status.READY, Status.SHIPPED, Status.COMPLETED)


def walked(steps: Walk) -> World:
    """Returns the world after the walk; None stands for the next step of a life."""
    world, step = World(), 0
    for each in steps:
        if isinstance(each, Spoil):
            world.spoil(each)
        else:
            asked = COMMANDS[each or LIFE[step % len(LIFE)]](world.fulfillment)
            if isinstance(asked.command, RecordInspection):
                world.inspect(asked)
            else:
                world.take(asked)
            step += each is None
    return world


def facts_of(
    decision: Decision[OrderFulfillments, Transition],
) -> list[StatusChanged | LinesChanged]:
    """The decision's domain events."""
    return [fact for fact in decision.facts if isinstance(fact, StatusChanged | LinesChanged)]


def counts(lines: Iterable[Line]) -> LeftOver:
    """Returns the published counts of the lines."""
    return tuple((line.quantity, line.cut, line.short, line.spoiled) for line in lines)


@given(WALKS)
def test_every_step_is_allowed_and_published(steps: Walk) -> None:
    """Each change of status is a move of the table with a row of history and a fact; a
    withdrawal, a scan and a finding of spoiled units have a row with the status that stays.
    Every fact of a fulfilment has a version of its own, the next; what is not published (scans,
    stock that is committed at last) raises the version as well.
    """
    versions = Counter[object]()
    history: dict[object, list[Transition]] = {}
    for before, decision in walked(steps).decisions:
        changes = [fact for fact in facts_of(decision) if isinstance(fact, StatusChanged)]
        moves = [row for row in decision.history if row.old is not row.new]
        spots = {row.new for row in decision.history if row not in moves}
        assert spots <= {Status.PICKING, Status.PACKED, Status.READY}
        for row, fact in zip(moves, changes, strict=True):
            assert (fact.fulfillment.version, fact.fulfillment.status, fact.old) == (
                row.version,
                row.new,
                row.old,
            )
            assert row.old is None or row.new in MOVES[row.old]
            history.setdefault(row.fulfillment_id, []).append(row)
        for each in decision.record.fulfillments:
            was = before and before.find(each.id)
            facts = [
                fact.fulfillment.version
                for fact in facts_of(decision)
                if fact.fulfillment.id == each.id
            ]
            silent = (
                bool(
                    was
                    and was.status is Status.PLANNING
                    and was.stock_committed != each.stock_committed
                )
                or not facts
            )
            first = versions[each.id] + 1 + (silent and bool(facts))
            assert facts == list(range(first, first + len(facts)))
            versions[each.id] += len(facts) + (silent and each is not was)
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
        fact.fulfillment.id: fact.fulfillment
        for _, decision in world.decisions
        for fact in facts_of(decision)
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
        said = said or any(fact.never_started for fact in facts_of(decision))
        assert not (said and any(each.stock_committed for each in decision.record.fulfillments))


def delivered(
    record: OrderFulfillments | None, events: tuple[Envelope[Any], ...]
) -> OrderFulfillments:
    """Returns the record after the events. Deferred events come again, until none is left or none
    can be applied.
    """
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
    assert record
    return record


@pytest.mark.parametrize("status", FORWARD[FORWARD.index(Status.READY) :])
def test_events_twice_in_every_order_end_alike(status: Status) -> None:
    """Shipment, delivery and a second confirmation, each twice, in all orders: completed, and
    the same record but for nothing.
    """
    events = tuple(EVENTS[name](standing(status)) for name in ("ship", "complete", "confirmed"))
    records = [
        delivered(order_fulfillments(standing(status)), order) for order in permutations(events * 2)
    ]
    assert {each.status for record in records for each in record.fulfillments} == {Status.COMPLETED}
    assert all(record == records[0] for record in records)


def test_shipment_beside_a_cut_is_delivered_in_every_order() -> None:
    """The cut, the event of the label and that of the delivery, each twice, in all orders, on
    what is ready: completed with its shipment and with all units of its label, and no event waits.
    """
    for order in set(permutations(["cut", "ship", "complete"] * 2)):
        record = order_fulfillments(standing(Status.READY))
        for name in order:
            record = decide(record, EVENTS[name](standing(Status.READY)), NOW).record
        [ended] = record.fulfillments
        assert (ended.status, ended.shipment_id, ended.withdraw_reason) == (
            Status.COMPLETED,
            SHIPMENT,
            None,
        )
        assert counts(ended.lines) == counts(LINES)


def test_void_beside_a_cut_unpacks_in_every_order() -> None:
    """The cut and what shipping says then (void, and reported all the same), each twice, in all
    orders in which shipping answers the withdrawal, with late events of the void label between:
    packing without the cut units, and what shipped is published once.
    """
    late = ["ship", "complete", "gone"]
    for order in set(permutations(["cut", "void", "void and gone", *late])):
        record, left = order_fulfillments(standing(Status.READY)), list[VoidLabel]()
        for name in ("cut", "void", *order, *order):
            event = EVENTS[name](standing(Status.READY))
            if isinstance(event.command, ShipmentCommand):
                event = changed(event, fulfillment_version=7)
            decision = decide(record, event, NOW)
            record = decision.record
            left += [
                fact.shipped_after_void
                for fact in facts_of(decision)
                if isinstance(fact, LinesChanged) and fact.shipped_after_void
            ]
        [fulfillment] = record.fulfillments
        assert (fulfillment.status, fulfillment.shipment_id, fulfillment.withdraw_reason) == (
            Status.PACKING,
            None,
            None,
        )
        assert counts(fulfillment.lines) == ((2, 0, 0, 0), (1, 0, 0, 0), (2, 1, 0, 0))
        assert left == [
            VoidLabel(SHIPMENT, {line.line_number: line.quantity for line in LINES}, shipped=True)
        ]


@pytest.mark.parametrize("confirmed", ["confirmed", "confirmed, commit pending"])
@pytest.mark.parametrize("also", [[], ["cut"], ["cut a line"], ["cut", "cut a line"]])
def test_cancelled_order_in_every_order_stays_cancelled(also: list[str], confirmed: str) -> None:
    """Confirmation, cuts and cancellation, each twice, in all orders: nothing lives, and every
    unit goes back.
    """
    names = [confirmed, *also, "cancel"]
    for order in permutations(names):
        for again in (order, order[::-1]):
            record = delivered(
                None, tuple(EVENTS[name](standing(Status.PENDING)) for name in (*order, *again))
            )
            assert [(each.status, counts(each.lines)) for each in record.fulfillments] == [
                (Status.CANCELLED, tuple((0, line.quantity, 0, 0) for line in LINES))
            ]


def test_cuts_in_every_order_leave_the_same_units() -> None:
    """Confirmation, two cuts and the pending commit, each twice, in all orders: the same
    units are left, the same cut.
    """
    left = set()
    for order in permutations(["confirmed, commit pending", "record commit", "cut", "cut a line"]):
        record = delivered(
            None, tuple(EVENTS[name](standing(Status.PENDING)) for name in (*order, *order))
        )
        left |= {(each.status, counts(each.lines)) for each in record.fulfillments}
    assert left == {(Status.PLANNING, ((1, 1, 0, 0), (0, 1, 0, 0), (2, 1, 0, 0)))}
