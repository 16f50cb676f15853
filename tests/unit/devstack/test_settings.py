"""The settings that `make run` reads from the environment."""

import socket

import pytest

from devstack import settings
from devstack.errors import DevstackError, PortTaken


def test_defaults_are_those_of_the_architecture() -> None:
    """With an empty environment, each service and server listens on its documented port."""
    read = settings.read({})
    assert read.ports.services == {
        "order": 15051,
        "warehouse": 15052,
        "fulfillment": 15053,
        "shipping": 15054,
        "payment": 15055,
    }
    assert read.ports.metrics == {
        "order": 15061,
        "warehouse": 15062,
        "fulfillment": 15063,
        "shipping": 15064,
        "payment": 15065,
    }
    assert (read.ports.postgres, read.ports.nats) == (15432, 14222)
    assert (read.database_url, read.nats_url) == (None, None)


def test_all_faulty_settings_are_reported_at_once() -> None:
    """One message reports a value that is no number, a port out of range, and a port that is used
    twice.
    """
    with pytest.raises(DevstackError) as caught:
        settings.read(
            {"ORDER_PORT": "tcp://10.0.0.1:80", "NATS_PORT": "70000", "PAYMENT_PORT": "15052"}
        )
    for part in (
        "ORDER_PORT=tcp://10.0.0.1:80 is no port",
        "NATS_PORT=70000",
        "WAREHOUSE_PORT and PAYMENT_PORT are the same port, 15052",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:14333",
        "127.0.0.1",
        "nats://",
        "nats://host:many",
        "http://host:4222",
        "nats://a:1,b:2",
    ],
)
def test_invalid_nats_url_is_reported(url: str) -> None:
    """A server without a scheme is reported. The message hides what may be a password."""
    with pytest.raises(DevstackError, match="NATS_URL is no URL: write it like nats://") as caught:
        settings.read({"NATS_URL": url, "ORDER_PORT": "none"})
    assert "ORDER_PORT=none is no port" in str(caught.value)
    assert url not in str(caught.value).replace("nats://user", "")


@pytest.mark.parametrize(
    "url", ["nats://localhost:14333", "nats://me:secret@host", "tls://a:1, nats://[::1]:2"]
)
def test_valid_nats_url_is_used_unchanged(url: str) -> None:
    """NATS_URL has one server or several, with or without a port."""
    assert settings.read({"NATS_URL": url}).nats_url == url


def test_taken_port_is_reported_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each port in use is reported with its variable. A port that the project's own servers do not
    use is not checked.
    """
    monkeypatch.setattr(settings, "ENDING_S", 0.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        taken = [str(server.getsockname()[1]) for server in (first, second)]
        chosen = settings.read(
            {"ORDER_METRICS_PORT": taken[0], "NATS_PORT": taken[1], "NATS_URL": "nats://elsewhere"}
        )
        with pytest.raises(PortTaken) as caught:
            settings.need_ports(chosen)
    assert f"{taken[0]}    another one: ORDER_METRICS_PORT=" in str(caught.value)
    assert taken[1] not in str(caught.value)
