"""A frozen peer with open connections: its callers time out, and reach it again afterwards."""

import asyncio
import urllib.request
import uuid
from contextlib import suppress
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.type.money_pb2 import Money
from grpc_status import rpc_status
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from prometheus_client.parser import text_string_to_metric_families

from devstack.stack import Stack
from tests.services import freeze, resume
from tests.support import Eventually
from tests.system.walk import RECIPIENT, open_shop

CALLS = 200
DEADLINE_S = 10.0
CLOSED, HALF_OPEN, OPEN = 0.0, 1.0, 2.0


def checkout(sku: str) -> order_service_pb2.CreateOrderRequest:
    """Returns a request for an order of one unit."""
    price = Money(currency_code="GBP", units=3)
    return order_service_pb2.CreateOrderRequest(
        request_id=str(uuid.uuid4()),
        items=[order_service_pb2.NewOrderItem(sku=sku, quantity=1, unit_price=price)],
        recipient=RECIPIENT,
    )


async def breaker_state(stack: Stack) -> float:
    """Returns the order service's gauge of its breaker for the warehouse."""
    url = f"http://{stack.metrics_addresses['order']}/metrics"
    page = (
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
    ).decode()
    samples = (s for family in text_string_to_metric_families(page) for s in family.samples)
    [state] = [
        s.value
        for s in samples
        if s.name == "grpc_client_breaker_state" and s.labels == {"breaker": "warehouse"}
    ]
    return state


async def test_frozen_warehouse_opens_the_breaker(stack: Stack, eventually: Eventually) -> None:
    """200 callers cancel orders that wait for a frozen warehouse, and the breaker opens. The next
    caller is refused without a call, and the gauge shows half-open without one. The warehouse is
    then called again.
    """
    sku = f"lamp-{uuid.uuid4().hex[:8]}"
    async with (
        open_shop(stack) as shop,
        grpc.aio.insecure_channel(stack.addresses["order"]) as channel,
    ):
        shop.skus[0] = sku
        await shop.stock()
        orders: Any = OrderServiceStub(channel)
        await eventually(
            lambda: _is_placed(orders, sku),
            timeout_s=60,
            what="the warehouse is called, and answers",
        )
        assert await breaker_state(stack) == CLOSED
        freeze(stack.services["warehouse"])
        try:
            calls = [orders.CreateOrder(checkout(sku), timeout=DEADLINE_S) for _ in range(CALLS)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, grpc.aio.AioRpcError) for each in ended)
            assert await breaker_state(stack) == OPEN
            refused = await _refusal(orders, sku)
            assert (refused.reason, refused.metadata["peer"]) == (
                "DEPENDENCY_UNAVAILABLE",
                "ordermesh.warehouse.v1.ReservationService",
            )
            # the breaker's own message: no call was made
            assert refused.metadata["peer_reason"] == "DEPENDENCY_UNAVAILABLE"
            await eventually(
                lambda: _is(stack, HALF_OPEN), timeout_s=60, what="the gauge is half-open"
            )
        finally:
            resume(stack.services["warehouse"])
        await eventually(
            lambda: _is_placed(orders, sku), timeout_s=60, what="the warehouse is found again"
        )
        assert await breaker_state(stack) == CLOSED


async def _is(stack: Stack, state: float) -> bool:
    return await breaker_state(stack) == state


async def _is_placed(orders: Any, sku: str) -> bool:
    with suppress(grpc.aio.AioRpcError):
        await orders.CreateOrder(checkout(sku), timeout=DEADLINE_S)
        return True
    return False


async def _refusal(orders: Any, sku: str) -> ErrorInfo:
    try:
        await orders.CreateOrder(checkout(sku), timeout=DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        call: Any = error
        info = ErrorInfo()
        for detail in rpc_status.from_call(call).details:
            if detail.Unpack(info):
                return info
    raise AssertionError("the call was not refused with a reason")
