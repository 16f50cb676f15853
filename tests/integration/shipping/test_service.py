"""The whole service, on real PostgreSQL and NATS: its consumed events, answers and events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub

from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.errors import Deferred, Refused
from devstack.ports import free_ports
from shipping_svc.app import running
from shipping_svc.config import Config
from tests.integration.shipping.requests import Shipping, create, report
from tests.integration.shipping.world import (
    FAST,
    SHORT_RETRY_S,
    World,
    changed,
    nothing_waits,
    order_event,
    ready,
    shipment_of,
)
from tests.support import Eventually


@pytest.fixture
def label_retry_after_s() -> float:
    """The pause before an unanswered purchase or recall is tried again."""
    return FAST["label_retry_after_s"]


@pytest.fixture
async def shipping(
    world: World, shipping_url: str, nats_url: str, label_retry_after_s: float
) -> AsyncIterator[Shipping]:
    """A client of the running service."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    settings: dict[str, Any] = {
        "database_url": shipping_url,
        "nats_url": nats_url,
        "listen_address": address,
        **FAST,
    }
    settings["label_retry_after_s"] = label_retry_after_s
    config = Config(order_address=world.order_address, **settings)
    async with running(config), client.connect(address) as channel:
        yield ShippingServiceStub(channel)


async def test_a_fulfilment_is_shipped_and_delivered(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """The event of the ready fulfilment comes twice, then the carrier's reports up to the delivery:
    each event is once in the stream, in order.
    """
    request = create()
    await world.publish(changed(request, fulfillment_pb2.FULFILLMENT_STATUS_PACKED))
    await nothing_waits(world, eventually)
    assert await shipment_of(shipping, request.order_id) is None
    await world.publish(ready(request))

    async def created() -> shipping_pb2.Shipment | None:
        found = await shipment_of(shipping, request.order_id)
        return found if found and found.HasField("tracking_number") else None

    shipment = await eventually(created, timeout_s=30)
    assert list(shipment.parcels) == list(request.parcels)
    assert (await ask(shipping.CreateShipment, request)).shipment == shipment
    for minute, status in enumerate(("in_transit", "out_for_delivery", "delivered")):
        await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, status, minute))

    async def all_published() -> bool:
        return len(await world.published_events()) >= 5

    await eventually(all_published, timeout_s=30)
    events = await world.published_events()
    assert [event.DESCRIPTOR.name for event in events] == [
        "ShipmentCreated",
        *["ShipmentStatusChanged"] * 3,
        "DeliveryConfirmed",
    ]
    assert [event.shipment.version for event in events] == [2, 3, 4, 5, 5]


async def test_call_during_the_event_buys_one_label(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """10 fulfilments are each requested by an event that is delivered twice and by two callers: one
    shipment, event and answer each.
    """
    requests = [create() for _ in range(10)]
    events = [world.publish(ready(request)) for request in requests]
    calls = [ask(shipping.CreateShipment, request) for request in requests]
    others = [
        ask(shipping.CreateShipment, create(order_id=r.order_id, fulfillment_id=r.fulfillment_id))
        for r in requests
    ]
    _, first, second = await asyncio.gather(
        asyncio.gather(*events), asyncio.gather(*calls), asyncio.gather(*others)
    )
    assert [answer.shipment for answer in first] == [answer.shipment for answer in second]

    async def all_published() -> bool:
        return len(await world.published_events()) >= 10

    await eventually(all_published, timeout_s=30)
    await nothing_waits(world, eventually)
    published: list[Any] = await world.published_events()
    shipped = sorted(event.shipment.fulfillment_id for event in published)
    assert shipped == sorted(request.fulfillment_id for request in requests)


@pytest.mark.parametrize(
    "closing_status", [order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED]
)
async def test_closed_order_gets_no_shipment(
    shipping: Shipping,
    world: World,
    eventually: Eventually,
    closing_status: "order_pb2.OrderStatus.ValueType",
) -> None:
    """After cancelled or failed, late events of earlier statuses do not reopen the order: ready
    makes no shipment, and a call is ORDER_CLOSED.
    """
    request, other = create(), create()
    await world.publish(order_event(request.order_id, closing_status, 5))
    await world.publish(order_event(request.order_id, order_pb2.ORDER_STATUS_PROCESSING, 3))
    await world.publish(order_event(other.order_id, order_pb2.ORDER_STATUS_PROCESSING, 3))
    await nothing_waits(world, eventually)
    await world.publish(ready(request))
    await world.publish(ready(other))
    with pytest.raises(Refused) as refused:
        await ask(shipping.CreateShipment, request)
    assert refused.value.reason == "ORDER_CLOSED"
    await nothing_waits(world, eventually)
    assert await shipment_of(shipping, other.order_id)
    assert await shipment_of(shipping, request.order_id) is None


async def test_order_closes_while_goods_are_in_transit(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """An order closes, by an event that is delivered twice. The waiting shipment is void; the
    moving one is recalled, and comes back by the carrier's report.
    """
    order_id = str(uuid4())
    waiting, moving = [
        (await ask(shipping.CreateShipment, create(order_id=order_id))).shipment for _ in range(2)
    ]
    await ask(shipping.RecordTrackingEvent, report(moving.tracking_number, "in_transit", 1))
    await world.publish(order_event(order_id, order_pb2.ORDER_STATUS_CANCELLED, 5))

    async def recalled() -> bool:
        found = (
            await ask(shipping.ListShipments, api.ListShipmentsRequest(order_id=order_id))
        ).shipments
        return {
            each.shipment_id: each.status for each in found if each.HasField("recall_time")
        } == {
            waiting.shipment_id: shipping_pb2.SHIPMENT_STATUS_VOIDED,
            moving.shipment_id: shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT,
        }

    await eventually(recalled, timeout_s=30)
    back = (
        await ask(
            shipping.RecordTrackingEvent, report(moving.tracking_number, "returned_to_sender", 2)
        )
    ).shipment
    assert back.status == shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER


async def test_a_cancelled_fulfilments_label_is_void(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """After the cancellation of a ready fulfilment its shipment is void. If the cancellation comes
    before the ready event, there is none.
    """
    late, early = create(), create()
    ready_early, cancelled_early = (
        ready(early),
        changed(early, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED),
    )
    await ask(shipping.CreateShipment, late)
    cancelled_late = changed(late, fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED)
    for event in (cancelled_early, cancelled_late):
        event.fulfillment.version = 9
        await world.publish(event)
    await nothing_waits(world, eventually)
    await world.publish(ready_early)
    await world.publish(ready(late))
    await nothing_waits(world, eventually)
    assert await shipment_of(shipping, early.order_id) is None
    voided = await shipment_of(shipping, late.order_id)
    assert voided is not None
    assert (voided.status, voided.status_reason) == (
        shipping_pb2.SHIPMENT_STATUS_VOIDED,
        "FULFILLMENT_CANCELLED",
    )


@pytest.mark.parametrize("label_retry_after_s", [SHORT_RETRY_S])
async def test_shipments_wait_for_an_unreachable_order_service(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """No recipient can be read: the call fails, the event is deferred, and both are shipped soon
    after the order service is back.
    """
    called, consumed = create(), create()
    await world.close_orders()
    await world.publish(ready(consumed))
    with pytest.raises(Deferred) as deferred:
        await ask(shipping.CreateShipment, called)
    assert deferred.value.reason == "DEPENDENCY_UNAVAILABLE"
    await world.open_orders()

    async def created() -> bool:
        found = [await shipment_of(shipping, request.order_id) for request in (called, consumed)]
        return all(
            shipment and shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED
            for shipment in found
        )

    await eventually(created, timeout_s=30)


async def test_invalid_event_delays_no_other(
    shipping: Shipping, world: World, eventually: Eventually
) -> None:
    """An event without packages, or with an invalid id, is stored in failed_events, and the others
    of its set are shipped.
    """
    bad, good = create(), create()
    empty = ready(bad)
    del empty.fulfillment.packages[:]
    nameless = ready(bad)
    nameless.fulfillment.fulfillment_id = "7"
    for event in (empty, ready(good), nameless):
        await world.publish(event, times=1)
    await nothing_waits(world, eventually)
    assert await shipment_of(shipping, bad.order_id) is None
    assert await shipment_of(shipping, good.order_id)
