"""The peers of a shipping service that runs as a whole: a broker, an order service, and events."""

from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
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

from chassis.broker.stream import Broker
from chassis.rpc.client import ask
from chassis.values.errors import NotFound
from chassis.values.event_subjects import stream_of, subject_of
from tests.integration.shipping.requests import Shipping
from tests.sample.contract_events import POUND, order_line
from tests.servers import quick_server
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
        self.broker, self.order_address = broker, order_address
        self.known = FakeOrders()  # type: ignore[abstract]  # the other methods are not called
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

    async def published_events(self) -> list[Any]:
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
