"""The payment service's settings: the valid secrets, which are never printed."""

import base64

import pytest
from pydantic import SecretStr, ValidationError

from chassis.values.config import faults
from payment_svc.config import Config
from payment_svc.providers.webhooks import key_of


def configured(secret: str | None) -> Config:
    key = SecretStr(secret) if secret else None
    return Config(
        database_url=SecretStr("postgresql://localhost/payment"),
        nats_url=SecretStr("nats://localhost"),
        sandbox_webhook_secret=key,
    )


GOOD = [f"whsec_{base64.b64encode(bytes(size)).decode()}" for size in (24, 25, 26, 32, 64)]
BAD = [
    "secret",
    "whsec_",
    "whsec_short",
    f"whsec_{base64.b64encode(bytes(23)).decode()}",
    f"{GOOD[0]}A",
    f" {GOOD[0]}",
]


@pytest.mark.parametrize("secret", GOOD)
def test_valid_secret_makes_a_key(secret: str) -> None:
    """A secret that passes the check can sign, and is not printed."""
    config = configured(secret)
    assert config.sandbox_webhook_secret
    assert len(key_of(config.sandbox_webhook_secret.get_secret_value())) >= 24
    assert secret not in repr(config)


@pytest.mark.parametrize("secret", BAD)
def test_invalid_secret_is_refused_at_the_start(secret: str) -> None:
    """The sentence names the variable without its value; making the key would fail as well."""
    with pytest.raises(ValidationError) as refused:
        configured(secret)
    [sentence] = faults(Config, refused.value)
    assert sentence.startswith("SANDBOX_WEBHOOK_SECRET is not right")
    assert secret not in sentence or secret == "whsec_"
    with pytest.raises(ValueError, match="webhook secret"):
        key_of(secret)


def test_missing_secret_lets_only_the_sandbox_sign() -> None:
    """The code has no default secret."""
    assert configured(None).sandbox_webhook_secret is None
