"""Conservation of stock: whatever is done, in whatever order and in whatever sets, no unit is lost, doubled or sold twice."""

from collections.abc import Sequence
from copy import deepcopy
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

# Few names and small numbers, so that commands meet: two orders that compete for little stock.
SKUS, WAREHOUSES = ["tea", "cup"], ["london", "york"]
orders = st.integers(1, 2).map(lambda number: UUID(int=number))
attempts = st.sampled_from([1, 1, 1, 1, 2])
warehouses, skus = st.sampled_from(WAREHOUSES), st.sampled_from(SKUS)
units = st.integers(1, 3)
targets = st.dictionaries(st.sampled_from([1, 1, 2]), units, min_size=1)
reserving = st.builds(
    lambda wanted, order, attempt: reserve(*wanted, order=order, attempt=attempt),
    st.lists(st.tuples(skus, units), min_size=1, max_size=3),
    orders,
    attempts,
)
confirming = st.builds(lambda order, attempt, by_event: confirm(order, attempt, by_event=by_event), orders, attempts, st.booleans())
shipping = st.builds(ship, warehouses, targets, orders, attempts)

commands: st.SearchStrategy[StockCommand] = st.one_of(
    reserving,
    confirming,
    confirming,
    shipping,
    shipping,
    st.builds(take_back, warehouses, targets, orders, attempts),
    st.builds(renew, orders, attempts),
    st.builds(release, st.one_of(st.just({}), targets), orders, attempts),
    st.builds(expire, orders),
    st.builds(lambda order, attempt, pending: end(order, attempt, while_pending=pending), orders, attempts, st.booleans()),
    st.builds(lambda warehouse, sku, n: receive(warehouse, **{sku: n}), warehouses, skus, units),
    st.builds(adjust, warehouses, skus, st.integers(-3, 3).filter(bool)),
)
# Sets of commands, and how many minutes pass after each: mostly none, else more than a reservation lasts.
histories = st.lists(st.tuples(st.lists(commands, min_size=1, max_size=5), st.sampled_from([0, 0, 0, 31])), min_size=4, max_size=16)


def beginning() -> list[StockCommand]:
    """Two orders that have reserved most of the stock: one from one warehouse, one from two."""
    receipts = [receive(warehouse, tea=4, cup=3) for warehouse in WAREHOUSES]
    return [*receipts, reserve(("tea", 2), ("cup", 1), order=UUID(int=1)), reserve(("tea", 5), order=UUID(int=2))]


def begun() -> World:
    world = World()
    world.do(*beginning())
    return world


def run(world: World, history: Sequence[tuple[Sequence[StockCommand], int]]) -> None:
    for some, minutes in history:
        for outcome in world.try_all(*some):
            assert not isinstance(outcome, Defect), repr(outcome.__cause__)
        world.pass_time(timedelta(minutes=minutes))


@settings(max_examples=200, deadline=None)
@given(histories)
def test_no_unit_is_lost_or_doubled(history: list[tuple[list[StockCommand], int]]) -> None:
    """Balances are the sums of the ledger and of the reservations' units, none is below zero, and no movement is booked twice."""
    world = begun()
    for step in history:
        run(world, [step])
        world.check()


@settings(max_examples=100, deadline=None)
@given(histories)
def test_any_cutting_into_sets_comes_to_the_same(history: list[tuple[list[StockCommand], int]]) -> None:
    """Commands folded over one picture end where the same commands end one at a time."""
    together = begun()
    alone = deepcopy(together)
    run(together, history)
    for some, minutes in history:
        run(alone, [([command], 0) for command in some])
        alone.pass_time(timedelta(minutes=minutes))
    assert together == alone


@settings(max_examples=200, deadline=None)
@given(histories, commands)
def test_a_second_time_on_another_path_moves_nothing(history: list[tuple[list[StockCommand], int]], command: StockCommand) -> None:
    """Effects are idempotent on their business keys: whichever of two paths comes second, it books not one row."""
    world = begun()
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
    world = begun()
    run(world, history)
    for order in list(world.holdings):
        world.do(*(end(order, attempt, while_pending=False) for attempt in (1, 2)))
    for r in live(world):
        world.do(take_back(r.warehouse_id, {line.number: line.uncommitted + line.committed for line in r.lines}, r.order_id, r.attempt))
    assert all(level.reserved == level.committed == 0 for level in world.levels.values())
    world.check()
