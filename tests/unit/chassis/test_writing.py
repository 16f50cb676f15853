"""What may not happen inside a write: another one, and a call of a peer."""

import asyncio
from unittest.mock import AsyncMock

import pytest

from chassis.rpc.client import ask
from chassis.write.in_write import write_in_progress


async def test_a_peer_is_not_asked_inside_a_write() -> None:
    """The call is not made, and whoever wanted it learns why; before and after the write, and
    beside it, peers are asked as ever.
    """
    method = AsyncMock(return_value="answer")

    async def inside() -> None:
        with write_in_progress():
            beside.set()
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="no call of a peer inside a write"):
                await ask(method, "request")

    beside = asyncio.Event()
    assert await ask(method, "request") == "answer"
    task = asyncio.create_task(inside())
    await beside.wait()
    assert await ask(method, "request") == "answer"
    await task
    assert await ask(method, "request") == "answer"
    assert method.call_count == 3


def test_a_write_that_failed_is_over() -> None:
    """An error inside ends the write like any other end: the next one may begin, and inside that
    no other.
    """
    with pytest.raises(ValueError, match="broken"), write_in_progress():
        raise ValueError("broken")
    with (
        write_in_progress(),
        pytest.raises(RuntimeError, match="no write inside a write"),
        write_in_progress(),
    ):
        raise AssertionError("a write inside a write")
