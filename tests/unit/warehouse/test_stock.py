"""The effects of receipts, counts and fulfilment's reports on stock."""

from typing import Any
from uuid import UUID

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, NotFound, Refused, Stale
from tests.unit.warehouse.world import (
    ORDER,
    TTL,
    adjust,
    call_off,
    close_attempt,
    confirm,
    expire,
    receive,
    release,
    report_picklist,
    reserve,
    ship,
    stocked,
)
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.records import BALANCE_MAX


def test_receipt_posts_all_lines_or_none() -> None:
    """One line out of its bounds prevents the others too; a SKU's first receipt makes its stock
    level.
    """
    world = stocked(london={"tea": BALANCE_MAX})
    [outcome] = world.try_all(receive("london", cup=1, tea=1))
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.metadata["sku"]) == ("QUANTITY_OUT_OF_RANGE", "tea")
    assert ("london", "cup") not in world.levels
    record = world.do(receive("london", cup=1, jam=2))
    assert [record.levels["london", sku].available for sku in ("cup", "jam")] == [1, 2]
    world.check()


def test_repeated_receipt_is_posted_once() -> None:
    """Only the ledger has the receipt's request."""
    world = stocked(york={"tea": 1})
    for _ in range(2):
        world.do(receive("london", request=7, tea=1))
    assert world.balances("london", "tea") == (1, 0, 0, 0)


def test_receipt_and_count_of_one_request_id_are_both_posted() -> None:
    """A request_id belongs to its method: in either order, each is posted once."""
    world = stocked(london={"tea": 1})
    for _ in range(2):
        world.do(receive("london", request=7, tea=1))
        world.do(adjust("london", "tea", 2, request=7))
        world.do(adjust("london", "tea", 2, request=8))
        world.do(receive("london", request=8, tea=1))
    assert world.balances("london", "tea") == (7, 0, 0, 0)


def test_count_below_the_reserved_units_is_refused() -> None:
    """A count goes up and down, with a row of the ledger. It is refused below the reserved units,
    for an unknown stock level, and for an old version.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)), adjust("london", "tea", -3))
    assert world.balances("london", "tea") == (2, 2, 0, 0)
    world.do(adjust("london", "tea", 4, expected_version=3))
    assert world.balances("london", "tea") == (6, 2, 0, 0)
    refused: list[tuple[Envelope[Any], type[Failure], str]] = [
        (adjust("london", "tea", -5), Refused, "STOCK_BELOW_RESERVED"),
        (adjust("london", "tea", BALANCE_MAX), Refused, "QUANTITY_OUT_OF_RANGE"),
        (adjust("london", "tea", 1, expected_version=3), Stale, "VERSION_MISMATCH"),
        (adjust("london", "cup", 1), NotFound, "STOCK_LEVEL_NOT_FOUND"),
    ]
    outcomes = world.try_all(*(command for command, _, _ in refused))
    assert [(type(o), o.reason) for o in outcomes if isinstance(o, Failure)] == [
        (kind, reason) for _, kind, reason in refused
    ]
    assert world.balances("london", "tea") == (6, 2, 0, 0)
    world.check()


def test_units_ship_up_to_the_target() -> None:
    """Repeats move nothing; the last unit closes the reservation; other warehouses are not
    concerned.
    """
    world = stocked(london={"tea": 3}, york={"tea": 2})
    world.do(reserve(("tea", 5)), confirm(), ship("london", {1: 3}))
    assert world.balances("london", "tea") == (0, 0, 0, 0)
    world.do(ship("london", {1: 3}), report_picklist("london", {1: 3}))
    assert {r.warehouse_id: r.status for r in world.attempt_reservations()} == {
        "london": Status.CLOSED,
        "york": Status.CONFIRMED,
    }
    world.check()


@pytest.mark.parametrize(("number", "target"), [(1, 3), (2, 1)])
def test_shipment_of_more_units_than_committed_is_refused(number: int, target: int) -> None:
    """More units, and lines that the reservation lacks, are refused, also if another order has
    committed as many.
    """
    world, other = stocked(london={"tea": 9}), UUID(int=2)
    world.do(reserve(("tea", 2)), confirm(), reserve(("tea", 5), order=other), confirm(other))
    [outcome] = world.try_all(ship("london", {number: target}))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "STOCK_BELOW_RESERVED"
    world.check()


def test_report_before_the_commit_is_deferred() -> None:
    """Deferred, EVENT_AHEAD, while the units are reserved or expired: the commit is still
    pending.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)))
    for _ in ("active", "expired"):
        for outcome in world.try_all(ship("london", {1: 2}), call_off("london")):
            assert isinstance(outcome, Deferred)
            assert outcome.reason == "EVENT_AHEAD"
        world.pass_time(TTL)
        world.do(expire())
    world.do(confirm(), ship("london", {1: 2}))
    assert world.balances("london", "tea") == (3, 0, 0, 0)


@pytest.mark.parametrize("freed", [close_attempt(), release()])
def test_released_units_cannot_ship_and_need_no_uncommit(freed: Envelope[Any]) -> None:
    """The report is refused: an operator must check it. A cancelled fulfilment of these units posts
    nothing.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)), freed)
    [outcome] = world.try_all(ship("london", {1: 2}))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "RESERVATION_CLOSED"
    world.do(call_off("london"))
    assert world.balances("london", "tea") == (5, 0, 0, 0)


def test_report_without_a_reservation_waits() -> None:
    """The warehouse has no reservation of the order: its report waits for one."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)), confirm())
    [outcome] = world.try_all(ship("york", {1: 2}))
    assert isinstance(outcome, NotFound)


def test_record_of_unknown_order_has_the_stock_levels() -> None:
    """A command about an unknown order gets the stock levels, and no reservations."""
    world = stocked(london={"tea": 5})
    record = world.do(expire(UUID(int=99)))
    assert record.order_reservations is None
    assert record.levels["london", "tea"].sellable == 5
    assert ORDER not in world.order_reservations
