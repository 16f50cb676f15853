"""How many modules of the order service run for one call and for one event: a reader follows no
more than these.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any
from uuid import UUID, uuid4

from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceStub,
    add_OrderServiceServicer_to_server,
)
from ordermesh.payment.events.v1.payment_events_pb2 import PaymentConfirmed
from ordermesh.warehouse.v1 import reservation_service_pb2 as api
from ordermesh.warehouse.v1 import warehouse_pb2
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import (
    ReservationServiceServicer,
    add_ReservationServiceServicer_to_server,
)

from chassis.values.decision import Done
from chassis.write.database import Database
from order_svc import consumers
from order_svc.app import Operations
from order_svc.lifecycle import StockStatus
from order_svc.peers import Warehouse
from order_svc.rpc import OrderService
from tests.integration.order.events import delivery, paid
from tests.integration.order.requests import create_order
from tests.support import channel_of

# A reader looks up names in these; they have no steps to follow.
LOOKED_UP = ("order_svc.lifecycle", "order_svc.model", "order_svc.tables")


class Reservations(ReservationServiceServicer):
    """A warehouse that reserves and commits each line of an order in London."""

    def __init__(self) -> None:
        self.reserved: dict[str, warehouse_pb2.Reservation] = {}

    async def ReserveStock(self, request: Any, context: Any) -> Any:
        lines = [
            warehouse_pb2.ReservationLine(line_number=line.line_number, quantity=line.quantity)
            for line in request.lines
        ]
        self.reserved[request.order_id] = warehouse_pb2.Reservation(
            reservation_id=str(uuid4()), warehouse_id="london", lines=lines
        )
        return api.ReserveStockResponse(
            order_id=request.order_id, reservations=[self.reserved[request.order_id]]
        )

    async def BatchConfirmReservations(self, request: Any, context: Any) -> Any:
        results = [
            api.ReservationResult(
                order_id=entry.order_id, reservations=[self.reserved[entry.order_id]]
            )
            for entry in request.order_attempts
        ]
        return api.BatchConfirmReservationsResponse(results=results)


@contextmanager
def modules_run() -> Iterator[set[str]]:
    """Collects the modules of the order service whose functions run in the block."""
    found: set[str] = set()

    def record(frame: FrameType, event: str, argument: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("order_svc.") and not module.startswith(LOOKED_UP):
            found.add(module)

    sys.setprofile(record)
    try:
        yield found
    finally:
        sys.setprofile(None)


async def test_one_order_runs_few_modules(database: Database) -> None:
    """CreateOrder runs at most ten modules, with a unique reference and a warehouse that is called
    over gRPC. The event payment.confirmed runs at most eight.
    """
    warehouse: Any = Reservations()  # type: ignore[abstract]  # it has the methods that are called
    register = partial(add_ReservationServiceServicer_to_server, warehouse)
    request = create_order(external_reference="536365", unique_external_reference=True)
    async with channel_of(register) as peer:
        operations = Operations(database, Warehouse(peer))
        service = OrderService(operations.creation, operations.cancellation, operations.reading)
        async with channel_of(partial(add_OrderServiceServicer_to_server, service)) as channel:
            with modules_run() as creation:
                placed = await OrderServiceStub(channel).CreateOrder(request, timeout=30)
        [order] = await operations.reading.get_orders([UUID(placed.order.order_id)])
        handler = consumers.handlers(operations.payments, operations.writer)[PaymentConfirmed]
        with modules_run() as confirmation:
            [outcome] = await handler([delivery(paid(order))])
    assert isinstance(outcome, Done)
    assert outcome.record.stock is StockStatus.COMMITTED
    assert len(creation) <= 10, sorted(creation)
    assert len(confirmation) <= 8, sorted(confirmation)
    assert "order_svc.peers" in creation & confirmation
