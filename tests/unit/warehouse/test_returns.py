"""What returns bring back: each unit once, and never more than has left."""

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
    """An order of so many units of tea and one cup, gone from London; nothing of either is left
    there.
    """
    world = stocked(london={"tea": units, "cup": 1})
    world.do(reserve(("tea", units), ("cup", 1)), confirm(), ship("london", {1: units, 2: 1}))
    world.facts.clear()
    return world


def reason(world: World, command: Envelope[Any]) -> tuple[type[Failure], str]:
    """How the command is refused; nothing has moved."""
    posted = len(world.ledger)
    [outcome] = world.try_all(command)
    assert isinstance(outcome, Failure)
    assert len(world.ledger) == posted
    world.check()
    return type(outcome), outcome.reason


def test_units_that_passed_are_available_again_and_those_that_failed_are_damaged() -> None:
    """In one decision, each published with its stock level, under the return's name."""
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
    assert [f.movement for f in world.facts if isinstance(f, StockChanged)] == rows
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
    """In any order, in one set or in many, in whichever warehouse: the largest of the targets is
    what is posted.
    """
    for sets in ([reports], [(command,) for command in reports], [reports, reports]):
        world = sent()
        for some in sets:
            world.do(*some)
        line = world.order_reservations[ORDER].lines[1]
        assert (line.restocked, line.damaged) == (2, 1)
        world.check()


def test_two_returns_of_one_line() -> None:
    """Each has its own targets; together they bring no more than has left."""
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
    """One line that cannot be leaves the others out as well."""
    world = sent()
    assert reason(world, post_return("london", {1: 1, 2: 2})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_goods_may_come_to_a_warehouse_that_never_had_them() -> None:
    """Its stock level is made, with the first version."""
    world = sent()
    world.do(post_return("leeds", {1: 1}, {1: 2}))
    assert world.balances("leeds", "tea") == (1, 0, 0, 2)
    assert world.levels["leeds", "tea"].version == 2
    assert world.balances("london", "tea") == (0, 0, 0, 0)
    world.check()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], (Deferred, "EVENT_AHEAD")),  # reserved: it may be committed yet, and leave
        ([confirm()], (Deferred, "EVENT_AHEAD")),
        # a cancelled order's parcel may be on its way
        ([confirm(), close_attempt(while_pending=False)], (Deferred, "EVENT_AHEAD")),
        ([confirm(), report_picklist("london", {1: 2})], (Deferred, "EVENT_AHEAD")),
        ([close_attempt()], (Refused, "RETURN_EXCEEDS_SHIPPED")),
        ([confirm(), report_picklist("london", {1: 0})], (Refused, "RETURN_EXCEEDS_SHIPPED")),
        ([confirm(), ship("london", {1: 1})], (Refused, "RETURN_EXCEEDS_SHIPPED")),
    ],
)
def test_more_than_has_left(
    before: list[Envelope[Any]], expected: tuple[type[Failure], str]
) -> None:
    """Deferred while more units may still ship, refused for good when none can."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)), *before)
    assert reason(world, post_return("london", {1: 2})) == expected


def test_return_of_expired_units_waits_until_attempt_closed() -> None:
    """A confirmation replaces it."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)))
    world.pass_time(world.attempt_reservations()[0].expire_time - world.now)
    world.do(expire())
    assert reason(world, post_return("london", {1: 1})) == (Deferred, "EVENT_AHEAD")
    world.do(confirm(), ship("london", {1: 3}))
    # the first generation is no hope
    assert reason(world, post_return("london", {1: 4})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_a_return_waits_for_its_shipping() -> None:
    """Then it is posted."""
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)), confirm())
    command = post_return("london", {1: 3})
    assert reason(world, command) == (Deferred, "EVENT_AHEAD")
    world.do(ship("london", {1: 3}), command)
    assert world.balances("london", "tea") == (3, 0, 0, 0)
    world.check()


def test_what_the_warehouse_knows_nothing_of() -> None:
    """An order that never had reservations, also after its attempt is closed; a line that it
    has not.
    """
    world = sent()
    for order in (UUID(int=5), UUID(int=6)):
        assert reason(world, post_return("london", {1: 1}, order=order)) == (
            NotFound,
            "RESERVATION_NOT_FOUND",
        )
        world.do(close_attempt(UUID(int=6)))
    assert reason(world, post_return("london", {3: 1})) == (Refused, "RETURN_EXCEEDS_SHIPPED")


def test_a_return_is_of_one_order() -> None:
    """What names another order's return, or a receipt, is no return."""
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


def test_goods_are_somewhere() -> None:
    """An event without a warehouse is refused, for an operator has to look at it."""
    assert reason(sent(), post_return("", {1: 1})) == (InvalidField, "VALIDATION_FAILED")


def test_a_balance_has_its_bounds() -> None:
    """Also where goods come back."""
    world = sent()
    world.do(receive("london", tea=BALANCE_MAX))
    assert reason(world, post_return("london", {1: 1})) == (Refused, "QUANTITY_OUT_OF_RANGE")
    world.do(post_return("london", damaged={1: 1}))


def test_units_of_several_attempts_and_warehouses_are_of_one_line() -> None:
    """What may come back is what has left over all of them."""
    world = stocked(london={"tea": 1}, york={"tea": 1})
    world.do(reserve(("tea", 2)), confirm(), ship("london", {1: 1}))
    assert reason(world, post_return("london", {1: 2})) == (Deferred, "EVENT_AHEAD")
    world.do(ship("york", {1: 1}), post_return("london", {1: 2}))
    assert world.balances("london", "tea") == (2, 0, 0, 0)
    world.check()
