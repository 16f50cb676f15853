"""The effects of fulfilment's reports and of cancelled items on committed units: restocked, short,
spoiled and replaced.
"""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from chassis.values.decision import Done
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, NotFound, Refused
from tests.unit.warehouse.world import (
    ORDER,
    TTL,
    World,
    adjust,
    allocate,
    call_off,
    close_attempt,
    confirm,
    expire,
    receive,
    release,
    replace_spoiled,
    report_picklist,
    reserve,
    ship,
    stocked,
)
from warehouse_svc.decisions.fulfillment import LINE_MAX
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.records import ReservationLine


def sold(units: int = 3, **by_warehouse: int) -> World:
    """An order of so many units of tea, committed; by default all from London, which has five."""
    world = stocked(
        **{warehouse: {"tea": n} for warehouse, n in (by_warehouse or {"london": 5}).items()}
    )
    world.do(reserve(("tea", units)), confirm())
    return world


def line(world: World) -> ReservationLine:
    [line] = world.attempt_reservations()[0].lines
    return line


@pytest.mark.parametrize(
    ("report", "balances"),
    [
        (report_picklist("london", {1: 3}), (2, 0, 3, 0)),
        (report_picklist("london", {1: 2}), (3, 0, 2, 0)),  # one cut
        (report_picklist("london", {1: (2, 1, 0)}), (2, 0, 2, 0)),  # one short
        (report_picklist("london", {1: (2, 0, 1)}), (2, 0, 2, 1)),  # one spoiled
        (report_picklist("london", {1: (0, 1, 1)}), (3, 0, 0, 1)),  # one of each, and none remains
        (report_picklist("london", {2: 0}), (5, 0, 0, 0)),  # the picklist lacks the line
        (ship("london", {1: 3}), (2, 0, 0, 0)),
        (ship("london", {1: (1, 1, 0)}), (3, 0, 0, 0)),  # without a report of the cut
    ],
)
def test_report_posts_units_that_left_the_picklist(
    report: Envelope[Any], balances: tuple[int, int, int, int]
) -> None:
    """Each unit that has left the picklist is posted as the report states; a repeat moves
    nothing.
    """
    world = sold()
    for _ in range(2):
        world.do(report)
        assert world.balances("london", "tea") == balances
    world.check()


def test_short_and_spoiled_units_are_counted_separately() -> None:
    """Both are written off; each counts towards its own target."""
    world = sold()
    world.do(report_picklist("london", {1: (1, 1, 1)}), report_picklist("london", {1: (1, 1, 1)}))
    assert (line(world).written_off, line(world).spoiled, line(world).committed) == (2, 1, 1)
    assert [(m.kind, m.cumulative) for m in world.ledger[3:]] == [
        ("short", 1),
        ("spoil_committed", 1),
    ]
    world.do(report_picklist("london", {1: (0, 2, 1)}))
    assert (line(world).written_off, line(world).spoiled) == (3, 1)
    assert world.attempt_reservations()[0].status is Status.CLOSED
    world.check()


REPORTS = [
    report_picklist("london", {1: (2, 1, 0)}),
    report_picklist("london", {1: (1, 1, 0)}),
    ship("london", {1: (1, 1, 0)}),
]


@pytest.mark.parametrize("reports", list(permutations(REPORTS)))
def test_reports_in_any_order(reports: tuple[Envelope[Any], ...]) -> None:
    """One short, then one cut, then shipped: in any order."""
    world = sold()
    world.do(*reports, *reports)
    assert world.balances("london", "tea") == (3, 0, 0, 0)
    world.check()


CLOSE, REPORT, COMMIT = (
    close_attempt(while_pending=False),
    call_off("london"),
    confirm(by_event=True),
)


@pytest.mark.parametrize("commands", list(permutations((CLOSE, CLOSE, REPORT, REPORT, COMMIT))))
@pytest.mark.parametrize("committed", [True, False])
def test_attempt_closed_after_confirmation_returns_all_units(
    commands: tuple[Envelope[Any], ...], *, committed: bool
) -> None:
    """The attempt's units are sellable again once fulfilment reports them, or at once if they were
    never committed: in every order of commands, each sent twice.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)), *([confirm()] if committed else []))
    waiting = list(commands)
    while waiting:
        outcomes = [world.try_all(command)[0] for command in waiting]
        assert all(isinstance(o, Done | Deferred) for o in outcomes)
        waiting = [
            command for command, o in zip(waiting, outcomes, strict=True) if isinstance(o, Deferred)
        ]
    assert world.balances("london", "tea") == (5, 0, 0, 0)
    world.check()


def test_committed_units_of_closed_attempt_wait_for_fulfilment() -> None:
    """A picker may have the units in hand."""
    world = sold()
    world.do(close_attempt(while_pending=False))
    assert world.balances("london", "tea") == (2, 0, 3, 0)


def test_closed_attempt_still_ships() -> None:
    """Shipped units stay shipped: the recall brings them back by a return."""
    world = sold()
    world.do(close_attempt(while_pending=False), ship("london", {1: 3}))
    assert world.balances("london", "tea") == (2, 0, 0, 0)
    assert world.order_reservations[ORDER].lines[1].shipped == 3


def test_report_of_more_units_than_committed_is_refused() -> None:
    """The report is refused: an operator must check it."""
    for report in (
        report_picklist("london", {1: (0, 4, 0)}),
        report_picklist("london", {1: (0, 2, 2)}),
        report_picklist("london", {2: (0, 1, 0)}),
        ship("london", {1: 4}),
    ):
        world = sold()
        [outcome] = world.try_all(report)
        assert isinstance(outcome, Refused)
        assert outcome.reason == "STOCK_BELOW_RESERVED"
        assert world.balances("london", "tea") == (2, 0, 3, 0)


# --- spoiled units


@pytest.mark.parametrize(
    ("there", "spoiled", "committed", "balances"),
    [
        (5, 1, 3, (1, 0, 3, 1)),
        (5, 2, 3, (0, 0, 3, 2)),
        (5, 3, 2, (0, 0, 2, 3)),  # of three, only two can be replaced
        (3, 1, 2, (0, 0, 2, 1)),
        (3, 3, 0, (0, 0, 0, 3)),
    ],
)
def test_spoiled_units_are_replaced_from_sellable_units(
    there: int, spoiled: int, committed: int, balances: tuple[int, int, int, int]
) -> None:
    """Damaged units are written off, and others of the same warehouse committed. A repeat, and the
    report, change nothing.
    """
    world = sold(london=there)
    for again in (
        replace_spoiled("london", {1: spoiled}),
        replace_spoiled("london", {1: spoiled}),
        report_picklist("london", {1: (committed, 0, spoiled)}),
    ):
        world.do(again)
        assert world.balances("london", "tea") == balances
        assert (line(world).committed, line(world).spoiled) == (committed, spoiled)
        world.check()
    world.do(replace_spoiled("london", {1: spoiled}), ship("london", {1: (committed, 0, spoiled)}))
    assert world.attempt_reservations()[0].status is Status.CLOSED
    assert world.balances("london", "tea")[2] == 0
    world.check()


def test_further_spoiled_units_are_replaced_too() -> None:
    """The target grows, and so does the line."""
    world = sold(london=6)
    world.do(replace_spoiled("london", {1: 1}), replace_spoiled("london", {1: 3}))
    assert (line(world).quantity, line(world).committed, line(world).spoiled) == (6, 3, 3)
    world.check()


def test_reserved_units_of_others_are_no_replacement() -> None:
    """Neither reserved units nor those of another warehouse replace spoiled ones."""
    world = sold(london=5, york=9)
    world.do(reserve(("tea", 2), order=UUID(int=2)))
    world.do(replace_spoiled("london", {1: 2}))
    assert world.balances("london", "tea") == (2, 2, 1, 2)
    assert world.balances("york", "tea") == (9, 0, 0, 0)


def test_short_units_not_reported_yet_do_not_count_as_committed() -> None:
    """The inspector's call overtakes the picker's event: missing units are not to be picked."""
    world = sold(london=3)
    world.do(replace_spoiled("london", {1: 1}, short={1: 1}))
    assert line(world).committed == 1
    world.do(
        report_picklist("london", {1: (2, 1, 0)}),
        report_picklist("london", {1: (1, 1, 1)}),
        ship("london", {1: (1, 1, 1)}),
    )
    assert world.balances("london", "tea") == (0, 0, 0, 1)
    world.check()


def test_spoiled_units_of_closed_attempt_are_not_replaced() -> None:
    """The units are posted as damaged, and not replaced."""
    world = sold()
    world.do(close_attempt(while_pending=False), replace_spoiled("london", {1: 1}))
    assert world.balances("london", "tea") == (2, 0, 2, 1)


def test_line_counts_a_million_units_at_most() -> None:
    """For any number of spoiled units, a reservation's line counts a million units at most."""
    world = sold(LINE_MAX - 1, london=LINE_MAX + 9)
    world.do(replace_spoiled("london", {1: 5}))
    assert (line(world).quantity, line(world).committed) == (LINE_MAX, LINE_MAX - 5)
    world.check()


def test_replacement_of_uncommitted_units_is_refused() -> None:
    """Uncommitted units, more units than committed, and those of a warehouse that does not serve
    the order are refused.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)))
    [early] = world.try_all(replace_spoiled("london", {1: 1}))
    world.do(confirm())
    [many, strange, elsewhere] = world.try_all(
        replace_spoiled("london", {1: 4}),
        replace_spoiled("london", {2: 1}),
        replace_spoiled("york", {1: 1}),
    )
    released = stocked(london={"tea": 5})
    released.do(reserve(("tea", 3)), release())
    [late] = released.try_all(replace_spoiled("london", {1: 1}))
    found = [(type(o), getattr(o, "reason", "")) for o in (early, many, strange, elsewhere, late)]
    assert found == [
        (Deferred, "EVENT_AHEAD"),
        (Refused, "STOCK_BELOW_RESERVED"),
        (Refused, "STOCK_BELOW_RESERVED"),
        (NotFound, "RESERVATION_NOT_FOUND"),
        (Refused, "RESERVATION_CLOSED"),
    ]


# --- cancelled items


@pytest.mark.parametrize("pending", [True, False])
def test_cancelled_reserved_units_are_free_at_once(pending: bool) -> None:
    """The units that the order no longer allocates are free, once for several reports; the others
    are confirmed.
    """
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)))
    for _ in range(2):
        world.do(allocate({1: 2}, world.attempt_reservations(), while_pending=pending))
        assert world.balances("london", "tea") == (5, 2, 0, 0)
    world.do(confirm(), allocate({1: 2}, world.attempt_reservations(), while_pending=pending))
    assert world.balances("london", "tea") == (3, 0, 2, 0)
    world.check()


@pytest.mark.parametrize("call_first", [True, False])
def test_cancelled_items_and_releases_by_call_agree(call_first: bool) -> None:
    """In either order, released units count towards those that the order no longer allocates."""
    world = stocked(london={"tea": 5})
    world.do(reserve(("tea", 3)))
    both: list[Envelope[Any]] = [release({1: 1}), allocate({1: 2}, world.attempt_reservations())]
    world.do(*(both if call_first else reversed(both)))
    assert world.balances("london", "tea") == (5, 2, 0, 0)


def test_committed_units_of_a_pending_order_are_free_at_once() -> None:
    """The commit raced the cancellation, and fulfilment never gets these units. Later cancelled
    units are on a picklist, and wait for fulfilment.
    """
    for pending, balances in ((True, (3, 0, 2, 0)), (False, (2, 0, 3, 0))):
        world = sold()
        world.do(allocate({1: 2}, world.attempt_reservations(), while_pending=pending))
        assert world.balances("london", "tea") == balances
        world.check()


def test_units_of_a_warehouse_without_allocation_are_cancelled() -> None:
    """All units of that warehouse are cancelled; those of the other one stay."""
    world = stocked(london={"tea": 3}, york={"tea": 2})
    world.do(reserve(("tea", 5)))
    world.do(allocate({1: 3}, world.attempt_reservations()))
    assert {r.warehouse_id: r.status for r in world.attempt_reservations()} == {
        "london": Status.ACTIVE,
        "york": Status.RELEASED,
    }
    world.do(confirm(), confirm(by_event=True), report_picklist("london", {1: 3}))
    assert {r.warehouse_id: r.status for r in world.attempt_reservations()} == {
        "london": Status.CONFIRMED,
        "york": Status.RELEASED,
    }
    world.check()


def test_allocation_of_an_expired_reservation_is_ignored() -> None:
    """The expired reservation was replaced in another warehouse, and the order's allocations still
    name the old one: they change nothing.
    """
    world = stocked(london={"tea": 3})
    world.do(reserve(("tea", 3)))
    old = world.attempt_reservations()
    world.pass_time(old[0].expire_time - world.now)
    world.do(expire(), confirm(), allocate({1: 1}, old, while_pending=True))
    assert world.balances("london", "tea") == (0, 0, 3, 0)


def test_cancelled_fulfilment_of_expired_units_uncommits_nothing() -> None:
    """The units were reserved in London and Paris, expired, and committed in Paris alone. London's
    cancelled fulfilment changes nothing, once or twice, and no goods can leave from there.
    """
    world = stocked(london={"tea": 2}, paris={"tea": 1})
    world.do(reserve(("tea", 3)))
    world.pass_time(TTL)
    world.do(expire(), adjust("london", "tea", -2), receive("paris", tea=2), confirm())
    before = (world.balances("london", "tea"), world.balances("paris", "tea"))
    world.do(report_picklist("london", {}), report_picklist("london", {1: 0}))
    assert (
        (world.balances("london", "tea"), world.balances("paris", "tea"))
        == before
        == ((0, 0, 0, 0), (0, 0, 3, 0))
    )
    with pytest.raises(NotFound):
        world.do(ship("london", {1: 2}))
    world.check()
