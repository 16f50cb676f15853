"""Calls and queries for the tests of recalls."""

from typing import Any

from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from shipping_svc.app import Operations
from tests.integration.shipping.requests import Shipping, cancel, create, report, rows
from tests.support import Eventually

S = shipping_pb2.ShipmentStatus.Name


async def created(shipping: Shipping, **more: Any) -> shipping_pb2.Shipment:
    return (await ask(shipping.CreateShipment, create(**more))).shipment


async def cancelled(
    shipping: Shipping, shipment: shipping_pb2.Shipment, **more: Any
) -> shipping_pb2.Shipment:
    return (await ask(shipping.CancelShipment, cancel(shipment.shipment_id, **more))).shipment


async def reported(
    shipping: Shipping, shipment: shipping_pb2.Shipment, status: str, minute: int = 1
) -> shipping_pb2.Shipment:
    return (
        await ask(shipping.RecordTrackingEvent, report(shipment.tracking_number, status, minute))
    ).shipment


async def now(shipping: Shipping, shipment: shipping_pb2.Shipment) -> shipping_pb2.Shipment:
    return (
        await ask(shipping.GetShipment, api.GetShipmentRequest(shipment_id=shipment.shipment_id))
    ).shipment


async def open_recalls(engine: AsyncEngine) -> int:
    [(count,)] = await rows(engine, "select count(*) from recall_tries")
    return int(count)


async def recalls_answered(
    operations: Operations, engine: AsyncEngine, eventually: Eventually
) -> None:
    """Runs the sweeper until the carrier has answered every recall."""

    async def is_answered() -> bool:
        await operations.recalls.retry_open_recalls()
        return not await open_recalls(engine)

    await eventually(is_answered)
