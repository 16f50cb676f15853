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


def known_roads() -> list[str]:
    """Returns all connections, as "payment>order": a service's settings name its peers."""
    roads = [f"{service}>{server}" for service in SERVICES for server in ("postgres", "nats")]
    for service in SERVICES:
        fields = importlib.import_module(f"{service}_svc.config").Config.model_fields
        roads += [f"{service}>{peer}" for peer in SERVICES if f"{peer}_address" in fields]
    return roads


@dataclass(frozen=True, slots=True)
class Roads:
    """The proxies by connection; `route` leads a devstack.stack.Stack over them."""

    proxies: Mapping[str, Proxy]

    def route(self, service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Returns the service's environment with the proxies' addresses."""
        routed = dict(environment)
        for road, proxy in self.proxies.items():
            start, _, end = road.partition(">")
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
async def open_roads() -> AsyncIterator[Roads]:
    """Opens proxies on all connections; the stack sets their targets when it starts."""
    async with AsyncExitStack() as stack:
        yield Roads(
            {road: await stack.enter_async_context(Proxy().serving()) for road in known_roads()}
        )
