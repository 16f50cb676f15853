"""The calls that a server runs: their number, and their end at a drain.

This module has the interceptor that counts them. chassis/rpc/server.py waits for it, and bounds the
wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chassis.observe import telemetry
from chassis.rpc.interceptor import Context, Interceptor, Method
from chassis.values.errors import Deferred


class InFlight(Interceptor):
    """Counts the running calls, until their last `finally`: gRPC's own stop() does not wait for
    those of calls that it aborts.
    """

    def __init__(self) -> None:
        self._count = self._begun = 0
        running = telemetry.gauge("grpc_server_in_flight", "Calls running now")
        running.set_function(lambda: self._count)
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._waiting: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def around(self, method: Method, context: Context) -> AsyncIterator[None]:
        self._count += 1
        self._begun += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    def end_streams(self) -> None:
        """Ends open streams and refuses new ones, as UNAVAILABLE: their readers resume at another
        replica.
        """
        self._draining = True
        self._ended = set(self._waiting)
        for task in self._ended:
            task.cancel()

    async def idle(self, for_s: float = 0.0) -> None:
        """Waits until no call runs, and none has begun for `for_s` seconds."""
        begun = -1
        while begun != self._begun:
            await self._idle.wait()
            begun = self._begun
            await asyncio.sleep(for_s)

    async def responses(self, stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Yields the stream's responses, until `end_streams`. Only a stream that waits for its next
        response is interrupted, not one that is sending.
        """
        task = asyncio.current_task()
        assert task is not None  # gRPC runs each call in a task
        try:
            while not self._draining:
                self._waiting.add(task)
                try:
                    response = await anext(stream)
                except StopAsyncIteration:
                    return
                finally:
                    self._waiting.discard(task)
                yield response
        except asyncio.CancelledError:
            if task not in self._ended or task.uncancel():
                raise  # gRPC's own: the caller has gone
        finally:
            self._ended.discard(task)
        raise Deferred(
            "DRAINING",
            "the server is shutting down: call again, another one answers",
            retry_after_s=0.1,
        )
