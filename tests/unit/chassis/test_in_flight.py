"""Ending streams at a drain, where it meets gRPC's own cancellation."""

import asyncio
import time
from collections.abc import AsyncGenerator
from unittest.mock import AsyncMock

import pytest

from chassis.rpc.in_flight import InFlight
from chassis.rpc.interceptors import Method
from chassis.values.errors import Deferred
from tests.support import eventually

METHOD = Method("sample.v1.SampleService", "GetThing", "unary")


async def _silent() -> AsyncGenerator[str, None]:
    """A handler's stream: one response, and then nothing happens."""
    yield "first"
    await asyncio.Event().wait()


async def _read(in_flight: InFlight, seen: list[str]) -> int:
    """Reads such a stream to its end; how many cancellations the task then has pending."""
    task = asyncio.current_task()
    assert task is not None
    try:
        async for response in in_flight.responses(_silent()):
            seen.append(response)  # noqa: PERF401  # it is looked at meanwhile
    except Deferred as deferred:
        seen.append(deferred.reason)
    return task.cancelling()


async def test_a_drain_leaves_no_cancellation_behind() -> None:
    """The stream ends with DRAINING, and its task is not one that is being cancelled: the status
    can still be sent.
    """
    in_flight, seen = InFlight(), list[str]()
    task = asyncio.create_task(_read(in_flight, seen))
    await eventually(lambda: seen == ["first"])
    in_flight.end_streams()
    assert await task == 0
    assert seen == ["first", "DRAINING"]


async def test_a_reader_that_went_away_stays_gone() -> None:
    """A stream that gRPC cancels in the same moment is cancelled, not drained."""
    in_flight, seen = InFlight(), list[str]()
    task = asyncio.create_task(_read(in_flight, seen))
    await eventually(lambda: seen == ["first"])
    in_flight.end_streams()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["first"]


async def test_a_new_stream_is_refused_while_draining() -> None:
    """A stream that begins after that is refused before its handler begins."""
    in_flight, seen = InFlight(), list[str]()
    in_flight.end_streams()
    await _read(in_flight, seen)
    assert seen == ["DRAINING"]


async def test_idle_is_a_while_without_a_beginning() -> None:
    """Whoever waits for a while without calls waits anew when a call begins meanwhile, even one
    that is over at once.
    """
    in_flight = InFlight()
    waiting = asyncio.create_task(in_flight.idle(0.2))
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        async with in_flight.around(METHOD, AsyncMock()):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
