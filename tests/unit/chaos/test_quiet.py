"""The end of a chaos run: how long it waits for work that nothing moves."""

from typing import Any
from unittest.mock import AsyncMock

import pytest
from ordermesh.ops.v1 import ops_service_pb2

from omctl.audit.facts import Facts
from tests.chaos import quiet as quiet_module
from tests.chaos.quiet import REPEATS_S, STILL_S, quiet
from tests.unit.chaos.facts import facts_with


class Clock:
    """Stands in for time and asyncio in the module: a sleep passes its time at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def waiting_for(clock: Clock, seconds: float) -> Any:
    """Returns a reader of facts in which an event waits in an outbox for so many seconds."""

    async def read() -> Facts:
        waiting = ops_service_pb2.GetOutboxStatsResponse(waiting_count=int(clock.now < seconds))
        return facts_with(outboxes={"payment": waiting})

    return AsyncMock(read=read)


@pytest.mark.parametrize(
    ("seconds", "rests"), [(STILL_S + 78, True), (REPEATS_S - 5, True), (REPEATS_S + 5, False)]
)
async def test_run_waits_for_events_that_the_broker_takes_for_repeats(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rests: bool
) -> None:
    """An event may wait in its outbox as long as the broker's window for repeats: a run with the
    seed 557093 ended after 103 of its 120 s. A longer wait is under way at the end.
    """
    clock = Clock()
    monkeypatch.setattr(quiet_module, "time", clock)
    monkeypatch.setattr(quiet_module, "asyncio", clock)
    events: Any = AsyncMock(waiting=AsyncMock(return_value=0))
    calm = await quiet(waiting_for(clock, seconds), events, timeout_s=180)
    assert (not calm.under_way) is rests
