"""The whole service, on real PostgreSQL and NATS: its consumed events, its answers and its events.
And as a process that is killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from nats.js.errors import NotFoundError
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import FulfillmentStatusChanged
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1.order_events_pb2 import OrderStatusChanged
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceServicer,
    add_OrderServiceServicer_to_server,
)
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub

from chassis.broker import stream
from chassis.broker.stream import Broker
from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.errors import Deferred, NotFound, Refused
from chassis.values.event_subjects import stream_of, subject_of
from devstack.ports import free_ports
from shipping_svc.app import running
from shipping_svc.config import Config
from tests.integration.shipping.requests import Shipping, create, report
from tests.sample.contract_events import POUND, order_line
from tests.servers import quick_server
from tests.streams import ensure_streams
from tests.support import Eventually

Context = grpc.aio.ServicerContext[Any, Any]
FAST = {
    "label_retry_after_s": 5.0,
    "label_interval_s": 0.05,
    "watch_heartbeat_s": 0.2,
    "drain_delay_s": 0.0,
}
# only for tests of retries: elsewhere a slow machine would do everything twice
SHORT_RETRY_S = 0.2
KINDS = {
    kind: getattr(shipping_events_pb2, kind)
    for kind in shipping_events_pb2.DESCRIPTOR.message_types_by_name
}


class FakeOrders(OrderServiceServicer):
    """Has a recipient for every order but the `unknown`."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    async def GetOrderRecipient(
        self, request: order_service_pb2.GetOrderRecipientRequest, context: Context
    ) -> order_service_pb2.GetOrderRecipientResponse:
        if request.order_id in self.unknown:
            raise NotFound("ORDER_NOT_FOUND", order_id=request.order_id)
        recipient = order_pb2.Recipient(
            name="Ada", address_lines=["1 High Street"], locality="Dover", country_code="GB"
        )
        return order_service_pb2.GetOrderRecipientResponse(recipient=recipient)

    async def BatchGetOrders(
        self, request: order_service_pb2.BatchGetOrdersRequest, context: Context
    ) -> order_service_pb2.BatchGetOrdersResponse:
        assert request.allow_missing
        found = [
            order_pb2.Order(order_id=each) for each in request.order_ids if each not in self.unknown
        ]
        return order_service_pb2.BatchGetOrdersResponse(orders=found)


class World:
    """The peers of the service: the order service, which a test can make unreachable, and the
    broker with the events of all services.
    """

    def __init__(self, broker: Broker, order_address: str) -> None:
        # the other methods are not called
        self.broker, self.order_address, self.known = broker, order_address, FakeOrders()  # type: ignore[abstract]
        self._orders = AsyncExitStack()

    async def open_orders(self) -> None:
        register = partial(add_OrderServiceServicer_to_server, self.known)
        await self._orders.enter_async_context(quick_server([register], self.order_address))

    async def close_orders(self) -> None:
        await self._orders.aclose()

    async def publish(self, event: Message, *, times: int = 2) -> None:
        """Publishes an event so that the broker takes each repeat for a new message: the consumer
        alone can recognise it by its id.
        """
        event_id = uuid4()
        for _ in range(times):
            headers = {
                "Nats-Msg-Id": str(uuid4()),
                "ce-id": str(event_id),
                "ce-type": event.DESCRIPTOR.full_name,
                "ce-time": datetime.now(UTC).isoformat(),
            }
            subject = subject_of(type(event))
            await self.broker.publish(
                subject, event.SerializeToString(), headers, stream=stream_of(subject)
            )

    async def published_events(self) -> list[Message]:
        """Returns the events of the service's stream, in its order."""
        last = (await self.broker.streams.stream_info("SHIPMENTS")).state.last_seq
        messages = [
            await self.broker.streams.get_msg("SHIPMENTS", seq) for seq in range(1, last + 1)
        ]
        return [
            KINDS[(message.headers or {})["ce-type"].rpartition(".")[2]].FromString(
                message.data or b""
            )
            for message in messages
        ]


@pytest.fixture
async def world(nats_url: str) -> AsyncIterator[World]:
    broker = await stream.connect(nats_url, name="test")
    await ensure_streams(broker)
    [port] = free_ports(1)
    world = World(broker, f"127.0.0.1:{port}")
    await world.open_orders()
    yield world
    await world.close_orders()
    await broker.close()


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


def ready(request: api.CreateShipmentRequest) -> FulfillmentStatusChanged:
    """Returns the event that the request's fulfilment is ready."""
    return changed(request, fulfillment_pb2.FULFILLMENT_STATUS_READY)


def changed(
    request: api.CreateShipmentRequest, status: "fulfillment_pb2.FulfillmentStatus.ValueType"
) -> FulfillmentStatusChanged:
    packages = [
        fulfillment_pb2.Package(
            weight_grams=p.weight_grams,
            length_mm=p.length_mm,
            width_mm=p.width_mm,
            height_mm=p.height_mm,
            items=[fulfillment_pb2.PackedItem(line_number=1, quantity=1)],
        )
        for p in request.parcels
    ]
    fulfillment = fulfillment_pb2.Fulfillment(
        fulfillment_id=request.fulfillment_id,
        order_id=request.order_id,
        attempt=request.attempt,
        warehouse_id=request.warehouse_id,
        status=status,
        packages=packages,
        version=7,
    )
    return FulfillmentStatusChanged(fulfillment=fulfillment, new_status=status)


def order_event(
    order_id: str, status: "order_pb2.OrderStatus.ValueType", version: int
) -> OrderStatusChanged:
    return OrderStatusChanged(
        order_id=order_id,
        attempt=1,
        new_status=status,
        total_amount=POUND,
        order_version=version,
        items=[order_line()],
        stock_status=order_pb2.STOCK_STATUS_COMMITTED,
        payment_status=order_pb2.PAYMENT_STATUS_COMPLETED,
    )


async def shipment_of(shipping: Shipping, order_id: str) -> shipping_pb2.Shipment | None:
    found = (
        await ask(shipping.ListShipments, api.ListShipmentsRequest(order_id=order_id))
    ).shipments
    assert len(found) <= 1
    return found[0] if found else None


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
    # every event has a shipment
    assert [event.shipment.version for event in events] == [2, 3, 4, 5, 5]  # type: ignore[attr-defined]


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
    # every event has one
    published: list[Any] = await world.published_events()
    shipped = sorted(event.shipment.fulfillment_id for event in published)
    assert shipped == sorted(request.fulfillment_id for request in requests)


async def nothing_waits(world: World, eventually: Eventually) -> None:
    """Waits until the service has acknowledged every event."""

    async def quiet() -> bool:
        # the service has just started, and has no consumers yet
        with suppress(NotFoundError):
            return await all_acknowledged()
        return False

    async def all_acknowledged() -> bool:
        states = [
            await world.broker.streams.consumer_info(name.upper(), f"shipping-{name}")
            for name in ("orders", "fulfillments")
        ]
        return all(state.num_pending == 0 and state.num_ack_pending == 0 for state in states)

    await eventually(quiet, timeout_s=30)


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


# --- a process that is killed


@asynccontextmanager
async def process(
    world: World, database_url: str, nats_url: str, address: str, crash_at: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `python -m shipping_svc`, killed at a crash point if one is named; terminated at the end
    otherwise.
    """
    settings = {
        "DATABASE_URL": database_url,
        "NATS_URL": nats_url,
        "LISTEN_ADDRESS": address,
        "METRICS_ADDRESS": "127.0.0.1:0",
        "ORDER_ADDRESS": world.order_address,
        **{name.upper(): str(value) for name, value in FAST.items()},
        "LABEL_RETRY_AFTER_S": str(SHORT_RETRY_S),
        **({"CRASH_AT": crash_at} if crash_at else {}),
    }
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shipping_svc", env=os.environ | settings
    )
    try:
        yield service
    finally:
        if service.returncode is None:
            service.terminate()
        async with asyncio.timeout(20):
            await service.wait()


@pytest.mark.parametrize("point", ["shipping.label_requested", "shipping.label_bought"])
async def test_shipment_of_a_killed_process_is_finished(
    point: str, world: World, shipping_url: str, nats_url: str, eventually: Eventually
) -> None:
    """The process is killed after the intent, or after the sale: the next one ships under the same
    key, and publishes once.
    """
    [port] = free_ports(1)
    address, request = f"127.0.0.1:{port}", create()
    async with process(world, shipping_url, nats_url, address, point) as first, asyncio.timeout(30):
        await world.publish(ready(request))
        assert await first.wait() == -signal.SIGKILL
    async with process(world, shipping_url, nats_url, address), client.connect(address) as channel:
        shipping: Shipping = ShippingServiceStub(channel)

        async def is_published() -> bool:
            return bool(await world.published_events())

        await eventually(is_published, timeout_s=30)
        answer = await ask(shipping.CreateShipment, request)
        assert answer.shipment.status == shipping_pb2.SHIPMENT_STATUS_CREATED
        [event] = await world.published_events()
        # every event has a shipment
        assert event.shipment == answer.shipment  # type: ignore[attr-defined]


@pytest.mark.parametrize("point", ["shipping.order_closed", "shipping.recall_answered"])
async def test_recall_of_a_killed_process_is_finished(
    point: str, world: World, shipping_url: str, nats_url: str, eventually: Eventually
) -> None:
    """The process is killed after the closed order is stored, or after the carrier's answer: the
    next one ends the shipment, and publishes each step once.
    """
    [port] = free_ports(1)
    address, request = f"127.0.0.1:{port}", create()
    async with process(world, shipping_url, nats_url, address, point) as first, asyncio.timeout(30):
        async with client.connect(address) as channel:
            await eventually(partial(bought, ShippingServiceStub(channel), request), timeout_s=30)
        await world.publish(order_event(request.order_id, order_pb2.ORDER_STATUS_CANCELLED, 5))
        assert await first.wait() == -signal.SIGKILL
    async with process(world, shipping_url, nats_url, address), client.connect(address) as channel:
        shipping: Shipping = ShippingServiceStub(channel)

        async def voided() -> shipping_pb2.Shipment | None:
            with suppress(Deferred):  # the process has just started
                found = await shipment_of(shipping, request.order_id)
                return (
                    found if found and found.status == shipping_pb2.SHIPMENT_STATUS_VOIDED else None
                )
            return None

        shipment = await eventually(voided, timeout_s=30)

        async def all_published() -> bool:
            return len(await world.published_events()) >= 3

        await eventually(all_published, timeout_s=30)
        await nothing_waits(world, eventually)
        events = await world.published_events()
    assert [event.DESCRIPTOR.name for event in events] == [
        "ShipmentCreated",
        "ShipmentStatusChanged",
        "ShipmentStatusChanged",
    ]
    # every event has a shipment
    assert [event.shipment.version for event in events] == [2, 3, 4]  # type: ignore[attr-defined]
    assert events[-1].shipment == shipment  # type: ignore[attr-defined]  # the same


async def bought(shipping: Shipping, request: api.CreateShipmentRequest) -> bool:
    with suppress(Deferred):  # the process has just started
        return bool((await ask(shipping.CreateShipment, request)).shipment.tracking_number)
    return False
