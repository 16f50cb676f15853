"""The decisions about an order."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from chassis.values.decision import Decision
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Invalid, NotFound, Refused
from order_svc.decisions.creation import check
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    Commit,
    FulfillmentState,
    PaymentStatus,
    Progress,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.commands import CommitPending, CommitRefused, FailPayment
from order_svc.model.events import StatusChanged
from order_svc.model.records import Transition
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    changed,
    checkout,
    commit,
    elsewhere,
    fulfillment_status,
    of_attempt,
    pay,
    place,
    placed,
    pounds,
    ship,
)


def test_placed_order_is_pending_with_history_and_event() -> None:
    """Placing makes version 1, one history row without an old status, one domain event with both,
    and a deadline in 30 minutes.
    """
    command = place()
    decided = decide(None, command, NOW)
    order, [transition], [event] = decided.record, decided.history, decided.events
    assert (order.status, order.version, order.attempt, order.stock) == (
        Status.PENDING,
        1,
        1,
        StockStatus.RESERVED,
    )
    assert order.expire_time == NOW + timedelta(minutes=30)
    assert isinstance(transition, Transition)
    assert (transition.old, transition.new, transition.version, transition.cause) == (
        None,
        Status.PENDING,
        1,
        command.cause,
    )
    assert event == StatusChanged(order, transition)


def test_place_repeat_with_a_deleted_key_changes_nothing() -> None:
    """The natural key finds the order: the command is skipped."""
    order = placed()
    assert decide(order, place(), NOW) == Decision(order)


def test_reservation_of_other_units_is_refused() -> None:
    """An answer with another number of units is refused, not stored."""
    command = place()
    with pytest.raises(Refused, match="line 2"):
        decide(None, changed(command, allocations={1: command.command.allocations[1], 2: ()}), NOW)


def test_payment_confirms_and_expects_each_fulfilment() -> None:
    """The order is confirmed, committed and paid, without a deadline, and expects one fulfilment
    for each warehouse.
    """
    order = placed(None, "london", "paris")
    confirmed = after(order, pay(order))
    assert (confirmed.status, confirmed.stock, confirmed.payment) == (
        Status.CONFIRMED,
        StockStatus.COMMITTED,
        PaymentStatus.COMPLETED,
    )
    assert confirmed.expire_time is None
    assert [
        (fulfillment.warehouse_id, fulfillment.state) for fulfillment in confirmed.fulfillments
    ] == [
        ("london", FulfillmentState.EXPECTED),
        ("paris", FulfillmentState.EXPECTED),
    ]


def test_order_without_a_price_is_confirmed_as_not_required() -> None:
    """A total of zero needs no capture."""
    order = placed(
        checkout(CheckoutLine(sku="GIFT", quantity=1, unit_price=0, discount=0, tax=0), shipping=0)
    )
    assert order.total == 0
    assert after(order, pay(order)).payment is PaymentStatus.NOT_REQUIRED


def test_another_amount_than_the_total_confirms_nothing() -> None:
    """A payment of another amount than the order's total is refused."""
    order = placed()
    for captured in (
        pounds(order.total - 1),
        pounds(0),
        replace(pounds(order.total), currency="EUR"),
    ):
        with pytest.raises(Refused) as refused:
            after(order, pay(order, captured=captured))
        assert refused.value.reason == "PAYMENT_AMOUNT_MISMATCH"


def test_unreachable_warehouse_leaves_the_commit_pending() -> None:
    """The order continues; the warehouse's event of the commit ends the pending commit."""
    order = placed(None, "london", "paris")
    commit_pending = after(order, pay(order, stock=CommitPending()))
    assert (commit_pending.status, commit_pending.stock) == (
        Status.CONFIRMED,
        StockStatus.COMMIT_PENDING,
    )
    assert after(commit_pending, commit(commit_pending, allocations={})) is commit_pending
    committed = after(commit_pending, commit(commit_pending))
    assert (committed.stock, committed.version) == (StockStatus.COMMITTED, commit_pending.version)


def test_commit_consumed_before_the_payment_is_not_pending() -> None:
    """The warehouse commits, its answer is lost, and its event overtakes the payment's: the order
    has stored the commit.
    """
    order = placed()
    committed = after(order, commit(order))
    assert (committed.status, committed.stock) == (Status.PENDING, StockStatus.RESERVED)
    assert after(committed, pay(order, stock=CommitPending())).stock is StockStatus.COMMITTED


def test_commit_elsewhere_replaces_the_expired_allocation() -> None:
    """A new reservation in another warehouse replaces the allocation that was never committed."""
    order = placed()
    commit_pending = after(order, pay(order, stock=CommitPending()))
    committed = after(
        commit_pending, commit(commit_pending, allocations=elsewhere(commit_pending, "paris"))
    )
    assert {a.warehouse_id for line in committed.lines for a in line.allocations} == {"paris"}
    assert (committed.stock, committed.status) == (StockStatus.COMMITTED, Status.CONFIRMED)
    assert {
        fulfillment.warehouse_id: fulfillment.state for fulfillment in committed.fulfillments
    } == {
        "london": FulfillmentState.CANCELLED,
        "paris": FulfillmentState.EXPECTED,
    }
    late_commit = after(
        committed,
        fulfillment_status(committed, "london", FulfillmentState.PLANNING, 2),
        fulfillment_status(committed, "london", FulfillmentState.CANCELLED, 3),
    )
    assert after(late_commit, ship(late_commit, "paris", NOW)).status is Status.DELIVERED


def test_finally_refused_commit_fails_the_order() -> None:
    """Pending becomes failed, with the warehouse's reason; the payment is stored."""
    order = placed()
    failed = after(order, pay(order, stock=CommitRefused("RESERVATION_EXPIRED")))
    assert (failed.status, failed.reason, failed.payment) == (
        Status.FAILED,
        "RESERVATION_EXPIRED",
        PaymentStatus.COMPLETED,
    )


@pytest.mark.parametrize("status", [Status.CONFIRMED, Status.PROCESSING])
def test_finally_refused_pending_commit_cancels_order(status: Status) -> None:
    """Confirmed or processing becomes cancelled, STOCK_UNAVAILABLE."""
    order = replace(at(status), commit=Commit.PENDING)
    cancelled = after(order, commit(order, allocations={}, refused="RESERVATION_EXPIRED"))
    assert (cancelled.status, cancelled.reason, cancelled.stock) == (
        Status.CANCELLED,
        "STOCK_UNAVAILABLE",
        StockStatus.RELEASED,
    )


def test_failed_payment_cancels_only_a_pending_order() -> None:
    """Pending becomes cancelled, PAYMENT_FAILED; a confirmed order stays unchanged."""
    order = placed()
    failed = of_attempt(FailPayment, order)
    assert (after(order, failed).status, after(order, failed).reason) == (
        Status.CANCELLED,
        "PAYMENT_FAILED",
    )
    confirmed = after(order, pay(order))
    assert after(confirmed, failed) is confirmed


def test_event_ahead_of_others_makes_each_change_between() -> None:
    """A delivery that comes first takes a confirmed order through processing and shipped, with one
    row, version and event for each transition.
    """
    order = at(Status.CONFIRMED)
    decided = decide(order, ship(order, "london", NOW), NOW)
    transitions = [
        transition for transition in decided.history if isinstance(transition, Transition)
    ]
    assert [transition.new for transition in transitions] == [
        Status.PROCESSING,
        Status.SHIPPED,
        Status.DELIVERED,
    ]
    assert [transition.version for transition in transitions] == [3, 4, 5]
    assert len(decided.events) == 3
    assert (decided.record.progress, decided.record.stock) == (
        Progress.DELIVERED,
        StockStatus.DEDUCTED,
    )


def test_events_wait_for_an_outstanding_payment() -> None:
    """Fulfilments and shipments of a pending order wait for its payment."""
    order = placed()
    for command in (
        fulfillment_status(order, "london", FulfillmentState.PICKING, 3),
        ship(order, "london"),
    ):
        with pytest.raises(Deferred) as deferred:
            after(order, command)
        assert deferred.value.reason == "PAYMENT_OUTSTANDING"


def test_late_events_never_move_an_order_backwards() -> None:
    """An older version of a fulfilment, and its current one again, change nothing."""
    order = at(Status.SHIPPED)
    for version in (1, 2):
        assert (
            after(order, fulfillment_status(order, "london", FulfillmentState.PICKING, version))
            is order
        )


def test_unknown_fulfilment_status_is_no_change() -> None:
    """A status that a newer fulfilment service may publish moves nothing."""
    order = at(Status.PROCESSING)
    assert after(order, fulfillment_status(order, "london", None, 99)) is order


@pytest.mark.parametrize("status", [Status.CANCELLED])
def test_terminal_order_keeps_its_status(status: Status) -> None:
    """After any event the order keeps its status and version; an event that would have moved it is
    recorded as late.
    """
    order = at(status)
    for command, noted in (
        (pay(order), "PAYMENT_CONFIRMED"),
        (fulfillment_status(order, "london", FulfillmentState.PICKING, 9), None),
        (ship(order, "london"), "SHIPMENT_CREATED"),
        (ship(order, "london", NOW), "DELIVERY_CONFIRMED"),
        (commit(order), None),
    ):
        decided = decide(order, command, NOW)
        assert (decided.record.status, decided.record.version, [*decided.events]) == (
            status,
            order.version,
            [],
        )
        assert [event.reason for event in decided.record.late_events] == ([noted] if noted else [])


def test_event_of_another_attempt_is_skipped() -> None:
    """Money and fulfilments of an earlier attempt change nothing in this one."""
    order = replace(placed(), attempt=2)
    for command in (
        pay(order, attempt=1),
        fulfillment_status(order, "london", FulfillmentState.PICKING, 9, attempt=1),
        ship(order, "london", attempt=1),
    ):
        assert after(order, command) is order


def test_unknown_order_is_not_found() -> None:
    """An event about it waits for the order; a call is answered with NOT_FOUND."""
    with pytest.raises(NotFound):
        decide(None, pay(placed()), NOW)


def test_events_of_two_warehouses_in_every_order_agree() -> None:
    """Six events of two fulfilments, in all 720 orders: the order is delivered, with each status
    once, in sequence.
    """
    start = after(order := placed(None, "london", "paris"), pay(order))
    commands: list[Envelope[Any]] = []
    for warehouse in ("london", "paris"):
        fulfillment_id = shipment_id = order.id
        commands.append(
            fulfillment_status(
                order, warehouse, FulfillmentState.PICKING, 3, fulfillment_id=fulfillment_id
            )
        )
        commands.append(ship(order, warehouse, shipment_id=shipment_id))
        commands.append(ship(order, warehouse, NOW, shipment_id=shipment_id))
    ends = set()
    for several in permutations(commands):
        at_last, walked = start, []
        for command in several:
            decided = decide(at_last, command, NOW)
            at_last = decided.record
            walked += [
                transition.new
                for transition in decided.history
                if isinstance(transition, Transition)
            ]
        assert walked == [Status.PROCESSING, Status.SHIPPED, Status.DELIVERED]
        ends.add(replace(at_last, reason=""))
    assert len(ends) == 1


def test_inconsistent_prices_are_refused_by_field() -> None:
    """A discount above its base names its field; such a checkout reserves nothing."""
    with pytest.raises(Invalid) as refused:
        check(checkout(CheckoutLine(sku="A", quantity=1, unit_price=100, discount=101, tax=0)))
    assert [violation.subject for violation in refused.value.violations] == [
        "items[0].discount_amount"
    ]
    with pytest.raises(Invalid) as refused:
        check(
            checkout(
                CheckoutLine(sku="A", quantity=1, unit_price=100, discount=0, tax=0), discount=101
            )
        )
    assert [violation.subject for violation in refused.value.violations] == ["discount_amount"]
    check(checkout(CheckoutLine(sku="A", quantity=1, unit_price=100, discount=100, tax=0)))
