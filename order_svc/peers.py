"""RPCs out: whom the order service asks, and in which words."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.client import Channel, ask
from chassis.errors import Deferred
from order_svc import wire
from order_svc.model import Allocations, Checkout, CommitAnswer, Committed, Owed, Unavailable


class Warehouse:
    """The warehouse, over a channel whose breaker every call passes."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ReservationServiceStub(channel)

    async def reserve(self, request_id: UUID, order_id: UUID, checkout: Checkout, ttl: timedelta) -> tuple[UUID, Allocations]:
        """Sets the checkout's units aside. Answers with the order's id, that of an earlier try if there was one, and where the units are.

        Raises the warehouse's refusal (INSUFFICIENT_STOCK), or Deferred where it cannot be reached.
        """
        lines = [api.ReserveLine(line_number=n, sku=line.sku, quantity=line.quantity) for n, line in enumerate(checkout.lines, 1)]
        life = Duration()
        life.FromTimedelta(ttl)
        request = api.ReserveStockRequest(request_id=str(request_id), order_id=str(order_id), attempt=1, lines=lines, ttl=life)
        response = await ask(self._stub.ReserveStock, request)
        return UUID(response.order_id), wire.allocations(response.reservations)

    async def confirm(self, request_id: UUID, attempts: Sequence[tuple[UUID, int]]) -> dict[UUID, CommitAnswer]:
        """Commits the stock of many orders' attempts in one call. Who is missing in the answer is owed: the warehouse was not reached."""
        entries = [api.OrderAttempt(order_id=str(order_id), attempt=attempt) for order_id, attempt in attempts]
        request = api.BatchConfirmReservationsRequest(request_id=str(request_id), order_attempts=entries)
        try:
            response = await ask(self._stub.BatchConfirmReservations, request, timeout_s=5)
        except Deferred:
            return {}
        return {UUID(result.order_id): _answer(result) for result in response.results}


def _answer(result: api.ReservationResult) -> CommitAnswer:
    if not result.HasField("failure"):
        return Committed(wire.allocations(result.reservations))
    return Owed() if result.failure.retryable else Unavailable(result.failure.reason)
