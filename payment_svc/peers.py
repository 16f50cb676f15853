"""RPCs out: the calls of the payment service to the order service."""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from itertools import islice
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
OrderFuture = asyncio.Future[Order]


class Orders:
    """The order service.

    One call at a time is in flight. Orders that are requested meanwhile go together in the next
    call, so that each order is read after its request.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)
        self._waiting: dict[UUID, OrderFuture] = {}
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, order_id: UUID, timeout_s: float = TIMEOUT_S) -> Order:
        """What the order costs now.

        Raises NotFound ORDER_NOT_FOUND, or Deferred where the service cannot be reached, or has not
        answered after `timeout_s`.
        """
        future = self._waiting.get(order_id)
        if future is None:
            future = self._waiting[order_id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_mark_retrieved)
        if self._fetching is None:
            # Of no caller's context: neither its deadline nor its trace is that of the others.
            self._fetching = asyncio.create_task(self._fetch_waiting(), context=Context())
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            text = "The order service has not answered in time."
            raise Deferred("DEPENDENCY_UNAVAILABLE", text, peer="order") from None

    async def _fetch_waiting(self) -> None:
        """Fetches the waiting orders, set by set, until none waits."""
        taken: dict[UUID, OrderFuture] = {}
        try:
            while self._waiting:
                taken = dict(islice(self._waiting.items(), SET_MAX))
                for order_id in taken:
                    del self._waiting[order_id]
                for order_id, result in (await self._fetch(list(taken))).items():
                    _resolve(taken[order_id], result)
        except BaseException as error:  # a cancellation too: each caller gets it, and it is raised
            for future in (*taken.values(), *self._waiting.values()):
                _resolve(future, error)
            self._waiting.clear()
            raise
        finally:
            self._fetching = None

    async def _fetch(self, order_ids: Sequence[UUID]) -> dict[UUID, Order | Failure]:
        """The order, or the failure, of each id.

        The order service answers a set whole or not at all: where some orders do not exist, the
        others are requested again.
        """
        results: dict[UUID, Order | Failure] = {}
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


def _resolve(future: OrderFuture, result: Order | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, Order):
        future.set_result(result)
    elif isinstance(result, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(result)


def _mark_retrieved(future: OrderFuture) -> None:
    """An answer that no caller waits for any more is no error that asyncio should report."""
    if not future.cancelled():
        future.exception()
