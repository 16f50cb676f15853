"""Calls the five services as clients do, and retries calls that may succeed later."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_service_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceStub
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1 import shipping_service_pb2
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import inventory_service_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub

from chassis.rpc.client import Channel, ask, connect
from chassis.values.errors import Deferred, Failure
from omctl.names import method_name
from simulator.config import Settings

Record = TypeVar("Record", bound=Message)

TIMEOUT_S = 10.0
AGAIN_S = 0.5
PROBE_S = 2.0


class Unreachable(Exception):
    """Services do not answer; the text names them and the remedy."""


class Services:
    """Stubs of the services. Counts the failures that they answer with, by method and reason:
    `troubles["CreateOrder OVERLOADED"]`.
    """

    def __init__(
        self,
        order: Channel,
        warehouse: Channel,
        fulfillment: Channel,
        shipping: Channel,
        payment: Channel,
    ) -> None:
        self.orders = OrderServiceStub(order)
        self.returns = ReturnServiceStub(order)
        self.inventory = InventoryServiceStub(warehouse)
        self.fulfillments = FulfillmentServiceStub(fulfillment)
        self.shipping = ShippingServiceStub(shipping)
        self.payments = PaymentServiceStub(payment)
        self.troubles: Counter[str] = Counter()

    async def ask(
        self,
        method: Any,
        request: Message,
        *,
        wait_s: float = 0.0,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """Returns the method's answer. Retries a Deferred call unchanged for `wait_s` seconds.
        Raises a Failure.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return await ask(method, request, timeout_s=timeout_s)
            except Failure as failure:
                self.troubles[f"{method_name(request)} {reason(failure)}"] += 1
                if (
                    not isinstance(failure, Deferred)
                    or time.monotonic() + failure.retry_after_s >= deadline
                ):
                    raise
                await asyncio.sleep(max(failure.retry_after_s, AGAIN_S))

    async def take_steps(
        self,
        stub: Any,
        record: Record,
        next_step: Callable[[Record], Message | None],
        field: str,
        *,
        wait_s: float = 0.0,
    ) -> Record:
        """Takes every step of the staff that the record waits for; returns the record, which the
        answers have as `field`. Raises a Failure.
        """
        while (step := next_step(record)) is not None:
            method = getattr(stub, method_name(step))
            record = getattr(await self.ask(method, step, wait_s=wait_s), field)
        return record


def reason(failure: Failure) -> str:
    """Returns the reason that the service gave."""
    return failure.metadata.get("peer_reason", failure.reason)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Services]:
    """Opens channels to the services. Raises Unreachable if one does not answer."""
    async with AsyncExitStack() as channels:
        services = Services(
            **{
                name: await channels.enter_async_context(connect(address))
                for name, address in settings.addresses.items()
            }
        )
        await _probe(services, settings.addresses)
        yield services


async def _probe(services: Services, addresses: dict[str, str]) -> None:
    """Makes one small call of each service. Raises Unreachable if one does not answer."""
    probes: dict[str, tuple[Any, Message]] = {
        "order": (services.orders.ListOrders, order_service_pb2.ListOrdersRequest(page_size=1)),
        "warehouse": (
            services.inventory.ListStockLevels,
            inventory_service_pb2.ListStockLevelsRequest(page_size=1),
        ),
        "fulfillment": (
            services.fulfillments.ListFulfillments,
            fulfillment_service_pb2.ListFulfillmentsRequest(page_size=1),
        ),
        "shipping": (
            services.shipping.ListShipments,
            shipping_service_pb2.ListShipmentsRequest(page_size=1),
        ),
        "payment": (
            services.payments.ListPayments,
            payment_service_pb2.ListPaymentsRequest(page_size=1),
        ),
    }
    answers = await asyncio.gather(
        *(_answers(method, request) for method, request in probes.values())
    )
    silent = [name for name, answered in zip(probes, answers, strict=True) if not answered]
    if silent:
        lines = [f"  {name:<12} at {addresses[name]} ({name.upper()}_ADDRESS)" for name in silent]
        places = "\n".join(lines)
        raise Unreachable(
            f"No answer from\n{places}\nStart the services with `make run`, or set their addresses"
            " in the environment."
        )


async def _answers(method: Any, request: Message) -> bool:
    try:
        await ask(method, request, timeout_s=PROBE_S)
    except Deferred:
        return False
    return True
