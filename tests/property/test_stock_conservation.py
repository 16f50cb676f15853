"""Conservation of stock: whatever is done, in whatever order and in whatever sets, no unit is lost, doubled or sold twice."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.decision import Done
from chassis.errors import Defect
from tests.unit.warehouse.world import (
    World,
    adjust,
    confirm,
    end,
    expire,
    receive,
    release,
    renew,
    reserve,
    ship,
    take_back,
)
from warehouse_svc.model import Reservation, StockCommand

SKUS, WAREHOUSES = ["tea", "cup", "jam"], ["london", "york", "leeds"]
orders = st.integers(1, 3).map(lambda number: UUID(int=number))
attempts = st.integers(1, 2)
places = st.sampled_from(WAREHOUSES), st.sampled_from(SKUS)
units = st.integers(1, 6)
targets = st.dictionaries(st.integers(1, 3), units, max_size=3)

commands: st.SearchStrategy[StockCommand] = st.one_of(
    st.builds(lambda warehouse, sku, n: receive(warehouse, **{sku: n}), *places, units),
    st.builds(adjust, *places, st.integers(-6, 6).filter(bool)),
    st.builds(
        lambda wanted, order, attempt: reserve(*wanted, order=order, attempt=attempt),
        st.lists(st.tuples(st.sampled_from(SKUS), units), min_size=1, max_size=3),
        orders,
        attempts,
    ),
    st.builds(renew, orders, attempts),
    st.builds(lambda order, attempt, by_event: confirm(order, attempt, by_event=by_event), orders, attempts, st.booleans()),
    st.builds(release, st.one_of(st.none(), targets), orders, attempts),
    st.builds(expire, orders),
    st.builds(lambda order, attempt, pending: end(order, attempt, while_pending=pending), orders, attempts, st.booleans()),
    st.builds(ship, st.sampled_from(WAREHOUSES), targets, orders, attempts),
    st.builds(take_back, st.sampled_from(WAREHOUSES), targets, orders, attempts),
)
# Sets of commands, and how many minutes pass after each.
histories = st.lists(st.tuples(st.lists(commands, min_size=1, max_size=5), st.integers(0, 20)), max_size=12)


def full() -> World:
    """Enough that the first orders find something, and little enough that they compete for it."""
    world = World()
    world.do(*(receive(warehouse, tea=5, cup=2, jam=1) for warehouse in WAREHOUSES))
    return world


def run(world: World, history: Sequence[tuple[Sequence[StockCommand], int]]) -> None:
    for some, minutes in history:
        for outcome in world.try_all(*some):
            assert not isinstance(outcome, Defect), repr(outcome.__cause__)
        world.pass_time(timedelta(minutes=minutes))


@settings(max_examples=300, deadline=None)
@given(histories)
def test_no_unit_is_lost_or_doubled(history: list[tuple[list[StockCommand], int]]) -> None:
    """Balances are the sums of the ledger and of the reservations' units, none is below zero, and no movement is booked twice."""
    world = full()
    for step in history:
        run(world, [step])
        world.check()


@settings(max_examples=100, deadline=None)
@given(histories)
def test_any_cutting_into_sets_comes_to_the_same(history: list[tuple[list[StockCommand], int]]) -> None:
    """Commands folded over one picture end where the same commands end one at a time."""
    together, alone = full(), full()
    run(together, history)
    for some, minutes in history:
        run(alone, [([command], 0) for command in some])
        alone.pass_time(timedelta(minutes=minutes))
    assert together.holdings == alone.holdings
    assert {k: (v.available, v.version) for k, v in together.levels.items()} == {
        k: (v.available, v.version) for k, v in alone.levels.items()
    }
    assert [(m.kind, m.source_id, m.cumulative) for m in together.ledger][9:] == [
        (m.kind, m.source_id, m.cumulative) for m in alone.ledger
    ][9:]


@settings(max_examples=200, deadline=None)
@given(histories, commands)
def test_a_second_time_on_another_path_moves_nothing(history: list[tuple[list[StockCommand], int]], command: StockCommand) -> None:
    """Effects are idempotent on their business keys: whichever of two paths comes second, it books not one row."""
    world = full()
    run(world, history)
    [first] = world.try_all(command)
    booked = len(world.ledger)
    world.try_all(replace(command, key=f"{command.key}, again"))
    assert len(world.ledger) == booked or not isinstance(first, Done)
    world.check()


def live(world: World) -> list[Reservation]:
    return [r for holding in world.holdings.values() for attempt in (1, 2) for r in holding.of(attempt)]


@settings(max_examples=100, deadline=None)
@given(histories)
def test_when_every_order_is_over_nothing_is_held(history: list[tuple[list[StockCommand], int]]) -> None:
    """Once each attempt is dead and each fulfilment has reported, no unit is reserved or committed."""
    world = full()
    run(world, history)
    for order in list(world.holdings):
        world.do(*(end(order, attempt, while_pending=False) for attempt in (1, 2)))
    for r in live(world):
        world.do(take_back(r.warehouse_id, {line.number: line.uncommitted + line.committed for line in r.lines}, r.order_id, r.attempt))
    assert all(level.reserved == level.committed == 0 for level in world.levels.values())
    world.check()
