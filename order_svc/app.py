"""The composition root of the order service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.order.v1.order_service_pb2_grpc import add_OrderServiceServicer_to_server
from ordermesh.order.v1.return_service_pb2_grpc import add_ReturnServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from order_svc import tables
from order_svc.config import Config
from order_svc.consumers import Consumers
from order_svc.operations.orders import Operations
from order_svc.operations.returns import ReturnOperations
from order_svc.peers import Warehouse
from order_svc.rpc import OrderService, ReturnService
from order_svc.wire.events_out import outgoing_event

COMMIT_PENDING_COUNT_INTERVAL_S = 5.0


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The order service, until the block is left."""
    async with service_context(
        config, tables, stream_name="ORDERS", encode=outgoing_event
    ) as ground:
        warehouse = Warehouse(await ground.channel(config.warehouse_address, Breaker("warehouse")))
        operations = Operations(ground.database, warehouse, heartbeat_s=config.watch_heartbeat_s)
        ground.tasks.start("watches", operations.watches.run())
        ground.work(config.expiry_sweep_s, operations.expire_orders, "expiry")
        ground.work(COMMIT_PENDING_COUNT_INTERVAL_S, operations.count_commit_pending, "owed stock")
        services = [
            partial(add_OrderServiceServicer_to_server, OrderService(operations)),
            partial(
                add_ReturnServiceServicer_to_server,
                ReturnService(ReturnOperations(ground.database, operations.writer)),
            ),
        ]
        await ground.open(services, Consumers(operations).handlers)
        yield ground.tasks
