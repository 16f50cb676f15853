"""The decisions about an order that is cancelled, in whole or in part, is not paid, or is
retried.
"""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from chassis.values.decision import Decision
from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Refused, Stale
from order_svc.decisions.creation import PAYMENT_WINDOW
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    FulfillmentState,
    PaymentStatus,
    Progress,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.commands import ExpireOrder, RetryOrder
from order_svc.model.events import ItemsCancelled, StatusChanged
from order_svc.model.records import Order
from tests.unit.order.returns import ask
from tests.unit.order.samples import (
    NOW,
    after,
    allocations,
    at,
    cancel,
    cancel_items,
    checkout,
    commit,
    fulfillment_status,
    of_order,
    pay,
    placed,
    refund,
    report,
    ship,
    shipment_outcome,
)

TOMORROW = NOW + timedelta(days=1)


def order_in(status: Status) -> Order:
    """Returns an order with that status, refunded included."""
    if status is Status.REFUNDED:
        delivered = at(Status.DELIVERED)
        return after(delivered, refund(delivered, delivered.total))
    return at(status)


def retried(order: Order, **fields: Any) -> Envelope[RetryOrder]:
    """Returns a command to retry it, with stock for its next attempt."""
    usual: dict[str, Any] = {
        "attempt": order.attempt + 1,
        "allocations": {line.number: line.allocations for line in order.lines},
        "expected_version": None,
    }
    return of_order(RetryOrder, order, **(usual | fields))


CANCELLED = {
    Status.PENDING: None,
    Status.CONFIRMED: None,
    Status.PROCESSING: None,
    Status.SHIPPED: None,
    Status.DELIVERED: "ORDER_NOT_CANCELLABLE",
    Status.CANCELLED: "ORDER_ALREADY_CANCELLED",
    Status.REFUNDED: "ORDER_NOT_CANCELLABLE",
    Status.FAILED: "ORDER_NOT_CANCELLABLE",
}
CUT = CANCELLED | {Status.SHIPPED: "ORDER_NOT_CANCELLABLE"}
TRIED_AGAIN = dict.fromkeys(Status, "ILLEGAL_TRANSITION") | {Status.FAILED: None}


@pytest.mark.parametrize(
    ("asked", "status"),
    [(asked, status) for asked, status in product(("cancel", "cancel items", "retry"), Status)],
    ids=str,
)
def test_cancel_and_retry_in_every_status(asked: str, status: Status) -> None:
    """In each status, cancelling, cancelling units and retrying succeed, or are refused with the
    contract's reason.
    """
    order = order_in(status)
    assert order.status is status
    commands: dict[str, Envelope[Any]] = {
        "cancel": cancel(order),
        "cancel items": cancel_items(order, {1: 1}),
        "retry": retried(order),
    }
    reason = {"cancel": CANCELLED, "cancel items": CUT, "retry": TRIED_AGAIN}[asked][status]
    if reason:
        with pytest.raises(Refused) as refused:
            after(order, commands[asked])
        assert (refused.value.reason, refused.value.metadata["status"]) == (reason, status)
    else:
        decided = decide(order, commands[asked], NOW)
        assert (
            decided.record.status
            is {"cancel": Status.CANCELLED, "cancel items": status, "retry": Status.PENDING}[asked]
        )
        assert len(decided.history) == len(decided.events) == 1
        assert decided.record.version == order.version + 1


@pytest.mark.parametrize("status", [Status.PENDING, Status.PROCESSING])
def test_cancel_of_another_version_is_refused(status: Status) -> None:
    """A caller that states an older version is refused."""
    order = at(status)
    for command in (
        cancel(order, expected_version=order.version + 1),
        cancel_items(order, {1: 1}, expected_version=order.version + 1),
        retried(order, expected_version=order.version + 1),
    ):
        with pytest.raises(Stale):
            after(order, command)
    assert after(order, cancel(order, expected_version=order.version)).status is Status.CANCELLED


def test_cancel_of_a_partly_delivered_order_is_refused() -> None:
    """The customer has one parcel of two: a return takes over. The refusal names the step for each
    parcel, and the steps work: the delivered units can be returned, the unshipped ones cancelled.
    """
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "london", NOW))
    assert order.status is Status.PROCESSING
    with pytest.raises(Refused) as refused:
        after(order, cancel(order))
    assert (refused.value.reason, refused.value.metadata) == (
        "ORDER_NOT_CANCELLABLE",
        {"status": "processing"},
    )
    advice = (
        "Return the delivered units with CreateReturn. Cancel the units that have not left with"
        " CancelOrderItems."
    )
    assert refused.value.message == f"The order is processing. {advice}"
    order = after(order, cancel_items(order, {2: 2}), report(order, "london"))
    order = decide(order, ask(order, {1: 3}), NOW).record
    assert (order.lines[1].remaining, order.returns[0].line(1).announced) == (0, 3)


def test_refusal_names_the_parcels_to_recall() -> None:
    """The other parcel is in transit: the refusals of both cancellations name its shipment, and a
    recall of it cancels its units.
    """
    order, shipment = placed(None, "london", "paris"), uuid4()
    order = after(
        order, pay(order), ship(order, "london", NOW), ship(order, "paris", shipment_id=shipment)
    )
    advice = (
        "Return the delivered units with CreateReturn. Recall the parcels that are on their way"
        " with CancelShipment."
    )
    for command in (cancel(order), cancel_items(order, {2: 1})):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert refused.value.reason == "ORDER_NOT_CANCELLABLE"
        assert refused.value.metadata == {"status": "shipped", "shipment_ids": str(shipment)}
        assert refused.value.message == f"The order is shipped. {advice}"
    order = after(
        order, shipment_outcome(order, "paris", ShipmentOutcome.RETURNED, shipment_id=shipment)
    )
    assert (order.status, order.lines[1].cancelled) == (Status.DELIVERED, 2)


def withdrawn(order: Order, warehouse_id: str) -> Order:
    """Returns the order after the purchase and the withdrawal of the label of that warehouse's
    parcel.
    """
    label = ship(order, warehouse_id)
    order = after(order, label)
    void = shipment_outcome(
        order, warehouse_id, None, shipment_id=label.command.shipment_id, withdrawn=True
    )
    return after(order, void)


@pytest.mark.parametrize("units", [{2: 1}, {2: 2}], ids=["some", "all"])
def test_cut_of_a_withdrawn_parcel_follows_the_advice(units: dict[int, int]) -> None:
    """London's parcel is delivered. Paris's label made the order shipped, and is void since. The
    refusal of CancelOrder names CreateReturn and CancelOrderItems, and both work: London's units
    cannot be cut, Paris's can. The order is delivered once Paris's fulfilment has ended.
    """
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "london", NOW), report(order, "london"))
    order = withdrawn(order, "paris")
    assert order.status is Status.SHIPPED
    with pytest.raises(Refused) as refused:
        after(order, cancel(order))
    advice = (
        "Return the delivered units with CreateReturn. Cancel the units that have not left with"
        " CancelOrderItems."
    )
    assert refused.value.message == f"The order is shipped. {advice}"
    with pytest.raises(Refused) as refused:
        after(order, cancel_items(order, {1: 1}))
    assert refused.value.reason == "ITEMS_NOT_CANCELLABLE"
    decided = decide(order, cancel_items(order, units), NOW)
    [event] = decided.events
    assert isinstance(event, ItemsCancelled)
    cut = decided.record
    assert (cut.status, cut.lines[1].cancelled, cut.lines[0]) == (
        Status.SHIPPED,
        units[2],
        order.lines[0],
    )
    assert order.total - cut.total == order.lines[1].cost_of(units[2])
    assert decide(cut, ask(cut, {1: 3}), NOW).record.returns[0].line(1).announced == 3
    ended = after(cut, fulfillment_status(cut, "paris", FulfillmentState.CANCELLED, 9))
    assert (ended.status, ended.lines[1].remaining) == (Status.DELIVERED, 0)


def test_cut_of_the_only_withdrawn_parcel_ends_the_order() -> None:
    """The order's only label is void: some units can be cut, and the last ones cancel the order.
    CancelOrder works as well.
    """
    order = withdrawn(at(Status.PROCESSING), "london")
    some = after(order, cancel_items(order, {1: 1}))
    assert (some.status, some.lines[0].remaining) == (Status.SHIPPED, 2)
    last = after(some, cancel_items(some, {1: 2, 2: 2}))
    assert (last.status, last.progress) == (Status.CANCELLED, Progress.CANCELLED)
    assert after(order, cancel(order)).status is Status.CANCELLED
    freed = after(last, fulfillment_status(last, "london", FulfillmentState.CANCELLED, 9))
    assert freed.stock is StockStatus.RELEASED


def test_cut_of_a_parcel_in_transit_is_refused() -> None:
    """London's label is withdrawn, Paris's parcel is in transit: only London's units can be cut."""
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "paris"))
    order = withdrawn(order, "london")
    assert order.status is Status.SHIPPED
    with pytest.raises(Refused):
        after(order, cancel_items(order, {2: 1}))
    assert after(order, cancel_items(order, {1: 1})).lines[0].cancelled == 1


def test_cancel_items_of_a_shipped_order_advises_both() -> None:
    """The parcel is in transit: it can be recalled, and the whole order can be cancelled."""
    order = at(Status.SHIPPED)
    with pytest.raises(Refused) as refused:
        after(order, cancel_items(order, {1: 1}))
    recall = "Recall the parcels that are on their way with CancelShipment."
    whole = "Cancel the whole order with CancelOrder."
    assert refused.value.message == f"The order is shipped. {recall} {whole}"


@pytest.mark.parametrize(
    ("status", "payment", "stock", "progress"),
    [
        (Status.PENDING, PaymentStatus.CANCELLED, StockStatus.RELEASED, Progress.CANCELLED),
        (Status.CONFIRMED, PaymentStatus.COMPLETED, StockStatus.COMMITTED, Progress.CANCELLED),
        (Status.PROCESSING, PaymentStatus.COMPLETED, StockStatus.COMMITTED, Progress.CANCELLED),
        (Status.SHIPPED, PaymentStatus.COMPLETED, StockStatus.DEDUCTED, Progress.SHIPPED),
    ],
)
def test_cancelled_order_shows_its_open_money_and_goods(
    status: Status, payment: PaymentStatus, stock: StockStatus, progress: Progress
) -> None:
    """The lines are unchanged, the order has no deadline, and its derived fields show the money and
    the goods that are still to come back.
    """
    order = at(status)
    cancelled = after(order, cancel(order, reason="FRAUD"))
    assert (cancelled.reason, cancelled.payment, cancelled.stock, cancelled.progress) == (
        "FRAUD",
        payment,
        stock,
        progress,
    )
    assert (cancelled.lines, cancelled.expire_time, cancelled.total) == (
        order.lines,
        None,
        order.total,
    )


def test_committed_units_of_a_cancelled_order_return_by_event() -> None:
    """The warehouse or the fulfilment reports that no unit is held for the order any more; until
    then its stock is committed.
    """
    order = at(Status.PROCESSING)
    cancelled = after(order, cancel(order))
    assert (
        after(cancelled, fulfillment_status(cancelled, "london", FulfillmentState.PICKING, 3)).stock
        is StockStatus.COMMITTED
    )
    assert (
        after(
            cancelled, fulfillment_status(cancelled, "london", FulfillmentState.CANCELLED, 3)
        ).stock
        is StockStatus.RELEASED
    )
    freed = after(cancelled, commit(cancelled, allocations={}, freed=True))
    assert (freed.stock, freed.version) == (StockStatus.RELEASED, cancelled.version)
    living = after(order, commit(order, allocations={}, freed=True))
    assert living is order


def test_cancelled_units_cost_their_frozen_share() -> None:
    """Three lamps share a discount of 100 and a tax of 200: the first unit takes its own part. The
    others cost the same as before.
    """
    order = placed()
    line = order.lines[0]
    one = after(order, cancel_items(order, {1: 1}, reason="WRONG_SIZE"))
    assert (line.cost_of(0), line.cost_of(1), line.cost_of(3)) == (0, 1033, line.total)
    assert (one.total, one.cancelled_amount, one.placed_total) == (
        order.total - 1033,
        1033,
        order.total,
    )
    assert one.lines[0].shares == line.shares
    assert (one.lines[0].cancelled, [a.quantity for a in one.lines[0].allocations]) == (1, [2])
    both = after(one, cancel_items(one, {1: 1, 2: 2}))
    assert both.total == order.total - line.cost_of(2) - order.lines[1].total


def test_cancelled_units_have_a_history_row_version_and_event() -> None:
    """The status stays. The row has the status and the reason, and the domain event is no change of
    status.
    """
    order = at(Status.CONFIRMED)
    command = cancel_items(order, {2: 1}, reason="WRONG_SIZE")
    decided = decide(order, command, NOW)
    [transition], [event] = decided.history, decided.events
    assert isinstance(event, ItemsCancelled)
    assert event.order == decided.record
    assert (event.transition.old, event.transition.new, event.transition.reason) == (
        Status.CONFIRMED,
        Status.CONFIRMED,
        "WRONG_SIZE",
    )
    assert (event.transition.version, event.transition.cause, transition) == (
        order.version + 1,
        command.cause,
        event.transition,
    )


def test_cancel_of_the_last_unit_cancels_the_order() -> None:
    """One row has the change of status, and the units are cancelled."""
    order = at(Status.CONFIRMED)
    fewer = after(order, cancel_items(order, {1: 3}))
    decided = decide(fewer, cancel_items(fewer, {2: 2}), NOW)
    [event] = decided.events
    assert isinstance(event, StatusChanged)
    assert (decided.record.status, [line.remaining for line in decided.record.lines]) == (
        Status.CANCELLED,
        [0, 0],
    )


def test_cancel_of_more_units_than_remain_changes_nothing() -> None:
    """All lines or none: there is a violation for each line with fewer units, and for an unknown
    line.
    """
    order = placed()
    with pytest.raises(Refused) as refused:
        after(order, cancel_items(order, {1: 4, 2: 2, 9: 1}))
    assert refused.value.reason == "ITEMS_NOT_CANCELLABLE"
    assert [(v.subject, v.description) for v in refused.value.violations] == [
        ("line 1", "requested 4, cancellable 3"),
        ("line 9", "requested 1, cancellable 0"),
    ]


def test_units_with_a_carrier_are_not_cut() -> None:
    """Line 1 has shipped from London, line 2 waits in Paris: only the latter can be cancelled."""
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "london"))
    with pytest.raises(Refused):
        after(order, cancel_items(order, {1: 1}))
    assert after(order, cancel_items(order, {2: 1})).lines[1].cancelled == 1


def test_cut_takes_the_last_sourced_units_first() -> None:
    """Of a line from two warehouses, the last one loses its units before the first."""
    order = placed(
        checkout(CheckoutLine(sku="LAMP", quantity=5, unit_price=100, discount=0, tax=0))
    )
    [first] = order.lines[0].allocations
    split = (replace(first, quantity=2), replace(first, warehouse_id="paris", quantity=3))
    order = replace(order, lines=(replace(order.lines[0], allocations=split),))
    cut = after(order, cancel_items(order, {1: 4}))
    assert [(a.warehouse_id, a.quantity) for a in cut.lines[0].allocations] == [
        ("london", 1),
        ("paris", 0),
    ]
    confirmed = after(cut, pay(cut))
    assert [fulfillment.warehouse_id for fulfillment in confirmed.fulfillments] == ["london"]


def test_capture_from_before_a_cut_is_no_mismatch() -> None:
    """The captured amount may be the former total, the present one, or one between; never less, and
    never more than the highest.
    """
    order = placed()
    cut = after(order, cancel_items(order, {1: 1}))
    for captured in (cut.total, order.total, cut.total + 1):
        confirmed = after(cut, pay(cut, captured=cut.money(captured)))
        assert (confirmed.status, confirmed.captured) == (Status.CONFIRMED, captured)
    for captured in (cut.total - 1, order.total + 1):
        with pytest.raises(Refused):
            after(cut, pay(cut, captured=cut.money(captured)))


def test_commit_from_before_a_cut_serves_the_remaining_units() -> None:
    """The warehouse committed three units, and the order has two left: it takes two."""
    order = placed()
    cut = after(order, cancel_items(order, {1: 1}))
    confirmed = after(cut, pay(order, captured=cut.money(cut.total)))
    assert [a.quantity for line in confirmed.lines for a in line.allocations] == [2, 2]


def test_unpaid_order_expires_after_its_expire_time() -> None:
    """By the clock of the write, an order is cancelled at its deadline and not before; a paid one
    stays unchanged.
    """
    order = placed()
    assert order.expire_time
    command = of_order(ExpireOrder, order)
    expired = decide(order, command, order.expire_time).record
    assert (expired.status, expired.reason, expired.stock) == (
        Status.CANCELLED,
        "PAYMENT_EXPIRED",
        StockStatus.RELEASED,
    )
    with pytest.raises(Deferred):
        decide(order, command, order.expire_time - timedelta(microseconds=1))
    confirmed = after(order, pay(order))
    assert decide(confirmed, command, TOMORROW) == Decision(confirmed)


def test_retry_makes_a_new_attempt_and_deadline() -> None:
    """Money and fulfilments of the attempt before do not count for the new one. Cancelled units
    stay cancelled.
    """
    order = at(Status.FAILED)
    decided = decide(order, retried(order), TOMORROW)
    again, [transition] = decided.record, decided.history
    assert (again.status, again.attempt, again.version) == (Status.PENDING, 2, order.version + 1)
    assert (again.payment, again.stock, again.captured) == (
        PaymentStatus.PENDING,
        StockStatus.RESERVED,
        0,
    )
    assert again.expire_time == TOMORROW + PAYMENT_WINDOW
    assert getattr(transition, "attempt", None) == 2
    assert after(again, pay(order)) is again
    assert after(again, refund(order, order.total)) is again
    assert after(again, pay(again)).status is Status.CONFIRMED


def test_retry_without_stock_for_its_attempt_is_deferred() -> None:
    """The order failed once more between the reservation and the write: the retry has no stock for
    the present attempt.
    """
    order = at(Status.FAILED)
    for command in (retried(order, attempt=3), retried(order, allocations=None)):
        with pytest.raises(Deferred):
            after(order, command)


def test_retry_reserves_no_cancelled_unit() -> None:
    """The warehouse must serve exactly the remaining units."""
    order = placed()
    cut = after(order, cancel_items(order, {2: 2}))
    failed = replace(cut, status=Status.FAILED, expire_time=None)
    served = allocations(checkout(), "paris")
    assert after(failed, retried(failed, allocations={1: served[1]})).lines[1].allocations == ()


def test_cancelled_order_with_void_label_has_committed_stock() -> None:
    """A label was withdrawn before the cancellation: the units are in the warehouse, and stay
    committed until their fulfilment is cancelled.
    """
    order = at(Status.SHIPPED)
    label = order.fulfillments[0].shipment_id
    void = shipment_outcome(
        order, "london", None, shipment_id=label, withdrawn=True, withdraw_version=3
    )
    cancelled = after(order, void, cancel(order))
    assert (cancelled.status, cancelled.stock) == (Status.CANCELLED, StockStatus.COMMITTED)
    stopped = fulfillment_status(order, "london", FulfillmentState.CANCELLED, 4)
    assert after(cancelled, stopped).stock is StockStatus.RELEASED
