"""The client of a chaos run: it repeats a call until the service answers, and records answers that
no client may get.
"""

from typing import Any

import pytest
from ordermesh.order.v1 import order_pb2, order_service_pb2

from chassis.values.errors import Defect, Deferred, Failure, Refused
from tests.chaos import calls
from tests.chaos.calls import Calls, GaveUp

REQUEST = order_service_pb2.GetOrderRequest(order_id="1")
ONE, OTHER = (order_service_pb2.GetOrderResponse(order=order_pb2.Order(order_id=id)) for id in "12")


class Method:
    """An RPC that gives these answers in turn, and repeats the last one."""

    def __init__(self, *answers: Any) -> None:
        self._answers, self.asked = iter(answers), 0
        self._last: Any = answers[-1]

    async def __call__(self, _request: Any, timeout: float | None) -> Any:
        assert timeout
        self.asked += 1
        answer = next(self._answers, self._last)
        if isinstance(answer, Failure):
            raise answer
        return answer


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A client that repeats a call after a millisecond."""
    monkeypatch.setattr(calls, "AGAIN_MIN_S", 0.001)
    monkeypatch.setattr(calls, "AGAIN_MAX_S", 0.001)
    return Calls(_channels())


def _channels() -> Any:
    """Channels without a connection."""

    class NoStub:
        def __getattr__(self, _name: str) -> Any:
            return lambda *_args, **_kwargs: None

    return dict.fromkeys(("order", "warehouse", "fulfillment", "shipping", "payment"), NoStub())


def away(code: str = "UNAVAILABLE") -> Deferred:
    """A transient failure with the peer's status code."""
    return Deferred("DEPENDENCY_UNAVAILABLE", peer_code=code)


async def test_call_without_an_answer_is_repeated(client: Calls) -> None:
    """The client repeats a call after a transient failure, and counts the failure by its status
    code.
    """
    method = Method(away(), away("DEADLINE_EXCEEDED"), ONE)
    assert await client.ask(method, REQUEST) is ONE
    assert client.troubles == {"GetOrder UNAVAILABLE": 1, "GetOrder DEADLINE_EXCEEDED": 1}
    assert not client.faults


async def test_refusal_is_returned_without_a_repeat(client: Calls) -> None:
    """The client does not repeat a refused call, and reports no fault."""
    method = Method(Refused("INSUFFICIENT_STOCK"))
    with pytest.raises(Refused):
        await client.ask(method, REQUEST, again=True)
    assert (method.asked, client.faults) == (1, set())


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (ONE, ""),
        (OTHER, "its repeat with 2"),
        (Refused("ORDER_ALREADY_CANCELLED"), "its repeat refused"),
    ],
)
async def test_repeat_is_answered_as_the_first_call_was(
    client: Calls, second: Any, fault: str
) -> None:
    """The client reports a fault if the repeat returns another resource or a refusal."""
    await client.ask(Method(ONE, away(), second), REQUEST, again=True)
    assert bool(client.faults) == bool(fault)
    assert all(fault in each for each in client.faults)


async def test_internal_and_unimplemented_are_reported(client: Calls) -> None:
    """The client reports a fault for INTERNAL, and for UNIMPLEMENTED without a repeat."""
    assert await client.ask(Method(Defect(ValueError()), ONE), REQUEST) is ONE
    method = Method(away("UNIMPLEMENTED"))
    with pytest.raises(Deferred):
        await client.ask(method, REQUEST)
    assert method.asked == 1
    assert sorted(client.faults) == [
        "GetOrder answers INTERNAL: None",
        "GetOrder is not implemented",
    ]


async def test_timeout_without_an_injected_fault_is_reported(
    client: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waits without a limit while faults are injected; afterwards a timeout is a
    fault.
    """
    monkeypatch.setattr(calls, "ANSWER_TIMEOUT_S", 0.0)
    client.calm_since = 0.0
    with pytest.raises(GaveUp):
        await client.ask(Method(away()), REQUEST)
    assert client.faults == {"GetOrder is not answered within 0 s without a fault"}
