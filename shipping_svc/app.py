"""The composition root of the shipping service: the one module that imports all the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.shipping.v1.shipping_service_pb2_grpc import add_ShippingServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from shipping_svc import store, tables
from shipping_svc.config import Config
from shipping_svc.consumers import Consumers
from shipping_svc.operations import Operations, Timeouts
from shipping_svc.peers import Orders
from shipping_svc.providers import sandbox
from shipping_svc.rpc import ShippingService
from shipping_svc.wire import events_out


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The shipping service, until the block is left."""
    async with service_context(
        config, tables, stream_name="SHIPMENTS", encode=events_out.outgoing_event
    ) as ground:

        async def is_reported(tracking_number: str) -> bool:
            async with ground.database.read() as connection:
                return await store.is_reported(connection, sandbox.NAME, tracking_number)

        # Open for a short while only: the sweeper tries a label again anyway, and a probe is cheap.
        orders = Orders(await ground.channel(config.order_address, Breaker("order", open_s=2)))
        timeouts = Timeouts(
            label_timeout_s=config.label_timeout_s,
            labels_at_once_max=config.labels_at_once_max,
            retry_s=config.label_patience_s,
            heartbeat_s=config.watch_heartbeat_s,
        )
        operations = Operations(
            database=ground.database,
            orders=orders,
            carrier=sandbox.SandboxCarrier(is_reported),
            timeouts=timeouts,
        )
        ground.tasks.start("watches", operations.watches.run())
        ground.work(config.label_sweep_s, operations.buy_pending_labels, "labels")
        ground.work(config.label_sweep_s, operations.retry_open_recalls, "recalls")
        services = [partial(add_ShippingServiceServicer_to_server, ShippingService(operations))]
        await ground.open(services, Consumers(operations).handlers)
        yield ground.tasks
