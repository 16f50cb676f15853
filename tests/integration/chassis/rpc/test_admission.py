"""The limit of calls at once, and the place that an ended call frees."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from tests.rpc.calls import stream, unary
from tests.rpc.failures import details
from tests.rpc.sample import Sample, contract, plain_stub, serving
from tests.support import eventually


@pytest.mark.parametrize("call", [unary, stream])
async def test_call_over_the_limit_is_refused(sample: Sample, call: Any) -> None:
    """The call over the limit is refused at once with RetryInfo, and admitted after another has
    ended. Streams and unary calls have separate places.
    """
    free = asyncio.Event()

    async def behave() -> str:
        await free.wait()
        return ""

    sample.behave = behave
    async with serving(sample, calls_max=2, streams_max=2) as server, plain_stub(server) as stub:
        running = [asyncio.create_task(call(stub)) for _ in range(2)]
        await eventually(lambda: sample.calls == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(stub)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        sent_details = details(caught.value)
        assert sent_details["ErrorInfo"].reason == "OVERLOADED"
        assert sent_details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() > 0
        other = asyncio.create_task((stream if call is unary else unary)(stub))
        await eventually(lambda: sample.calls == 3)
        free.set()
        await asyncio.gather(*running, other)
        await call(stub)


async def test_cancelled_call_frees_its_place(sample: Sample) -> None:
    """A client that disconnects frees its place: the handler is cancelled, and the next call is
    admitted.
    """
    cancelled = asyncio.Event()

    async def behave() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    async with serving(sample, calls_max=1, streams_max=1) as server, plain_stub(server) as stub:
        for call in (unary, stream):
            sample.behave, sample.calls = behave, 0
            cancelled.clear()
            task = asyncio.create_task(call(stub))
            await eventually(lambda: sample.calls == 1)
            task.cancel()
            await asyncio.wait_for(cancelled.wait(), 5)
            sample.behave = sample.nothing
            await call(stub)


async def test_unread_stream_is_closed_in_its_own_task(sample: Sample) -> None:
    """A watch whose reader stops reading and then disconnects is closed in its own task. The
    garbage collector would close it in another context.
    """
    tasks: list[asyncio.Task[Any] | None] = []
    closed = asyncio.Event()

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        tasks.append(asyncio.current_task())
        try:
            while True:
                sample.calls += 1
                yield contract()[0].WatchThingResponse(text="x" * 100_000)
        finally:
            tasks.append(asyncio.current_task())
            closed.set()

    # more than a client accepts without reading
    sample.WatchThing = watch  # type: ignore[method-assign]
    async with serving(sample) as server, plain_stub(server) as stub:
        call = stub.WatchThing(contract()[0].WatchThingRequest(thing_id="1"))
        await call.read()
        await _no_longer(lambda: sample.calls)
        call.cancel()
        await asyncio.wait_for(closed.wait(), 5)
    assert tasks[0] is tasks[1]


async def _no_longer(count: Callable[[], int]) -> None:
    """Waits until `count` has not changed for a while."""
    seen, since = count(), time.monotonic()

    def stands_still() -> bool:
        nonlocal seen, since
        if count() != seen:
            seen, since = count(), time.monotonic()
        return time.monotonic() - since > 0.2

    await eventually(stands_still)
