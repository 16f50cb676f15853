"""The repeats of callers, over a real channel to a server with the failures of the test."""

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceServicer,
    add_OrderServiceServicer_to_server,
)

from chassis.values.errors import Deferred, Failure, NotFound
from devstack.ports import free_ports
from simulator.config import Settings
from simulator.services import Services, Unreachable, connected
from tests.support import channel_of

REQUEST = order_service_pb2.GetOrderRequest(order_id="01890000-0000-7000-8000-000000000001")


class Orders(OrderServiceServicer):
    """Raises each of its failures in turn, then answers."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    async def GetOrder(self, request: Any, context: Any) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return order_service_pb2.GetOrderResponse()


@pytest.fixture
async def orders() -> AsyncIterator[tuple[Any, Services]]:
    """The servicer, and the services that call it."""
    kind: Any = Orders
    servicer = kind()
    register: Any = partial(add_OrderServiceServicer_to_server, servicer)
    async with channel_of(register) as channel:
        yield (
            servicer,
            Services(
                order=channel,
                warehouse=channel,
                fulfillment=channel,
                shipping=channel,
                payment=channel,
            ),
        )


async def test_deferred_call_is_repeated_until_answered(orders: tuple[Any, Services]) -> None:
    """A deferred call is repeated until it is answered. Each failure is counted under the service's
    reason.
    """
    servicer, services = orders
    # more often than gRPC's own retries
    servicer.failures = [Deferred("DRAINING", retry_after_s=0.01) for _ in range(6)]
    await services.ask(services.orders.GetOrder, REQUEST, wait_s=20)
    assert services.troubles == Counter({"GetOrder DRAINING": 1})


async def test_repeats_end_at_the_timeout(orders: tuple[Any, Services]) -> None:
    """After the timeout the failure is raised; a refusal is raised at once, before any timeout."""
    servicer, services = orders
    servicer.failures = [Deferred("DRAINING", retry_after_s=5)] * 4
    with pytest.raises(Deferred):
        await services.ask(services.orders.GetOrder, REQUEST, wait_s=4)
    servicer.failures = [NotFound("ORDER_NOT_FOUND")]
    with pytest.raises(NotFound):
        await services.ask(services.orders.GetOrder, REQUEST, wait_s=60)
    assert services.troubles == Counter({"GetOrder DRAINING": 1, "GetOrder ORDER_NOT_FOUND": 1})


async def test_service_without_an_answer_is_named() -> None:
    """Before the start, every service without an answer is named, with its address and the variable
    that changes it.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(5)]
    names = (
        "order_address",
        "warehouse_address",
        "fulfillment_address",
        "shipping_address",
        "payment_address",
    )
    # the test gives only these fields
    settings = Settings(**dict(zip(names, addresses, strict=True)))  # type: ignore[arg-type]
    with pytest.raises(Unreachable) as caught:
        async with connected(settings):
            pass
    for name, address in zip(names, addresses, strict=True):
        assert f"{address} ({name.upper()})" in str(caught.value)
    assert "make run" in str(caught.value)
