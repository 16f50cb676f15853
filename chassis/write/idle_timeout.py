"""A PostgreSQL connection that closes when the server does not answer.

The server bounds its statements itself, and the kernel notices a network that is gone. Neither
helps where the other side still takes bytes and never answers: a frozen server, or a middlebox that
has dropped the connection's state. Then the client closes the connection.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from psycopg import AsyncConnection


class IdleTimeout(AsyncConnection[Any]):
    """Closes the connection where the server has not answered for `idle_timeout_s`. The waiting
    caller gets the error of a lost connection.
    """

    idle_timeout_s = 15.0

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        # Not a timeout of asyncio's: it cancels, and psycopg then waits ten seconds more for the
        # server's answer.
        timer = asyncio.get_running_loop().call_later(
            self.idle_timeout_s, _shut_down, self.pgconn.socket
        )
        try:
            return await super().wait(*args, **kwargs)
        finally:
            timer.cancel()


def connection_opener(idle_timeout_s: float) -> Callable[..., Awaitable[IdleTimeout]]:
    """Returns a function that opens connections with this time-out: SQLAlchemy's
    `async_creator_fn`.
    """

    async def opened(*args: Any, **kwargs: Any) -> IdleTimeout:
        opening = asyncio.ensure_future(IdleTimeout.connect(*args, **kwargs))
        try:
            connection = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # psycopg, when it is cancelled, leaves the connection half-open until the garbage is
            # collected.
            opening.add_done_callback(_close)
            raise
        connection.idle_timeout_s = idle_timeout_s
        return connection

    return opened


def _close(opening: asyncio.Future[IdleTimeout]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().pgconn.finish()


def _shut_down(number: int) -> None:
    """Ends the connection under the file descriptor. The descriptor's owner still closes the
    descriptor.
    """
    # it may have ended at this moment
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as ours:
        ours.shutdown(socket.SHUT_RDWR)
