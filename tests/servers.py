"""A server with settings for tests. No tests here."""

from collections.abc import Iterable
from typing import Any

from chassis.rpc.server import Register, Server
from chassis.values.config import ServiceConfig


def quick_server(
    services: Iterable[Register], address: str = "127.0.0.1:0", **settings: Any
) -> Server:
    """Returns a server that drains without delay, within a second; `settings` are those of
    ServiceConfig.
    """
    values: dict[str, Any] = {
        "database_url": "postgresql://",
        "nats_url": "nats://",
        "listen_address": address,
        "metrics_address": "127.0.0.1:0",
        "drain_delay_s": 0,
        "drain_grace_s": 1,
    }
    return Server(ServiceConfig(**values | settings), services)
