"""The simulated world works by events: each step of an order follows its event, without a poll."""

import asyncio

import pytest
from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1.shipping_events_pb2 import ShipmentCreated, ShipmentStatusChanged
from ordermesh.shipping.v1.shipping_pb2 import SHIPMENT_STATUS_RETURNED_TO_SENDER, Shipment

from chassis.broker.stream import Broker
from chassis.values.event_subjects import stream_of, subject_of
from simulator import requests, world
from simulator.world import World
from tests.support import Eventually
from tests.unit.simulator.samples import INVOICE, ORDER_ID, order, shipment
from tests.unit.simulator.shop import Shop


@pytest.fixture(autouse=True)
def _never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world consumes events, and does not poll the services meanwhile."""
    monkeypatch.setattr(world, "LOOK_S", 1_000.0)


async def publish(broker: Broker, event: Message) -> None:
    """Publishes an event as its service does."""
    subject = subject_of(type(event))
    await broker.publish(
        subject,
        event.SerializeToString(),
        {"ce-type": event.DESCRIPTOR.full_name},
        stream=stream_of(subject),
    )


def planned(shop: Shop, order_id: str) -> FulfillmentStatusChanged:
    """Returns the event of an order's planned fulfilment."""
    return FulfillmentStatusChanged(
        fulfillment=shop.works[order_id], new_status=fulfillment_pb2.FULFILLMENT_STATUS_PLANNING
    )


async def test_each_step_follows_its_event(broker: Broker, eventually: Eventually) -> None:
    """A planned fulfilment is picked and packed, a shipment is delivered, and the wait for a
    delivered order ends.

    Orders of another simulator are left alone, and a repeat of any event has no effect.
    """
    shop, other = Shop(), Shop()
    world = World(shop)
    working = asyncio.create_task(world.run(broker))
    try:
        order = (await shop.ask("CreateOrder", requests.checkout(INVOICE))).order
        followed = world.follow(order)
        await shop.ask("CreatePayment", requests.payment(order, INVOICE.key()))
        foreign = (await other.ask("CreateOrder", requests.checkout(INVOICE, "other"))).order
        await other.ask("CreatePayment", requests.payment(foreign, INVOICE.key("other")))
        plan = planned(shop, order.order_id)

        async def is_packed() -> bool:
            await publish(broker, planned(other, foreign.order_id))
            # again and again: the first ones may come before the world has subscribed
            await publish(broker, plan)
            return order.order_id in shop.parcels

        await eventually(is_packed)
        assert shop.calls["ScanItem"] == shop.calls["PackFulfillment"] == 1
        await publish(broker, ShipmentCreated(shipment=shop.parcels[order.order_id]))
        delivered = shop.placed[order.order_id]
        # a call counts when it begins
        await eventually(lambda: delivered.status == order_pb2.ORDER_STATUS_DELIVERED)
        assert shop.calls["RecordTrackingEvent"] == 3
        assert not followed.ended.is_set()
        await publish(
            broker,
            OrderStatusChanged(
                order_id=order.order_id,
                new_status=delivered.status,
                order_version=delivered.version,
            ),
        )
        await eventually(followed.ended.is_set)
        assert followed.status == order_pb2.ORDER_STATUS_DELIVERED
        assert foreign.order_id not in shop.works
        assert (
            shop.calls["GetOrder"]
            == shop.calls["BatchGetOrders"]
            == shop.calls["ListFulfillments"]
            == 0
        )
    finally:
        working.cancel()
        await asyncio.wait([working])


async def test_event_of_a_recall_returns_the_parcel(broker: Broker, eventually: Eventually) -> None:
    """A carrier that has stopped reporting returns a parcel after the event of its recall; events
    of other changes cause no report.
    """
    shop = Shop()
    world = World(shop, all_orders=True)
    working = asyncio.create_task(world.run(broker))
    try:
        parcel = shipment("in_transit")
        parcel.tracking_number = ORDER_ID
        shop.parcels[ORDER_ID] = parcel
        shop.placed[ORDER_ID] = order("cancelled")
        recalled = Shipment()
        recalled.CopyFrom(parcel)
        recalled.recall_time.CopyFrom(parcel.update_time)

        async def is_back() -> bool:
            await publish(
                broker,
                ShipmentStatusChanged(
                    shipment=parcel, old_status=parcel.status, new_status=parcel.status
                ),
            )
            await publish(
                broker,
                ShipmentStatusChanged(
                    shipment=recalled, old_status=parcel.status, new_status=parcel.status
                ),
            )
            return shop.calls["RecordTrackingEvent"] > 0

        await eventually(is_back)
        await eventually(lambda: parcel.status == SHIPMENT_STATUS_RETURNED_TO_SENDER)
        assert shop.calls["ListShipments"] == 0
    finally:
        working.cancel()
        await asyncio.wait([working])
