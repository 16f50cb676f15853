"""The order's decisions after events of fulfilments: missing units, commits, late events."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Refused
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    FulfillmentState,
    Progress,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.commands import (
    CommitPending,
)
from order_svc.model.events import ItemsCancelled, StatusChanged
from tests.unit.order.fulfillments import recalled, two_parts, units, works_on
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    cancel,
    cancel_items,
    changed,
    checkout,
    commit,
    elsewhere,
    fulfillment_status,
    pay,
    placed,
    refund,
    ship,
    shipment_outcome,
)

# --- units that leave a picklist


def test_short_units_are_cancelled_with_the_fulfilment_reason() -> None:
    """A short pick is an item cancellation, and is published as one. The order then follows the
    fulfilment's status.
    """
    order = at(Status.CONFIRMED)
    decided = decide(
        order, works_on(order, FulfillmentState.PICKING, 3, {1: 2, 2: 2}, reason="SHORT_PICK"), NOW
    )
    cut, moved = decided.events
    assert isinstance(cut, ItemsCancelled)
    assert isinstance(moved, StatusChanged)
    assert (cut.transition.reason, cut.transition.new, moved.transition.new) == (
        "SHORT_PICK",
        Status.CONFIRMED,
        Status.PROCESSING,
    )
    assert (cut.transition.version, moved.transition.version) == (
        order.version + 1,
        order.version + 2,
    )
    assert units(decided.record) == [(1, 2, [("london", 2, None)]), (0, 2, [("london", 2, None)])]
    assert decided.record.total == order.total - order.lines[0].cost_of(1)


def test_picklist_before_the_commit_cuts_nothing() -> None:
    """Before its stock is committed, a fulfilment may temporarily have fewer units than the
    order.
    """
    order = at(Status.CONFIRMED)
    followed = after(
        order, works_on(order, FulfillmentState.PLANNING, 2, {1: 1, 2: 0}, committed=False)
    )
    assert (followed.status, units(followed)) == (Status.PROCESSING, units(order))


def test_final_picklist_waits_for_the_commit() -> None:
    """Stock with a pending commit may be in another warehouse: fewer units in London are then no
    cancelled ones.
    """
    order = placed()
    commit_pending = after(order, pay(order, stock=CommitPending()))
    with pytest.raises(Deferred) as deferred:
        after(commit_pending, works_on(commit_pending, FulfillmentState.PICKING, 3, {1: 1, 2: 2}))
    assert deferred.value.reason == "EVENT_AHEAD"
    assert (
        after(
            commit_pending, works_on(commit_pending, FulfillmentState.PICKING, 3, {1: 3, 2: 2})
        ).status
        is Status.PROCESSING
    )
    envelopes: list[Envelope[Any]] = [
        ship(commit_pending, "london", NOW),
        shipment_outcome(commit_pending, "london", ShipmentOutcome.LOST),
    ]
    for parcel in envelopes:
        with pytest.raises(Deferred):
            after(commit_pending, parcel)
        assert (
            after(commit_pending, commit(commit_pending), parcel).version > commit_pending.version
        )


def test_commit_of_too_few_units_is_deferred() -> None:
    """Paris was committed, and uncommitted again: that event comes first, before the commit and the
    fulfilment's end. No order of events fails.
    """
    order = placed(None, "london", "paris")
    commit_pending = after(order, pay(order, stock=CommitPending()))
    still = commit(commit_pending, allocations={1: commit_pending.lines[0].allocations})
    uncommitted = fulfillment_status(
        commit_pending, "paris", FulfillmentState.CANCELLED, 3, reason="CANCEL_REQUESTED"
    )
    with pytest.raises(Deferred) as deferred:
        after(commit_pending, still)
    assert deferred.value.reason == "EVENT_AHEAD"
    whole = commit(commit_pending)
    envelopes: list[list[Envelope[Any]]] = [
        [whole, still, uncommitted],
        [whole, uncommitted, still],
        [uncommitted, still, whole],
        [uncommitted, whole, still],
    ]
    for several in envelopes:
        followed = after(commit_pending, *several)
        assert (followed.stock, [line.remaining for line in followed.lines]) == (
            StockStatus.COMMITTED,
            [3, 0],
        )


def test_fulfilment_committed_elsewhere_loses_no_units() -> None:
    """A fulfilment that ends because another warehouse committed its stock cancels no units, before
    and after the order consumes the commit.
    """
    order = placed()
    commit_pending = after(order, pay(order, stock=CommitPending()))
    moved = commit(commit_pending, allocations=elsewhere(commit_pending, "paris"))
    ended = fulfillment_status(
        commit_pending, "london", FulfillmentState.CANCELLED, 3, reason="STOCK_COMMITTED_ELSEWHERE"
    )
    envelopes: list[Envelope[Any]] = [moved, ended]
    for several in permutations(envelopes):
        committed = after(commit_pending, *several)
        assert (committed.status, committed.stock) == (Status.CONFIRMED, StockStatus.COMMITTED)
        assert units(committed) == [(0, 3, [("paris", 3, None)]), (0, 2, [("paris", 2, None)])]


def test_commit_restores_no_cancelled_unit() -> None:
    """London's fulfilment was cancelled while its commit was pending, and the warehouse committed
    it later. Paris keeps its units.
    """
    order = placed(
        checkout(CheckoutLine(sku="LAMP", quantity=4, unit_price=100, discount=0, tax=0))
    )
    [first] = order.lines[0].allocations
    split = (replace(first, quantity=3), replace(first, warehouse_id="paris", quantity=1))
    order = replace(order, lines=(replace(order.lines[0], allocations=split),))
    commit_pending = after(order, pay(order, stock=CommitPending()))
    committed = after(
        commit_pending,
        fulfillment_status(
            commit_pending, "london", FulfillmentState.CANCELLED, 3, reason="CANCEL_REQUESTED"
        ),
        commit(order),
    )
    assert units(committed) == [(3, 1, [("paris", 1, None)])]
    assert (
        committed.stock,
        [
            fulfillment.order_status
            for fulfillment in committed.fulfillments
            if fulfillment.order_status
        ],
    ) == (
        StockStatus.COMMITTED,
        [Status.CONFIRMED],
    )


def test_surplus_commit_in_an_unknown_warehouse_is_ignored() -> None:
    """Paris has lost a unit, and its reservation was replaced in two warehouses. Fulfilment keeps
    the units that the order counts in Paris, and ends London's fulfilment. The order does the same,
    and stays open.
    """
    order = placed(
        checkout(CheckoutLine(sku="LAMP", quantity=2, unit_price=100, discount=0, tax=0)), "paris"
    )
    [first] = order.lines[0].allocations
    order = after(order, cancel_items(order, {1: 1}))
    commit_pending = after(order, pay(order, stock=CommitPending()))
    anew = (replace(first, warehouse_id="london", quantity=1), replace(first, quantity=1))
    committed = after(commit_pending, commit(commit_pending, allocations={1: anew}))
    assert units(committed) == [(1, 1, [("paris", 1, None)])]
    assert [fulfillment.warehouse_id for fulfillment in committed.fulfillments] == ["paris"]
    assert (
        after(
            committed, works_on(committed, FulfillmentState.PICKING, 3, {1: 1}, at="paris")
        ).status
        is Status.PROCESSING
    )


def test_fulfilment_of_units_lost_before_is_skipped() -> None:
    """All units of Paris were cancelled while the order was pending, and committed later: the
    fulfilment in Paris is made and ended. While the commit is pending it may still be the order's.
    Once the place is stored, the event is skipped, except for units that still leave Paris.
    """
    order = placed(None, "london", "paris")
    pending = after(order, cancel_items(order, {2: 2}))
    commit_pending = after(pending, pay(pending, stock=CommitPending()))
    committed = after(commit_pending, commit(order))
    assert [fulfillment.warehouse_id for fulfillment in committed.fulfillments] == ["london"]
    stages = [
        (FulfillmentState.PENDING, 1),
        (FulfillmentState.PLANNING, 2),
        (FulfillmentState.CANCELLED, 3),
    ]
    envelopes = [
        works_on(commit_pending, stage, version, {2: 2}, at="paris", reason="NO_UNITS_REMAINING")
        for stage, version in stages
    ]
    for news in envelopes:
        with pytest.raises(Deferred):
            after(commit_pending, news)
        assert after(committed, news) is committed
    ended: list[Envelope[Any]] = [
        works_on(commit_pending, FulfillmentState.SHIPPED, 9, {2: 2}, at="paris"),
        ship(commit_pending, "paris"),
    ]
    for each in ended:
        with pytest.raises(Deferred):
            after(committed, each)


def test_cancelled_fulfilment_cancels_its_units() -> None:
    """London's fulfilment is cancelled: its units are cancelled and Paris continues. When Paris
    ends as well, the order is cancelled.
    """
    order = two_parts()
    one = after(
        order,
        fulfillment_status(
            order, "london", FulfillmentState.CANCELLED, 3, reason="CANCEL_REQUESTED"
        ),
    )
    assert (one.status, units(one)[0]) == (Status.CONFIRMED, (3, 0, [("london", 0, None)]))
    decided = decide(
        one,
        fulfillment_status(
            one, "paris", FulfillmentState.CANCELLED, 2, reason="NO_UNITS_REMAINING"
        ),
        NOW,
    )
    assert (decided.record.status, decided.record.reason) == (
        Status.CANCELLED,
        "NO_UNITS_REMAINING",
    )
    assert (decided.record.stock, decided.record.progress) == (
        StockStatus.RELEASED,
        Progress.CANCELLED,
    )
    assert [type(event) for event in decided.events] == [StatusChanged]


def test_order_goes_on_without_a_cancelled_fulfilment() -> None:
    """London is delivered, Paris still picks: the end of Paris delivers the order."""
    order = two_parts()
    order = after(
        order,
        fulfillment_status(order, "paris", FulfillmentState.PICKING, 2),
        ship(order, "london", NOW),
    )
    assert order.status is Status.PROCESSING
    decided = decide(
        order,
        fulfillment_status(
            order, "paris", FulfillmentState.CANCELLED, 3, reason="CANCEL_REQUESTED"
        ),
        NOW,
    )
    assert [
        (event.transition.old, event.transition.new)
        for event in decided.events
        if isinstance(event, ItemsCancelled | StatusChanged)
    ] == [
        (Status.PROCESSING, Status.PROCESSING),
        (Status.PROCESSING, Status.SHIPPED),
        (Status.SHIPPED, Status.DELIVERED),
    ]


@pytest.mark.parametrize("refunded", [False, True])
def test_fulfilment_cancelled_after_delivery_cancels_units(
    refunded: bool,
) -> None:
    """The carrier reports the parcel delivered, but the warehouse has its goods and cancels the
    fulfilment. The order does not move back, its units are cancelled like those of any cancelled
    fulfilment, and nothing is recalled. With all of its money refunded it becomes refunded. An
    order that was refunded before publishes no more, and records it in its history.
    """
    order = at(Status.PROCESSING)
    money = refund(order, order.captured)
    delivered = after(order, *([money] if refunded else []), ship(order, "london", NOW))
    decided = decide(
        delivered,
        fulfillment_status(
            delivered, "london", FulfillmentState.CANCELLED, 9, reason="CANCEL_REQUESTED"
        ),
        NOW,
    )
    record = decided.record
    assert delivered.status is record.status is (Status.REFUNDED if refunded else Status.DELIVERED)
    assert (record.total, record.returns, after(record, money).status) == (
        record.shipping,
        (),
        Status.REFUNDED,
    )
    assert (record.stock, record.progress) == (StockStatus.RELEASED, Progress.CANCELLED)
    assert [type(event) for event in decided.events] == ([] if refunded else [ItemsCancelled])
    assert [event.reason for event in record.late_events] == (
        ["FULFILLMENT_CANCELLED"] if refunded else []
    )


def test_cut_and_short_pick_in_every_order_agree() -> None:
    """The customer cancels one lamp, and the picker misses one: fulfilment's own number remains,
    for any number of repeats.
    """
    start = at(Status.CONFIRMED)
    cut = after(start, cancel_items(start, {1: 1}))
    envelopes = [
        works_on(start, FulfillmentState.PICKING, 3, {1: 3, 2: 2}),
        works_on(start, FulfillmentState.PICKING, 4, {1: 2, 2: 2}, reason="UNITS_CUT"),
        works_on(start, FulfillmentState.PICKING, 5, {1: 1, 2: 2}, reason="SHORT_PICK"),
    ]
    for several in permutations([*envelopes, *envelopes]):
        assert units(after(cut, *several)) == [
            (2, 1, [("london", 1, None)]),
            (0, 2, [("london", 2, None)]),
        ]


# --- shipped goods that are cancelled


def test_cut_units_that_shipped_are_recalled() -> None:
    """Three lamps left, and two were wanted: one comes back as a recall without a refund, once."""
    order = at(Status.PROCESSING)
    cut = after(order, cancel_items(order, {1: 1}))
    leaving = works_on(cut, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2})
    shipped = after(cut, leaving, changed(leaving, version=6, state=FulfillmentState.COMPLETED))
    assert units(shipped) == [(1, 2, [("london", 2, 3)]), (0, 2, [("london", 2, 2)])]
    assert recalled(shipped) == [{1: 1}]
    assert [order_return.refund for order_return in shipped.returns] == [0]


def test_shipped_goods_of_a_cancelled_order_are_recalled() -> None:
    """The cancellation and the shipment in either order give the same recall of all shipped units.
    A label alone ships none.
    """
    order = at(Status.PROCESSING)
    leaving = works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2})
    envelopes: list[Envelope[Any]] = [cancel(order), leaving, ship(order, "london")]
    for several in permutations(envelopes):
        cancelled = after(order, *several)
        assert (cancelled.status, recalled(cancelled), cancelled.stock) == (
            Status.CANCELLED,
            [{1: 3, 2: 2}],
            StockStatus.DEDUCTED,
        )
    label = after(order, ship(order, "london"), cancel(order))
    assert recalled(label) == []
    stopped = after(label, fulfillment_status(order, "london", FulfillmentState.CANCELLED, 5))
    assert (recalled(stopped), stopped.stock) == ([], StockStatus.RELEASED)


def test_shipment_of_a_cancelled_order_is_a_late_event() -> None:
    """Shipment and delivery after the cancellation are late events, each once; the order keeps its
    version.
    """
    order = at(Status.PROCESSING)
    cancelled = after(order, cancel(order))
    shipment = ship(order, "london")
    noted = after(cancelled, shipment, shipment, changed(shipment, deliver_time=NOW))
    assert [event.reason for event in noted.late_events] == [
        "SHIPMENT_CREATED",
        "DELIVERY_CONFIRMED",
    ]
    assert (noted.status, noted.version, noted.progress) == (
        Status.CANCELLED,
        cancelled.version,
        Progress.DELIVERED,
    )


def test_fulfilment_of_a_cancelled_order_is_a_late_event() -> None:
    """The fulfilment's start, its shipment and its parcel's end are each recorded once, although
    they move nothing. Steps within the same order status are not recorded, nor is a stopped
    fulfilment, nor a status that was reached before.
    """
    order = at(Status.CONFIRMED)
    cancelled = after(order, cancel(order))
    envelopes = [
        works_on(order, FulfillmentState.PICKING, 3, {1: 3, 2: 2}),
        works_on(order, FulfillmentState.PACKED, 4, {1: 3, 2: 2}),
    ]
    envelopes += [works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2})]
    noted = after(
        cancelled,
        *envelopes,
        *envelopes,
        shipment_outcome(order, "london", ShipmentOutcome.LOST),
        shipment_outcome(order, "london", ShipmentOutcome.LOST),
    )
    assert [event.reason for event in noted.late_events] == [
        "FULFILLMENT_PICKING",
        "FULFILLMENT_SHIPPED",
        "PARCEL_LOST",
    ]
    assert (noted.status, noted.version) == (Status.CANCELLED, cancelled.version)
    assert (
        after(
            cancelled, fulfillment_status(order, "london", FulfillmentState.CANCELLED, 5)
        ).late_events
        == ()
    )
    assert (
        after(cancelled, fulfillment_status(order, "paris", FulfillmentState.PICKING, 3))
        == cancelled
    )  # the order has no fulfilment there


def test_event_that_cancels_an_order_is_no_late_event() -> None:
    """The order's only parcel is lost, which cancels the order: the history has that once."""
    order = at(Status.SHIPPED)
    lost = after(order, shipment_outcome(order, "london", ShipmentOutcome.LOST))
    assert (lost.status, lost.reason, lost.late_events) == (Status.CANCELLED, "PARCEL_LOST", ())


@pytest.mark.parametrize("stage", [FulfillmentState.PICKING, None])
def test_forged_fulfillment_version_is_refused(stage: FulfillmentState | None) -> None:
    """A fulfilment's event of version 2^60 is not stored, in any status: the true one after it
    still counts.
    """
    order = at(Status.CONFIRMED)
    [fulfillment] = order.fulfillments
    with pytest.raises(Refused) as caught:
        decide(order, fulfillment_status(order, fulfillment.warehouse_id, stage, 2**60), NOW)
    assert caught.value.reason == "VERSION_JUMP"
    assert (
        after(
            order, fulfillment_status(order, fulfillment.warehouse_id, FulfillmentState.PICKING, 3)
        ).status
        is Status.PROCESSING
    )
