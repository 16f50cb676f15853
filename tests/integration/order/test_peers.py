"""The warehouse over a real channel, when it fails by a defect of its own."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceServicer, add_ReservationServiceServicer_to_server

from chassis.database import Database
from chassis.decision import Done
from order_svc.lifecycle import Status, StockStatus
from order_svc.operations import Operations
from order_svc.peers import Warehouse
from tests.integration.order.events import delivery, paid
from tests.integration.order.requests import Orders
from tests.integration.order.test_events import place, tell
from tests.support import channel_of


class DefectiveReservations(ReservationServiceServicer):
    """Fails by INTERNAL: the `whole` call, or each order's part of it."""

    whole = True

    async def BatchConfirmReservations(self, request: Any, context: Any) -> Any:
        if self.whole:
            await context.abort(grpc.StatusCode.INTERNAL, "a bug")
        results = [api.ReservationResult(order_id=entry.order_id) for entry in request.order_attempts]
        for result in results:
            result.failure.reason = "INTERNAL"
        return api.BatchConfirmReservationsResponse(results=results)


@pytest.fixture
async def reservations() -> DefectiveReservations:
    return DefectiveReservations()  # type: ignore[abstract]  # nothing else of it is asked


@pytest.fixture
async def confirming(database: Database, reservations: DefectiveReservations) -> AsyncIterator[Operations]:
    """The order service's operations with a real channel to that warehouse."""
    async with channel_of(partial(add_ReservationServiceServicer_to_server, reservations)) as channel:
        yield Operations(database, Warehouse(channel))


@pytest.mark.parametrize("whole", [True, False])
async def test_a_defect_of_the_warehouse_leaves_the_commit_owed(
    orders: Orders, operations: Operations, confirming: Operations, reservations: DefectiveReservations, whole: bool
) -> None:
    """It says nothing of the stock: the paid order is confirmed all the same, and its commit is settled later; no event has failed."""
    reservations.whole = whole
    order = await place(orders, operations, "london")
    [outcome] = await tell(confirming, [delivery(paid(order))])
    assert isinstance(outcome, Done)
    [order] = await operations.get_orders([order.id])
    assert (order.status, order.stock) == (Status.CONFIRMED, StockStatus.OWED)
