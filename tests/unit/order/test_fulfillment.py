"""The order's decisions after events of other services: missing units, parcels that are not
delivered, refunds.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.shipping.events.v1.shipping_events_pb2 import ShipmentStatusChanged
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Refused
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    FulfillmentState,
    PaymentStatus,
    Progress,
    ReturnKind,
    ReturnProgress,
    ReturnStatus,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyShipmentOutcome,
    CommitPending,
)
from order_svc.model.events import ItemsCancelled, ReturnChanged, StatusChanged
from order_svc.model.records import Order
from order_svc.wire import events_in
from tests.unit.order.returns import move
from tests.unit.order.samples import (
    NOW,
    Source,
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
    pounds,
    refund,
    ship,
    shipment_outcome,
)


def works_on(
    order: Order,
    stage: FulfillmentState,
    version: int,
    units: dict[int, int],
    at: str = "london",
    **fields: Any,
) -> Envelope[ApplyFulfillmentStatus]:
    """The fulfilment's stock is committed, and these are its units."""
    return fulfillment_status(
        order, at, stage, version, units=units, **({"committed": True} | fields)
    )


def two_parts() -> Order:
    """Three lamps from London, two bulbs from Paris; paid."""
    order = placed(None, "london", "paris")
    return after(order, pay(order))


def units(order: Order) -> list[tuple[int, int, list[tuple[str, int, int | None]]]]:
    """Returns for each line the cancelled units, the remaining units, and their warehouses."""
    return [
        (
            line.cancelled,
            line.remaining,
            [(a.warehouse_id, a.quantity, a.shipped) for a in line.allocations],
        )
        for line in order.lines
    ]


def recalled(order: Order) -> list[dict[int, int]]:
    """Returns the recalls of an order: announced units by line."""
    assert all(order_return.kind is ReturnKind.RECALL for order_return in order.returns)
    return [
        {line.number: line.announced for line in order_return.lines}
        for order_return in order.returns
    ]


# --- units that leave a picklist


def test_short_units_are_cancelled_with_the_fulfilment_reason() -> None:
    """A short pick is an item cancellation, and is published as one. The order then follows the
    fulfilment's status.
    """
    order = at(Status.CONFIRMED)
    decided = decide(
        order, works_on(order, FulfillmentState.PICKING, 3, {1: 2, 2: 2}, reason="SHORT_PICK"), NOW
    )
    cut, moved = decided.facts
    assert isinstance(cut, ItemsCancelled)
    assert isinstance(moved, StatusChanged)
    assert (cut.step.reason, cut.step.new, moved.step.new) == (
        "SHORT_PICK",
        Status.CONFIRMED,
        Status.PROCESSING,
    )
    assert (cut.step.version, moved.step.version) == (order.version + 1, order.version + 2)
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
        settled = after(commit_pending, *several)
        assert (settled.status, settled.stock) == (Status.CONFIRMED, StockStatus.COMMITTED)
        assert units(settled) == [(0, 3, [("paris", 3, None)]), (0, 2, [("paris", 2, None)])]


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
    settled = after(
        commit_pending,
        fulfillment_status(
            commit_pending, "london", FulfillmentState.CANCELLED, 3, reason="CANCEL_REQUESTED"
        ),
        commit(order),
    )
    assert units(settled) == [(3, 1, [("paris", 1, None)])]
    assert (
        settled.stock,
        [
            fulfillment.order_status
            for fulfillment in settled.fulfillments
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
    settled = after(commit_pending, commit(commit_pending, allocations={1: anew}))
    assert units(settled) == [(1, 1, [("paris", 1, None)])]
    assert [fulfillment.warehouse_id for fulfillment in settled.fulfillments] == ["paris"]
    assert (
        after(settled, works_on(settled, FulfillmentState.PICKING, 3, {1: 1}, at="paris")).status
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
    settled = after(commit_pending, commit(order))
    assert [fulfillment.warehouse_id for fulfillment in settled.fulfillments] == ["london"]
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
        assert after(settled, news) is settled
    ended: list[Envelope[Any]] = [
        works_on(commit_pending, FulfillmentState.SHIPPED, 9, {2: 2}, at="paris"),
        ship(commit_pending, "paris"),
    ]
    for each in ended:
        with pytest.raises(Deferred):
            after(settled, each)


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
    assert [type(fact) for fact in decided.facts] == [StatusChanged]


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
        (fact.step.old, fact.step.new)
        for fact in decided.facts
        if isinstance(fact, ItemsCancelled | StatusChanged)
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
    assert [type(fact) for fact in decided.facts] == ([] if refunded else [ItemsCancelled])
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
    left = works_on(cut, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2})
    shipped = after(cut, left, changed(left, version=6, state=FulfillmentState.COMPLETED))
    assert units(shipped) == [(1, 2, [("london", 2, 3)]), (0, 2, [("london", 2, 2)])]
    assert recalled(shipped) == [{1: 1}]
    assert [order_return.refund for order_return in shipped.returns] == [0]


def test_shipped_goods_of_a_cancelled_order_are_recalled() -> None:
    """The cancellation and the shipment in either order give the same recall of all shipped units.
    A label alone ships none.
    """
    order = at(Status.PROCESSING)
    left = works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2})
    envelopes: list[Envelope[Any]] = [cancel(order), left, ship(order, "london")]
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


# --- parcels that are not delivered


@pytest.mark.parametrize(
    ("how", "reason", "back"),
    [
        (ShipmentOutcome.LOST, "PARCEL_LOST", False),
        (ShipmentOutcome.RETURNED, "PARCEL_RETURNED", True),
        (ShipmentOutcome.VOIDED, "PARCEL_VOIDED", True),
    ],
)
def test_units_of_an_undelivered_parcel_are_cancelled(
    how: ShipmentOutcome, reason: str, back: bool
) -> None:
    """The other parcel continues. Units that are not lost come back as a recall."""
    order = two_parts()
    shipped = works_on(order, FulfillmentState.SHIPPED, 5, {1: 3})
    envelopes: list[Envelope[Any]] = [shipped, shipment_outcome(order, "london", how)]
    for several in permutations(envelopes):
        decided = after(order, *several)
        assert (units(decided)[0], decided.status) == ((3, 0, [("london", 0, 3)]), decided.status)
        assert recalled(decided) == ([{1: 3}] if back else [])
        assert decided.total == order.total - order.lines[0].total
        assert after(decided, ship(order, "paris", NOW)).status is Status.DELIVERED
    first = decide(order, shipment_outcome(order, "london", how), NOW)
    assert [fact.step.reason for fact in first.facts if isinstance(fact, ItemsCancelled)] == [
        reason
    ]
    again = after(
        first.record,
        shipment_outcome(order, "london", how),
        shipment_outcome(order, "london", ShipmentOutcome.LOST),
    )
    assert again == first.record


@pytest.mark.parametrize(
    ("status", "reason", "how"),
    [
        ("LOST", "CARRIER_REPORTED", ShipmentOutcome.LOST),
        ("RETURNED_TO_SENDER", "CARRIER_REPORTED", ShipmentOutcome.RETURNED),
        ("VOIDED", "RECALLED", ShipmentOutcome.VOIDED),
        ("FAILED", "RECALLED", ShipmentOutcome.VOIDED),
        ("FAILED", "CARRIER_REFUSED", None),
        ("FAILED", "ORDER_CLOSED", None),
        ("FAILED", "FULFILLMENT_CANCELLED", None),
        ("IN_TRANSIT", "RECALLED", None),
    ],
)
def test_shipment_outcome_follows_from_status_and_reason(
    status: str, reason: str, how: ShipmentOutcome | None
) -> None:
    """A recall before the purchase of the label cancels the shipment's units too. A carrier's
    refusal waits for an operator, and a closed order needs nothing.
    """
    shipment = shipping_pb2.Shipment(
        shipment_id=str(uuid4()),
        order_id=str(uuid4()),
        attempt=1,
        warehouse_id="london",
        status_reason=reason,
    )
    event = ShipmentStatusChanged(
        shipment=shipment, new_status=shipping_pb2.ShipmentStatus.Value(f"SHIPMENT_STATUS_{status}")
    )
    assert events_in.apply_shipment_outcome(event, Source()).command.outcome is how


def test_last_undelivered_parcel_cancels_the_order() -> None:
    """Shipped becomes cancelled."""
    order = at(Status.SHIPPED)
    cancelled = after(order, shipment_outcome(order, "london", ShipmentOutcome.LOST))
    assert (cancelled.status, cancelled.reason, recalled(cancelled)) == (
        Status.CANCELLED,
        "PARCEL_LOST",
        [],
    )


def test_shipment_event_without_an_undelivered_end_is_skipped() -> None:
    """Only an end without delivery changes the order, and none does after the delivery."""
    order = at(Status.SHIPPED)
    assert after(order, shipment_outcome(order, "london", None)) is order
    delivered = at(Status.DELIVERED)
    assert (
        after(delivered, shipment_outcome(delivered, "london", ShipmentOutcome.LOST)) is delivered
    )
    other = two_parts()
    lost = after(other, shipment_outcome(other, "london", ShipmentOutcome.LOST))
    parcel = ship(other, "london", NOW, shipment_id=lost.fulfillments[0].shipment_id)
    assert after(lost, parcel) is lost


def test_returned_parcel_of_a_cancelled_order_has_one_recall() -> None:
    """The recall exists already: only the fulfilment changes."""
    order = at(Status.PROCESSING)
    cancelled = after(
        order, works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2}), cancel(order)
    )
    came = after(cancelled, shipment_outcome(cancelled, "london", ShipmentOutcome.RETURNED))
    assert (recalled(came), came.returns, came.version) == (
        [{1: 3, 2: 2}],
        cancelled.returns,
        cancelled.version,
    )
    assert came.fulfillments[0].outcome is ShipmentOutcome.RETURNED


def test_lost_parcel_of_a_cancelled_order_has_no_open_recall() -> None:
    """Cancelled, shipped and lost, in every order and each twice: no recall stays open that can
    never be received.
    """
    order = at(Status.PROCESSING)
    envelopes: list[Envelope[Any]] = [
        cancel(order),
        works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2}),
        shipment_outcome(order, "london", ShipmentOutcome.LOST),
    ]
    for several in permutations(envelopes):
        cancelled = order
        for each in several:
            # the loss of the last parcel cancels the order: no caller can cancel it afterwards
            with suppress(Refused):
                cancelled = after(cancelled, each)
        cancelled = after(cancelled, *envelopes[1:])
        assert (cancelled.status, cancelled.stock, cancelled.return_progress) == (
            Status.CANCELLED,
            StockStatus.DEDUCTED,
            ReturnProgress.NONE,
        )
        assert {
            (order_return.status, order_return.status_reason) for order_return in cancelled.returns
        } <= {(ReturnStatus.CANCELLED, "PARCEL_LOST")}


@pytest.mark.parametrize("seen", [ReturnStatus.APPROVED, ReturnStatus.IN_TRANSIT])
def test_recall_in_transit_outlives_a_lost_parcel(seen: ReturnStatus) -> None:
    """The carrier reports a parcel as lost whose return the staff have announced: only units that
    are not received yet are cancelled, in one version.
    """
    order = at(Status.PROCESSING)
    cancelled = after(
        order, works_on(order, FulfillmentState.SHIPPED, 5, {1: 3, 2: 2}), cancel(order)
    )
    if seen is ReturnStatus.IN_TRANSIT:
        cancelled = after(cancelled, move(cancelled.returns[0], seen, reason="SENT"))
    decided = decide(cancelled, shipment_outcome(cancelled, "london", ShipmentOutcome.LOST), NOW)
    [order_return] = decided.record.returns
    assert order_return.status is (
        ReturnStatus.CANCELLED if seen is ReturnStatus.APPROVED else seen
    )
    assert [type(fact) for fact in decided.facts] == (
        [ReturnChanged] if seen is ReturnStatus.APPROVED else []
    )
    assert decided.record.version == cancelled.version


def test_recall_of_lost_units_is_cancelled() -> None:
    """One lamp too many was in the lost parcel: its recall is cancelled, or never made."""
    order = two_parts()
    cut = after(order, cancel_items(order, {1: 1}))
    envelopes: list[Envelope[Any]] = [
        works_on(cut, FulfillmentState.SHIPPED, 5, {1: 3}),
        shipment_outcome(cut, "london", ShipmentOutcome.LOST),
    ]
    for several in permutations(envelopes):
        lost = after(cut, *several)
        assert units(lost)[0] == (3, 0, [("london", 0, 3)])
        assert {order_return.status for order_return in lost.returns} <= {ReturnStatus.CANCELLED}


# --- money


def test_refunds_move_the_payment_axis_by_their_sum() -> None:
    """The axis moves to partly, then to wholly refunded; an older sum changes nothing. Before the
    delivery the status stays.
    """
    order = at(Status.CONFIRMED)
    fulfillment, whole = refund(order, 100), refund(order, order.total)
    partly = after(order, fulfillment)
    assert (partly.payment, partly.refunded, partly.version) == (
        PaymentStatus.PARTIALLY_REFUNDED,
        100,
        order.version,
    )
    wholly = after(partly, whole)
    assert (wholly.payment, wholly.status) == (PaymentStatus.REFUNDED, Status.CONFIRMED)
    assert after(wholly, fulfillment) is wholly


@pytest.mark.parametrize("events", list(permutations(["paid", "delivered", "refunded"])))
def test_full_refund_of_a_delivered_order_in_every_order(
    events: tuple[str, ...],
) -> None:
    """Delivered and then refunded are both written; an event that waits for the payment comes again
    after it.
    """
    order = placed()
    envelopes: dict[str, Envelope[Any]] = {
        "paid": pay(order),
        "delivered": ship(order, "london", NOW),
        "refunded": refund(order, order.total),
    }
    waiting, steps = [envelopes[name] for name in events], []
    while waiting:
        try:
            decided = decide(order, waiting[0], NOW)
        except Deferred:
            waiting.append(waiting.pop(0))
            continue
        order, waiting = decided.record, waiting[1:]
        steps += [fact.step.new for fact in decided.facts if isinstance(fact, StatusChanged)]
    assert steps == [
        Status.CONFIRMED,
        Status.PROCESSING,
        Status.SHIPPED,
        Status.DELIVERED,
        Status.REFUNDED,
    ]
    assert (order.payment, order.refunded) == (PaymentStatus.REFUNDED, order.captured)


def test_free_order_is_never_refunded() -> None:
    """No money was captured: delivered is the last status."""
    delivered = at(Status.DELIVERED)
    free = replace(delivered, captured=0)
    assert after(free, refund(free, 0, captured=0)) is free


def test_late_payment_of_a_cancelled_order_is_a_late_event() -> None:
    """A capture after the cancellation: the order stays cancelled, and is paid, then refunded."""
    order = at(Status.PENDING)
    cancelled = after(order, cancel(order))
    assert cancelled.payment is PaymentStatus.CANCELLED
    late = after(cancelled, pay(order))
    assert (late.payment, late.captured, [event.reason for event in late.late_events]) == (
        PaymentStatus.COMPLETED,
        order.total,
        ["PAYMENT_CONFIRMED"],
    )
    back = after(late, refund(late, late.captured))
    assert (back.payment, back.status, back.version) == (
        PaymentStatus.REFUNDED,
        Status.CANCELLED,
        cancelled.version,
    )


def test_refund_of_a_failed_order_sets_its_payment_axis() -> None:
    """The order is failed, and refunded: a retry starts with a new payment."""
    order = at(Status.FAILED)
    assert after(order, refund(order, order.total)).payment is PaymentStatus.REFUNDED


def test_refund_in_another_currency_is_refused() -> None:
    """Its amount cannot belong to this order."""
    order = at(Status.CONFIRMED)
    with pytest.raises(Refused):
        after(order, changed(refund(order, 0), refunded=replace(pounds(1), currency="EUR")))


def test_failed_refund_changes_no_amount() -> None:
    """The payment's sums are unchanged, and so is the order."""
    order = at(Status.CONFIRMED)
    assert (
        after(order, refund(order, 0, failure_code="nothing_refundable", return_id=uuid4()))
        is order
    )


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


def test_withdrawn_shipment_leaves_its_fulfilment() -> None:
    """A label that is void because its fulfilment is unpacked takes no units off the order: the
    fulfilment waits for another shipment. A withdrawn label that was recalled as well does.
    """
    order = at(Status.PROCESSING)
    [fulfillment] = order.fulfillments
    order = replace(
        order, fulfillments=(replace(fulfillment, shipment_id=uuid4(), tracking_number="T1"),)
    )
    shipment = shipping_pb2.Shipment(
        shipment_id=str(order.fulfillments[0].shipment_id),
        order_id=str(order.id),
        attempt=1,
        warehouse_id=fulfillment.warehouse_id,
        withdraw_version=8,
        status_reason="FULFILLMENT_WITHDRAWN",
    )
    event = ShipmentStatusChanged(shipment=shipment, new_status=shipping_pb2.SHIPMENT_STATUS_VOIDED)
    decided = decide(order, events_in.apply_shipment_outcome(event, Source()), NOW)
    waiting = replace(fulfillment, withdraw_version=8)
    assert decided.record.fulfillments == (waiting,)
    assert (decided.record.lines, decided.facts) == (order.lines, [])
    event.shipment.shipment_id = str(uuid4())
    other = decide(order, events_in.apply_shipment_outcome(event, Source()), NOW).record
    assert other.fulfillments == (replace(order.fulfillments[0], withdraw_version=8),)
    event.shipment.recall_time.FromDatetime(NOW)
    assert (
        events_in.apply_shipment_outcome(event, Source()).command.outcome is ShipmentOutcome.VOIDED
    )


def withdraw(order: Order, version: int, **fields: Any) -> Envelope[ApplyShipmentOutcome]:
    """London's shipment is void: the fulfilment withdrew it at that version."""
    return shipment_outcome(
        order, "london", None, withdrawn=True, withdraw_version=version, **fields
    )


@pytest.mark.parametrize("known", [True, False], ids=["label before", "label after"])
def test_withdrawn_shipment_consumed_again_moves_nothing(known: bool) -> None:
    """London's label is void and its lamps are packed anew; Paris has shipped. The label's event,
    consumed after the void, changes nothing: the order is processing, its lamps can be cancelled,
    and the next label counts.
    """
    order = two_parts()
    shipped = ship(order, "london", fulfillment_version=5)
    order = after(order, fulfillment_status(order, "london", FulfillmentState.PACKING, 7))
    void = withdraw(order, 6, shipment_id=shipped.command.shipment_id)
    order = after(order, shipped, void) if known else after(order, void)
    order = after(order, ship(order, "paris"))
    packing = after(order, shipped)
    assert packing is order
    fulfillment = packing.fulfillments[0]
    assert (fulfillment.order_status, fulfillment.shipment_id, fulfillment.withdraw_version) == (
        Status.PROCESSING,
        None,
        6,
    )
    assert after(packing, cancel_items(packing, {1: 1})).lines[0].cancelled == 1
    again = ship(packing, "london", fulfillment_version=9)
    labelled = after(packing, again, void, shipped)
    assert (labelled.status, labelled.fulfillments[0].shipment_id) == (
        Status.SHIPPED,
        again.command.shipment_id,
    )


def test_order_with_late_label_of_a_void_stays_processing() -> None:
    """Paris has shipped. London's only label is void, and its own event is consumed last."""
    order = two_parts()
    order = after(order, withdraw(order, 6), ship(order, "paris"))
    order = after(order, ship(order, "london", fulfillment_version=5))
    assert order.status is Status.PROCESSING


def test_withdrawn_shipment_delivered_after_all_counts() -> None:
    """The carrier delivers the parcel of a void label. The fulfilment is delivered, in any order of
    the two events, and its units can no longer be cancelled.
    """
    order = two_parts()
    shipped = ship(order, "london", fulfillment_version=5)
    void = withdraw(order, 6, shipment_id=shipped.command.shipment_id)
    arrived = changed(shipped, deliver_time=NOW)
    one, other = after(order, shipped, void, arrived), after(order, shipped, arrived, void)
    assert one.fulfillments == other.fulfillments
    assert other.fulfillments[0].order_status is Status.DELIVERED
    with pytest.raises(Refused):
        after(other, cancel_items(other, {1: 1}))


def test_void_of_an_older_shipment_keeps_the_newer_one() -> None:
    """The void of version 6 is consumed after the label of version 9. Of two voids, the higher
    version is stored.
    """
    order = two_parts()
    newer = ship(order, "london", fulfillment_version=9)
    order = after(order, newer, withdraw(order, 6), withdraw(order, 4))
    assert (order.fulfillments[0].shipment_id, order.fulfillments[0].withdraw_version) == (
        newer.command.shipment_id,
        6,
    )
    assert after(order, ship(order, "london", fulfillment_version=6)) is order


@pytest.mark.parametrize(
    ("status", "version"),
    [("VOIDED", 6), ("FAILED", 6), ("IN_TRANSIT", 0), ("DELIVERED", 0)],
)
def test_withdraw_version_counts_where_no_parcel_leaves(status: str, version: int) -> None:
    """A withdrawal that came too late states its version as well: the shipment continues."""
    shipment = shipping_pb2.Shipment(
        shipment_id=str(uuid4()),
        order_id=str(uuid4()),
        attempt=1,
        warehouse_id="london",
        withdraw_version=6,
        fulfillment_version=5,
    )
    new_status = shipping_pb2.ShipmentStatus.Value(f"SHIPMENT_STATUS_{status}")
    event = ShipmentStatusChanged(shipment=shipment, new_status=new_status)
    assert events_in.apply_shipment_outcome(event, Source()).command.withdraw_version == version
    assert events_in.apply_shipment(shipment, Source()).command.fulfillment_version == 5


def test_forged_withdraw_version_is_refused() -> None:
    """A void of version 2^60 is not stored: the labels after it count."""
    order = two_parts()
    with pytest.raises(Refused) as caught:
        after(order, withdraw(order, 2**60))
    assert caught.value.reason == "VERSION_JUMP"
