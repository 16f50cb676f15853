"""The end of streams at a drain, at the same time as gRPC's own cancellation."""

import asyncio
import time
from collections.abc import AsyncGenerator
from unittest.mock import AsyncMock

import pytest

from chassis.rpc.in_flight import InFlight
from chassis.rpc.interceptor import Method
from chassis.values.errors import Deferred
from tests.support import eventually

METHOD = Method("sample.v1.SampleService", "GetThing", "unary")


async def _silent() -> AsyncGenerator[str, None]:
    """A handler's stream with one response that then waits."""
    yield "first"
    await asyncio.Event().wait()


async def _read(in_flight: InFlight, seen: list[str]) -> int:
    """Reads such a stream to its end. Returns the number of the task's pending cancellations."""
    task = asyncio.current_task()
    assert task is not None
    try:
        async for response in in_flight.responses(_silent()):
            seen.append(response)  # noqa: PERF401  # it is looked at meanwhile
    except Deferred as deferred:
        seen.append(deferred.reason)
    return task.cancelling()


async def test_drained_stream_has_no_pending_cancellation() -> None:
    """The stream ends with DRAINING, and its task has no pending cancellation: the status can still
    be sent.
    """
    in_flight, seen = InFlight(), list[str]()
    task = asyncio.create_task(_read(in_flight, seen))
    await eventually(lambda: seen == ["first"])
    in_flight.end_streams()
    assert await task == 0
    assert seen == ["first", "DRAINING"]


async def test_stream_cancelled_at_a_drain_stays_cancelled() -> None:
    """A stream that gRPC cancels at the same moment is cancelled, not drained."""
    in_flight, seen = InFlight(), list[str]()
    task = asyncio.create_task(_read(in_flight, seen))
    await eventually(lambda: seen == ["first"])
    in_flight.end_streams()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["first"]


async def test_new_stream_is_refused_while_draining() -> None:
    """A stream that begins during a drain is refused before its handler begins."""
    in_flight, seen = InFlight(), list[str]()
    in_flight.end_streams()
    await _read(in_flight, seen)
    assert seen == ["DRAINING"]


async def test_wait_for_idle_restarts_when_a_call_begins() -> None:
    """The wait for a time without calls starts again when a call begins, even one that ends at
    once.
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
