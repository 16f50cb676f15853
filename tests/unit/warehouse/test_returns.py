"""The effects of returns: each unit comes back once, and never more units than have shipped."""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, InvalidField, NotFound, Refused
from tests.unit.warehouse.world import (
    ORDER,
    RETURN,
    World,
    close_attempt,
    confirm,
    expire,
    post_return,
    receive,
    report_picklist,
    reserve,
    ship,
    stocked,
)
from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.events import StockChanged
from warehouse_svc.model.records import BALANCE_MAX, OrderLine

OTHER = UUID(int=78)


def sent(units: int = 3) -> World:
    """An order of so many units of tea and one cup, shipped from London; no other unit of either is
    there.
    """
    world = stocked(london={"tea": units, "cup": 1})
    world.do(reserve(("tea", units), ("cup", 1)), confirm(), ship("london", {1: units, 2: 1}))
    world.events.clear()
    return world


def reason(world: World, command: Envelope[Any]) -> tuple[type[Failure], str]:
    """Returns the reason of the refusal, and checks that nothing has moved."""
    posted = len(world.ledger)
    [outcome] = world.try_all(command)
    assert isinstance(outcome, Failure)
    assert len(world.ledger) == posted
    world.check()
    return type(outcome), outcome.reason


def test_passed_units_are_available_and_failed_ones_damaged() -> None:
    """One decision posts both, each published with its stock level, under the return's name."""
    world = sent()
    world.do(post_return("london", {1: 2, 2: 1}, {1: 1}))
    assert world.balances("london", "tea") == (2, 0, 0, 1)
    assert world.balances("london", "cup") == (1, 0, 0, 0)
    assert world.order_reservations[ORDER].lines[1] == OrderLine(
        number=1, sku="tea", shipped=3, restocked=2, damaged=1
    )
    rows = world.ledger[-3:]
    assert [(m.kind, m.line_number, m.quantity, m.outside) for m in rows] == [
        (MovementKind.RESTOCK, 1, 2, -2),
        (MovementKind.RESTOCK, 2, 1, -1),
        (MovementKind.MARK_DAMAGED, 1, 1, -1),
    ]
    assert {(m.source_id, m.order_id) for m in rows} == {(RETURN, ORDER)}
    assert [f.movement for f in world.events if isinstance(f, StockChanged)] == rows
    world.check()


@pytest.mark.parametrize(
    "reports",
    list(
        permutations(
            [
                post_return("london", {1: 1}),
                post_return("london", {1: 2}, {1: 1}),
                post_return("york", {1: 2}),
            ]
        )
    ),
)
def test_repeated_returns_post_each_unit_once(reports: tuple[Envelope[Any], ...]) -> None:
    """In any order, in one set or several, in any warehouse, the largest of the targets is
    posted.
    """
    for sets in ([reports], [(command,) for command in reports], [reports, reports]):
        world = sent()
        for some in sets:
            world.do(*some)
        line = world.order_reservations[ORDER].lines[1]
        assert (line.restocked, line.damaged) == (2, 1)
        world.check()


def test_two_returns_of_one_line() -> None:
    """Each return has its own targets; together they post no more units than have shipped."""
    world = sent()
    world.do(post_return("london", {1: 2}), post_return("london", {1: 1}, source=OTHER))
    assert world.balances("london", "tea") == (3, 0, 0, 0)
    assert reason(world, post_return("london", {1: 2}, source=OTHER)) == (
        Refused,
        "RETURN_EXCEEDS_SHIPPED",
    )
    assert reason(world, post_return("london", damaged={1: 1})) == (
        Refused,
        "RETURN_EXCEEDS_SHIPPED",
    )


def test_all_lines_or_none() -> None:
    """One impossible line prevents the others too."""
    world = sent()
    assert reason(world, post_return("london", {1: 1, 2: 2})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_return_to_a_new_warehouse_makes_its_stock_level() -> None:
    """The warehouse never had the SKU: its stock level is made, with the first version."""
    world = sent()
    world.do(post_return("leeds", {1: 1}, {1: 2}))
    assert world.balances("leeds", "tea") == (1, 0, 0, 2)
    assert world.levels["leeds", "tea"].version == 2
    assert world.balances("london", "tea") == (0, 0, 0, 0)
    world.check()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], (Deferred, "EVENT_AHEAD")),  # reserved: it may still be committed, and ship
        ([confirm()], (Deferred, "EVENT_AHEAD")),
        # a cancelled order's parcel may be in transit
        ([confirm(), close_attempt(while_pending=False)], (Deferred, "EVENT_AHEAD")),
        ([confirm(), report_picklist("london", {1: 2})], (Deferred, "EVENT_AHEAD")),
        ([close_attempt()], (Refused, "RETURN_EXCEEDS_SHIPPED")),
        ([confirm(), report_picklist("london", {1: 0})], (Refused, "RETURN_EXCEEDS_SHIPPED")),
        ([confirm(), ship("london", {1: 1})], (Refused, "RETURN_EXCEEDS_SHIPPED")),
    ],
)
def test_return_of_more_units_than_shipped_is_refused(
    before: list[Envelope[Any]], expected: tuple[type[Failure], str]
) -> None:
    """The return is deferred while more units may still ship, and refused when none can."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)), *before)
    assert reason(world, post_return("london", {1: 2})) == expected


def test_return_of_expired_units_waits_until_attempt_closed() -> None:
    """A confirmation replaces the expired reservation."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)))
    world.pass_time(world.attempt_reservations()[0].expire_time - world.now)
    world.do(expire())
    assert reason(world, post_return("london", {1: 1})) == (Deferred, "EVENT_AHEAD")
    world.do(confirm(), ship("london", {1: 3}))
    # the first generation's units can no longer ship
    assert reason(world, post_return("london", {1: 4})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_return_waits_for_its_shipment() -> None:
    """The return is posted after the shipment."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)), confirm())
    command = post_return("london", {1: 3})
    assert reason(world, command) == (Deferred, "EVENT_AHEAD")
    world.do(ship("london", {1: 3}), command)
    assert world.balances("london", "tea") == (3, 0, 0, 0)
    world.check()


def test_return_without_reservations_is_refused() -> None:
    """The order never had reservations, also after the close of its attempt; or it lacks the
    line.
    """
    world = sent()
    for order in (UUID(int=5), UUID(int=6)):
        assert reason(world, post_return("london", {1: 1}, order=order)) == (
            NotFound,
            "RESERVATION_NOT_FOUND",
        )
        world.do(close_attempt(UUID(int=6)))
    assert reason(world, post_return("london", {3: 1})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_source_of_another_order_is_no_return() -> None:
    """A source id of another order's return, or of a receipt, is refused."""
    world = sent()
    world.do(
        receive("london", request=9, tea=1),
        reserve(("tea", 1), order=OTHER),
        confirm(OTHER),
        ship("london", {1: 1}, OTHER),
    )
    world.do(post_return("london", {1: 1}))
    assert reason(world, post_return("london", {1: 1}, order=OTHER)) == (
        InvalidField,
        "VALIDATION_FAILED",
    )
    assert reason(world, post_return("london", {1: 1}, order=OTHER, source=UUID(int=9))) == (
        InvalidField,
        "VALIDATION_FAILED",
    )


def test_return_without_a_warehouse_is_refused() -> None:
    """The event is refused: an operator must check it."""
    assert reason(sent(), post_return("", {1: 1})) == (InvalidField, "VALIDATION_FAILED")


def test_balance_is_bounded_for_returns_too() -> None:
    """A return beyond the bound of a balance is refused."""
    world = sent()
    world.do(receive("london", tea=BALANCE_MAX))
    assert reason(world, post_return("london", {1: 1})) == (Refused, "QUANTITY_OUT_OF_RANGE")
    world.do(post_return("london", damaged={1: 1}))


def test_returnable_units_are_summed_over_attempts() -> None:
    """The returnable units are those that shipped over all attempts and warehouses."""
    world = stocked(london={"tea": 1}, york={"tea": 1})
    world.do(reserve(("tea", 2)), confirm(), ship("london", {1: 1}))
    assert reason(world, post_return("london", {1: 2})) == (Deferred, "EVENT_AHEAD")
    world.do(ship("york", {1: 1}), post_return("london", {1: 2}))
    assert world.balances("london", "tea") == (2, 0, 0, 0)
    world.check()
