"""The deadline of a client's call, from its own time-out and its caller's remaining time."""

from typing import Any

import pytest

from chassis.rpc import client
from chassis.rpc.client import ask, connect
from chassis.values import deadline
from chassis.values.errors import (
    Deferred,
)
from tests.rpc.requests import get_thing, watch_thing
from tests.rpc.sample import Sample, contract, serving
from tests.support import caller_deadline


async def _remaining(sample: Sample) -> list[float]:
    """Returns the list to which the peer's handlers append their remaining time, one entry a
    call.
    """
    seconds: list[float] = []

    async def behave() -> str:
        seconds.append(deadline.remaining() or -1)
        return ""

    sample.behave = behave
    return seconds


async def test_every_call_has_a_deadline(sample: Sample, sample_stub: Any) -> None:
    """A call without a given time has 10 s and a stream an hour; with one it has that time."""
    remaining = await _remaining(sample)
    await ask(sample_stub.GetThing, get_thing())
    await sample_stub.GetThing(get_thing())
    await ask(sample_stub.GetThing, get_thing(), timeout_s=3)
    async for _ in sample_stub.WatchThing(watch_thing()):
        pass
    unsaid, bare, said, stream = remaining
    # gRPC rounds up on the way
    assert (5 < unsaid < 10.2, 5 < bare < 10.2, 0 < said < 3.1) == (True, True, True), remaining
    assert 3500 < stream < 3700


async def test_call_has_less_time_than_its_caller(sample: Sample, sample_stub: Any) -> None:
    """In a call with 9 s left, an outgoing call has a margin less than that for any longer timeout;
    a shorter timeout stays.
    """
    remaining = await _remaining(sample)
    with caller_deadline(9):
        await ask(sample_stub.GetThing, get_thing())
        await ask(sample_stub.GetThing, get_thing(), timeout_s=60)
        async for _ in sample_stub.WatchThing(watch_thing()):
            pass
        await ask(sample_stub.GetThing, get_thing(), timeout_s=3)
    *bounded, short = remaining
    assert [3 < seconds < 8.98 for seconds in bounded] == [True] * 3
    assert 0 < short < 3.1


async def test_deadline_is_handed_down_through_a_service(sample: Sample, sample_stub: Any) -> None:
    """A call that a service makes while it answers has less time than its own caller gave it: the
    deadline crosses a real server.
    """
    inner = Sample()
    remaining = await _remaining(inner)
    async with serving(inner) as behind, connect(f"127.0.0.1:{behind.port}") as channel:
        peer = contract()[1].SampleServiceStub(channel)

        async def behave() -> str:
            return str((await ask(peer.GetThing, get_thing())).text)

        sample.behave = behave
        await ask(sample_stub.GetThing, get_thing(), timeout_s=9)
    assert 0 < remaining[0] < 8.98


async def test_call_without_time_is_not_made(sample: Sample, sample_stub: Any) -> None:
    """With less time left than the margin, the call is not made."""
    with caller_deadline(0.04), pytest.raises(Deferred):
        await ask(sample_stub.GetThing, get_thing())
    assert sample.calls == 0


async def test_confirmations_have_five_seconds(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse's confirmations have 5 s at most, as the contract says; the table applies to
    any method in it.
    """
    service = "/ordermesh.warehouse.v1.ReservationService"
    assert dict(client.TIMEOUTS_S) == {
        f"{service}/ConfirmReservation": 5.0,
        f"{service}/BatchConfirmReservations": 5.0,
    }
    monkeypatch.setattr(client, "TIMEOUTS_S", {"/sample.v1.SampleService/GetThing": 7.0})
    remaining = await _remaining(sample)
    async with serving(sample) as server, connect(f"127.0.0.1:{server.port}") as channel:
        await ask(contract()[1].SampleServiceStub(channel).GetThing, get_thing(), timeout_s=60)
    assert 0 < remaining[0] < 7.1
