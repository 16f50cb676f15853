"""A gRPC server as every service runs it: interceptors in their order, health, reflection,
channelz, and a drain that loses no call.

What lives here: the assembly, its start and its end. What happens around a single call is in
chassis/rpc/interceptors.py, and what runs is known to chassis/rpc/in_flight.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from chassis.rpc import interceptors
from chassis.rpc.in_flight import InFlight
from chassis.rpc.reflection import Reflection
from chassis.values.config import ServiceConfig

Register = Callable[[grpc.aio.Server], None]

# What a request or a response may have: what clients take where nothing else is configured.
MESSAGE_BYTES_MAX: Final = 4 << 20
STREAMS_PER_CONNECTION_MAX: Final = 1_000
# Connections end now and then, so that clients look the name up again and find new replicas; calls
# get as long again.
CONNECTION_AGE_MS: Final = 600_000
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),  # else a second process silently shares the port
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_MS),
    # Clients ping every 20 s (chassis/rpc/client.py), also while they call nothing; one that pings
    # twice as often is still welcome.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
# How long a drain waits, once no call of ours runs, for the last answers to leave. What is open
# then is a standard service's stream: a balancer that watches health, somebody at the reflection.
# It has heard NOT_SERVING, and would stay for the whole grace.
LAST_ANSWERS_S: Final = 1.0
# How long aborted handlers may take for their `finally` after gRPC has given them up.
ABORTED_S: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server admits and how it ends. Times in seconds."""

    calls_max: int = 256
    streams_max: int = 1_000
    drain_delay_s: float = 0.5
    drain_grace_s: float = 10.0


class Server:
    """A gRPC server on `address` (host:port; port 0: any free one, which `port` tells once it has
    started).

    `services` puts each servicer in, with the generated function:
    `partial(add_OrderServiceServicer_to_server, OrderService(...))`. As a context manager it starts
    on entering and drains on leaving. `channelz` shows every connection to whoever asks: the
    settings allow it on loopback alone.
    """

    def __init__(
        self,
        address: str,
        services: Iterable[Register],
        *,
        strict_deadlines: bool = False,
        channelz: bool = False,
        reflect: bool = True,
        limits: Limits = Limits(),
    ) -> None:
        self.address, self.port, self.limits = address, 0, limits
        self._in_flight = InFlight()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[
                interceptors.Trace(),
                interceptors.Metrics(),
                interceptors.Errors(),
                self._in_flight,
                interceptors.Deadline(strict=strict_deadlines),
                interceptors.Admission(calls_max=limits.calls_max, streams_max=limits.streams_max),
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
        if reflect:
            _add_reflection(
                self._server, (*self.names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            )
        if channelz:
            _add_channelz(self._server)

    async def start(self) -> None:
        """Listen and serve. Raises OSError when the address cannot be had."""
        try:
            self.port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(
                f"LISTEN_ADDRESS {self.address} cannot be listened on: another process has it, or"
                " it is not ours"
            ) from error
        for name in ("", *self.names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        _log.info(
            "serving",
            listening=f"{self.address.rpartition(':')[0]}:{self.port}",
            services=list(self.names),
        )

    async def drain(self) -> None:
        """End without losing a call; at most the limits' drain delay and grace.

        NOT_SERVING; a moment, in which balancers take note and calls are still answered; no new
        calls, and streams end; what is running gets the grace to finish. Nobody waits for streams
        of the standard services: they end with the last of our calls.
        """
        _log.info("draining", grace_s=self.limits.drain_grace_s)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self.limits.drain_delay_s)
        stopping = asyncio.create_task(self._server.stop(self.limits.drain_grace_s))
        # stop() has begun: a stream's reader that comes back at once does not find this server
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


def configured(config: ServiceConfig, services: Iterable[Register]) -> Server:
    """The server that a service's settings ask for."""
    limits = Limits(
        calls_max=config.calls_max,
        streams_max=config.streams_max,
        drain_delay_s=config.drain_delay_s,
        drain_grace_s=config.drain_grace_s,
    )
    return Server(
        config.listen_address,
        services,
        strict_deadlines=config.strict_deadlines,
        channelz=config.channelz,
        reflect=config.reflection,
        limits=limits,
    )


class _Registry:
    """Takes part in the generated registration, to learn the services' names."""

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
    """Reflection under both its names: Python has only the messages of v1alpha, newer tools ask for
    v1; they are the same.

    The v1 name itself is not listed: there is no descriptor of it, and tools that look it up would
    stumble.
    """
    handler = grpc.stream_stream_rpc_method_handler(
        Reflection(names).ServerReflectionInfo,
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


def _add_channelz(server: grpc.aio.Server) -> None:
    # Imported here: it registers its descriptors, and only who asks for channelz should have them.
    from grpc_channelz.v1 import channelz

    channelz.add_channelz_servicer(server)
