"""Requests, events and database reads for the tests of this folder."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.dispatch import Handler
from chassis.rpc.client import ask
from chassis.values.envelope import Envelope
from shipping_svc import consumers, tables
from shipping_svc.app import Operations
from shipping_svc.model.commands import CloseFulfillment, CloseOrder
from shipping_svc.model.records import ShipmentRequest
from shipping_svc.rpc import ShippingService
from tests.unit.shipping.samples import shipment_request

if TYPE_CHECKING:
    # only the stubs have these names
    from ordermesh.shipping.v1.shipping_service_pb2_grpc import (
        ShippingServiceAsyncStub as AsyncStub,
    )

Shipping: TypeAlias = "AsyncStub"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PARCEL = shipping_pb2.Parcel(weight_grams=1200, length_mm=300, width_mm=200, height_mm=100)


def create(**more: Any) -> api.CreateShipmentRequest:
    """Returns a request for a shipment of a new fulfilment and a new order, or of the given
    ones.
    """
    fields: dict[str, Any] = {
        "request_id": str(uuid4()),
        "fulfillment_id": str(uuid4()),
        "order_id": str(uuid4()),
        "attempt": 1,
        "warehouse_id": "W1",
        "parcels": [PARCEL],
    }
    return api.CreateShipmentRequest(**(fields | more))


def report(
    tracking_number: str, status: str, minute: int = 0, **more: Any
) -> api.RecordTrackingEventRequest:
    """Returns a report of `status`, this number of minutes after noon, under an id made of both
    unless given.
    """
    occur_time = Timestamp()
    occur_time.FromDatetime(NOON + timedelta(minutes=minute))
    fields: dict[str, Any] = {
        "request_id": str(uuid4()),
        "carrier": "sandbox",
        "tracking_number": tracking_number,
        "carrier_event_id": f"{status}@{minute}",
        "status": f"SHIPMENT_STATUS_{status.upper()}",
        "occur_time": occur_time,
        "location": "Dover hub",
    }
    return api.RecordTrackingEventRequest(**(fields | more))


def fulfillment_ready(
    request: api.CreateShipmentRequest, event: str = ""
) -> Envelope[ShipmentRequest]:
    """Returns the envelope of an event that the same fulfilment is ready."""
    event_id = event or str(uuid4())
    command = shipment_request(
        order_id=UUID(request.order_id),
        fulfillment_id=UUID(request.fulfillment_id),
        attempt=request.attempt,
    )
    return Envelope(
        key=f"shipping-FULFILLMENTS:{event_id}",
        request_hash=event_id.encode(),
        target=command.fulfillment_id,
        actor="fulfillment",
        cause=event_id,
        command=command,
    )


def cancel(shipment_id: str, **more: Any) -> api.CancelShipmentRequest:
    """Returns a request to recall the shipment."""
    fields: dict[str, Any] = {"request_id": str(uuid4()), "shipment_id": shipment_id}
    return api.CancelShipmentRequest(**(fields | more))


def order_closed(
    order_id: str, attempt: int = 1, version: int = 5, status: str = "cancelled"
) -> Envelope[CloseOrder]:
    """Returns an event that the order has this status."""
    event_id = str(uuid4())
    return Envelope(
        key=f"shipping-ORDERS:{event_id}",
        request_hash=b"",
        target=UUID(order_id),
        actor="order",
        cause=event_id,
        command=CloseOrder(attempt=attempt, status=status, version=version),
    )


def fulfillment_cancelled(fulfillment_id: str) -> Envelope[CloseFulfillment]:
    """Returns an event that the fulfilment is cancelled."""
    event_id = str(uuid4())
    return Envelope(
        key=f"shipping-FULFILLMENTS:{event_id}",
        request_hash=b"",
        target=UUID(fulfillment_id),
        actor="fulfillment",
        cause=event_id,
        command=CloseFulfillment(version=9),
    )


async def rows(engine: AsyncEngine, statement: Select[Any] | str) -> Sequence[Any]:
    async with engine.connect() as connection:
        return list(
            await connection.execute(text(statement) if isinstance(statement, str) else statement)
        )


async def published_events(engine: AsyncEngine) -> list[Any]:
    """Returns the events in the outbox, in their order."""
    kinds = {
        kind.full_name: kind
        for kind in shipping_events_pb2.DESCRIPTOR.message_types_by_name.values()
    }
    out = tables.outbox.c
    found = await rows(engine, select(out.type, out.payload).order_by(out.id))
    return [
        getattr(shipping_events_pb2, kinds[name].name).FromString(payload)
        for name, payload in found
    ]


async def published_types(engine: AsyncEngine) -> list[str]:
    return [event.DESCRIPTOR.name for event in await published_events(engine)]


def handlers_of(operations: Operations) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handlers of the shipping service over these operations."""
    return consumers.handlers(operations.creation, operations.recalls, operations.closing)


def service_of(operations: Operations) -> ShippingService:
    """The servicer over these operations."""
    return ShippingService(
        operations.creation, operations.recalls, operations.reports, operations.reading
    )


async def the_one(shipping: Shipping) -> shipping_pb2.Shipment:
    [shipment] = (await ask(shipping.ListShipments, api.ListShipmentsRequest())).shipments
    return shipment
