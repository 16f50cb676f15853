"""The payment service's settings, from the environment."""

import re
from typing import ClassVar

from pydantic import Field, SecretStr, field_validator

from chassis.values.config import ServiceConfig

# As Standard Webhooks has it: the base64 of 24 bytes or more. providers/webhooks.py makes the key
# of it.
WEBHOOK_SECRET = re.compile(r"whsec_([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Config(ServiceConfig):
    """The settings of the payment service; chassis.values.config has the common ones."""

    service: ClassVar[str] = "payment"

    listen_address: str = "127.0.0.1:15055"
    metrics_address: str = "127.0.0.1:15065"
    order_address: str = Field(
        default="127.0.0.1:15051", description="host:port of the order service"
    )
    processor_timeout_s: float = Field(
        default=8.0,
        gt=0,
        le=60,
        description="seconds that the service waits for a processor's answer",
    )
    settle_after_s: float = Field(
        default=10.0,
        ge=0.1,
        le=600,
        description="seconds after which an operation without an answer is looked up first",
    )
    settle_interval_s: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="seconds between two searches for operations without an answer",
    )
    sandbox_webhook_secret: SecretStr | None = Field(
        default=None,
        description=(
            "what the sandbox's webhooks are signed with: whsec_ and base64; if unset, only the"
            " sandbox itself can send any"
        ),
    )

    @field_validator("sandbox_webhook_secret")
    @classmethod
    def _signs(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret and not WEBHOOK_SECRET.fullmatch(secret.get_secret_value()):
            raise ValueError("it should be whsec_ followed by the base64 of at least 24 bytes")
        return secret
