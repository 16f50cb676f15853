"""Shoppers: each places an order, pays for it, and waits for the parcel, with a patience that
ends.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from ordermesh.order.v1 import order_pb2, order_service_pb2

from chassis.values.errors import Exists, Failure
from omctl.names import name_of
from simulator import requests
from simulator.diagnosis import why_stuck
from simulator.services import Services, reason
from simulator.world import ENDS, Followed, World

# Where nothing is left to pay, for somebody has paid already.
SETTLED: Final = frozenset({"ORDER_NOT_PAYABLE"})
# An order that stands there was confirmed.
CONFIRMED: Final = (
    order_pb2.ORDER_STATUS_CONFIRMED,
    order_pb2.ORDER_STATUS_PROCESSING,
    order_pb2.ORDER_STATUS_SHIPPED,
    order_pb2.ORDER_STATUS_DELIVERED,
    order_pb2.ORDER_STATUS_REFUNDED,
)
# What became of orders that their customers have received.
ARRIVED: Final = frozenset({"delivered", "refunded"})
LOST: Final = "lost"
STUCK: Final = "stuck"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Purchase:
    """How it went. `outcome` is the order's last status (delivered, cancelled ...), or one of LOST,
    STUCK and REFUSED; `why` explains it.

    Seconds count from `began`; None: it did not come to that. `found`: the order had ended before
    it was asked for again.
    """

    outcome: str
    why: str = ""
    order: order_pb2.Order | None = None
    found: bool = False
    created_s: float | None = None
    confirmed_s: float | None = None
    delivered_s: float | None = None


class Shoppers:
    """All of them; `patience_s` is how long one waits for an answer, and then again for each
    order from its placing to its end.
    """

    def __init__(self, services: Services, world: World, patience_s: float) -> None:
        self.services, self.world, self.patience_s = services, world, patience_s

    async def buy(
        self, checkout: order_service_pb2.CreateOrderRequest, key: UUID, began: float | None = None
    ) -> Purchase:
        """Walks one order through its life. Raises nothing but bugs: what goes wrong stands in the
        answer.

        `key` stands for this purchase; `began` is when the shopper wanted it, in monotonic seconds
        (now, where unset).
        """
        start = time.monotonic() if began is None else began
        try:
            order = (await self._ask(self.services.orders.CreateOrder, checkout)).order
        except Failure as failure:
            return Purchase(REFUSED, f"{reason(failure)}: {failure}")
        placed = Purchase(
            name_of(order_pb2.OrderStatus, order.status),
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
            async with asyncio.timeout(self.patience_s):
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
        """Why an order ended before it arrived, as the order itself says."""
        try:
            answer = await self._ask(
                self.services.orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order_id)
            )
        except Failure as failure:
            return f"it cannot be asked why: {reason(failure)}: {failure}"
        return str(answer.order.status_reason)

    async def _pay(self, order: order_pb2.Order, key: UUID) -> None:
        try:
            await self._ask(self.services.payments.CreatePayment, requests.payment(order, key))
        except Exists:
            return
        except Failure as failure:
            if failure.reason not in SETTLED:
                raise

    async def _ask(self, method: Any, request: Any) -> Any:
        return await self.services.ask(method, request, patience_s=self.patience_s)


def _ended(placed: Purchase, followed: Followed, start: float) -> Purchase:
    if followed.lost:
        return replace(
            placed,
            outcome=LOST,
            why="it was placed, and the order service does not know it any more",
        )
    heard = followed.times
    delivered = heard.get(order_pb2.ORDER_STATUS_DELIVERED)
    # Where the news of a step did not come, the news of a later one tells of it.
    confirmed = min((heard[status] for status in CONFIRMED if status in heard), default=None)
    return replace(
        placed,
        outcome=name_of(order_pb2.OrderStatus, followed.status),
        confirmed_s=None if confirmed is None else confirmed - start,
        delivered_s=None if delivered is None else delivered - start,
    )
