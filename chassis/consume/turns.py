"""Turns on the event loop: of all work that shares one `Turns`, a single step runs in an iteration
of the loop.

A step is the code that a coroutine runs between two waits. Other tasks that are ready, such as
calls, run between any two steps of that work, even when there is much of it. If no other task is
ready, no time is lost.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Turns:
    """Takes the steps of many coroutines in turn, the one that has waited longest first."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def take(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of `work`, after as many turns as it has steps."""
        return await _stepped(work, self._turn)


@coroutine
def _stepped(work: Coroutine[Any, Any, T], turn: asyncio.Lock) -> Generator[Any, Any, T]:
    """Drives a coroutine as a task does, and holds the turn during each of its steps."""
    step: Callable[[], Any] = partial(work.send, None)
    while True:
        try:
            yield from turn.acquire().__await__()
        except asyncio.CancelledError as error:
            step = partial(work.throw, error)  # its last steps run without a turn
        else:
            asyncio.get_running_loop().call_soon(turn.release)  # in the next iteration
        try:
            awaited = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # the coroutine's result
        try:
            yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001  # as `yield from` hands it on
            step = partial(work.throw, error)
        else:
            step = partial(work.send, None)
