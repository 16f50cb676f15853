"""The fulfilment service put together: the composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import (
    add_FulfillmentServiceServicer_to_server,
)

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from fulfillment_svc import tables
from fulfillment_svc.config import Config
from fulfillment_svc.consumers import Consumers
from fulfillment_svc.model.inspection import InspectionPolicy
from fulfillment_svc.operations import Operations
from fulfillment_svc.peers import Shipping, Warehouse
from fulfillment_svc.rpc import FulfillmentService
from fulfillment_svc.wire import events_out


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The fulfilment service, until the block is left."""
    async with service_context(
        config, tables, stream_name="FULFILLMENTS", encode=events_out.outgoing_event
    ) as ground:
        warehouse = Warehouse(await ground.channel(config.warehouse_address, Breaker("warehouse")))
        shipping = Shipping(await ground.channel(config.shipping_address, Breaker("shipping")))
        inspection = InspectionPolicy(
            config.inspect_order_values, config.inspect_skus, config.inspect_sample_rate
        )
        operations = Operations(
            database=ground.database,
            warehouse=warehouse,
            shipping=shipping,
            inspection=inspection,
            commit_batch=config.owed_stock_batch,
        )
        ground.work(config.owed_stock_interval_s, operations.commit_pending_stock, "owed stock")
        services = [
            partial(add_FulfillmentServiceServicer_to_server, FulfillmentService(operations))
        ]
        await ground.open(services, Consumers(operations).handlers)
        yield ground.tasks
