"""The payment service put together: the one file that knows everything."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from ordermesh.payment.v1.payment_service_pb2_grpc import add_PaymentServiceServicer_to_server

from chassis.process import Supervisor
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import founded
from chassis.write.database import connect
from payment_svc import tables, wire
from payment_svc.config import Config
from payment_svc.consumers import Consumers
from payment_svc.operations import Operations
from payment_svc.peers import Orders
from payment_svc.providers import sandbox, webhooks
from payment_svc.providers.sandbox_ledger import Ledger
from payment_svc.rpc import PaymentService

SANDBOX_CONNECTIONS = 4
SANDBOX_EVERY_S = 0.2
COMPENSATE_PAUSE_S = 0.01  # it waits by itself for something to do
MEASURE_EVERY_S = 5.0


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Supervisor]:
    """The payment service, until the block is left."""
    async with AsyncExitStack() as stack:
        memory = connect(
            config.database_url.get_secret_value(), name=sandbox.NAME, pool_size=SANDBOX_CONNECTIONS
        )
        stack.push_async_callback(memory.dispose)
        ground = await stack.enter_async_context(
            founded(config, tables, stream_name="PAYMENTS", encode=wire.event)
        )
        secret = config.sandbox_webhook_secret
        key = webhooks.key_of(secret.get_secret_value()) if secret else sandbox.generated_key()
        processor = sandbox.Sandbox(Ledger(memory), key)
        # Asked for what an order costs, before anything is charged or captured.
        orders = Orders(await ground.channel(config.order_address, Breaker("order")))
        operations = Operations(
            ground.database,
            orders,
            {sandbox.NAME: processor},
            processor=sandbox.NAME,
            answer_timeout_s=config.processor_timeout_s,
            settle_after_s=config.settle_after_s,
        )
        ground.work(config.settle_every_s, operations.settle_due, "settlement")
        ground.work(COMPENSATE_PAUSE_S, operations.compensate, "compensation")
        ground.work(MEASURE_EVERY_S, operations.measure, "measurements")
        ground.work(
            SANDBOX_EVERY_S,
            lambda: processor.work(partial(operations.ingest_webhook, sandbox.NAME)),
            "sandbox",
        )
        services = [partial(add_PaymentServiceServicer_to_server, PaymentService(operations))]
        await ground.open(services, Consumers(operations).handlers)
        yield ground.tasks
