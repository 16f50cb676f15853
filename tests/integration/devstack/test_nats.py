"""The embedded NATS server keeps its streams, keeps its accounts apart, and says clearly why it
does not start.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from devstack.errors import DevstackError, PortTaken
from devstack.nats import Nats
from tests.support import Eventually


@pytest.fixture
def server(folder: Path) -> Iterator[Nats]:
    """A server of the test's own with two accounts, started."""
    server = Nats(folder / "nats", accounts=2)
    server.start()
    yield server
    server.stop()


async def stored(url: str) -> int:
    """How many messages the stream KEPT has."""
    client = await nats.connect(url)
    try:
        return int((await client.jetstream().stream_info("KEPT")).state.messages)
    finally:
        await client.close()


async def publish(url: str) -> None:
    """Publishes a message into the stream KEPT, and waits until it is stored."""
    client = await nats.connect(url)
    try:
        await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
        await client.jetstream().publish("kept.one", b"7")
    finally:
        await client.close()


async def test_messages_survive_stops_and_kills(server: Nats) -> None:
    """What was acknowledged is there after an orderly stop and after a kill, under the same
    address.
    """
    url = server.account_url(0)
    for count, end in ((1, server.stop), (2, server.kill)):
        await publish(url)
        end()
        server.start()
        assert server.account_url(0) == url
        assert await stored(url) == count


async def test_accounts_do_not_see_each_other(server: Nats) -> None:
    """A stream of one account is unknown in the other, which may have one of the same name and
    subjects.
    """
    await publish(server.account_url(0))
    await publish(server.account_url(0))
    await publish(server.account_url(1))
    assert await stored(server.account_url(0)) == 2
    assert await stored(server.account_url(1)) == 1


async def test_an_account_wants_its_password(server: Nats) -> None:
    """Nobody gets in without one; passwords are in no log, and in a file that its owner alone
    can read.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"CONNECT {}\r\nPING\r\n")
    assert b"Authorization Violation" in await reader.read()
    writer.close()
    await writer.wait_closed()
    password = server.account_url(0).partition("account_0:")[2].partition("@")[0]
    configuration = server.store.with_name("nats.conf")
    assert password in configuration.read_text()
    assert configuration.stat().st_mode & 0o077 == 0
    assert password not in server.log.read_text()


async def test_without_accounts_anybody_on_this_machine_connects(folder: Path) -> None:
    """The plain address is enough for a server without accounts, and streams are written to disk
    at once.
    """
    server = Nats(folder / "nats")
    server.start()
    await publish(server.url)
    assert await stored(server.url) == 1
    server.stop()
    assert "sync_interval: always" in server.store.with_name("nats.conf").read_text()


def test_a_taken_port_is_told(folder: Path) -> None:
    """The error names the port, and is of the kind that another port can answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = Nats(folder / "nats", port)
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}"):
            server.start()
    server.start()
    server.stop()


async def test_a_second_server_on_the_same_store_is_refused(
    server: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS itself would let two servers spoil one store; the second one is refused, and the
    first serves on.
    """
    monkeypatch.setattr("devstack.nats.ORPHAN_GONE_S", 0.0)
    with pytest.raises(DevstackError, match="Another NATS server uses"):
        Nats(server.store).start()
    await publish(server.account_url(0))


async def test_a_dead_server_is_noticed(server: Nats, eventually: Eventually) -> None:
    """A server that somebody else killed is reported, with its log; one that we stop is not."""
    server.check()
    child = server.child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    await eventually(lambda: not child.running)
    with pytest.raises(DevstackError, match=r"(?s)NATS was killed \(SIGKILL\).*Server is ready"):
        server.check()
    server.start()
    server.stop()
    server.check()
