"""The composition root of the shipping service: the one module that imports all others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ordermesh.shipping.v1.shipping_service_pb2_grpc import add_ShippingServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from chassis.write.database import Database
from chassis.write.writer import Writer
from shipping_svc import tables
from shipping_svc.config import Config
from shipping_svc.consumers import handlers
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.operations.carrier_calls import CarrierCalls, Timeouts
from shipping_svc.operations.closing import ClosingOperations
from shipping_svc.operations.creation import CreationOperations
from shipping_svc.operations.labels import LabelOperations
from shipping_svc.operations.reading import ReadOperations
from shipping_svc.operations.recalls import RecallOperations
from shipping_svc.operations.reports import ReportOperations
from shipping_svc.peers import Orders
from shipping_svc.providers import sandbox
from shipping_svc.providers.port import Carrier
from shipping_svc.rpc import ShippingService
from shipping_svc.store import reports
from shipping_svc.store.closed import (
    lock_closed_fulfillments,
    lock_closed_orders,
    save_closed_fulfillments,
    save_closed_orders,
)
from shipping_svc.store.workspace import lock_shipments, save_shipments
from shipping_svc.wire import events_out


class Operations:
    """The operations of the service over one database.

    It has three Writers, because a Writer writes records of one kind: shipments, closed orders and
    cancelled fulfilments. The closing of an order or a fulfilment is stored also where it has no
    shipment yet, so that a late event ships nothing.
    """

    def __init__(
        self, database: Database, orders: Orders, carrier: Carrier, timeouts: Timeouts
    ) -> None:
        self.reading = ReadOperations(database, timeouts.heartbeat_s)
        writer = Writer(database, load=lock_shipments, decide=decide, save=save_shipments)
        calls = CarrierCalls(carrier, timeouts)
        self.labels = LabelOperations(database, writer, calls, orders, timeouts.retry_s)
        self.creation = CreationOperations(database, writer, orders, self.labels)
        self.recalls = RecallOperations(database, writer, calls, timeouts.retry_s)
        self.reports = ReportOperations(database, writer)
        self.closing = ClosingOperations(
            database,
            writer,
            Writer(
                database,
                load=lock_closed_orders,
                decide=decide_order,
                save=save_closed_orders,
            ),
            Writer(
                database,
                load=lock_closed_fulfillments,
                decide=decide_fulfillment,
                save=save_closed_fulfillments,
            ),
            self.recalls,
        )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """Runs the shipping service until the caller leaves the block."""
    async with service_context(
        config, tables, stream_name="SHIPMENTS", encode=events_out.outgoing_event
    ) as context:

        async def is_reported(tracking_number: str) -> bool:
            async with context.database.read() as connection:
                return await reports.is_reported(connection, sandbox.NAME, tracking_number)

        # The breaker is open for a short time: the sweeper retries labels, and a probe is cheap.
        orders = Orders(await context.channel(config.order_address, Breaker("order", open_s=2)))
        timeouts = Timeouts(
            label_timeout_s=config.label_timeout_s,
            labels_at_once_max=config.labels_at_once_max,
            retry_s=config.label_retry_after_s,
            heartbeat_s=config.watch_heartbeat_s,
        )
        operations = Operations(
            database=context.database,
            orders=orders,
            carrier=sandbox.SandboxCarrier(is_reported),
            timeouts=timeouts,
        )
        context.tasks.start("watches", operations.reading.watches.run())
        context.work(config.label_interval_s, operations.labels.buy_pending_labels, "labels")
        context.work(config.label_interval_s, operations.recalls.retry_open_recalls, "recalls")
        service = ShippingService(
            operations.creation, operations.recalls, operations.reports, operations.reading
        )
        await context.open(
            [partial(add_ShippingServiceServicer_to_server, service)],
            handlers(operations.creation, operations.recalls, operations.closing),
        )
        yield context.tasks
