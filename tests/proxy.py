"""A TCP proxy that can hold, delay, freeze, reset or lose the bytes of its connections, for tests
of connections that fail as real ones do.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

ASKED, ANSWERED = "asked", "answered"  # the two directions of bytes
BOTH = frozenset({ASKED, ANSWERED})


@dataclass(slots=True, kw_only=True)
class Struck:
    """Counts the portions that the proxy held, delayed, lost or froze, and the connections that it
    reset.
    """

    held: int = 0
    delayed: int = 0
    lost: int = 0
    stranded: int = 0
    cut: int = 0


class Proxy:
    """Forwards connections from `port` on 127.0.0.1 to another port there; `target` may be
    set after the proxy has started.
    """

    def __init__(self, target: int = 0) -> None:
        self.target, self.port, self.accepted = target, 0, 0
        self.struck = Struck()
        self.delay_s = 0.0  # the delay of each portion
        # bytes in these directions are lost, and their connection is reset
        self.losing: frozenset[str] = frozenset()
        self._flows, self._over = asyncio.Event(), asyncio.Event()
        self._flows.set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """The number of connections through the proxy now."""
        return len(self._writers) // 2

    def freeze(self) -> None:
        """Freezes the present connections for good: the proxy neither forwards nor closes them.
        New ones work.
        """
        self._frozen |= self._writers

    def stop(self) -> None:
        """Holds the bytes of every connection until `go`."""
        self._flows.clear()

    def go(self) -> None:
        """Forwards the held bytes at full speed. Frozen connections stay frozen."""
        self.delay_s, self.losing = 0.0, frozenset()
        self._flows.set()

    def cut(self) -> None:
        """Resets all connections."""
        live = [writer for writer in self._writers if not writer.transport.is_closing()]
        self.struck.cut += len(live) // 2
        for writer in live:
            writer.transport.abort()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        """Listens meanwhile."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._flows.set()
            self._over.set()
            self.cut()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._accept(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._forward(ASKED, reader, far_writer, writer),
                self._forward(ANSWERED, far_reader, writer, far_writer),
            )
        finally:
            self._writers -= pair
            self._frozen -= pair

    async def _forward(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not await self._passes(direction, writer):
                    back.transport.abort()
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def _passes(self, direction: str, writer: asyncio.StreamWriter) -> bool:
        """Applies the present faults to a portion; returns whether to forward it."""
        if self.delay_s:
            self.struck.delayed += 1
            await asyncio.sleep(self.delay_s)
        if not self._flows.is_set():
            self.struck.held += 1
            await self._flows.wait()
        if writer in self._frozen:
            self.struck.stranded += 1
            await self._over.wait()
        if direction in self.losing:
            self.struck.lost += 1
            return False
        return True
