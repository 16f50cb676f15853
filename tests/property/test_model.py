"""The model: order, warehouse, payment, fulfilment and shipping together, under any sequence of
people's actions and of faults. Messages are lost, repeated and shuffled, answers are lost, and
processes crash between any two steps.

After each step no unit is oversold, no balance is negative, and refunds never exceed the captured
money. From each state the system comes to rest without an operator: every order is at an end, and
the audit finds every unit and penny.
"""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import settings

from fulfillment_svc.lifecycle import Status as WorkStatus
from omctl.audit.audit import differences
from order_svc.lifecycle import Status
from tests.model.reading import posted_shipments, read_facts
from tests.model.shop import Shop
from warehouse_svc.lifecycle import MovementKind

TestShop = Shop.TestCase


TestShop.settings = settings(max_examples=60, stateful_step_count=40)


def test_units_cancelled_after_expiry_return_to_the_shelf() -> None:
    """The payment is confirmed before the warehouse consumes the cancellation, and the warehouse
    commits all expired units. The order keeps its remaining units of them, and the rest is on the
    shelf again. (A random run found this case.)
    """
    shop = Shop()
    shop.open(lamps=1, rounds=0)
    shop.place(bulbs=0, lamps=3)
    shop.time_passes(minutes=40)
    shop.worker(worker="expire reservations")
    shop.cancel_items(index=1, units=1)
    shop.pay(index=1, token="tok_ok")
    shop.teardown()


def _go_on_without(shop: Shop, *held_up: str) -> None:
    """Everything is delivered and worked on but messages of these kinds, until nothing else
    happens.
    """
    world = shop.world
    while True:
        before = world.state()
        for waiting in [
            each for each in world.network.waiting if each.kind.DESCRIPTOR.name not in held_up
        ]:
            world.run(world.network.deliver(waiting))
        for id in list(world.fulfillments.by_id):
            world.step(id)
        if world.state() == before:
            return


def _shop_with_label() -> Shop:
    """An order of two lamps and a bulb has a label, and only shipping has stored it."""
    shop = Shop()
    shop.open(lamps=2, rounds=0)
    _go_on_without(shop, "ShipmentCreated")
    [work] = shop.world.fulfillments.by_id.values()
    assert (work.status, work.shipment_id) == (WorkStatus.READY, None)
    return shop


def test_report_before_void_ships_all_units_of_label() -> None:
    """A cut overtakes shipment.created, and the parcel is delivered before its label is void:
    all its units have shipped, the cut one is recalled without a refund, and no unit is on a
    shelf that is with the customer.
    """
    shop = _shop_with_label()
    shop.cancel_items(index=0, units=1)
    _go_on_without(shop, "ShipmentCreated", "FulfillmentLinesChanged")
    shop.report(index=0, status="DELIVERED")
    _go_on_without(shop)
    [order] = shop.world.orders.orders.values()
    [work] = shop.world.fulfillments.by_id.values()
    assert (order.status, work.status) == (Status.DELIVERED, WorkStatus.COMPLETED)
    assert sum(posted_shipments(shop.world).values()) == 3
    [recall] = order.returns
    assert [(line.number, line.announced, line.refund) for line in recall.lines] == [(1, 1, 0)]
    shop.teardown()


def test_confirmed_void_unpacks_and_ships_what_stays() -> None:
    """A cut overtakes shipment.created, and the carrier confirms the void: the rest is packed
    anew and goes by another label.
    """
    shop = _shop_with_label()
    shop.cancel_items(index=0, units=1)
    _go_on_without(shop, "ShipmentCreated")
    _go_on_without(shop)
    first, second = shop.world.parcels.shipments.values()
    assert (first.status, second.status) == ("voided", "created")
    assert sum(posted_shipments(shop.world).values()) == 2
    [order] = shop.world.orders.orders.values()
    assert ([part.shipment_id for part in order.fulfillments], order.returns) == ([second.id], ())
    shop.teardown()


def test_report_after_void_takes_units_off_shelf() -> None:
    """The carrier reports a parcel after it confirmed its label as void. The parcel's units have
    left the shelf, once, and the rest of the order ships with another label.
    """
    shop = _shop_with_label()
    shop.cancel_items(index=0, units=1)
    _go_on_without(shop, "ShipmentCreated")
    _go_on_without(shop)
    shop.report(index=0, status="IN_TRANSIT")
    shop.report(index=0, status="DELIVERED")
    _go_on_without(shop)
    assert shop.world.parcels.shipments[shop._shipment(0)].contradict_time
    off = Counter(
        {
            kind: sum(row.quantity for row in shop.world.stock.ledger if row.kind is kind)
            for kind in MovementKind
        }
    )
    assert (off[MovementKind.SHIP_SHELF], off[MovementKind.SHIP]) == (3, 2)
    shop.teardown()


def test_report_after_void_names_shortage_of_shelf() -> None:
    """The shelf has fewer units than left: the event fails with the missing units, and its replay
    posts it after they are received.
    """
    shop = _shop_with_label()
    shop.place(lamps=2, bulbs=1)
    shop.cancel_items(index=0, units=1)
    _go_on_without(shop, "ShipmentCreated")
    _go_on_without(shop)
    shop.report(index=0, status="DELIVERED")
    _go_on_without(shop)
    [(_, failure)] = shop.world.network.failed
    assert failure.reason == "SHELF_SHORTAGE"
    assert [(short.subject, short.description) for short in failure.violations] == [
        ("bulb", "1 shipped, 0 sellable")
    ]
    [found] = [
        each
        for each in differences(read_facts(shop.world), timedelta(minutes=1))
        if each.check == "event.failed"
    ]
    assert "bulb: 1 shipped, 0 sellable" in found.text
    assert found.repair.startswith("omctl events replay")
    shop.teardown()


@pytest.mark.parametrize("reported", ["never", "before", "after"])
@pytest.mark.parametrize("how", ["order", "work"])
def test_withdrawn_work_ends_once_nothing_leaves(how: str, reported: str) -> None:
    """The order, or the work alone, is cancelled while a label is bought: the units come back
    when the carrier confirms the void, ship where it reports the parcels before, and leave from
    the shelf where it reports them after.
    """
    shop = _shop_with_label()
    if how == "order":
        shop.cancel(index=0, really=True)
    else:
        shop.give_work_up(index=0, really=True)
    _go_on_without(
        shop,
        "ShipmentCreated",
        "FulfillmentLinesChanged",
        "OrderStatusChanged" if reported == "before" else "",
    )
    if reported == "before":
        shop.report(index=0, status="DELIVERED")
    _go_on_without(shop)
    if reported == "after":
        shop.report(index=0, status="DELIVERED")
    _go_on_without(shop)
    [work] = shop.world.fulfillments.by_id.values()
    assert work.status is (WorkStatus.COMPLETED if reported == "before" else WorkStatus.CANCELLED)
    kind = {"never": None, "before": MovementKind.SHIP, "after": MovementKind.SHIP_SHELF}[reported]
    assert {row.kind for row in shop.world.stock.ledger if row.outside > 0} == (
        {kind} if kind else set()
    )
    shop.teardown()
