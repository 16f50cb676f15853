"""Settings from the environment, and the messages about invalid ones."""

from typing import ClassVar

import pytest

from chassis.rpc.server import Server
from chassis.values.config import ServiceConfig, load


class Config(ServiceConfig):
    """The settings that each service has."""

    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:15099"
    metrics_address: str = "127.0.0.1:15098"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with only the two settings that have no default."""
    for field in Config.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://jane:pass@127.0.0.1:15432/orders")
    monkeypatch.setenv("NATS_URL", "nats://jane:pass@127.0.0.1:14222")
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    """A field's variable is its name in capitals. An empty variable counts as not set, and the
    service's default holds.
    """
    environment.setenv("STRICT_DEADLINES", "true")
    environment.setenv("LISTEN_ADDRESS", "[::1]:0")
    environment.setenv("METRICS_ADDRESS", "")
    config = load(Config)
    assert (config.strict_deadlines, config.listen_address, config.metrics_address) == (
        True,
        "[::1]:0",
        "127.0.0.1:15098",
    )
    assert config.database_url.get_secret_value().startswith("postgresql+psycopg://")


def test_password_of_an_address_is_hidden() -> None:
    """The printed form for logs and tracebacks has no part of an address with a password."""
    config = load(Config)
    assert (
        "pass"
        not in repr(config) + str(config) + str(config.model_dump()) + config.model_dump_json()
    )


def test_all_invalid_settings_are_reported_at_once(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each fault is a sentence with the variable and its purpose, without its value. The process
    then exits with code 2.
    """
    environment.delenv("DATABASE_URL")
    environment.setenv("LISTEN_ADDRESS", "secret")
    environment.setenv("METRICS_ADDRESS", "127.0.0.1:70000")
    environment.setenv("CALLS_MAX", "0")
    environment.setenv("DRAIN_GRACE_S", "secret")
    environment.setenv("LOG_LEVEL", "secret")
    with pytest.raises(SystemExit) as caught:
        load(Config)
    assert caught.value.code == 2
    output = capsys.readouterr().err
    assert "secret" not in output
    sentences = output.splitlines()[1:]
    for variable in (
        "DATABASE_URL",
        "LISTEN_ADDRESS",
        "METRICS_ADDRESS",
        "CALLS_MAX",
        "DRAIN_GRACE_S",
        "LOG_LEVEL",
    ):
        assert sum(sentence.strip().startswith(variable) for sentence in sentences) == 1, variable
    assert (
        "  DATABASE_URL is not set (PostgreSQL, as postgresql+psycopg://user:password@host:port/database)."
        in sentences
    )
    assert any("host:port for gRPC" in sentence for sentence in sentences), (
        "a description survives a subclass's default"
    )


def test_channelz_beyond_loopback_is_refused(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Channelz on an address that other machines reach is a fault; on loopback it is valid."""
    environment.setenv("CHANNELZ", "true")
    assert load(Config).channelz
    environment.setenv("LISTEN_ADDRESS", "0.0.0.0:15099")
    with pytest.raises(SystemExit):
        load(Config)
    assert "CHANNELZ" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["listen_address", "metrics_address"])
def test_default_address_is_checked_like_a_setting(field: str) -> None:
    """The service's default address is checked like one from the environment."""
    wrong = type("Wrong", (Config,), {field: "nowhere", "__annotations__": {field: str}})
    with pytest.raises(SystemExit):
        load(wrong)


async def test_settings_reach_the_server(environment: pytest.MonkeyPatch) -> None:
    """The server uses the values of the environment."""
    for variable, value in {
        "CALLS_MAX": "7",
        "STREAMS_MAX": "8",
        "DRAIN_DELAY_S": "0.25",
        "DRAIN_GRACE_S": "9",
    }.items():
        environment.setenv(variable, value)
    config = Server(load(Config), []).config
    assert config.listen_address == "127.0.0.1:15099"
    assert (config.calls_max, config.streams_max, config.drain_delay_s, config.drain_grace_s) == (
        7,
        8,
        0.25,
        9,
    )
