"""The effects of checkouts, order events and time on reservations."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.values.decision import Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure, NotFound, Refused
from tests.unit.warehouse.world import (
    NOON,
    ORDER,
    TTL,
    World,
    adjust,
    changed,
    close_attempt,
    confirm,
    expire,
    receive,
    release,
    renew,
    reserve,
    ship,
    stocked,
)
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.events import ReservationChanged, StockChanged
from warehouse_svc.model.records import OrderStock

OTHER = UUID(int=2)


def reason(outcome: Outcome[Any]) -> str:
    assert isinstance(outcome, Failure), outcome
    return outcome.reason


def published(world: World) -> list[tuple[Status | None, Status, str | None]]:
    """Returns (old status, new status, refused) of each published change of a reservation."""
    return [
        (f.old_status, f.reservation.status, f.refused)
        for f in world.events
        if isinstance(f, ReservationChanged)
    ]


def test_example_of_the_specification() -> None:
    """100 available; reserve 2: 100, 2, sellable 98; confirm: 98, 0, committed 2; ship: committed
    0.
    """
    world = stocked(london={"tea": 100})
    world.do(reserve(("tea", 2)))
    assert world.balances("london", "tea") == (100, 2, 0, 0)
    assert world.levels["london", "tea"].sellable == 98
    world.do(confirm())
    assert world.balances("london", "tea") == (98, 0, 2, 0)
    world.do(ship("london", {1: 2}))
    assert world.balances("london", "tea") == (98, 0, 0, 0)
    world.check()


def test_reserve_takes_all_lines_or_none() -> None:
    """One short SKU leaves all balances unchanged. The refusal has each short SKU with the
    requested and the sellable units.
    """
    world = stocked(london={"tea": 5, "cup": 1}, york={"cup": 1})
    [outcome] = world.try_all(reserve(("tea", 5), ("cup", 2), ("cup", 1), ("jam", 1)))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.reason) == ("FAILED_PRECONDITION", "INSUFFICIENT_STOCK")
    assert [(v.subject, v.description) for v in outcome.violations] == [
        ("cup", "requested 3, sellable 2"),
        ("jam", "requested 1, sellable 0"),
    ]
    first = {"shortages": "2", "sku_1": "cup", "requested_1": "3", "sellable_1": "2"}
    assert outcome.metadata == first | {"sku_2": "jam", "requested_2": "1", "sellable_2": "0"}
    assert world.balances("london", "tea") == (5, 0, 0, 0)
    assert not world.order_reservations
    assert not world.events


def test_order_over_two_warehouses_has_two_reservations() -> None:
    """Each warehouse has one reservation with its lines and units; a line that no warehouse has
    whole is split.
    """
    world = stocked(london={"tea": 3, "cup": 1}, york={"tea": 4})
    world.do(reserve(("cup", 1), ("tea", 6)))
    parts = {
        r.warehouse_id: [(line.number, line.sku, line.reserved) for line in r.lines]
        for r in world.attempt_reservations()
    }
    assert parts == {"london": [(1, "cup", 1), (2, "tea", 2)], "york": [(2, "tea", 4)]}
    assert len({r.id for r in world.attempt_reservations()}) == 2
    assert all(
        r.id.version == 7 and r.expire_time == world.now + TTL for r in world.attempt_reservations()
    )
    world.do(confirm())
    assert [r.status for r in world.attempt_reservations()] == [Status.CONFIRMED] * 2
    world.check()


def test_commands_of_a_set_see_the_units_left_by_earlier_ones() -> None:
    """Within one set the stock is sold once, also by commands for several orders."""
    world = stocked(london={"tea": 5})
    outcomes = world.try_all(*(reserve(("tea", 2), order=UUID(int=n)) for n in range(1, 5)))
    assert [type(o).__name__ for o in outcomes] == ["Done", "Done", "Refused", "Refused"]
    assert isinstance(outcomes[2], Refused)
    assert outcomes[2].metadata["sellable_1"] == "1"
    world.check()


def test_attempt_has_one_current_set_of_reservations() -> None:
    """Another request for the same attempt is refused while it has reservations, released ones
    included; another attempt is accepted.
    """
    world = stocked(london={"tea": 9})
    world.do(reserve(("tea", 1)))
    assert reason(world.try_all(reserve(("tea", 1)))[0]) == "RESERVATION_CLOSED"
    world.do(release())
    assert reason(world.try_all(reserve(("tea", 1)))[0]) == "RESERVATION_CLOSED"
    world.do(reserve(("tea", 1), attempt=2))
    world.check()


def test_each_movement_is_published_with_its_stock_level() -> None:
    """Each row of the ledger has one StockChanged, in order, with the level of its version."""
    world = stocked(london={"tea": 9})
    world.do(reserve(("tea", 1), ("tea", 2)), confirm())
    events = [f for f in world.events if isinstance(f, StockChanged)]
    assert [f.movement for f in events] == world.ledger[1:]
    assert [(f.level.version, f.level.reserved, f.level.committed) for f in events] == [
        (2, 1, 0),
        (3, 3, 0),
        (4, 2, 1),
        (5, 0, 3),
    ]


def test_reservation_changes_are_published() -> None:
    """Confirmed, released, expired and uncommitted are published, with the attempt's reservations;
    reserved and shipped are not.
    """
    world = stocked(london={"tea": 1}, york={"tea": 1})
    world.do(reserve(("tea", 2)))
    assert published(world) == []
    world.do(confirm())
    assert published(world) == [(Status.ACTIVE, Status.CONFIRMED, None)] * 2
    events = [f for f in world.events if isinstance(f, ReservationChanged)]
    assert all(
        f.attempt_reservations == world.attempt_reservations()
        and f.reservations_version == world.order_reservations[ORDER].version == 2
        for f in events
    )
    world.do(ship("london", {1: 1}))
    assert published(world)[2:] == []
    world.do(close_attempt())
    assert published(world)[2:] == [(Status.CONFIRMED, Status.CLOSED, None)]


@pytest.mark.parametrize("repeat", [confirm, lambda: confirm(by_event=True)])
def test_second_confirm_changes_nothing(repeat: Callable[[], Envelope[Any]]) -> None:
    """The second of call and event changes nothing, also after the shipment."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)), confirm())
    before = (dict(world.levels), dict(world.order_reservations), list(world.events))
    world.do(repeat())
    assert (world.levels, world.order_reservations, world.events) == before
    world.do(ship("london", {1: 2}), repeat())
    assert world.attempt_reservations()[0].status is Status.CLOSED


def test_overdue_reservation_can_be_confirmed() -> None:
    """Until the expiry worker runs, the reservation's units are reserved, and no other order has
    them.
    """
    world = stocked(london={"tea": 1})
    world.do(reserve(("tea", 1)))
    world.pass_time(TTL + timedelta(minutes=5))
    world.do(confirm())
    assert world.attempt_reservations()[0].status is Status.CONFIRMED


def test_confirm_replaces_an_expired_reservation() -> None:
    """The new one is from another warehouse if needed. The old one stays expired, and the new one
    is published.
    """
    world = stocked(london={"tea": 2})
    world.do(reserve(("tea", 2)))
    world.pass_time(TTL)
    world.do(expire(), reserve(("tea", 1), order=OTHER), receive("york", tea=2))
    world.events.clear()
    world.do(confirm())
    [new] = world.attempt_reservations()
    assert (new.warehouse_id, new.status, new.generation) == ("york", Status.CONFIRMED, 2)
    assert [r.status for r in world.order_reservations[ORDER].reservations] == [
        Status.EXPIRED,
        Status.CONFIRMED,
    ]
    assert published(world) == [(None, Status.CONFIRMED, None)]
    world.check()


def test_confirm_of_an_expired_sold_reservation_is_refused() -> None:
    """The caller gets RESERVATION_EXPIRED with the short units. By event the refusal is published,
    once for each event.
    """
    world = stocked(london={"tea": 2})
    world.do(reserve(("tea", 2)))
    world.pass_time(TTL)
    world.do(expire(), reserve(("tea", 1), order=OTHER))
    world.events.clear()
    [outcome] = world.try_all(confirm())
    assert isinstance(outcome, Refused)
    assert outcome.reason == "RESERVATION_EXPIRED"
    assert [(v.subject, v.description) for v in outcome.violations] == [
        ("tea", "requested 2, sellable 1")
    ]
    version = world.order_reservations[ORDER].version
    world.do(confirm(by_event=True))
    assert published(world) == [(Status.EXPIRED, Status.EXPIRED, "RESERVATION_EXPIRED")]
    assert world.order_reservations[ORDER].version == version + 1
    world.check()


def test_confirm_of_a_released_reservation_is_refused() -> None:
    """The caller gets RESERVATION_CLOSED, or the refusal is published."""
    world = stocked(london={"tea": 2})
    world.do(reserve(("tea", 2)), release())
    assert reason(world.try_all(confirm())[0]) == "RESERVATION_CLOSED"
    world.events.clear()
    world.do(confirm(by_event=True))
    assert published(world) == [(Status.RELEASED, Status.RELEASED, "RESERVATION_CLOSED")]


@pytest.mark.parametrize(
    "command", [confirm(), confirm(by_event=True), release(), ship("london", {1: 1})]
)
def test_command_without_reservations_is_not_found(command: Envelope[Any]) -> None:
    """An event about it waits; a call is answered."""
    world = stocked(london={"tea": 2})
    for before in ([], [reserve(("tea", 1), attempt=2)]):
        world.try_all(*before)
        [outcome] = world.try_all(command)
        assert isinstance(outcome, NotFound)
        assert outcome.reason == "RESERVATION_NOT_FOUND"


def test_expiry_ends_only_overdue_reservations() -> None:
    """A reservation within its time, and a confirmed one, stay."""
    world = stocked(london={"tea": 9})
    world.do(reserve(("tea", 1)), reserve(("tea", 2), order=OTHER), confirm(OTHER))
    world.pass_time(TTL - timedelta(seconds=1))
    world.do(expire(), expire(OTHER))
    assert world.balances("london", "tea") == (7, 1, 2, 0)
    world.pass_time(timedelta(seconds=1))
    world.do(expire(), expire(OTHER))
    assert world.balances("london", "tea") == (7, 0, 2, 0)
    assert published(world)[-1] == (Status.ACTIVE, Status.EXPIRED, None)
    world.check()


def test_repeated_request_replaces_an_expired_reservation() -> None:
    """The expiry worker may or may not have run. The new reservation takes the expired units, in
    the same warehouse if possible.
    """
    for worker_came in (True, False):
        world = stocked(york={"tea": 5})
        world.do(reserve(("tea", 3)), release({1: 1}), receive("london", tea=5))
        world.pass_time(TTL)
        if worker_came:
            world.do(expire())
        world.do(renew())
        [new] = world.attempt_reservations()
        assert (new.warehouse_id, new.status, new.lines[0].reserved, new.generation) == (
            "york",
            Status.ACTIVE,
            2,
            2,
        )
        assert new.expire_time == world.now + TTL
        world.check()


@pytest.mark.parametrize("then", [(), (confirm(),), (release(),), (close_attempt(),)])
def test_renew_of_unexpired_reservation_replaces_nothing(then: tuple[Envelope[Any], ...]) -> None:
    """An active reservation stays, and so does a confirmed, released or closed one."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)), *then)
    before = world.order_reservations[ORDER]
    world.do(renew())
    assert world.order_reservations[ORDER] == before


def test_late_repeated_request_renews_the_reservation_time() -> None:
    """The order may be placed only now, and its events decide first. Reserved units stay reserved
    in their warehouse, without an event. Units released meanwhile stay released, and confirmed ones
    stay confirmed.
    """
    world = stocked(london={"tea": 2}, york={"tea": 2})
    world.do(reserve(("tea", 4)))
    world.do(release({1: 2}))
    before, published_before, ledger = (
        world.attempt_reservations(),
        published(world),
        list(world.ledger),
    )
    assert sorted(r.status for r in before) == [Status.ACTIVE, Status.RELEASED]
    world.pass_time(TTL - timedelta(minutes=10))
    world.do(renew())
    for was, now in zip(before, world.attempt_reservations(), strict=True):
        active = was.status is Status.ACTIVE
        time, version = world.now + TTL, was.version + 1
        later = replace(was, expire_time=time, version=version, update_time=world.now)
        assert now == (later if active else was)
    assert (published(world), world.ledger) == (published_before, ledger)
    world.pass_time(timedelta(minutes=10))
    world.do(expire())
    assert sum(line.reserved for r in world.attempt_reservations() for line in r.lines) == 2
    world.do(confirm())
    confirmed = world.order_reservations[ORDER]
    world.do(renew())
    assert world.order_reservations[ORDER] == confirmed
    world.check()


def test_renew_of_closed_attempt_replaces_nothing() -> None:
    """No caller can confirm it any more."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)))
    world.pass_time(TTL)
    world.do(expire(), close_attempt(), renew())
    assert world.balances("london", "tea") == (5, 0, 0, 0)


def test_partial_release_reaches_its_target_once() -> None:
    """A line's target is reached once, for any number of requests, over all warehouses; the rest is
    confirmed.
    """
    world = stocked(london={"tea": 2}, york={"tea": 3})
    world.do(reserve(("tea", 5)))
    for _ in range(2):
        world.do(release({1: 4}))
        assert sorted(r.lines[0].released for r in world.attempt_reservations()) == [1, 3]
    world.do(confirm())
    assert world.balances("london", "tea") == (1, 0, 1, 0) or world.balances("york", "tea") == (
        2,
        0,
        1,
        0,
    )
    assert reason(world.try_all(release({1: 6}))[0]) == "QUANTITY_OUT_OF_RANGE"
    assert reason(world.try_all(release({2: 1}))[0]) == "QUANTITY_OUT_OF_RANGE"
    world.check()


def test_release_leaves_committed_units_to_fulfilment() -> None:
    """They stay committed, and the release succeeds."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 2)), confirm(), release(), release({1: 1}))
    assert world.balances("london", "tea") == (3, 0, 2, 0)


def test_close_attempt_releases_units_and_refuses_confirms() -> None:
    """The attempt and those before are closed; a later attempt is unchanged."""
    world = stocked(london={"tea": 9})
    world.do(*(reserve(("tea", n), attempt=n) for n in (1, 2, 3)))
    world.do(close_attempt(attempt=2))
    assert world.balances("london", "tea") == (9, 3, 0, 0)
    assert [reason(o) for o in world.try_all(confirm(attempt=1), confirm(attempt=2))] == [
        "RESERVATION_CLOSED"
    ] * 2
    assert reason(world.try_all(reserve(("tea", 1), attempt=2))[0]) == "RESERVATION_CLOSED"
    world.do(confirm(attempt=3), close_attempt(attempt=2))
    assert world.balances("london", "tea") == (6, 0, 3, 0)
    world.check()


def test_close_of_pending_attempt_uncommits_its_units() -> None:
    """The commit raced the cancellation: no fulfilment will report these units."""
    world = stocked(london={"tea": 9})
    world.do(reserve(("tea", 2)), confirm(), close_attempt(while_pending=True))
    assert world.balances("london", "tea") == (9, 0, 0, 0)
    assert world.attempt_reservations()[0].status is Status.CLOSED
    world.check()


def test_close_of_confirmed_attempt_leaves_committed_units() -> None:
    """They come back when fulfilment reports them."""
    world = stocked(london={"tea": 9})
    world.do(reserve(("tea", 2)), confirm(), close_attempt(while_pending=False))
    assert world.balances("london", "tea") == (7, 0, 2, 0)


def test_close_attempt_before_reserve_is_stored() -> None:
    """The close is stored also for an order without reservations: neither a late reservation nor a
    late event reopens it.
    """
    world = stocked(london={"tea": 9})
    world.do(close_attempt())
    assert reason(world.try_all(reserve(("tea", 1)))[0]) == "RESERVATION_CLOSED"
    world.do(confirm(by_event=True), close_attempt())
    assert world.balances("london", "tea") == (9, 0, 0, 0)
    assert published(world) == []


def test_repeated_decision_makes_the_same_ids() -> None:
    """A retried write makes the same reservations and the same rows, and their ids sort in the
    order of their creation.
    """
    command = reserve(("tea", 2), ("cup", 1))
    one, other = (stocked(london={"tea": 2, "cup": 1}) for _ in range(2))
    other.ledger, other.levels = list(one.ledger), dict(one.levels)
    one.do(command)
    other.do(command)
    assert one.order_reservations == other.order_reservations
    assert one.ledger == other.ledger
    assert [m.id for m in one.ledger[2:]] == sorted(m.id for m in one.ledger[2:])
    assert unwrap(one.try_all(renew())[0]).order_reservations == one.order_reservations[ORDER]


def test_reserve_from_more_than_8_warehouses_is_refused() -> None:
    """An order's events name each line in each of its warehouses: 8 are served. 9 are refused with
    both numbers and the next step, and nothing is moved.
    """
    world = stocked(**{f"w{number}": {"tea": 1} for number in range(17)})
    world.do(reserve(("tea", 8)))
    assert len(world.attempt_reservations()) == 8
    [outcome] = world.try_all(reserve(("tea", 9), order=OTHER))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.reason) == ("FAILED_PRECONDITION", "TOO_MANY_WAREHOUSES")
    assert outcome.metadata == {"warehouses": "9", "warehouses_max": "8"}
    assert "Place several smaller orders" in outcome.message
    assert OTHER not in world.order_reservations
    world.check()


def test_expired_stock_spread_too_wide_is_not_confirmed() -> None:
    """A confirmation that must replace expired reservations refuses more warehouses than an event
    can name: a call by its status, an event by a domain event.
    """
    world = stocked(w0={"tea": 9})
    world.do(reserve(("tea", 9)))
    world.pass_time(TTL)
    world.do(
        expire(), adjust("w0", "tea", -8), *(receive(f"w{number}", tea=1) for number in range(1, 9))
    )
    before = len(published(world))
    assert [reason(outcome) for outcome in world.try_all(confirm())] == ["TOO_MANY_WAREHOUSES"]
    world.do(confirm(by_event=True))
    assert published(world)[before:] == [(Status.EXPIRED, Status.EXPIRED, "TOO_MANY_WAREHOUSES")]
    world.check()


def test_never_started_attempt_without_order_is_not_found() -> None:
    """Fulfilment's report of a never started attempt stores nothing for an order without
    reservations. The order's own event does.
    """
    published = close_attempt()
    with pytest.raises(NotFound) as caught:
        decide(OrderStock({}), changed(published, by_order=False), NOON)
    assert caught.value.reason == "RESERVATION_NOT_FOUND"
    order_reservations = decide(OrderStock({}), published, NOON).record.order_reservations
    assert order_reservations
    assert order_reservations.closed_attempt == 1
