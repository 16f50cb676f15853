"""Random commands of a fulfilment's life, and the world that they change."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from chassis.values.decision import Decision
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import InspectionRule, Status
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    Complete,
    CompletePicking,
    ConfirmWithdrawal,
    Pack,
    RecordInspection,
    RecordSpoiled,
    Ship,
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
)
from tests.unit.fulfillment.samples import (
    LINES,
    NOW,
    SHIPMENT,
    changed,
    close_attempt,
    cut,
    envelope,
    fulfillment_in,
    plan,
    record_commit,
    scan_all,
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
            Package(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100, items=items),
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


@dataclass(frozen=True, kw_only=True)
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
    line=st.integers(0, len(LINES) - 1),
    quantity=st.integers(1, 3),
    others=st.integers(0, 2),
    cuts_consumed=st.booleans(),
    meanwhile=st.lists(st.sampled_from(MEANWHILE), max_size=2),
    written=st.booleans(),
)
WALKS = st.lists(
    st.one_of(st.none(), st.none(), st.sampled_from(list(COMMANDS)), SPOIL), min_size=3, max_size=40
)
Walk = list[str | Spoil | None]


@dataclass(kw_only=True)
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
        return (self.record and self.record.in_warehouse("DOVER", 1)) or fulfillment_in(
            Status.PENDING
        )

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


def events_of(
    decision: Decision[OrderFulfillments, Transition],
) -> list[StatusChanged | LinesChanged]:
    """The decision's domain events."""
    return [event for event in decision.events if isinstance(event, StatusChanged | LinesChanged)]


def counts(lines: Iterable[Line]) -> LeftOver:
    """Returns the published counts of the lines."""
    return tuple((line.quantity, line.cut, line.short, line.spoiled) for line in lines)
