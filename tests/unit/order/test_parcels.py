"""The order's decisions about parcels that do not reach their customer, or whose label is
withdrawn.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.shipping.events.v1.shipping_events_pb2 import ShipmentCreated, ShipmentStatusChanged
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.envelope import Envelope
from chassis.values.errors import Refused
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    FulfillmentState,
    ReturnProgress,
    ReturnStatus,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.commands import (
    ApplyShipmentOutcome,
)
from order_svc.model.events import ItemsCancelled, ReturnChanged
from order_svc.model.records import Order
from order_svc.wire import events_in
from tests.unit.order.fulfillments import recalled, two_parts, units, works_on
from tests.unit.order.returns import move
from tests.unit.order.samples import (
    NOW,
    Source,
    after,
    at,
    cancel,
    cancel_items,
    changed,
    fulfillment_status,
    ship,
    shipment_outcome,
)


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
    assert [
        event.transition.reason for event in first.events if isinstance(event, ItemsCancelled)
    ] == [reason]
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
    assert [type(event) for event in decided.events] == (
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
    assert (decided.record.lines, decided.events) == (order.lines, [])
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
    created = ShipmentCreated(shipment=shipment)
    assert events_in.apply_shipment(created, Source()).command.fulfillment_version == 5


def test_forged_withdraw_version_is_refused() -> None:
    """A void of version 2^60 is not stored: the labels after it count."""
    order = two_parts()
    with pytest.raises(Refused) as caught:
        after(order, withdraw(order, 2**60))
    assert caught.value.reason == "VERSION_JUMP"
