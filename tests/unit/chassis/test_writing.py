"""A write refuses another write and a peer call inside it."""

import asyncio
from unittest.mock import AsyncMock

import pytest

from chassis.rpc.client import ask
from chassis.write.in_write import write_in_progress


async def test_peer_call_inside_a_write_is_refused() -> None:
    """The call is not made, and the caller gets the reason. Before, after and beside the write,
    peers are called as usual.
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


def test_failed_write_permits_the_next_one() -> None:
    """An error ends the write: the next one may begin, and refuses a write inside it."""
    with pytest.raises(ValueError, match="broken"), write_in_progress():
        raise ValueError("broken")
    with (
        write_in_progress(),
        pytest.raises(RuntimeError, match="no write inside a write"),
        write_in_progress(),
    ):
        raise AssertionError("a write inside a write")
