"""Requests to the warehouse, and reads of its tables. No tests here."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.paging import Page
from tests.support import measured
from tests.unit.warehouse.world import World
from warehouse_svc.model.filters import LevelFilter, MovementFilter
from warehouse_svc.model.records import Movement, StockLevel
from warehouse_svc.store.stock import list_levels, list_movements
from warehouse_svc.store.workspace import lock_stock
from warehouse_svc.tables import order_reservations


def receive(
    warehouse_id: str = "london", request_id: UUID | None = None, **quantities: int
) -> inventory.ReceiveStockRequest:
    return receive_all(warehouse_id, quantities, request_id)


def receive_all(
    warehouse_id: str, quantities: Mapping[str, int], request_id: UUID | None = None
) -> inventory.ReceiveStockRequest:
    lines = [inventory.ReceivedLine(sku=sku, quantity=n) for sku, n in quantities.items()]
    return inventory.ReceiveStockRequest(
        request_id=str(request_id or uuid4()), warehouse_id=warehouse_id, lines=lines
    )


def reserve(*wanted: tuple[str, int], **fields: Any) -> reserving.ReserveStockRequest:
    values: dict[str, Any] = {"request_id": str(uuid4()), "order_id": str(uuid4()), "attempt": 1}
    lines = [
        reserving.ReserveLine(line_number=n, sku=sku, quantity=units)
        for n, (sku, units) in enumerate(wanted, 1)
    ]
    return reserving.ReserveStockRequest(**(values | {"lines": lines} | fields))


def attempt(order_id: str, number: int = 1) -> reserving.OrderAttempt:
    return reserving.OrderAttempt(order_id=order_id, attempt=number)


def confirm(order_id: str) -> reserving.ConfirmReservationRequest:
    return reserving.ConfirmReservationRequest(
        request_id=str(uuid4()), order_attempt=attempt(order_id)
    )


def release(
    order_id: str, lines: Sequence[reserving.ReleaseLine] = ()
) -> reserving.ReleaseReservationRequest:
    return reserving.ReleaseReservationRequest(
        request_id=str(uuid4()), order_attempt=attempt(order_id), lines=lines
    )


EVERYTHING = Page(size=100_000, after=None, filter=0, encode=lambda record: record)


async def as_stored(engine: AsyncEngine) -> World:
    """Returns the contents of all tables, in the form in which the tests of decisions check the
    invariants.
    """
    async with engine.connect() as connection:
        levels: list[StockLevel] = await list_levels(connection, LevelFilter(), EVERYTHING)
        ledger: list[Movement] = await list_movements(connection, MovementFilter(), EVERYTHING)
        orders = list((await connection.execute(select(order_reservations.c.order_id))).scalars())
        workspace = await lock_stock(connection, (), orders)
    stored = {
        id: record.order_reservations
        for id, record in workspace.before.items()
        if record.order_reservations
    }
    return World(
        levels={(level.warehouse_id, level.sku): level for level in levels},
        order_reservations=stored,
        ledger=ledger,
    )


async def count(engine: AsyncEngine, *tables: Table) -> list[int]:
    """Returns the number of rows of each table."""
    async with engine.connect() as connection:
        return [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in tables
        ]


def races() -> float:
    """Returns how often this process has written a set again after a deadlock."""
    return measured("write_retries_total", error_class="race")
