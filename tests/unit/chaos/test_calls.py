"""Clients of a run: they ask until they are answered, and notice an answer that no client should
get.
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
    """Answers with one thing after the other, and with the last for ever."""

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
    """A client in a hurry."""
    monkeypatch.setattr(calls, "AGAIN_MIN_S", 0.001)
    monkeypatch.setattr(calls, "AGAIN_MAX_S", 0.001)
    return Calls(_channels())


def _channels() -> Any:
    """Channels on which nobody is."""

    class Nobody:
        def __getattr__(self, _name: str) -> Any:
            return lambda *_args, **_kwargs: None

    return dict.fromkeys(("order", "warehouse", "fulfillment", "shipping", "payment"), Nobody())


def away(code: str = "UNAVAILABLE") -> Deferred:
    """A moment's trouble, with the code that the peer gave."""
    return Deferred("DEPENDENCY_UNAVAILABLE", peer_code=code)


async def test_what_is_not_answered_is_asked_again(client: Calls) -> None:
    """A moment's trouble ends, and is counted by what was said."""
    method = Method(away(), away("DEADLINE_EXCEEDED"), ONE)
    assert await client.ask(method, REQUEST) is ONE
    assert client.troubles == {"GetOrder UNAVAILABLE": 1, "GetOrder DEADLINE_EXCEEDED": 1}
    assert not client.faults


async def test_a_refusal_is_an_answer(client: Calls) -> None:
    """It is not asked again, and is no fault."""
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
async def test_a_repeat_is_answered_as_the_first_call_was(
    client: Calls, second: Any, fault: str
) -> None:
    """Another resource, or a refusal, is a fault of the service."""
    await client.ask(Method(ONE, away(), second), REQUEST, again=True)
    assert bool(client.faults) == bool(fault)
    assert all(fault in each for each in client.faults)


async def test_a_defect_and_a_missing_method_are_noted(client: Calls) -> None:
    """Nobody should ever see INTERNAL; and what is not implemented is not waited for."""
    assert await client.ask(Method(Defect(ValueError()), ONE), REQUEST) is ONE
    method = Method(away("UNIMPLEMENTED"))
    with pytest.raises(Deferred):
        await client.ask(method, REQUEST)
    assert method.asked == 1
    assert sorted(client.faults) == [
        "GetOrder answers INTERNAL: None",
        "GetOrder is not implemented",
    ]


async def test_silence_without_a_fault_is_a_fault(
    client: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While faults strike nobody gives up; afterwards everything is answered in time."""
    monkeypatch.setattr(calls, "PATIENCE_S", 0.0)
    client.calm_since = 0.0
    with pytest.raises(GaveUp):
        await client.ask(Method(away()), REQUEST)
    assert client.faults == {"GetOrder is not answered within 0 s without a fault"}
