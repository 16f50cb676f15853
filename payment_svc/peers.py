"""RPCs out: whom the payment service asks, and in which words."""

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
from payment_svc import wire
from payment_svc.model import Order

TIMEOUT_S = 2.0
SET_MAX = 100
Answer = asyncio.Future[Order]


class Orders:
    """The order service.

    One call at a time is under way. Orders that are asked for meanwhile go together in the next
    call, so that each answer is of a moment after its question.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = OrderServiceStub(channel)
        self._waiting: dict[UUID, Answer] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, order_id: UUID, timeout_s: float = TIMEOUT_S) -> Order:
        """What the order costs now.

        Raises NotFound ORDER_NOT_FOUND, or Deferred where the service cannot be reached, or has not
        answered after `timeout_s`.
        """
        answer = self._waiting.get(order_id)
        if answer is None:
            answer = self._waiting[order_id] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieve)
        if self._asking is None:
            # Of no caller's context: neither its deadline nor its trace is that of the others.
            self._asking = asyncio.create_task(self._ask_waiting(), context=Context())
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            text = "The order service has not answered in time."
            raise Deferred("DEPENDENCY_UNAVAILABLE", text, peer="order") from None

    async def _ask_waiting(self) -> None:
        """Asks for what waits, set by set, until nothing waits."""
        asked: dict[UUID, Answer] = {}
        try:
            while self._waiting:
                asked = dict(islice(self._waiting.items(), SET_MAX))
                for order_id in asked:
                    del self._waiting[order_id]
                for order_id, found in (await self._ask(list(asked))).items():
                    _settle(asked[order_id], found)
        except BaseException as error:  # a cancellation too: each caller gets it, and it is raised
            for answer in (*asked.values(), *self._waiting.values()):
                _settle(answer, error)
            self._waiting.clear()
            raise
        finally:
            self._asking = None

    async def _ask(self, order_ids: Sequence[UUID]) -> dict[UUID, Order | Failure]:
        """What comes of each. A set is answered whole or not at all: without those that there
        are not it is asked for again.
        """
        answers: dict[UUID, Order | Failure] = {}
        while left := [order_id for order_id in order_ids if order_id not in answers]:
            request = api.BatchGetOrdersRequest(
                order_ids=map(str, left), view=view_pb2.VIEW_SUMMARY
            )
            try:
                response = await ask(self._stub.BatchGetOrders, request, timeout_s=TIMEOUT_S)
            except Failure as failure:
                missing = _missing(failure) & set(left)
                for order_id in missing or left:
                    answers[order_id] = _not_found(order_id) if missing else failure
            else:
                answers |= {order.id: order for order in map(wire.order_of_answer, response.orders)}
        return answers


def _missing(failure: Failure) -> set[UUID]:
    """The orders that the answer names as unknown; none where it is another failure."""
    if not isinstance(failure, NotFound):
        return set()
    return {
        UUID(order_id) for order_id in failure.metadata.get("order_id", "").split(", ") if order_id
    }


def _not_found(order_id: UUID) -> NotFound:
    return NotFound("ORDER_NOT_FOUND", f"There is no order {order_id}.", order_id=str(order_id))


def _settle(answer: Answer, found: Order | BaseException) -> None:
    if answer.done():
        return
    if isinstance(found, Order):
        answer.set_result(found)
    elif isinstance(found, asyncio.CancelledError):
        answer.cancel()
    else:
        answer.set_exception(found)


def _retrieve(answer: Answer) -> None:
    """An answer that no caller waits for any more is no error that asyncio should report."""
    if not answer.cancelled():
        answer.exception()
