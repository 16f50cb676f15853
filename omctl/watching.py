"""Reads an order's transitions, past and new."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from ordermesh.order.v1 import order_pb2, order_service_pb2

from chassis.rpc.client import pages
from chassis.rpc.watch_client import watch

if TYPE_CHECKING:  # it is a type alone
    from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceAsyncStub

PAGE = 1_000


async def timeline(
    orders: "OrderServiceAsyncStub", order_id: str, idle_timeout_s: float
) -> AsyncGenerator[order_pb2.OrderTransition, None]:
    """Yields the order's transitions, each once and in order: the past ones, then each new one.

    Ends when WatchOrder does. Raises a Failure: a refusal, or Deferred when the service has not
    answered for `idle_timeout_s` seconds.
    """
    last, request = 0, order_service_pb2.WatchOrderRequest(order_id=order_id)
    async with aclosing(
        watch(orders.WatchOrder, request, idle_timeout_s=idle_timeout_s)
    ) as responses:
        async for response in responses:
            if response.HasField("snapshot"):
                new = [transition async for transition in transitions(orders, order_id)]
            else:
                new = [response.transition] if response.HasField("transition") else []
            for transition in new:
                if transition.order_version > last:
                    last = transition.order_version
                    yield transition


async def transitions(
    orders: "OrderServiceAsyncStub", order_id: str, timeout_s: float | None = None
) -> AsyncGenerator[order_pb2.OrderTransition, None]:
    """Yields the order's transitions so far, oldest first."""
    request = order_service_pb2.ListOrderTransitionsRequest(order_id=order_id)
    async for page in pages(
        orders.ListOrderTransitions, request, "transitions", size=PAGE, timeout_s=timeout_s
    ):
        for transition in page:
            yield transition
