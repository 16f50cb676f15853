"""The proxy between processes in tests has the faults that it names, and counts them: otherwise the
faults of a run would prove nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.proxy import ANSWERED, ASKED, BOTH, Proxy
from tests.support import Eventually

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Call = Callable[[], Awaitable[Streams]]
TIMEOUT_S = 5.0


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy before a server that sends everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]).serving() as proxy:
        yield proxy
    server.close()


@pytest.fixture
async def call(proxy: Proxy) -> AsyncIterator[Call]:
    """Opens connections through the proxy that are proved to work; all are closed at the end."""
    opened: list[asyncio.StreamWriter] = []

    async def open_one() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        opened.append(writer)
        assert await answer((reader, writer), b"hello") == b"hello"
        return reader, writer

    yield open_one
    for writer in opened:
        writer.transport.abort()


async def answer(streams: Streams, sent: bytes) -> bytes:
    """Returns the answer; empty where the connection ends."""
    reader, writer = streams
    try:
        writer.write(sent)
        async with asyncio.timeout(TIMEOUT_S):
            return await reader.read(1024)
    except ConnectionError:
        return b""


async def test_held_bytes_arrive_later(proxy: Proxy, call: Call, eventually: Eventually) -> None:
    """No byte passes until `go`, and then all of them do."""
    streams = await call()
    proxy.stop()
    waiting = asyncio.create_task(answer(streams, b"later"))
    await eventually(lambda: proxy.struck.held == 1)
    assert not waiting.done()
    proxy.go()
    assert await waiting == b"later"


@pytest.mark.parametrize("ways", [frozenset({ASKED}), frozenset({ANSWERED}), BOTH])
async def test_lost_bytes_end_their_connection(
    proxy: Proxy, call: Call, ways: frozenset[str]
) -> None:
    """With lost bytes in either direction, or in both, the caller sees the connection end; the next
    one works.
    """
    streams = await call()
    proxy.losing = ways
    assert await answer(streams, b"lost") == b""
    assert proxy.struck.lost == 1
    proxy.go()
    await call()


async def test_delayed_portions_are_counted(proxy: Proxy, call: Call) -> None:
    """Each portion waits, in both directions."""
    streams = await call()
    proxy.delay_s = 0.01
    assert await answer(streams, b"late") == b"late"
    assert proxy.struck.delayed == 2


async def test_frozen_connection_stays_open_and_a_new_one_works(
    proxy: Proxy, call: Call, eventually: Eventually
) -> None:
    """The frozen connection is half-open: neither answered nor ended."""
    streams = await call()
    proxy.freeze()
    waiting = asyncio.create_task(answer(streams, b"hello?"))
    await eventually(lambda: proxy.struck.stranded == 1)
    proxy.go()
    await call()
    assert not waiting.done()
    waiting.cancel()


async def test_a_cut_ends_every_connection(proxy: Proxy, call: Call) -> None:
    """A cut ends all open connections at once."""
    every = [await call() for _ in range(3)]
    proxy.cut()
    assert proxy.struck.cut == 3
    assert [await answer(streams, b"hello?") for streams in every] == [b""] * 3
