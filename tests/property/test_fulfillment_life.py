"""A fulfilment's life under random commands: what must hold after every one of them, and where
events lead in whatever order.
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
from fulfillment_svc.model import (
    Complete,
    CompletePicking,
    Fulfillment,
    GiveUp,
    Job,
    Line,
    LinesChanged,
    NoteSpoiled,
    OfShipment,
    Pack,
    Package,
    PackedItem,
    Rebooked,
    RecordInspection,
    Release,
    Ship,
    StartPacking,
    StartPicking,
    StatusChanged,
    Transition,
    VoidLabel,
)
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    SHIPMENT,
    changed,
    cut,
    end,
    envelope,
    job,
    plan,
    scan_all,
    settle,
    standing,
)

LeftOver = tuple[tuple[int, int, int, int], ...]


def pack(its: Fulfillment) -> Envelope[Pack]:
    """Everything that was picked, in one package."""
    items = tuple(PackedItem(line.line_number, line.picked) for line in its.lines if line.picked)
    return envelope(
        Pack,
        packages=(
            Package(
                number=0, weight_grams=1200, length_mm=300, width_mm=200, height_mm=100, items=items
            ),
        ),
    )


def short(its: Fulfillment) -> Envelope[CompletePicking]:
    """What is not scanned is not there."""
    numbers = frozenset(line.line_number for line in its.lines)
    return envelope(CompletePicking, short_line_numbers=numbers)


def fixed(asked: Envelope[Any]) -> Callable[[Fulfillment], Envelope[Any]]:
    """A command that asks the same wherever the fulfilment stands."""
    return lambda _: asked


# News of the order and of shipments; of the order's, each can come at any time and again.
NEWS: dict[str, Callable[[Fulfillment], Envelope[Any]]] = {
    "confirmed": fixed(plan(rule=InspectionRule.SKU)),
    "confirmed, stock owed": fixed(
        changed(
            plan(committed=False, rule=InspectionRule.SKU),
            kept=cut(2, 1, 3, version=2).command.kept,
        )
    ),
    "settle": fixed(settle()),
    "settle elsewhere": fixed(settle({"YORK": LINES})),
    "cancel": fixed(end()),
    "cut": fixed(cut(2, 1, 2, version=3)),
    "cut a line": fixed(cut(1, 0, 2, version=5)),
    "cut all": fixed(cut(0, 0, 0, version=7)),
    "ship": fixed(envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=99)),
    "complete": fixed(envelope(Complete, shipment_id=SHIPMENT, fulfillment_version=99)),
    "gone": fixed(envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=99, left=True)),
    "void": fixed(envelope(Release, shipment_id=SHIPMENT, fulfillment_version=99, label_void=True)),
    "void and gone": fixed(
        envelope(
            Release,
            shipment_id=SHIPMENT,
            fulfillment_version=99,
            label_void=True,
            left=True,
        ),
    ),
}
COMMANDS: dict[str, Callable[[Fulfillment], Envelope[Any]]] = NEWS | {
    "start picking": fixed(envelope(StartPicking)),
    "scan": lambda its: scan_all(its.lines),
    "scan one": lambda its: scan_all(its.lines[:1]),
    "complete picking": fixed(envelope(CompletePicking)),
    "short": short,
    "start packing": fixed(envelope(StartPacking)),
    "pack": pack,
    "pass": fixed(envelope(RecordInspection, passed=True, note="")),
    "fail": fixed(envelope(RecordInspection, passed=False, note="cracked")),
    "more is found": fixed(envelope(NoteSpoiled, spoiled={1: 2})),
    "give up": fixed(envelope(GiveUp, note="")),
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
# What can happen while the warehouse is asked about spoiled units.
MEANWHILE = [
    "cut",
    "cut a line",
    "cut all",
    "cancel",
    "give up",
    "pass",
    "fail",
    "more is found",
    "more is found and written",
]


@dataclass(frozen=True)
class Spoil:
    """The inspector finds units of a line damaged; of others there are so many; the warehouse
    has heard of the cuts, or not yet; what happens before it is written; and whether that is
    ever: else somebody else has it written, who inspects next.
    """

    line: int
    quantity: int
    others: int
    heard: bool
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
    """The job, what was decided about it, and the warehouse's books of each line: units ever
    committed, spoiled, and back.
    """

    record: Job | None = None
    decisions: list[tuple[Job | None, Decision[Job, Transition]]] = field(default_factory=list)
    units: Counter[int] = field(
        default_factory=lambda: Counter({line.line_number: line.quantity for line in LINES})
    )
    spoiled: Counter[int] = field(default_factory=Counter)
    back: Counter[int] = field(default_factory=Counter)
    lost: set[int] = field(default_factory=set)  # lines of which an answer was lost

    @property
    def its(self) -> Fulfillment:
        """The fulfilment in DOVER; before there is one, one that waits to be planned."""
        return (self.record and self.record.at("DOVER", 1)) or standing(Status.PENDING)

    def take(self, asked: Envelope[Any]) -> None:
        """Decides it; what is refused leaves all as it is."""
        try:
            decision = decide(self.record, asked, NOW)
        except Failure:
            return
        self.decisions.append((self.record, decision))
        self.record = decision.record

    def inspect(self, asked: Envelope[RecordInspection]) -> None:
        """As the service does it: units that were found before are booked first."""
        if any(line.unbooked for line in self.its.lines):
            self.take(changed(asked, rebooked=self.book(others=0)))
        else:
            self.take(asked)

    def spoil(self, found: Spoil) -> None:
        """As the service does it: note, ask the warehouse, write; the request is repeated once."""
        spoiled = {LINES[found.line].line_number: found.quantity}
        self.take(envelope(NoteSpoiled, spoiled=spoiled))
        if found.heard:
            for line in self.its.lines:
                self.hear(line)
        asked = envelope(
            RecordInspection,
            passed=False,
            note="cracked",
            spoiled=spoiled,
            rebooked=self.book(found.others),
        )
        for name in found.meanwhile:
            self.take(COMMANDS[name.removesuffix(" and written")](self.its))
            if name.endswith(" and written"):
                self.inspect(envelope(RecordInspection, passed=False, note="cracked"))
        if not found.written:
            self.lost |= {answer.line_number for answer in asked.command.rebooked}
        for _ in range(2 if asked.command.rebooked and found.written else 0):
            self.take(asked)

    def book(self, others: int) -> tuple[Rebooked, ...]:
        """The warehouse books what was found damaged, and says how its books stand; of each line
        it has so many others.
        """
        answers = []
        for line in self.its.lines if self.its.status is not Status.CANCELLED else ():
            if line.unbooked:
                number, target = line.line_number, line.spoiled + line.unbooked
                self.units[number] += max(0, min(target - self.spoiled[number], others))
                self.spoiled[number] = max(target, self.spoiled[number])
                answers.append(
                    Rebooked(
                        line_number=number,
                        units=self.units[number],
                        committed=self.committed(line),
                        spoiled=self.spoiled[number],
                    )
                )
        return tuple(answers)

    def committed(self, line: Line) -> int:
        """What the warehouse has for the line; of short ones it is always told."""
        number = line.line_number
        return self.units[number] - self.spoiled[number] - line.short - self.back[number]

    def hear(self, line: Line) -> None:
        """The warehouse hears of the line: what is committed beyond it goes back to the shelf."""
        self.back[line.line_number] += max(0, self.committed(line) - line.quantity)


OUT = (Status.READY, Status.SHIPPED, Status.COMPLETED)


def walked(steps: Walk) -> World:
    """The world after the walk; None stands for the next step of a life."""
    world, step = World(), 0
    for each in steps:
        if isinstance(each, Spoil):
            world.spoil(each)
        else:
            asked = COMMANDS[each or LIFE[step % len(LIFE)]](world.its)
            if isinstance(asked.command, RecordInspection):
                world.inspect(asked)
            else:
                world.take(asked)
            step += each is None
    return world


def facts_of(decision: Decision[Job, Transition]) -> list[StatusChanged | LinesChanged]:
    """What the decision tells."""
    return [fact for fact in decision.facts if isinstance(fact, StatusChanged | LinesChanged)]


def counts(lines: Iterable[Line]) -> LeftOver:
    """What the world has to know of the lines."""
    return tuple((line.quantity, line.cut, line.short, line.spoiled) for line in lines)


@given(WALKS)
def test_every_step_is_allowed_and_told(steps: Walk) -> None:
    """Each change of status is a move of the table with a row of history and a fact; a
    withdrawal, a scan and a finding of spoiled units have a row with the status that stays.
    Every fact of a fulfilment has a version of its own, the next; what is not told (scans, stock
    that is committed at last) raises the version as well.
    """
    versions = Counter[object]()
    history: dict[object, list[Transition]] = {}
    for before, decision in walked(steps).decisions:
        told = [fact for fact in facts_of(decision) if isinstance(fact, StatusChanged)]
        moves = [row for row in decision.history if row.old is not row.new]
        spots = {row.new for row in decision.history if row not in moves}
        assert spots <= {Status.PICKING, Status.PACKED, Status.READY}
        for row, fact in zip(moves, told, strict=True):
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
    """No unit too many, nothing picked of stock that is owed, packages that hold exactly what
    was picked (or spoiled units more, which were found once they were closed), a shipment once
    it is shipped (and nothing ready that has one, unless it is withdrawn), and no unit left of
    what is cancelled.
    """
    for _, decision in walked(steps).decisions:
        for its in decision.record.fulfillments:
            assert all(
                0 <= line.picked <= line.quantity and min(line.cut, line.short, line.spoiled) >= 0
                for line in its.lines
            )
            assert its.stock_committed or its.status in (Status.PLANNING, Status.CANCELLED)
            assert its.shipment_id or its.status not in (Status.SHIPPED, Status.COMPLETED)
            assert (
                not its.shipment_id
                or its.withdraw_reason
                or its.status in (Status.SHIPPED, Status.COMPLETED)
            )
            assert not its.withdraw_reason or its.status is Status.READY
            found_late = {line.line_number: line.spoiled for line in its.lines if its.status in OUT}
            whole = any(line.quantity for line in its.lines)
            assert whole == (its.status is not Status.CANCELLED) or (
                not whole and any(found_late.values())
            )
            packed = Counter[int]()
            for package in its.packages:
                for item in package.items:
                    packed[item.line_number] += item.quantity
            if its.status in (Status.PACKED, *OUT):
                for line in its.lines:
                    more = packed[line.line_number] - line.quantity
                    assert more == 0 or 0 < more <= found_late.get(line.line_number, 0)
            else:
                assert not packed
            if its.status in (Status.PICKED, Status.PACKING):
                assert all(line.picked == line.quantity for line in its.lines)


@given(WALKS)
def test_every_unit_is_accounted_for(steps: Walk) -> None:
    """What is to be picked, was cut, not found or spoiled is what the warehouse ever committed,
    and what was told last says so. (A line that was cut to nothing while the warehouse's answer
    was lost has no more to tell of it.)
    """
    world = walked(steps)
    if any(line.unbooked for line in world.its.lines):
        world.inspect(envelope(RecordInspection, passed=True, note=""))
    its = world.its
    for line in its.lines:
        number = line.line_number
        if line.quantity or number not in world.lost:
            assert (line.planned, line.spoiled) == (world.units[number], world.spoiled[number])
            assert world.committed(line) >= line.quantity
            world.hear(line)
            assert (world.committed(line), world.back[number]) == (line.quantity, line.cut)
    last = {
        fact.fulfillment.id: fact.fulfillment
        for _, decision in world.decisions
        for fact in facts_of(decision)
    }
    for each in world.record.fulfillments if world.record else ():
        assert counts(last[each.id].lines) == counts(each.lines)


@given(WALKS)
def test_the_dead_stay_dead(steps: Walk) -> None:
    """After the order's death nothing goes on that has not left, and nothing begins; what is
    ready waits for shipping, withdrawn.
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
def test_of_an_attempt_that_nobody_worked_on_nothing_is_ever_worked_on(steps: Walk) -> None:
    """Once that is told, no fulfilment of it has stock, then or later, so that all of its units
    can go back wherever they lie.
    """
    said = False
    for _, decision in walked(steps).decisions:
        said = said or any(fact.unworked for fact in facts_of(decision))
        assert not (said and any(each.stock_committed for each in decision.record.fulfillments))


def delivered(record: Job | None, events: tuple[Envelope[Any], ...]) -> Job:
    """What the events make of the record: those that are deferred come again, until none is left
    or none can be had.
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
def test_news_twice_and_in_every_order_ends_alike(status: Status) -> None:
    """Shipment, delivery and a second confirmation, each twice, in all orders: completed, and
    the same record but for nothing.
    """
    events = tuple(NEWS[name](standing(status)) for name in ("ship", "complete", "confirmed"))
    ends = [delivered(job(standing(status)), order) for order in permutations(events * 2)]
    assert {each.status for end in ends for each in end.fulfillments} == {Status.COMPLETED}
    assert all(end == ends[0] for end in ends)


def test_a_shipment_that_meets_a_cut_is_delivered_in_every_order() -> None:
    """The cut, the news of the label and that of the delivery, each twice, in all orders, on
    what is ready: completed with its shipment and with all units of its label, and no news
    waits.
    """
    for order in set(permutations(["cut", "ship", "complete"] * 2)):
        record = job(standing(Status.READY))
        for name in order:
            record = decide(record, NEWS[name](standing(Status.READY)), NOW).record
        [ended] = record.fulfillments
        assert (ended.status, ended.shipment_id, ended.withdraw_reason) == (
            Status.COMPLETED,
            SHIPMENT,
            None,
        )
        assert counts(ended.lines) == counts(LINES)


def test_a_void_that_meets_a_cut_unpacks_in_every_order() -> None:
    """The cut and what shipping says then (void, and reported all the same), each twice, in all
    orders in which shipping answers the withdrawal, with late news of the void label between:
    packing without the cut units, and what left is told once.
    """
    late = ["ship", "complete", "gone"]
    for order in set(permutations(["cut", "void", "void and gone", *late])):
        record, left = job(standing(Status.READY)), list[VoidLabel]()
        for name in ("cut", "void", *order, *order):
            news = NEWS[name](standing(Status.READY))
            if isinstance(news.command, OfShipment):
                news = changed(news, fulfillment_version=7)
            decision = decide(record, news, NOW)
            record = decision.record
            left += [
                fact.left
                for fact in facts_of(decision)
                if isinstance(fact, LinesChanged) and fact.left
            ]
        [its] = record.fulfillments
        assert (its.status, its.shipment_id, its.withdraw_reason) == (Status.PACKING, None, None)
        assert counts(its.lines) == ((2, 0, 0, 0), (1, 0, 0, 0), (2, 1, 0, 0))
        assert left == [
            VoidLabel(SHIPMENT, {line.line_number: line.quantity for line in LINES}, left=True)
        ]


@pytest.mark.parametrize("confirmed", ["confirmed", "confirmed, stock owed"])
@pytest.mark.parametrize("also", [[], ["cut"], ["cut a line"], ["cut", "cut a line"]])
def test_a_dead_order_stays_dead_in_every_order(also: list[str], confirmed: str) -> None:
    """Confirmation, cuts and cancellation, each twice, in all orders: nothing lives, and every
    unit goes back.
    """
    names = [confirmed, *also, "cancel"]
    for order in permutations(names):
        for again in (order, order[::-1]):
            record = delivered(
                None, tuple(NEWS[name](standing(Status.PENDING)) for name in (*order, *again))
            )
            assert [(each.status, counts(each.lines)) for each in record.fulfillments] == [
                (Status.CANCELLED, tuple((0, line.quantity, 0, 0) for line in LINES))
            ]


def test_cuts_in_every_order_leave_the_same_units() -> None:
    """Confirmation, two cuts and the settling of owed stock, each twice, in all orders: the same
    units are left, the same cut.
    """
    left = set()
    for order in permutations(["confirmed, stock owed", "settle", "cut", "cut a line"]):
        record = delivered(
            None, tuple(NEWS[name](standing(Status.PENDING)) for name in (*order, *order))
        )
        left |= {(each.status, counts(each.lines)) for each in record.fulfillments}
    assert left == {(Status.PLANNING, ((1, 1, 0, 0), (0, 1, 0, 0), (2, 1, 0, 0)))}
