"""Simulates shoppers: each creates an order, pays it, and waits some time for its delivery."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ordermesh.order.v1 import order_pb2, order_service_pb2

from chassis.values.errors import Exists, Failure
from omctl.names import name_of
from simulator import requests
from simulator.diagnosis import why_stuck
from simulator.returns import REFUSED, STUCK
from simulator.services import Services, reason
from simulator.world import ENDS, Followed, World

# Reasons of CreatePayment that mean that the order is paid.
SETTLED: Final = frozenset({"ORDER_NOT_PAYABLE"})
# Statuses of orders that were confirmed.
CONFIRMED: Final = frozenset(order_pb2.OrderStatus.values()) - {
    order_pb2.ORDER_STATUS_UNSPECIFIED,
    order_pb2.ORDER_STATUS_PENDING,
    order_pb2.ORDER_STATUS_CANCELLED,
    order_pb2.ORDER_STATUS_FAILED,
}
# Outcomes of orders that were delivered.
ARRIVED: Final = frozenset({"delivered", "refunded"})
LOST: Final = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """The outcome of a purchase. `outcome` is the order's last status (delivered, cancelled ...),
    or LOST, STUCK or REFUSED; `why` explains it.

    Seconds count from `began`; None: the order did not reach that status. `found`: the order had
    ended in an earlier run.
    """

    outcome: str
    why: str = ""
    order: order_pb2.Order | None = None
    found: bool = False
    created_s: float | None = None
    confirmed_s: float | None = None
    delivered_s: float | None = None


class Shoppers:
    """All shoppers. `wait_s` is the time that one waits for an answer, and then for the order's
    end.
    """

    def __init__(self, services: Services, world: World, wait_s: float) -> None:
        self.services, self.world, self.wait_s = services, world, wait_s

    async def buy(
        self, checkout: order_service_pb2.CreateOrderRequest, key: UUID, began: float | None = None
    ) -> Purchase:
        """Creates an order, pays it and waits for its end; returns the outcome, which reports each
        failure.

        `key` identifies the purchase. `began` is its scheduled time in monotonic seconds, now by
        default.
        """
        start = time.monotonic() if began is None else began
        try:
            order = (
                await self.services.ask(
                    self.services.orders.CreateOrder, checkout, wait_s=self.wait_s
                )
            ).order
        except Failure as failure:
            return Purchase(outcome=REFUSED, why=f"{reason(failure)}: {failure}")
        placed = Purchase(
            outcome=name_of(order_pb2.OrderStatus, order.status),
            order=order,
            found=order.status in ENDS,
            created_s=time.monotonic() - start,
        )
        followed = self.world.follow(order)
        try:
            if order.status == order_pb2.ORDER_STATUS_PENDING and (
                order.total_amount.units or order.total_amount.nanos
            ):
                await self._pay(order, key)
            async with asyncio.timeout(self.wait_s):
                await followed.ended.wait()
        except Failure as failure:
            return replace(placed, outcome=STUCK, why=f"not paid: {reason(failure)}: {failure}")
        except TimeoutError:
            return replace(
                placed,
                outcome=STUCK,
                why=await why_stuck(self.services, order.order_id, followed.trouble),
            )
        ended = _ended(placed, followed, start)
        return (
            ended
            if ended.outcome in (LOST, *ARRIVED)
            else replace(ended, why=await self._why(order.order_id))
        )

    async def _why(self, order_id: str) -> str:
        """Returns the order's status reason, for an order that ended before its delivery."""
        try:
            answer = await self.services.ask(
                self.services.orders.GetOrder,
                order_service_pb2.GetOrderRequest(order_id=order_id),
                wait_s=self.wait_s,
            )
        except Failure as failure:
            return f"its reason could not be read: {reason(failure)}: {failure}"
        return str(answer.order.status_reason)

    async def _pay(self, order: order_pb2.Order, key: UUID) -> None:
        request = requests.payment(order, key)
        try:
            await self.services.ask(
                self.services.payments.CreatePayment, request, wait_s=self.wait_s
            )
        except Failure as failure:
            if not isinstance(failure, Exists) and failure.reason not in SETTLED:
                raise


def _ended(placed: Purchase, followed: Followed, start: float) -> Purchase:
    if followed.lost:
        return replace(
            placed,
            outcome=LOST,
            why="it was placed, and the order service no longer has it",
        )
    times = followed.times
    delivered = times.get(order_pb2.ORDER_STATUS_DELIVERED)
    # If the event of a step was missed, that of a later step gives its time.
    confirmed = min((times[status] for status in CONFIRMED if status in times), default=None)
    return replace(
        placed,
        outcome=name_of(order_pb2.OrderStatus, followed.status),
        confirmed_s=None if confirmed is None else confirmed - start,
        delivered_s=None if delivered is None else delivered - start,
    )
