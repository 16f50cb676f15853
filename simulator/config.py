"""Where the services and the broker are: from the environment, by default where `make run` puts
them.
"""

from pydantic import Field, SecretStr

import omctl.config


class Settings(omctl.config.Settings):
    """What omctl knows, and the broker."""

    nats_url: SecretStr = Field(
        default=SecretStr("nats://127.0.0.1:14222"),
        description="NATS; it may hold a password, and is never shown",
    )
