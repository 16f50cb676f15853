"""Turns: works that share them take one step each in an iteration of the loop, and otherwise behave
as if awaited.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from chassis.consume.turns import Turns


async def test_call_waits_for_one_step_of_other_work() -> None:
    """Between two steps of a call, one of eight busy workers takes a step, and each has its
    turn.
    """
    turns, steps = Turns(), list[int]()
    since_call: list[int] = []

    async def worker(number: int) -> None:
        for _ in range(100):
            steps.append(number)
            await asyncio.sleep(0)

    async def call() -> None:
        for _ in range(200):
            before = len(steps)
            await asyncio.sleep(0)
            since_call.append(len(steps) - before)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(turns.take(worker(number)))
        group.create_task(call())
    assert max(since_call) == 1
    assert sorted(steps[:8]) == list(range(8))
    assert len(steps) == 800


async def test_waiting_work_blocks_no_other_work() -> None:
    """A turn covers one step: while one work waits for a peer, others take their turns."""
    turns, answered = Turns(), asyncio.Event()

    async def waits() -> str:
        await answered.wait()
        return "waited"

    async def works() -> str:
        for _ in range(10):
            await asyncio.sleep(0)
        answered.set()
        return "worked"

    both = await asyncio.gather(turns.take(waits()), turns.take(works()))
    assert set(both) == {"waited", "worked"}


async def _raises() -> None:
    await asyncio.sleep(0)
    raise LookupError("mine")


async def _catches() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return "ended in order"
    raise AssertionError("the event is never set")


async def _times_out() -> str:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        return "timed out"
    raise AssertionError("the event is never set")


async def test_work_returns_and_raises_as_if_awaited() -> None:
    """The work's value, exception and own timeouts reach the caller, and its turn is free
    afterwards.
    """
    turns = Turns()
    with pytest.raises(LookupError, match="mine"):
        await turns.take(_raises())
    assert await turns.take(_times_out()) == "timed out"


@pytest.mark.parametrize("blocked", [False, True])
async def test_cancelled_work_ends_in_order(blocked: bool) -> None:
    """A cancellation reaches the work where it waits, also for its turn. Other work then
    continues.
    """
    turns, entered = Turns(), asyncio.Event()

    async def holds() -> None:
        entered.set()
        await _catches_and_notes()

    ended: list[str] = []

    async def _catches_and_notes() -> None:
        ended.append(await _catches())

    work: Coroutine[Any, Any, None] = holds()
    task = asyncio.create_task(turns.take(work))
    await entered.wait()
    if blocked:
        await turns._turn.acquire()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert ended == ["ended in order"] or blocked
    if blocked:
        turns._turn.release()
        await asyncio.wait([task])
        assert ended == ["ended in order"]
    assert await turns.take(_times_out()) == "timed out"
