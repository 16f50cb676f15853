"""A proxy on each connection of a service: to its database, to the broker, and to the services that
it calls.
"""

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from tests.chaos.plan import SERVICES
from tests.proxy import Proxy


def known_connections() -> list[str]:
    """Returns all connections, as "payment>order": a service's settings name its peers."""
    connections = [f"{service}>{server}" for service in SERVICES for server in ("postgres", "nats")]
    for service in SERVICES:
        fields = importlib.import_module(f"{service}_svc.config").Config.model_fields
        connections += [f"{service}>{peer}" for peer in SERVICES if f"{peer}_address" in fields]
    return connections


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies; `route` leads a devstack.stack.Stack over them."""

    by_connection: Mapping[str, Proxy]

    def route(self, service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Returns the service's environment with the proxies' addresses."""
        routed = dict(environment)
        for connection, proxy in self.by_connection.items():
            start, _, end = connection.partition(">")
            if start != service:
                continue
            if end == "postgres":
                url = make_url(environment["DATABASE_URL"])
                proxy.target = url.port or 5432
                routed["DATABASE_URL"] = url.set(port=proxy.port).render_as_string(
                    hide_password=False
                )
            elif end == "nats":
                proxy.target = urlsplit(environment["NATS_URL"]).port or 4222
                routed["NATS_URL"] = environment["NATS_URL"].replace(
                    f":{proxy.target}", f":{proxy.port}"
                )
            else:
                proxy.target = int(environment[f"{end.upper()}_ADDRESS"].rpartition(":")[2])
                routed[f"{end.upper()}_ADDRESS"] = f"127.0.0.1:{proxy.port}"
        return routed


@asynccontextmanager
async def open_proxies() -> AsyncIterator[Proxies]:
    """Opens proxies on all connections; the stack sets their targets when it starts."""
    async with AsyncExitStack() as stack:
        yield Proxies(
            {
                connection: await stack.enter_async_context(Proxy().serving())
                for connection in known_connections()
            }
        )
