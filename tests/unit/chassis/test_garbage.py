"""What becomes of calls that nobody waits for any more: collected as garbage, in the middle of
anything.
"""

import asyncio
import threading
import types
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chassis.observe import telemetry
from chassis.rpc import client, interceptors
from tests.support import measured

CALL = {"grpc_type": "unary", "grpc_service": "sample.v1.Abandoned", "grpc_method": "Get"}


@types.coroutine
def _for_ever() -> Iterator[None]:
    yield


async def _never(*_: Any) -> Any:
    await _for_ever()


def a_client_s() -> tuple[Coroutine[Any, Any, Any], Any]:
    """A call that waits for its answer, and the counter that it ends in."""
    metrics = client._Metrics()
    details = client.Details(
        f"/{CALL['grpc_service']}/{CALL['grpc_method']}", None, None, None, None
    )
    return client._Unary(metrics.around).intercept_unary_unary(
        _never, details, b""
    ), metrics._handled


def a_server_s() -> tuple[Coroutine[Any, Any, Any], Any]:
    """A call that is being answered, and the counter that it ends in."""
    metrics = interceptors.Metrics()
    method = interceptors.Method(CALL["grpc_service"], CALL["grpc_method"], CALL["grpc_type"])
    context: Any = types.SimpleNamespace(time_remaining=lambda: None)

    async def answered() -> None:
        async with metrics.around(method, context):
            await _for_ever()

    return answered(), metrics._handled


SIDES = pytest.mark.parametrize("side", [a_client_s, a_server_s])


def counted(handled: Any) -> float:
    """How many calls have ended as cancelled."""
    return measured(f"{handled._name}_total", **CALL, grpc_code="CANCELLED")


@SIDES
def test_no_lock_is_waited_for(side: Any) -> None:
    """The collector runs wherever something is made, also where a metric makes a child under its
    own lock: there all would stand still.
    """
    call, handled = side()
    call.send(None)
    with handled._lock:
        collector = threading.Thread(target=call.close, daemon=True)
        collector.start()
        collector.join(10)
        assert not collector.is_alive()


@SIDES
async def test_it_is_counted_all_the_same(side: Any) -> None:
    """In the loop's next turn, as cancelled."""
    call, handled = side()
    call.send(None)
    before = counted(handled)
    call.close()
    await asyncio.sleep(0)
    assert counted(handled) == before + 1


def test_whatever_else_ends_is_told_at_once() -> None:
    """An error is no garbage."""
    told: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        try:
            yield
        finally:
            telemetry.at_end(lambda: told.append("ended"))

    with pytest.raises(ValueError, match="wrong"), around():
        raise ValueError("wrong")
    with around():
        pass
    assert told == ["ended", "ended"]
