"""Conservation of stock: for any commands, in any order and in any sets, no unit is lost, doubled
or sold twice.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect
from tests.unit.warehouse.world import (
    World,
    adjust,
    allocate,
    call_off,
    close_attempt,
    confirm,
    expire,
    post_return,
    receive,
    release,
    renew,
    replace_spoiled,
    report_picklist,
    reserve,
    ship,
)
from warehouse_svc.model.commands import ApplyAllocations
from warehouse_svc.model.records import Reservation

# Few names and small numbers, so that commands meet: orders that compete for little stock, and two
# that are further in their lives.
SKUS, WAREHOUSES = ["tea", "cup"], ["london", "york"]
orders = st.integers(1, 4).map(lambda number: UUID(int=number))
young, old = (
    st.sampled_from([UUID(int=1), UUID(int=2)]),
    st.sampled_from([UUID(int=1), UUID(int=3), UUID(int=3), UUID(int=4), UUID(int=4)]),
)
attempts = st.sampled_from([1, 1, 1, 1, 2])
first = st.sampled_from([1, 1, 1, 1, 1, 1, 1, 2])
warehouses, skus = st.sampled_from(WAREHOUSES), st.sampled_from(SKUS)
mostly_london = st.sampled_from(["london", "london", "london", "york"])
units = st.integers(1, 3)
some = st.integers(0, 3)
targets = st.dictionaries(st.sampled_from([1, 1, 2]), units, min_size=1)
# An order's lines are of the same SKU in each of its attempts.
LINES = ["tea", "cup", "tea"]
reserving = st.builds(
    lambda wanted, order, attempt: reserve(
        *zip(LINES, wanted, strict=False), order=order, attempt=attempt
    ),
    st.lists(units, min_size=1, max_size=len(LINES)),
    orders,
    attempts,
)
confirming = st.builds(
    lambda order, attempt, by_event: confirm(order, attempt, by_event=by_event),
    orders,
    attempts,
    st.booleans(),
)
# Any picklist, with short and spoiled units, possible or not: an impossible one is refused.
few = st.sampled_from([0, 0, 0, 1, 2])
picklists = st.dictionaries(st.sampled_from([1, 1, 2]), st.tuples(some, few, few), min_size=1)
working = st.builds(
    lambda at, picklist, order, attempt, shipped: report_picklist(
        at, picklist, order, attempt, shipped=shipped
    ),
    mostly_london,
    picklists,
    old,
    first,
    st.booleans(),
)
replacing = st.builds(
    lambda at, spoiled, order, attempt, short: replace_spoiled(
        at, spoiled, order, attempt, {1: short}
    ),
    mostly_london,
    targets,
    old,
    first,
    few,
)
back = st.dictionaries(st.sampled_from([1, 1, 2]), st.integers(1, 2), max_size=1)
returning = st.builds(
    lambda at, passed, failed, order, number: post_return(
        at, passed, failed, order, UUID(int=70 + 10 * order.int + number)
    ),
    st.sampled_from([*WAREHOUSES, "leeds"]),  # where nothing has ever been
    back,
    back,
    old,
    st.integers(1, 2),
)


def beginning() -> list[Envelope[Any]]:
    """Two orders that have reserved most of the stock, one from one warehouse, one from two; a
    third is sold, a fourth has left. In memory their reservations' ids are the same each time.
    """
    receipts = [receive("london", tea=10, cup=6), receive("york", tea=4, cup=3)]
    baskets = {
        3: (("tea", 3), ("cup", 2)),
        4: (("tea", 3), ("cup", 1)),
        1: (("tea", 2), ("cup", 1)),
        2: (("tea", 5),),
    }
    reserving = [
        replace(reserve(*basket, order=UUID(int=n)), key=f"beginning:{n}")
        for n, basket in baskets.items()
    ]
    return [
        *receipts,
        *reserving,
        confirm(UUID(int=3)),
        confirm(UUID(int=4)),
        ship("london", {1: 3, 2: 1}, UUID(int=4)),
    ]


def begun() -> World:
    world = World()
    world.do(*beginning())
    return world


def allocating(
    order_id: UUID, attempt: int, remaining: dict[int, int], *, pending: bool
) -> Envelope[ApplyAllocations]:
    """Units of an order are cancelled; those that stay are allocated as the beginning reserved
    them.
    """
    return allocate(
        remaining,
        begun().order_reservations[order_id].of_attempt(attempt),
        order_id,
        attempt,
        while_pending=pending,
    )


commands: st.SearchStrategy[Envelope[Any]] = st.one_of(
    reserving,
    confirming,
    confirming,
    working,
    working,
    working,
    replacing,
    replacing,
    returning,
    returning,
    returning,
    st.builds(call_off, warehouses, orders, attempts),
    st.builds(
        lambda order, attempt, kept, pending: allocating(order, attempt, kept, pending=pending),
        orders,
        attempts,
        st.dictionaries(st.sampled_from([1, 2]), some),
        st.booleans(),
    ),
    st.builds(renew, young, attempts),
    st.builds(release, st.one_of(st.just({}), targets), young, attempts),
    st.builds(expire, young),
    st.builds(
        lambda order, attempt, pending: close_attempt(order, attempt, while_pending=pending),
        orders,
        attempts,
        st.booleans(),
    ),
    st.builds(lambda warehouse, sku, n: receive(warehouse, **{sku: n}), warehouses, skus, units),
    st.builds(adjust, warehouses, skus, st.integers(-3, 3).filter(bool)),
)
# Sets of commands, and how many minutes pass after each: mostly none, else more than a reservation
# lasts.
histories = st.lists(
    st.tuples(st.lists(commands, min_size=1, max_size=5), st.sampled_from([0, 0, 0, 31])),
    min_size=4,
    max_size=16,
)


def run(world: World, history: Sequence[tuple[Sequence[Envelope[Any]], int]]) -> None:
    for some, minutes in history:
        for outcome in world.try_all(*some):
            assert not isinstance(outcome, Defect), repr(outcome.__cause__)
        world.pass_time(timedelta(minutes=minutes))


@settings(max_examples=200, deadline=None)
@given(histories)
def test_no_unit_is_lost_or_doubled(history: list[tuple[list[Envelope[Any]], int]]) -> None:
    """Balances are the sums of the ledger and of the reservations' units, none is below zero,
    and no movement is posted twice.
    """
    world = begun()
    for step in history:
        run(world, [step])
        world.check()


@settings(max_examples=100, deadline=None)
@given(histories)
def test_any_cutting_into_sets_comes_to_the_same(
    history: list[tuple[list[Envelope[Any]], int]],
) -> None:
    """Commands applied over one workspace end where the same commands end one at a time."""
    together = begun()
    alone = deepcopy(together)
    run(together, history)
    for some, minutes in history:
        run(alone, [([command], 0) for command in some])
        alone.pass_time(timedelta(minutes=minutes))
    assert together == alone


@settings(max_examples=200, deadline=None)
@given(histories, commands)
def test_a_second_time_on_another_path_moves_nothing(
    history: list[tuple[list[Envelope[Any]], int]], command: Envelope[Any]
) -> None:
    """Effects are idempotent on their business keys: the second of two paths posts no row."""
    world = begun()
    run(world, history)
    [first] = world.try_all(command)
    posted = len(world.ledger)
    world.try_all(replace(command, key=f"{command.key}, again"))
    assert len(world.ledger) == posted or not isinstance(first, Done)
    world.check()


def live(world: World) -> list[Reservation]:
    return [
        r
        for each in world.order_reservations.values()
        for r in (*each.of_attempt(1), *each.of_attempt(2))
    ]


@settings(max_examples=100, deadline=None)
@given(histories)
def test_when_every_order_is_over_nothing_is_held(
    history: list[tuple[list[Envelope[Any]], int]],
) -> None:
    """Once each attempt is closed and each fulfilment has reported, no unit is reserved or
    committed.
    """
    world = begun()
    run(world, history)
    for order in list(world.order_reservations):
        world.do(*(close_attempt(order, attempt, while_pending=False) for attempt in (1, 2)))
    for r in live(world):
        world.do(call_off(r.warehouse_id, r.order_id, r.attempt))
    assert all(level.reserved == level.committed == 0 for level in world.levels.values())
    world.check()
