"""The addresses of the services and the broker, from the environment; by default those of
`make run`.
"""

from pydantic import Field, SecretStr

import omctl.config


class Settings(omctl.config.Settings):
    """The settings of omctl, and the broker's URL."""

    nats_url: SecretStr = Field(
        default=SecretStr("nats://127.0.0.1:14222"),
        description="NATS; it may hold a password, and is never shown",
    )
