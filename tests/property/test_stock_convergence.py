"""Convergence of stock: an order loses units item by item, on the shelf and on the packing
table, and perhaps is cancelled. Reports that arrive twice, late or in another order leave the same
units in the same places.
"""

from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred
from tests.unit.warehouse.world import (
    ORDER,
    World,
    allocate,
    close_attempt,
    confirm,
    receive,
    replace_spoiled,
    report_picklist,
    reserve,
)
from warehouse_svc.lifecycle import Bucket
from warehouse_svc.model.commands import ApplyFulfillment

SKUS = {1: "tea", 2: "cup"}
HERE = "london"
again = map(str, count(1))


@dataclass(kw_only=True)
class Story:
    """An order and its fulfilment as they are, and the reports about them, on their way to the
    warehouse. Calls are answered at once.
    """

    dice: Random
    wanted: dict[int, int]
    spare: int
    world: World = field(default_factory=World)
    waiting: list[Envelope[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.quantity, self.short, self.spoiled = (
            dict(self.wanted),
            dict.fromkeys(SKUS, 0),
            dict.fromkeys(SKUS, 0),
        )
        self.world.do(
            receive(HERE, **{sku: self.wanted[number] + self.spare for number, sku in SKUS.items()})
        )
        self.world.do(reserve(*((sku, self.wanted[number]) for number, sku in SKUS.items())))

    def send(self, command: Envelope[Any]) -> None:
        """Sends an event; sent events may arrive meanwhile, twice, and in another order."""
        self.waiting += [command] * self.dice.choice([1, 1, 2])
        self.arrive(self.dice.choice([0, 0, self.dice.randint(0, len(self.waiting))]))

    def arrive(self, some: int) -> None:
        self.dice.shuffle(self.waiting)
        arriving, self.waiting = self.waiting[:some], self.waiting[some:]
        for command in arriving:
            [outcome] = self.world.try_all(replace(command, key=f"again {next(again)}"))
            assert isinstance(outcome, Done | Deferred), outcome
            self.waiting += [command] if isinstance(outcome, Deferred) else []
            self.world.check()

    def report(self, *, shipped: bool = False) -> Envelope[ApplyFulfillment]:
        """The picklist as it stands."""
        return report_picklist(
            HERE,
            {n: (self.quantity[n], self.short[n], self.spoiled[n]) for n in SKUS},
            shipped=shipped,
        )

    def cut(self, number: int, units: int) -> None:
        """Units of a line are cancelled, but never the last ones of the order."""
        self.quantity[number] -= min(units, self.quantity[number], sum(self.quantity.values()) - 1)

    def cancel_items(self, *, pending: bool = False) -> None:
        """The order publishes its remaining allocations."""
        self.send(allocate(self.quantity, self.world.attempt_reservations(), while_pending=pending))

    def lose(self, how: str, number: int, units: int) -> None:
        """A line loses units, of those that it has."""
        units = min(units, self.quantity[number])
        if how == "spoiled" and units:
            self.spoiled[number] += units
            self.world.do(
                replace_spoiled(
                    HERE, {number: self.spoiled[number]}, short={number: self.short[number]}
                )
            )
            [line] = [
                line for line in self.world.attempt_reservations()[0].lines if line.number == number
            ]
            self.quantity[number] = min(self.quantity[number], line.committed)
        else:
            self.quantity[number] -= units
            self.short[number] += units if how == "short" else 0
        self.send(self.report())
        self.cancel_items()

    def plan(self) -> None:
        """Fulfilment makes sure of the commit; it picks no more than is committed."""
        self.world.do(confirm())
        for line in self.world.attempt_reservations()[0].lines:
            self.quantity[line.number] = min(self.quantity[line.number], line.committed)

    def finish(self) -> None:
        while self.waiting:
            self.arrive(len(self.waiting))


losses = st.lists(
    st.tuples(
        st.sampled_from(["cut", "cut", "short", "spoiled"]),
        st.sampled_from(list(SKUS)),
        st.integers(1, 3),
    ),
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(
    dice=st.randoms(use_true_random=False),
    wanted=st.fixed_dictionaries(dict.fromkeys(SKUS, st.integers(1, 5))),
    spare=st.sampled_from([0, 0, 1, 3]),
    commit=st.sampled_from(["at once", "pending"]),
    cancelled=st.dictionaries(st.sampled_from([*SKUS, *SKUS, "pending"]), st.integers(0, 4)),
    lost=losses,
    ending=st.sampled_from(["shipped", "shipped", "shipped", "dies", "dies before it is planned"]),
)
def test_reports_in_any_order_leave_the_same_stock(
    dice: Random,
    wanted: dict[int, int],
    spare: int,
    commit: str,
    cancelled: dict[int | str, int],
    lost: list[tuple[str, int, int]],
    ending: str,
) -> None:
    """What is left on the picklist has shipped; what was not found is gone; what was spoiled is
    damaged; everything else is back.
    """
    story = Story(dice=dice, wanted=wanted, spare=spare)
    # units cancelled while it was pending, and perhaps reported after the commit
    for number in SKUS:
        story.cut(number, cancelled.get(number, 0))
        story.cancel_items(pending=True)
    if commit == "at once":
        story.world.do(confirm())
    else:
        story.send(confirm(by_event=True))
    story.cut(1, cancelled.get("pending", 0))  # before the picklist is final
    story.cancel_items()
    if ending != "dies before it is planned":
        story.plan()
        for how, number, units in lost:
            story.lose(how, number, units)
    if ending == "shipped":
        story.send(story.report(shipped=True))
        story.send(story.report(shipped=True))  # completed
    else:
        story.quantity = dict.fromkeys(SKUS, 0)
        endings: list[Envelope[Any]] = [close_attempt(while_pending=False), story.report()]
        dice.shuffle(endings)
        for command in endings:
            story.send(command)
    story.finish()
    for number, sku in SKUS.items():
        gone = story.quantity[number] + story.short[number] + story.spoiled[number]
        assert story.world.balances(HERE, sku) == (
            wanted[number] + spare - gone,
            0,
            0,
            story.spoiled[number],
        )
    assert sum(
        line.units(Bucket.SHIPPED)
        for line in story.world.order_reservations[ORDER].reservations[0].lines
    ) == sum(story.quantity.values())
