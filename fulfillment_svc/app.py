"""The composition root of the fulfilment service: the one module that imports all others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import (
    add_FulfillmentServiceServicer_to_server,
)

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from chassis.write.database import Database
from chassis.write.writer import Writer
from fulfillment_svc import tables
from fulfillment_svc.config import Config
from fulfillment_svc.consumers import handlers
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.model.inspection import InspectionPolicy
from fulfillment_svc.operations.commits import CommitOperations
from fulfillment_svc.operations.inspections import InspectionOperations
from fulfillment_svc.operations.orders import OrderOperations
from fulfillment_svc.operations.reading import ReadOperations
from fulfillment_svc.operations.staff import StaffOperations
from fulfillment_svc.peers import Shipping, Warehouse
from fulfillment_svc.rpc import FulfillmentService
from fulfillment_svc.store.workspace import lock_order_fulfillments, save_order_fulfillments
from fulfillment_svc.wire import events_out


class Operations:
    """The writer and the operations of the service over one database."""

    def __init__(
        self,
        database: Database,
        warehouse: Warehouse,
        shipping: Shipping,
        inspection: InspectionPolicy,
        commit_batch: int,
    ) -> None:
        self.writer = Writer(
            database, load=lock_order_fulfillments, decide=decide, save=save_order_fulfillments
        )
        self.reading = ReadOperations(database)
        self.staff = StaffOperations(self.writer, shipping)
        self.inspections = InspectionOperations(
            database, self.writer, warehouse, self.reading, self.staff
        )
        self.orders = OrderOperations(database, self.writer, warehouse, inspection)
        self.commits = CommitOperations(database, self.writer, warehouse, commit_batch)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """Runs the fulfilment service until the caller leaves the block."""
    async with service_context(
        config, tables, stream_name="FULFILLMENTS", encode=events_out.outgoing_event
    ) as context:
        warehouse = Warehouse(await context.channel(config.warehouse_address, Breaker("warehouse")))
        shipping = Shipping(await context.channel(config.shipping_address, Breaker("shipping")))
        inspection = InspectionPolicy(
            config.inspect_order_values, config.inspect_skus, config.inspect_sample_rate
        )
        operations = Operations(
            database=context.database,
            warehouse=warehouse,
            shipping=shipping,
            inspection=inspection,
            commit_batch=config.pending_commit_batch,
        )
        context.work(
            config.pending_commit_interval_s,
            operations.commits.commit_pending_stock,
            "pending commits",
        )
        service = FulfillmentService(operations.staff, operations.inspections, operations.reading)
        await context.open(
            [partial(add_FulfillmentServiceServicer_to_server, service)],
            handlers(operations.orders, operations.writer),
        )
        yield context.tasks
