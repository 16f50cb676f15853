"""The service as a process that is killed, on real PostgreSQL and NATS."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1 import shipping_service_pb2 as api
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub

from chassis.rpc import client
from chassis.rpc.client import ask
from chassis.values.errors import Deferred
from devstack.ports import free_ports
from tests.integration.shipping.requests import Shipping, create
from tests.integration.shipping.world import (
    FAST,
    SHORT_RETRY_S,
    World,
    nothing_waits,
    order_event,
    ready,
    shipment_of,
)
from tests.support import Eventually


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
    """The process is killed after it stored the shipment, or after the sale: the next one
    ships under the same key, and publishes once.
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
        assert event.shipment == answer.shipment


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
    assert [event.shipment.version for event in events] == [2, 3, 4]
    assert events[-1].shipment == shipment  # the same


async def bought(shipping: Shipping, request: api.CreateShipmentRequest) -> bool:
    with suppress(Deferred):  # the process has just started
        return bool((await ask(shipping.CreateShipment, request)).shipment.tracking_number)
    return False
