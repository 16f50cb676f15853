"""The composition root of the payment service."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from ordermesh.payment.v1.payment_service_pb2_grpc import add_PaymentServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from chassis.write.database import Database, connect
from chassis.write.writer import Writer
from payment_svc import tables
from payment_svc.config import Config
from payment_svc.consumers import handlers
from payment_svc.decisions.deciders import decide
from payment_svc.operations.orders import OrderOperations
from payment_svc.operations.payments import PaymentOperations
from payment_svc.operations.reading import ReadOperations
from payment_svc.operations.settlement import SettlementOperations
from payment_svc.operations.writing import AccountWriter
from payment_svc.peers import Orders
from payment_svc.providers import sandbox, webhooks
from payment_svc.providers.port import Processor
from payment_svc.providers.sandbox_ledger import Ledger
from payment_svc.rpc import PaymentService
from payment_svc.store.workspace import lock_accounts, save_accounts
from payment_svc.wire import events_out

SANDBOX_CONNECTIONS = 4
SANDBOX_EVERY_S = 0.2
COMPENSATE_PAUSE_S = 0.01  # compensate itself waits until there is work
MEASURE_EVERY_S = 5.0


class Operations:
    """The operations of the service over one database. New payments go to `processor`."""

    def __init__(
        self,
        database: Database,
        orders: Orders,
        processors: Mapping[str, Processor],
        *,
        processor: str,
        answer_timeout_s: float,
        settle_after_s: float,
    ) -> None:
        self.writer = AccountWriter(
            Writer(database, load=lock_accounts, decide=decide, save=save_accounts)
        )
        self.reading = ReadOperations(database)
        self.orders = OrderOperations(database, orders)
        self.settlement = SettlementOperations(
            database, self.writer, processors, answer_timeout_s, settle_after_s
        )
        self.payments = PaymentOperations(
            self.writer, self.reading, self.orders, self.settlement, processor
        )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The payment service, until the block is left."""
    async with AsyncExitStack() as stack:
        sandbox_engine = connect(
            config.database_url.get_secret_value(), name=sandbox.NAME, pool_size=SANDBOX_CONNECTIONS
        )
        stack.push_async_callback(sandbox_engine.dispose)
        context = await stack.enter_async_context(
            service_context(
                config, tables, stream_name="PAYMENTS", encode=events_out.outgoing_event
            )
        )
        secret = config.sandbox_webhook_secret
        # without a secret only the sandbox itself can send webhooks
        key = webhooks.key_of(secret.get_secret_value()) if secret else secrets.token_bytes(32)
        processor = sandbox.Sandbox(Ledger(sandbox_engine), key)
        # It has the total of an order, before anything is charged or captured.
        orders = Orders(await context.channel(config.order_address, Breaker("order")))
        operations = Operations(
            context.database,
            orders,
            {sandbox.NAME: processor},
            processor=sandbox.NAME,
            answer_timeout_s=config.processor_timeout_s,
            settle_after_s=config.settle_after_s,
        )
        context.work(config.settle_interval_s, operations.settlement.settle_due, "settlement")
        context.work(COMPENSATE_PAUSE_S, operations.settlement.compensate, "compensation")
        context.work(MEASURE_EVERY_S, operations.reading.measure, "measurements")
        context.work(
            SANDBOX_EVERY_S,
            lambda: processor.run_once(partial(operations.settlement.ingest_webhook, sandbox.NAME)),
            "sandbox",
        )
        service = PaymentService(operations.payments, operations.settlement, operations.reading)
        await context.open(
            [partial(add_PaymentServiceServicer_to_server, service)],
            handlers(operations.writer),
        )
        yield context.tasks
