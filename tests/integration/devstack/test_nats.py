"""The embedded NATS server keeps its streams, separates its accounts, and explains a failed
start.
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
from tests.nats_accounts import NatsWithAccounts
from tests.support import Eventually


@pytest.fixture
def server(folder: Path) -> Iterator[NatsWithAccounts]:
    """A started server of the test's own with two accounts."""
    server = NatsWithAccounts(folder / "nats", 2)
    server.start()
    yield server
    server.stop()


async def stored(url: str) -> int:
    """Returns the number of messages of the stream KEPT."""
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


async def test_messages_survive_stops_and_kills(server: NatsWithAccounts) -> None:
    """An acknowledged message is there after an orderly stop and after a kill, under the same
    address.
    """
    url = server.account_url(0)
    for count, end in ((1, server.stop), (2, server.kill)):
        await publish(url)
        end()
        server.start()
        assert server.account_url(0) == url
        assert await stored(url) == count


async def test_accounts_do_not_see_each_other(server: NatsWithAccounts) -> None:
    """A stream of one account is unknown in the other, which may have a stream of the same name and
    subjects.
    """
    await publish(server.account_url(0))
    await publish(server.account_url(0))
    await publish(server.account_url(1))
    assert await stored(server.account_url(0)) == 2
    assert await stored(server.account_url(1)) == 1


async def test_account_requires_its_password(server: NatsWithAccounts) -> None:
    """A connection without a password is refused. Passwords are in no log, and in a file that only
    its owner can read.
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


async def test_server_without_accounts_needs_no_password(folder: Path) -> None:
    """A client needs only the plain address of a server without accounts, and streams are written
    to disk at once.
    """
    server = Nats(folder / "nats")
    server.start()
    await publish(server.url)
    assert await stored(server.url) == 1
    server.stop()
    assert "sync_interval: always" in server.store.with_name("nats.conf").read_text()


def test_taken_port_is_named_in_the_error(folder: Path) -> None:
    """The error names the port, and has the type after which the caller tries another port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = Nats(folder / "nats", port)
        with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}"):
            server.start()
    server.start()
    server.stop()


async def test_a_second_server_on_the_same_store_is_refused(
    server: NatsWithAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS itself would let two servers damage one store; the second one is refused, and the first
    still serves.
    """
    monkeypatch.setattr("devstack.server.ORPHANS_GONE_S", 0.0)
    with pytest.raises(DevstackError, match="Another NATS server uses"):
        Nats(server.store).start()
    await publish(server.account_url(0))


async def test_dead_server_is_reported(server: NatsWithAccounts, eventually: Eventually) -> None:
    """A server that another process killed is reported, with its log; one that its owner stops is
    not.
    """
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
