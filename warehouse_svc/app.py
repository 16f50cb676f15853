"""The composition root of the warehouse service: the one module that imports all others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.warehouse.v1.inventory_service_pb2_grpc import add_InventoryServiceServicer_to_server
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import (
    add_ReservationServiceServicer_to_server,
)

from chassis.process import Supervisor
from chassis.service import service_context
from chassis.write.database import Database
from chassis.write.writer import Writer
from warehouse_svc import tables
from warehouse_svc.config import Config
from warehouse_svc.consumers import handlers
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.operations.reservations import ReservationOperations
from warehouse_svc.operations.stock import StockOperations
from warehouse_svc.rpc import InventoryService, ReservationService
from warehouse_svc.store.workspace import lock_stock, save_stock
from warehouse_svc.wire import events_out


class Operations:
    """The writer and the operations of the service over one database."""

    def __init__(self, database: Database) -> None:
        self.writer = Writer(database, load=lock_stock, decide=decide, save=save_stock)
        self.stock = StockOperations(database, self.writer)
        self.reservations = ReservationOperations(database, self.writer)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """Runs the warehouse service until the caller leaves the block."""
    async with service_context(
        config, tables, stream_name="WAREHOUSE", encode=events_out.outgoing_event
    ) as context:
        operations = Operations(context.database)
        context.work(
            config.expiry_interval_s, operations.reservations.expire_reservations, "expiry"
        )
        inventory = InventoryService(operations.stock)
        reservations = ReservationService(operations.reservations)
        services = [
            partial(add_InventoryServiceServicer_to_server, inventory),
            partial(add_ReservationServiceServicer_to_server, reservations),
        ]
        await context.open(services, handlers(operations.writer))
        yield context.tasks
