"""Turns on the event loop: of all work that shares one `Turns`, a single step runs in an iteration
of the loop.

A step is the code that a coroutine runs between two waits. Other tasks that are ready, such as
calls, run between any two steps of that work, even when there is much of it. If no other task is
ready, no time is lost.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Turns:
    """Takes the steps of many coroutines in turn, the one that has waited longest first."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def take(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of `work`, after as many turns as it has steps."""
        return await _Stepped(work, self._turn)


class _Stepped(Generic[T]):
    """Drives a coroutine as a task does, and holds the turn during each of its steps."""

    def __init__(self, work: Coroutine[Any, Any, T], turn: asyncio.Lock) -> None:
        self._work, self._turn = work, turn

    def __await__(self) -> Generator[Any, Any, T]:
        step: Callable[[], Any] = partial(self._work.send, None)
        while True:
            try:
                yield from self._turn.acquire().__await__()
            except asyncio.CancelledError as error:
                step = partial(self._work.throw, error)  # its last steps run without a turn
            else:
                asyncio.get_running_loop().call_soon(self._turn.release)  # in the next iteration
            try:
                awaited = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # the coroutine's result
            try:
                yield awaited
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:  # noqa: BLE001  # as `yield from` hands it on
                step = partial(self._work.throw, error)
            else:
                step = partial(self._work.send, None)
