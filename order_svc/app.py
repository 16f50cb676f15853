"""The composition root of the order service: the one module that imports all the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.order.v1.order_service_pb2_grpc import add_OrderServiceServicer_to_server
from ordermesh.order.v1.return_service_pb2_grpc import add_ReturnServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from chassis.write.database import Database
from chassis.write.writer import Writer
from order_svc import tables
from order_svc.config import Config
from order_svc.consumers import handlers
from order_svc.decisions.deciders import decide
from order_svc.operations.cancellation import CancellationOperations
from order_svc.operations.creation import CreationOperations
from order_svc.operations.payments import PaymentOperations
from order_svc.operations.reading import ReadOperations
from order_svc.operations.releasing import StockReleaser
from order_svc.operations.returns import ReturnOperations
from order_svc.peers import Warehouse
from order_svc.rpc import OrderService, ReturnService
from order_svc.store.workspace import lock_orders, save_orders
from order_svc.wire import events_out

COMMIT_PENDING_COUNT_INTERVAL_S = 5.0


class Operations:
    """The writer and the operations of the service over one database."""

    def __init__(
        self, database: Database, warehouse: Warehouse, *, heartbeat_s: float = 15.0
    ) -> None:
        self.writer = Writer(database, load=lock_orders, decide=decide, save=save_orders)
        releaser = StockReleaser(warehouse)
        self.reading = ReadOperations(database, heartbeat_s)
        self.creation = CreationOperations(database, self.writer, warehouse, releaser, self.reading)
        self.payments = PaymentOperations(database, self.writer, warehouse, releaser)
        self.cancellation = CancellationOperations(database, self.writer, releaser)
        self.returns = ReturnOperations(database, self.writer)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The order service, until the block is left."""
    async with service_context(
        config, tables, stream_name="ORDERS", encode=events_out.outgoing_event
    ) as context:
        warehouse = Warehouse(await context.channel(config.warehouse_address, Breaker("warehouse")))
        operations = Operations(context.database, warehouse, heartbeat_s=config.watch_heartbeat_s)
        context.tasks.start("watches", operations.reading.watches.run())
        context.work(config.expiry_interval_s, operations.cancellation.expire_orders, "expiry")
        context.work(
            COMMIT_PENDING_COUNT_INTERVAL_S,
            operations.payments.count_commit_pending,
            "pending commit count",
        )
        orders = OrderService(operations.creation, operations.cancellation, operations.reading)
        services = [
            partial(add_OrderServiceServicer_to_server, orders),
            partial(add_ReturnServiceServicer_to_server, ReturnService(operations.returns)),
        ]
        await context.open(services, handlers(operations.payments, operations.writer))
        yield context.tasks
