"""Returns of orders whose parcels have different states."""

from dataclasses import replace
from uuid import uuid4

import pytest

from chassis.values.errors import Deferred, Refused
from order_svc.decisions.deciders import decide
from order_svc.lifecycle import (
    Disposition,
    FulfillmentState,
    ReturnKind,
    ReturnProgress,
    ShipmentOutcome,
    Status,
    StockStatus,
)
from order_svc.model.checkout import CheckoutLine
from order_svc.model.records import Allocation, Order
from tests.unit.order.returns import (
    arrived,
    ask,
    ask_money,
    inspect,
    receive,
)
from tests.unit.order.samples import (
    NOW,
    after,
    at,
    cancel,
    cancel_items,
    changed,
    checkout,
    fulfillment_status,
    pay,
    place,
    placed,
    refund,
    report,
    ship,
    shipment_outcome,
)


def test_return_before_the_fulfilments_report_is_deferred() -> None:
    """The order may consume a delivery before the report of the parcel's content. A return waits
    for that report, and takes no unit that the picker did not find: the customer has two of three
    lamps.
    """
    order = at(Status.DELIVERED)
    for asked in (ask(order, {1: 1}), ask_money(order, {1: (1, Disposition.NONE)})):
        with pytest.raises(Deferred) as deferred:
            decide(order, asked, NOW)
        assert deferred.value.reason == "EVENT_AHEAD"
    order = after(
        order,
        fulfillment_status(
            order, "london", FulfillmentState.COMPLETED, 9, units={1: 2, 2: 2}, committed=True
        ),
    )
    with pytest.raises(Refused) as refused:
        decide(order, ask(order, {1: 3}), NOW)
    assert refused.value.reason == "RETURN_EXCEEDS_DELIVERED"
    [order_return] = after(order, ask(order, {1: 2})).returns
    assert order_return.line(1).announced == 2


def test_cancelled_order_counts_units_returned_before() -> None:
    """One parcel of two was returned and received; then the order is cancelled: all shipped units
    are back.
    """
    order = placed(None, "london", "paris")
    order = after(order, pay(order), ship(order, "london"))
    cancelled_line = replace(
        order.lines[0],
        allocations=tuple(replace(a, quantity=0, shipped=3) for a in order.lines[0].allocations),
        cancelled=3,
    )
    fulfillments = tuple(
        replace(fulfillment, outcome=ShipmentOutcome.RETURNED)
        if fulfillment.warehouse_id == "london"
        else fulfillment
        for fulfillment in order.fulfillments
    )
    order = replace(order, lines=(cancelled_line, order.lines[1]), fulfillments=fulfillments)
    order = after(order, fulfillment_status(order, "paris", FulfillmentState.PICKING, 2))
    [order_return] = order.returns
    order = after(order, receive(order_return, {1: 3}), inspect(order_return, {1: (3, 0, 0)}))
    assert order.return_progress is ReturnProgress.PARTIAL
    order = after(order, cancel(order))
    assert (order.status, order.return_progress, order.stock) == (
        Status.CANCELLED,
        ReturnProgress.FULL,
        StockStatus.RETURNED,
    )


def half_delivered() -> Order:
    """The lamps were delivered from London; the bulbs are in transit from Paris."""
    order = placed(None, "london", "paris")
    order = after(
        order, pay(order), report(order, "london"), report(order, "paris", FulfillmentState.SHIPPED)
    )
    return after(order, ship(order, "london", NOW), ship(order, "paris"))


def test_return_of_a_delivered_parcel_beside_one_in_transit() -> None:
    """Units are counted by delivered parcels, not by the order's status. The lamps are returned and
    refunded while the bulbs are in transit. Once delivered, the bulbs can be returned too, and the
    order becomes delivered.
    """
    order = half_delivered()
    assert order.status is Status.SHIPPED
    for command in (ask(order, {1: 3, 2: 1}), ask_money(order, {2: (1, Disposition.NONE)})):
        with pytest.raises(Refused) as refused:
            after(order, command)
        assert (refused.value.reason, [v.subject for v in refused.value.violations]) == (
            "RETURN_EXCEEDS_DELIVERED",
            ["line 2"],
        )
    order, order_return = arrived(order, {1: 2})
    order = after(order, inspect(order_return, {1: (2, 0, 0)}))
    assert (order.returns[0].refund, order.return_progress, order.status) == (
        order.lines[0].cost_of(2),
        ReturnProgress.PARTIAL,
        Status.SHIPPED,
    )
    order = after(order, ship(order, "paris", NOW), ask(order, {1: 1, 2: 2}))
    assert (order.status, len(order.returns)) == (Status.DELIVERED, 2)


def test_line_split_over_parcels_is_returned_by_parcel() -> None:
    """Of three lamps from two warehouses, the delivered one can be returned. When the other parcel
    is lost, the line's refunds equal its cost.
    """
    split = (
        Allocation(warehouse_id="london", reservation_id=uuid4(), quantity=1),
        Allocation(warehouse_id="paris", reservation_id=uuid4(), quantity=2),
    )
    command = place(
        checkout(CheckoutLine(sku="LAMP", quantity=3, unit_price=1000, discount=100, tax=0))
    )
    order = decide(None, changed(command, allocations={1: split}), NOW).record
    order = after(
        order, pay(order), report(order, "london"), ship(order, "london", NOW), ship(order, "paris")
    )
    with pytest.raises(Refused):
        after(order, ask(order, {1: 2}))
    order, order_return = arrived(order, {1: 1})
    order = after(
        order,
        inspect(order_return, {1: (1, 0, 0)}),
        shipment_outcome(order, "paris", ShipmentOutcome.LOST),
    )
    assert order.lines[0].cancelled == 2
    assert order.returns[0].refund + order.cancelled_amount == order.lines[0].total == 2900
    assert order.total == order.placed_total - order.cancelled_amount


def test_return_after_a_cancellation_refunds_the_rest_of_a_line() -> None:
    """Three lamps cost 34, 33 and 33. One is returned, one is cancelled, and the last one is
    returned. In total 100 is refunded, the amount published as cancelled stays, and the order
    becomes refunded.
    """
    split = (
        Allocation(warehouse_id="london", reservation_id=uuid4(), quantity=2),
        Allocation(warehouse_id="paris", reservation_id=uuid4(), quantity=1),
    )
    command = place(
        checkout(CheckoutLine(sku="LAMP", quantity=3, unit_price=33, discount=0, tax=1), shipping=0)
    )
    order = decide(None, changed(command, allocations={1: split}), NOW).record
    order = after(order, pay(order), report(order, "london"), ship(order, "london", NOW))
    order, order_return = arrived(order, {1: 1})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    order = after(order, refund(order, 34, return_id=order_return.id, amount=34))
    order = after(order, cancel_items(order, {1: 1}))
    assert (order.total, order.cancelled_amount) == (67, 33)
    order = after(
        order, fulfillment_status(order, "paris", FulfillmentState.CANCELLED, 2), refund(order, 67)
    )
    order, order_return = arrived(order, {1: 1})
    order = after(order, inspect(order_return, {1: (1, 0, 0)}))
    assert ([order_return.refund for order_return in order.returns], order.cancelled_amount) == (
        [34, 33],
        33,
    )
    assert order.status is Status.DELIVERED
    order = after(order, refund(order, 100, return_id=order_return.id, amount=33))
    assert order.status is Status.REFUNDED


def test_delivered_parcel_of_a_cancelled_order_is_its_recall() -> None:
    """Units that are delivered in spite of the recall belong to the recall, and not to a customer's
    return.
    """
    order = placed(None, "london")
    order = after(
        order,
        pay(order),
        fulfillment_status(order, "london", FulfillmentState.SHIPPED, 2, units={1: 3, 2: 2}),
        ship(order, "london"),
    )
    order = after(order, cancel(order, reason="FRAUD"), ship(order, "london", NOW))
    assert [order_return.kind for order_return in order.returns] == [ReturnKind.RECALL]
    with pytest.raises(Refused) as refused:
        after(order, ask(order, {1: 1}))
    assert refused.value.reason == "ORDER_NOT_RETURNABLE"
    assert "recalls" in refused.value.message
