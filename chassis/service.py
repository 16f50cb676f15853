"""Composes a service: database, broker, relay, inbox, workers and server, ended in reverse order.

This module has the order of starting and ending, the same for all five services. `running` in each
service's app.py has the rest: it enters `service_context`, builds the operations, starts the
workers and, last, calls `open`.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

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
from chassis.rpc.server import Register, Server
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext:
    """The parts that a service's modules are built from. They end with `service_context`."""

    config: ServiceConfig
    tables: Tables
    database: Database
    broker: stream.Broker
    stream_name: str
    tasks: Supervisor
    stack: AsyncExitStack
    channels: AsyncExitStack

    async def channel(self, address: str, breaker: Breaker) -> grpc.aio.Channel:
        """Returns a channel to a peer, with every call behind the breaker. It closes after the
        tasks have ended, because a task that ends may still call.
        """
        return await self.channels.enter_async_context(client.connect(address, breaker=breaker))

    async def open(
        self, services: Iterable[Register], handlers: Mapping[type[Message], Handler[Any]]
    ) -> None:
        """Consumes events and answers calls from now on, those of operators too. A service does
        this last at its start, and ends it first.
        """
        inbox = Inbox(
            self.broker,
            self.database.engine,
            self.tables.failed_events,
            service=self.config.service,
            handlers=handlers,
        )
        self.database.on_change.append(inbox.parking.changed)
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
        await self.stack.enter_async_context(Server(self.config, (*services, *operators)))

    def work(self, seconds: float, action: Callable[[], Awaitable[object]], name: str) -> None:
        """Starts a worker: it calls `action` every so many seconds until the end."""
        self.tasks.start(name, run_every(seconds, action, name))


@asynccontextmanager
async def service_context(
    config: ServiceConfig,
    tables: Tables,
    *,
    stream_name: str,
    encode: Callable[[Any], OutgoingEvent],
) -> AsyncIterator[ServiceContext]:
    """Yields the context of a service that publishes on the stream `stream_name`. Neither the
    database nor the broker need be there yet.
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
        context = ServiceContext(
            config=config,
            tables=tables,
            database=database,
            broker=broker,
            stream_name=stream_name,
            tasks=tasks,
            stack=stack,
            channels=channels,
        )
        context.work(
            HOUSEKEEPING_S, lambda: partitions.maintain(engine, tables.outbox), "partitions"
        )
        context.work(
            HOUSEKEEPING_S, lambda: database.idempotency_keys.sweep(engine), "idempotency keys"
        )
        yield context


def main(config: type[Config], running: Callable[[Config], Any]) -> None:
    """Runs `python -m <name>_svc`: serves; with the argument `migrate`, migrates the database."""
    arguments, settings = sys.argv[1:], load(config)
    match arguments:
        case []:
            process.run(running, settings)
        case ["migrate"]:
            migrate(settings.database_url.get_secret_value(), f"{settings.service}_svc")
        case _:
            sys.stderr.write(f"usage: python -m {settings.service}_svc [migrate]\n")
            raise SystemExit(2)
