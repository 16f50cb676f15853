"""RPCs in: wire -> operation -> wire. The interceptors handle errors."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import grpc
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceServicer
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceServicer

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.paging import page_request
from chassis.values.request_context import request_context
from warehouse_svc.operations.reservations import ReservationOperations
from warehouse_svc.operations.stock import StockOperations
from warehouse_svc.wire import requests, responses

CallContext = grpc.aio.ServicerContext[Any, Any]


class InventoryService(InventoryServiceServicer):
    """Serves ordermesh.warehouse.v1.InventoryService; the contract describes its methods."""

    def __init__(self, stock: StockOperations) -> None:
        self.stock = stock

    async def ReceiveStock(
        self, request: inventory.ReceiveStockRequest, context: CallContext
    ) -> inventory.ReceiveStockResponse:
        levels = await self.stock.receive_stock(
            requests.receive_stock(request, request_context(request))
        )
        return inventory.ReceiveStockResponse(stock_levels=map(responses.stock_level, levels))

    async def AdjustStock(
        self, request: inventory.AdjustStockRequest, context: CallContext
    ) -> inventory.AdjustStockResponse:
        level = await self.stock.adjust_stock(
            requests.adjust_stock(request, request_context(request))
        )
        return inventory.AdjustStockResponse(stock_level=responses.stock_level(level))

    async def RestockItem(
        self, request: inventory.RestockItemRequest, context: CallContext
    ) -> inventory.RestockItemResponse:
        level = await self.stock.post_return(
            requests.restock_item(request, request_context(request))
        )
        return inventory.RestockItemResponse(
            stock_level=responses.stock_level(level) if level else None
        )

    async def MarkDamaged(
        self, request: inventory.MarkDamagedRequest, context: CallContext
    ) -> inventory.MarkDamagedResponse:
        level = await self.stock.post_return(
            requests.mark_damaged(request, request_context(request))
        )
        return inventory.MarkDamagedResponse(
            stock_level=responses.stock_level(level) if level else None
        )

    async def CheckAvailability(
        self, request: inventory.CheckAvailabilityRequest, context: CallContext
    ) -> inventory.CheckAvailabilityResponse:
        return responses.availability_response(
            await self.stock.check_availability(requests.requested_units(request))
        )

    async def GetStockLevel(
        self, request: inventory.GetStockLevelRequest, context: CallContext
    ) -> inventory.GetStockLevelResponse:
        level = await self.stock.get_stock_level((request.warehouse_id, request.sku))
        return inventory.GetStockLevelResponse(stock_level=responses.stock_level(level))

    async def ListStockLevels(
        self, request: inventory.ListStockLevelsRequest, context: CallContext
    ) -> inventory.ListStockLevelsResponse:
        page = page_request(request, responses.stock_level, str, str)
        levels, token = await self.stock.list_stock_levels(requests.level_filter(request), page)
        return inventory.ListStockLevelsResponse(stock_levels=levels, next_page_token=token)

    async def ListStockMovements(
        self, request: inventory.ListStockMovementsRequest, context: CallContext
    ) -> inventory.ListStockMovementsResponse:
        page = page_request(request, responses.movement)
        movements, token = await self.stock.list_stock_movements(
            requests.movement_filter(request), page
        )
        return inventory.ListStockMovementsResponse(
            stock_movements=movements, next_page_token=token
        )


class ReservationService(ReservationServiceServicer):
    """Serves ordermesh.warehouse.v1.ReservationService; the contract describes its methods."""

    def __init__(self, reservations: ReservationOperations) -> None:
        self.reservations = reservations

    async def ReserveStock(
        self, request: reserving.ReserveStockRequest, context: CallContext
    ) -> reserving.ReserveStockResponse:
        envelope = requests.reserve_stock(request, request_context(request, leave_out=["order_id"]))
        return responses.reserve_stock_response(
            await self.reservations.reserve_stock(envelope), request.attempt
        )

    async def ConfirmReservation(
        self, request: reserving.ConfirmReservationRequest, context: CallContext
    ) -> reserving.ConfirmReservationResponse:
        envelope = requests.confirm(request, request_context(request))
        [outcome] = await self.reservations.confirm_or_release([envelope])
        return reserving.ConfirmReservationResponse(
            reservations=responses.attempt_reservations(
                unwrap(outcome), request.order_attempt.attempt
            )
        )

    async def BatchConfirmReservations(
        self, request: reserving.BatchConfirmReservationsRequest, context: CallContext
    ) -> reserving.BatchConfirmReservationsResponse:
        envelopes = requests.batch_confirm(request, request_context(request))
        results = await self._move_batch(request, envelopes)
        return reserving.BatchConfirmReservationsResponse(results=results)

    async def ReleaseReservation(
        self, request: reserving.ReleaseReservationRequest, context: CallContext
    ) -> reserving.ReleaseReservationResponse:
        envelope = requests.release(request, request_context(request))
        [outcome] = await self.reservations.confirm_or_release([envelope])
        return reserving.ReleaseReservationResponse(
            reservations=responses.attempt_reservations(
                unwrap(outcome), request.order_attempt.attempt
            )
        )

    async def BatchReleaseReservations(
        self, request: reserving.BatchReleaseReservationsRequest, context: CallContext
    ) -> reserving.BatchReleaseReservationsResponse:
        envelopes = requests.batch_release(request, request_context(request))
        results = await self._move_batch(request, envelopes)
        return reserving.BatchReleaseReservationsResponse(results=results)

    async def ReplaceSpoiledUnits(
        self, request: reserving.ReplaceSpoiledUnitsRequest, context: CallContext
    ) -> reserving.ReplaceSpoiledUnitsResponse:
        reservation = await self.reservations.replace_spoiled(
            requests.replace_spoiled(request, request_context(request))
        )
        return reserving.ReplaceSpoiledUnitsResponse(reservation=responses.reservation(reservation))

    async def GetReservation(
        self, request: reserving.GetReservationRequest, context: CallContext
    ) -> reserving.GetReservationResponse:
        reservation = await self.reservations.get_reservation(UUID(request.reservation_id))
        return reserving.GetReservationResponse(reservation=responses.reservation(reservation))

    async def ListReservations(
        self, request: reserving.ListReservationsRequest, context: CallContext
    ) -> reserving.ListReservationsResponse:
        page = page_request(request, partial(responses.reservation, view=request.view))
        reservations, token = await self.reservations.list_reservations(
            requests.reservation_filter(request), page
        )
        return reserving.ListReservationsResponse(reservations=reservations, next_page_token=token)

    async def _move_batch(
        self,
        request: reserving.BatchConfirmReservationsRequest
        | reserving.BatchReleaseReservationsRequest,
        envelopes: Sequence[Envelope[Any]],
    ) -> Iterable[reserving.ReservationResult]:
        """Returns the result of each order of the batch.

        Raises Refused ANSWER_TOO_LARGE before the write. Without lines every answer fits.
        """
        if request.view != VIEW_SUMMARY:
            await self.reservations.check_answer(
                [UUID(each.order_id) for each in request.order_attempts]
            )
        outcomes = await self.reservations.confirm_or_release(envelopes)
        result = partial(responses.reservation_result, view=request.view)
        return map(result, request.order_attempts, outcomes)
