"""A service's settings: typed, read from the environment, with all faults reported at once.

This module has the settings of every service and the reading of settings. A service's own settings
are in its config.py, in a subclass that names its default addresses. A field's environment variable
is its name in capitals.
"""

import re
import sys
from typing import ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):([0-9]{1,5})")
LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
EXIT_CODE: Final = 2

Config = TypeVar("Config", bound="BaseSettings")


class ServiceConfig(BaseSettings):
    """The settings of every service. A setting that may hold a password is a secret: no log and no
    message shows it.

    A subclass sets `service` (its short name, for logs, metrics and traces) and the default
    addresses.
    """

    service: ClassVar[str]

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(
        description="PostgreSQL, as postgresql+psycopg://user:password@host:port/database"
    )
    nats_url: SecretStr = Field(
        description="NATS, as nats://host:port; several with commas between"
    )
    listen_address: str = Field(description="host:port for gRPC; port 0 is any free one")
    metrics_address: str = Field(description="host:port for Prometheus to scrape")

    strict_deadlines: bool = Field(
        default=False, description="refuse calls that come without a deadline"
    )
    calls_max: int = Field(
        default=256, ge=1, le=100_000, description="calls answered at once; more are refused"
    )
    streams_max: int = Field(
        default=1_000, ge=1, le=100_000, description="open streams at once; more are refused"
    )
    drain_delay_s: float = Field(
        default=0.5, ge=0, le=60, description="seconds of serving after health is NOT_SERVING"
    )
    drain_grace_s: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="seconds that calls get to finish when the service ends",
    )
    database_pool_size: int = Field(
        default=8, ge=1, le=100, description="pooled database connections of the process"
    )
    stream_replicas: int = Field(
        default=1,
        ge=1,
        le=5,
        description="servers of the broker that hold a copy of the service's events",
    )
    stream_bytes_max: int = Field(
        default=4 * 2**30,
        ge=2**20,
        le=2**60,
        description="bytes of events that the broker keeps; then it refuses more, and they wait",
    )
    reflection: bool = Field(default=True, description="serve the contracts over gRPC reflection")
    channelz: bool = Field(
        default=False,
        description="serve channelz; only where LISTEN_ADDRESS is on loopback",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least important lines to log"
    )

    @field_validator("listen_address", "metrics_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        """Validates an address, also where a subclass gives the default."""
        parts = ADDRESS.fullmatch(value)
        if not parts or int(parts[2]) > 65_535:
            raise ValueError("it should be host:port, with a port up to 65535")
        return value

    @model_validator(mode="after")
    def _shows_connections_to_itself_alone(self) -> Self:
        if self.channelz and not self.listen_address.startswith(LOOPBACK):
            raise ValueError(
                "CHANNELZ shows every connection to every caller: it is only for a LISTEN_ADDRESS"
                " on loopback"
            )
        return self


def load(config: type[Config]) -> Config:
    """Returns the settings from the environment. If any are faulty, writes every fault to stderr
    and exits with code 2.
    """
    try:
        return config()
    except ValidationError as error:
        sentences = "".join(f"  {sentence}\n" for sentence in faults(config, error))
        sys.stderr.write(f"The service cannot start with these settings:\n{sentences}")
        raise SystemExit(EXIT_CODE) from None


def faults(config: type[BaseSettings], error: ValidationError) -> list[str]:
    """Returns each fault as a sentence that names the environment variable, and never its value."""
    return [
        _sentence(config, fault)
        for fault in error.errors(include_url=False, include_context=True, include_input=False)
    ]


def _sentence(config: type[BaseSettings], fault: ErrorDetails) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else ""
    said = fault["msg"].removeprefix("Value error, ")
    if field not in config.model_fields:
        return f"{said}."
    # A subclass that only sets a default has the description in its base.
    bases = (
        base.model_fields[field]
        for base in config.__mro__
        if issubclass(base, BaseSettings) and field in base.model_fields
    )
    about = next((base.description for base in bases if base.description), "")
    wanted = f" ({about})" if about else ""
    if fault["type"] == "missing":
        return f"{field.upper()} is not set{wanted}."
    return f"{field.upper()} is not right{wanted}: {said[:1].lower()}{said[1:]}."
