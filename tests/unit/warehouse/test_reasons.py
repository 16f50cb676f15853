"""The reasons of changed reservations equal those of the contract."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.envelope import Envelope
from tests.unit.warehouse.world import (
    TTL,
    World,
    allocate,
    close_attempt,
    confirm,
    expire,
    release,
    renew,
    replace_spoiled,
    report_picklist,
    reserve,
    stocked,
)
from warehouse_svc import decisions
from warehouse_svc.lifecycle import Reason
from warehouse_svc.model.events import ReservationChanged

PREFIX = "RESERVATION_STATUS_REASON_"


def test_reservation_reasons_are_those_that_are_published() -> None:
    """ReservationStatusReason has exactly the reasons that the decisions write."""
    values = warehouse_pb2.ReservationStatusReason.items()
    names = {name.removeprefix(PREFIX) for name, number in values if number}
    written = {
        node.attr
        for path in Path(decisions.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(
            node.value,
            ast.Name,
        )
        and node.value.id == "Reason"
    }
    assert names == {each.value for each in Reason} == written


def overdue() -> World:
    """Two units are reserved, and their time is over."""
    world = reserved()
    world.pass_time(TTL)
    return world


def reserved() -> World:
    """Two units of five are reserved."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)))
    return world


def sold() -> World:
    """Two units of five are committed."""
    world = reserved()
    world.do(confirm())
    return world


def sold_out() -> World:
    """Two units of two had expired and were sold to another order."""
    world = stocked(london={"tea": 2})
    world.do(reserve(("tea", 2)))
    world.pass_time(TTL)
    world.do(expire())
    world.levels.clear()
    return world


SCENARIOS: dict[Reason, tuple[Callable[[], World], Callable[[World], Envelope[Any]]]] = {
    Reason.STOCK_RESERVED: (overdue, lambda _: reserve(("tea", 2))),
    Reason.RESERVATION_RENEWED: (overdue, lambda _: renew()),
    Reason.STOCK_CONFIRMED: (reserved, lambda _: confirm()),
    Reason.CONFIRM_REFUSED: (sold_out, lambda _: confirm(by_event=True)),
    Reason.STOCK_RELEASED: (reserved, lambda _: release()),
    Reason.TIME_EXPIRED: (overdue, lambda _: expire()),
    Reason.ATTEMPT_CLOSED: (reserved, lambda _: close_attempt()),
    Reason.UNITS_CANCELLED: (
        reserved,
        lambda world: allocate({1: 1}, world.attempt_reservations()),
    ),
    Reason.FULFILLMENT_CHANGED: (sold, lambda _: report_picklist("london", {1: 1})),
    Reason.SPOILED_UNITS_REPLACED: (sold, lambda _: replace_spoiled("london", {1: 1})),
}


@pytest.mark.parametrize("reason", Reason)
def test_reservation_change_has_the_reason_of_its_command(reason: Reason) -> None:
    """The reason of a published change identifies its command."""
    prepare, command = SCENARIOS[reason]
    world = prepare()
    world.events.clear()
    world.do(command(world))
    found = [event.reason for event in world.events if isinstance(event, ReservationChanged)]
    assert found
    assert set(found) == {reason}
