"""The settings of `make run`, from the environment: ports, and the user's own servers. All faults
are reported together.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from devstack.errors import DevstackError, PortTaken
from devstack.ports import taken
from devstack.stack import SERVICES, Ports

POSTGRES_PORT = 15432
NATS_PORT = 14222
SERVICE_PORTS = {
    "order": 15051,
    "warehouse": 15052,
    "fulfillment": 15053,
    "shipping": 15054,
    "payment": 15055,
}
METRICS_PORTS = {
    "order": 15061,
    "warehouse": 15062,
    "fulfillment": 15063,
    "shipping": 15064,
    "payment": 15065,
}
NATS_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})
ENDING_S = 3.0  # how long the processes of a killed run may take to end
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """The stack's ports, and the user's servers that it uses in place of its own."""

    ports: Ports
    database_url: str | None
    nats_url: str | None

    def used_ports(self) -> Iterator[tuple[int, str]]:
        """Yields every port that the stack will listen on, with the variable that changes it."""
        for name in SERVICES:
            yield self.ports.services[name], f"{name.upper()}_PORT"
            yield self.ports.metrics[name], f"{name.upper()}_METRICS_PORT"
        if not self.database_url:
            yield self.ports.postgres, "POSTGRES_PORT"
        if not self.nats_url:
            yield self.ports.nats, "NATS_PORT"


def read(environment: Mapping[str, str]) -> Settings:
    """Returns the settings in `environment`. Raises DevstackError with every fault in them."""
    faults: list[str] = []

    def port(variable: str, default: int) -> int:
        text = environment.get(variable) or str(default)
        if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
            return int(text)
        faults.append(
            f"{variable}={text} is no port: give a number from 1 to 65535, or unset it for"
            f" {default}."
        )
        return default

    settings = Settings(
        Ports(
            services={
                name: port(f"{name.upper()}_PORT", default)
                for name, default in SERVICE_PORTS.items()
            },
            metrics={
                name: port(f"{name.upper()}_METRICS_PORT", default)
                for name, default in METRICS_PORTS.items()
            },
            postgres=port("POSTGRES_PORT", POSTGRES_PORT),
            nats=port("NATS_PORT", NATS_PORT),
        ),
        environment.get("DATABASE_URL") or None,
        environment.get("NATS_URL") or None,
    )
    variables: dict[int, list[str]] = {}
    for number, variable in settings.used_ports():
        variables.setdefault(number, []).append(variable)
    faults += [
        f"{' and '.join(names)} are the same port, {number}."
        for number, names in variables.items()
        if len(names) > 1
    ]
    if settings.nats_url and not all(map(_is_of_nats, settings.nats_url.split(","))):
        faults.append(
            "NATS_URL is no URL: write it like nats://user:password@host:4222, several with commas"
            " between."
        )
    if faults:
        raise DevstackError("\n".join(faults))
    return settings


def _is_of_nats(url: str) -> bool:
    """Returns whether the URL names a server: `localhost:4222` without a scheme would parse as a
    scheme and a path.
    """
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in NATS_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def need_ports(settings: Settings) -> None:
    """Raises PortTaken with every port that is taken, and the variables that choose others."""
    deadline = time.monotonic() + ENDING_S
    while busy := [
        (number, variable) for number, variable in settings.used_ports() if taken(number)
    ]:
        if time.monotonic() > deadline:
            ports = "\n".join(
                f"    {number}    another one: {variable}=..." for number, variable in busy
            )
            raise PortTaken(
                f"These ports of 127.0.0.1 are taken:\n{ports}\nStop what listens there (`ss -ltnp`"
                " shows it), or choose others in the environment."
            )
        time.sleep(POLL_S)  # a free port gives no event; the deadline bounds the loop
