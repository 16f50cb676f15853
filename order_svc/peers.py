"""RPCs out: the calls of the order service to the warehouse service."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid5

from google.protobuf.duration import from_timedelta
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.rpc.client import Channel, ask, halves
from chassis.values.errors import Defect, Deferred, Refused
from order_svc.model.commands import CommitPending, CommitRefused, CommitResult, Committed
from order_svc.model.records import Allocations
from order_svc.wire.events_in import allocations

RequestedUnits = tuple[int, str, int]  # units of an order line: its number, its SKU, how many
RELEASE_TIMEOUT_S = 2.0  # of each try: the caller of a cancellation may be waiting


class Warehouse:
    """The warehouse, over a channel whose breaker every call passes."""

    def __init__(self, channel: Channel) -> None:
        self._stub = ReservationServiceStub(channel)

    async def reserve(
        self,
        request_id: UUID,
        order_id: UUID,
        attempt: int,
        wanted: Sequence[RequestedUnits],
        ttl: timedelta,
    ) -> tuple[UUID, Allocations]:
        """Sets an attempt's units aside. Answers with the order's id, that of an earlier try if
        there was one, and where the units are.

        Raises the warehouse's refusal (INSUFFICIENT_STOCK), or Deferred where it cannot be reached.
        """
        lines = [
            api.ReserveLine(line_number=number, sku=sku, quantity=quantity)
            for number, sku, quantity in wanted
        ]
        request = api.ReserveStockRequest(
            request_id=str(request_id),
            order_id=str(order_id),
            attempt=attempt,
            lines=lines,
            ttl=from_timedelta(ttl),
        )
        response = await ask(self._stub.ReserveStock, request)
        return UUID(response.order_id), allocations(response.reservations)

    async def commit(
        self, request_id: UUID, attempts: Sequence[tuple[UUID, int]]
    ) -> dict[UUID, CommitResult]:
        """Commits the stock of many orders' attempts in one call. An order that the
        answer lacks is commit pending: the warehouse was not reached, or has failed by a defect,
        and may have committed the stock.
        """
        entries = [
            api.OrderAttempt(order_id=str(order_id), attempt=attempt)
            for order_id, attempt in attempts
        ]
        request = api.BatchConfirmReservationsRequest(
            request_id=str(request_id), order_attempts=entries
        )
        try:
            response = await ask(self._stub.BatchConfirmReservations, request)
        except (Deferred, Defect):
            return {}
        except Refused as refused:
            if not (half := halves(refused, len(attempts))):
                raise
            first = await self.commit(uuid5(request_id, "first"), attempts[:half])
            return first | await self.commit(uuid5(request_id, "second"), attempts[half:])
        return {UUID(result.order_id): _commit_result(result) for result in response.results}

    async def release(self, request_id: UUID, attempts: Sequence[tuple[UUID, int]]) -> set[UUID]:
        """Releases the reservations of many orders' attempts, in one call. Answers with those that
        may be tried again.

        Raises Deferred where the warehouse cannot be reached. An unknown or closed reservation
        holds nothing.
        """
        entries = [
            api.OrderAttempt(order_id=str(order_id), attempt=attempt)
            for order_id, attempt in attempts
        ]
        request = api.BatchReleaseReservationsRequest(
            request_id=str(request_id), order_attempts=entries, view=VIEW_SUMMARY
        )
        response = await ask(
            self._stub.BatchReleaseReservations, request, timeout_s=RELEASE_TIMEOUT_S
        )
        return {
            UUID(result.order_id)
            for result in response.results
            if result.HasField("failure") and result.failure.retryable
        }


def _commit_result(result: api.ReservationResult) -> CommitResult:
    if not result.HasField("failure"):
        return Committed(allocations(result.reservations))
    unknown = result.failure.retryable or result.failure.reason == "INTERNAL"
    return CommitPending() if unknown else CommitRefused(result.failure.reason)
