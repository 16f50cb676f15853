"""The gRPC server of every service: interceptors in their order, health, reflection, channelz, and
a drain that loses no call.

This module has the assembly, its start and its end. chassis/rpc/interceptors.py surrounds each
call, and chassis/rpc/in_flight.py counts the running ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from chassis.rpc import interceptors
from chassis.rpc.in_flight import InFlight
from chassis.rpc.reflection import servicer
from chassis.values.config import ServiceConfig

Register = Callable[[grpc.aio.Server], None]

# The bound of a request or a response: the size that clients take by default.
MESSAGE_BYTES_MAX: Final = 4 << 20
# Connections end now and then, so that clients resolve the name again and find new replicas; calls
# get as long again.
CONNECTION_AGE_MS: Final = 600_000
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),  # else a second process silently shares the port
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_MS),
    # Clients ping every 20 s (chassis/rpc/client.py), also without a call; a client may ping twice
    # as often.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
# How long a drain waits, after the last call of a service's own methods, for the last answers to
# leave. Streams that are open then are those of standard services: a balancer that watches health,
# a client of the reflection. They got NOT_SERVING, and would otherwise last for the whole grace.
LAST_ANSWERS_S: Final = 1.0
# How long aborted handlers may take for their `finally` after gRPC has aborted them.
ABORTED_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Server:
    """A gRPC server with a service's settings; after the start `port` is the port that it has.

    `services` adds each servicer, with the generated function:
    `partial(add_OrderServiceServicer_to_server, OrderService(...))`. As a context manager it starts
    on entering and drains on leaving.
    """

    def __init__(self, config: ServiceConfig, services: Iterable[Register]) -> None:
        self.config, self.port = config, 0
        self._in_flight = InFlight()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[
                interceptors.Trace(),
                interceptors.Metrics(),
                interceptors.Errors(),
                self._in_flight,
                interceptors.Deadline(strict=config.strict_deadlines),
                interceptors.Admission(calls_max=config.calls_max, streams_max=config.streams_max),
                interceptors.Actor(),
                interceptors.Validation(),
            ],
            options=OPTIONS,
        )
        registry = _Registry(self._server)
        for register in services:
            register(cast(grpc.aio.Server, registry))
        self.names = tuple(registry.names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            _add_reflection(
                self._server, (*self.names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            )
        if config.channelz:
            # Imported here: the import registers its descriptors, which only a server with channelz
            # should have.
            from grpc_channelz.v1 import channelz

            channelz.add_channelz_servicer(self._server)

    async def start(self) -> None:
        """Listens and serves. Raises OSError when the address cannot be had."""
        try:
            self.port = self._server.add_insecure_port(self.config.listen_address)
        except RuntimeError as error:
            raise OSError(
                f"LISTEN_ADDRESS {self.config.listen_address} cannot be listened on: another"
                " process has it, or this machine does not have it"
            ) from error
        for name in ("", *self.names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        _log.info(
            "serving",
            listening=f"{self.config.listen_address.rpartition(':')[0]}:{self.port}",
            services=list(self.names),
        )

    async def drain(self) -> None:
        """Ends without losing a call, within the drain delay and the grace.

        Health becomes NOT_SERVING. For the drain delay, balancers notice that and calls are still
        answered. Then new calls are refused and streams end; running calls get the grace to finish.
        The drain does not wait for streams of the standard services: they end after the last call
        of the other services.
        """
        _log.info("draining", grace_s=self.config.drain_grace_s)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self.config.drain_delay_s)
        stopping = asyncio.create_task(self._server.stop(self.config.drain_grace_s))
        # stop() has begun: a stream's reader that reconnects at once does not find this server
        # again
        await asyncio.sleep(0)
        self._in_flight.end_streams()
        through = asyncio.create_task(self._in_flight.idle(LAST_ANSWERS_S))
        await asyncio.wait([stopping, through], return_when=asyncio.FIRST_COMPLETED)
        if not through.cancel():
            await self._server.stop(None)
        await stopping
        try:
            async with asyncio.timeout(ABORTED_S):
                await self._in_flight.idle()
        except TimeoutError:
            _log.error("calls still running after the drain")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.drain()


class _Registry:
    """Collects the services' names: it takes the place of a server in the generated
    registration.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.names: list[str] = []
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.names.append(service_name)
        self._server.add_registered_method_handlers(service_name, method_handlers)


def _add_reflection(server: grpc.aio.Server, names: tuple[str, ...]) -> None:
    """Adds reflection under both its names: Python has only the messages of v1alpha, and newer
    tools ask for v1; they are the same.

    The v1 name itself is not listed: it has no descriptor, and tools that look it up would fail.
    """
    handler = grpc.stream_stream_rpc_method_handler(
        servicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    services = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            for name in services
        )
    )
