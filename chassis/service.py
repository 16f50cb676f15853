"""What every service stands on, put together in one place: database, broker, relay, inbox,
housekeeping, server; ended in reverse order.

What lives here: the order of starting and ending, the same for all five. What differs stands in
each service's app.py:

    @asynccontextmanager
    async def running(config: Config) -> AsyncIterator[Supervisor]:
        async with service_context(
            config, tables, stream_name="ORDERS", encode=wire.outgoing_event
        ) as ground:
            channel = await ground.channel(config.warehouse_address, Breaker("warehouse"))
            operations = Operations(ground.database, Warehouse(channel))
            ground.tasks.start("watches", operations.watches.run())
            service = partial(add_OrderServiceServicer_to_server, OrderService(operations))
            await ground.open([service], Consumers(operations).handlers)
            yield ground.tasks
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from ordermesh.ops.v1.ops_service_pb2_grpc import (
    add_FailedEventServiceServicer_to_server,
    add_OutboxServiceServicer_to_server,
)
from sqlalchemy import Table

from chassis import process
from chassis.broker import stream
from chassis.consume.dispatch import Handler
from chassis.consume.inbox import Inbox
from chassis.ops.failed_events import FailedEventService
from chassis.ops.outbox import OutboxService
from chassis.process import Supervisor, run_every
from chassis.publish.relay import Relay
from chassis.publish.republish import Republish
from chassis.publish.unmatched_events import UnmatchedEvents
from chassis.rpc import client
from chassis.rpc.circuit_breaker import Breaker
from chassis.rpc.server import Register, configured
from chassis.values.config import ServiceConfig, load
from chassis.values.outgoing_event import OutgoingEvent
from chassis.write import partitions, probe
from chassis.write.database import Database, connect
from chassis.write.migration import migrate
from chassis.write.outbox import Outbox
from chassis.write.tables import StoredVersion

Config = TypeVar("Config", bound=ServiceConfig)
HOUSEKEEPING_S: Final = 3600.0


class Tables(Protocol):
    """A service's tables module."""

    idempotency_keys: Table
    outbox: Table
    failed_events: Table
    stream_positions: Table

    @property
    def stored_versions(self) -> Sequence[StoredVersion]: ...


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What the modules of a service are built on. It ends with `service_context`."""

    config: ServiceConfig
    tables: Tables
    database: Database
    broker: stream.Broker
    stream_name: str
    tasks: Supervisor
    stack: AsyncExitStack
    channels: AsyncExitStack

    async def channel(self, address: str, breaker: Breaker) -> grpc.aio.Channel:
        """A channel to a peer, every call behind its breaker; closed at the end, after the
        tasks: what is in hand may still call.
        """
        return await self.channels.enter_async_context(client.connect(address, breaker=breaker))

    async def open(
        self, services: Iterable[Register], handlers: Mapping[type[Message], Handler[Any]]
    ) -> None:
        """Hears events and answers calls from now on, its operators' too: the last thing at the
        start, the first to end.
        """
        inbox = Inbox(
            self.broker,
            self.database.engine,
            self.tables.failed_events,
            service=self.config.service,
            handlers=handlers,
        )
        self.database.on_change.append(inbox.changed)
        self.tasks.start("inbox", inbox.run())
        unmatched = UnmatchedEvents(
            database=self.database,
            broker=self.broker,
            stream=self.stream_name,
            source=self.config.service,
        )
        outbox = OutboxService(Republish(self.database), unmatched, self.stream_name)
        operators = (
            partial(
                add_FailedEventServiceServicer_to_server,
                FailedEventService(inbox, self.database, self.tables.stored_versions),
            ),
            partial(add_OutboxServiceServicer_to_server, outbox),
        )
        await self.stack.enter_async_context(configured(self.config, (*services, *operators)))

    def work(self, seconds: float, action: Callable[[], Awaitable[object]], name: str) -> None:
        """A worker: does `action` every so many seconds until the end."""
        self.tasks.start(name, run_every(seconds, action, name))


@asynccontextmanager
async def service_context(
    config: ServiceConfig,
    tables: Tables,
    *,
    stream_name: str,
    encode: Callable[[Any], OutgoingEvent],
) -> AsyncIterator[ServiceContext]:
    """The ground of a service that publishes on the stream `stream_name`. The database need not
    be there yet, nor the broker.
    """
    async with AsyncExitStack() as stack:
        url = config.database_url.get_secret_value()
        engine = connect(url, name=config.service, pool_size=config.database_pool_size)
        stack.push_async_callback(engine.dispose)
        limits = stream.Limits(max_bytes=config.stream_bytes_max, replicas=config.stream_replicas)
        broker = await stream.connect(
            config.nats_url.get_secret_value(), name=config.service, limits=limits
        )
        stack.push_async_callback(broker.close)
        database = Database(engine, tables.idempotency_keys, Outbox(tables.outbox, encode=encode))
        relay = Relay(
            database,
            broker,
            positions=tables.stream_positions,
            stream=stream_name,
            source=config.service,
        )
        stack.push_async_callback(relay.drain)
        channels = await stack.enter_async_context(AsyncExitStack())
        tasks = await stack.enter_async_context(Supervisor())
        tasks.start("relay", relay.run())
        tasks.start("database probe", probe.run(engine))
        ground = ServiceContext(
            config=config,
            tables=tables,
            database=database,
            broker=broker,
            stream_name=stream_name,
            tasks=tasks,
            stack=stack,
            channels=channels,
        )
        ground.work(
            HOUSEKEEPING_S, lambda: partitions.maintain(engine, tables.outbox), "partitions"
        )
        ground.work(
            HOUSEKEEPING_S, lambda: database.idempotency_keys.sweep(engine), "idempotency keys"
        )
        yield ground


def main(config: type[Config], running: Callable[[Config], Any]) -> NoReturn:
    """What `python -m <name>_svc` does: serves; with the argument `migrate`, brings its database
    up to date and ends.
    """
    arguments, settings = sys.argv[1:], load(config)
    match arguments:
        case []:
            process.run(running, settings)
        case ["migrate"]:
            migrate(settings.database_url.get_secret_value(), f"{settings.service}_svc")
            raise SystemExit(0)
        case _:
            sys.stderr.write(f"usage: python -m {settings.service}_svc [migrate]\n")
            raise SystemExit(2)
