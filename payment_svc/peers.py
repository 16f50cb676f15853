"""RPCs out: the calls of the payment service to the order service."""

import asyncio
from collections.abc import Collection
from contextvars import Context
from uuid import UUID

from ordermesh.order.v1 import order_service_pb2 as api
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.view.v1 import view_pb2

from chassis.rpc.client import Channel, ask
from chassis.values.errors import Deferred, Failure, NotFound
from payment_svc.model.records import Order
from payment_svc.wire import events_in

TIMEOUT_S = 2.0
SET_MAX = 100
Results = dict[UUID, Order | Failure]


class Orders:
    """The order service.

    One call at a time is in flight. Orders that are requested meanwhile go together in the next
    call, so that each order is read after its request.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)
        self._in_flight = asyncio.Lock()
        # the orders of the next call, and its results; None: no order is waiting
        self._waiting: set[UUID] = set()
        self._next: asyncio.Task[Results] | None = None

    async def get(self, order_id: UUID, timeout_s: float = TIMEOUT_S) -> Order:
        """What the order costs now.

        Raises NotFound ORDER_NOT_FOUND, or Deferred where the service cannot be reached, or has not
        answered after `timeout_s`.
        """
        if self._next is None or len(self._waiting) >= SET_MAX:
            self._waiting = set()
            # Of no caller's context: neither its deadline nor its trace is that of the others.
            self._next = asyncio.create_task(self._fetch_set(self._waiting), context=Context())
        self._waiting.add(order_id)
        try:
            async with asyncio.timeout(timeout_s):
                # a caller that is cancelled leaves the others their results
                results = await asyncio.shield(self._next)
        except TimeoutError:
            text = "The order service has not answered in time."
            raise Deferred("DEPENDENCY_UNAVAILABLE", text, peer="order") from None
        result = results[order_id]
        if isinstance(result, Failure):
            raise result
        return result

    async def _fetch_set(self, order_ids: Collection[UUID]) -> Results:
        """Fetches the orders that are requested until the call before it has ended."""
        async with self._in_flight:
            if self._waiting is order_ids:
                self._next = None
            return await self._fetch(order_ids)

    async def _fetch(self, order_ids: Collection[UUID]) -> Results:
        """The order, or the failure, of each id.

        The order service answers a set whole or not at all: where some orders do not exist, the
        others are requested again.
        """
        results: Results = {}
        while remaining := [order_id for order_id in order_ids if order_id not in results]:
            request = api.BatchGetOrdersRequest(
                order_ids=map(str, remaining), view=view_pb2.VIEW_SUMMARY
            )
            try:
                response = await ask(self._stub.BatchGetOrders, request, timeout_s=TIMEOUT_S)
            except Failure as failure:
                missing = _missing(failure) & set(remaining)
                for order_id in missing or remaining:
                    results[order_id] = _not_found(order_id) if missing else failure
            else:
                orders = map(events_in.order_of_response, response.orders)
                results |= {order.id: order for order in orders}
        return results


def _missing(failure: Failure) -> set[UUID]:
    """The orders that the answer names as unknown; none where it is another failure."""
    if not isinstance(failure, NotFound):
        return set()
    return {
        UUID(order_id) for order_id in failure.metadata.get("order_id", "").split(", ") if order_id
    }


def _not_found(order_id: UUID) -> NotFound:
    return NotFound("ORDER_NOT_FOUND", f"There is no order {order_id}.", order_id=str(order_id))
