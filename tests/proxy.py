"""A TCP proxy that can freeze or cut what goes through it, for tests of connections that die without a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards connections from `port` on 127.0.0.1 to another port there."""

    def __init__(self, target: int) -> None:
        self.target, self.port, self.accepted = target, 0, 0
        self._flows, self._over = asyncio.Event(), asyncio.Event()
        self._flows.set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def freeze(self) -> None:
        """The connections of now fall silent, for good: nothing is forwarded and nothing is closed. New ones work."""
        self._frozen |= self._writers

    def stop(self) -> None:
        """Nothing is forwarded on any connection, until `go`."""
        self._flows.clear()

    def go(self) -> None:
        """What was stopped goes on; what was frozen does not."""
        self._flows.set()

    def cut(self) -> None:
        """All connections are reset."""
        for writer in self._writers:
            writer.transport.abort()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        """Listens meanwhile."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._flows.set()
            self._over.set()
            self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                if writer in self._frozen:
                    await self._over.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
