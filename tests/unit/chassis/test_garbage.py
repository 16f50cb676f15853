"""Calls that the garbage collector ends because no caller waits for them."""

import asyncio
import threading
import types
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chassis.observe import telemetry
from chassis.rpc import client, interceptors
from chassis.rpc.interceptor import Method
from tests.support import measured

CALL = {"grpc_type": "unary", "grpc_service": "sample.v1.Abandoned", "grpc_method": "Get"}


@types.coroutine
def _without_an_end() -> Iterator[None]:
    yield


async def _never(*_: Any) -> Any:
    await _without_an_end()


def a_client_s() -> tuple[Coroutine[Any, Any, Any], Any]:
    """A call that waits for its answer, and the counter of its end."""
    metrics = client._Metrics()
    details = client.Details(
        f"/{CALL['grpc_service']}/{CALL['grpc_method']}", None, None, None, None
    )
    return client._Unary(metrics.around).intercept_unary_unary(
        _never, details, b""
    ), metrics._handled


def a_server_s() -> tuple[Coroutine[Any, Any, Any], Any]:
    """A call that a server answers, and the counter of its end."""
    metrics = interceptors.Metrics()
    method = Method(CALL["grpc_service"], CALL["grpc_method"], CALL["grpc_type"])
    context: Any = types.SimpleNamespace(time_remaining=lambda: None)

    async def answered() -> None:
        async with metrics.around(method, context):
            await _without_an_end()

    return answered(), metrics._handled


SIDES = pytest.mark.parametrize("side", [a_client_s, a_server_s])


def counted(handled: Any) -> float:
    """Returns how many calls have ended as cancelled."""
    return measured(f"{handled._name}_total", **CALL, grpc_code="CANCELLED")


@SIDES
def test_collected_call_waits_for_no_lock(side: Any) -> None:
    """The collector can run while a metric makes a child under its own lock. A wait for that lock
    would block the thread for ever.
    """
    call, handled = side()
    call.send(None)
    with handled._lock:
        collector = threading.Thread(target=call.close, daemon=True)
        collector.start()
        collector.join(10)
        assert not collector.is_alive()


@SIDES
async def test_collected_call_is_counted_as_cancelled(side: Any) -> None:
    """The call is counted as cancelled in the loop's next iteration."""
    call, handled = side()
    call.send(None)
    before = counted(handled)
    call.close()
    await asyncio.sleep(0)
    assert counted(handled) == before + 1


def test_end_by_error_or_return_is_counted_at_once() -> None:
    """A call that ends by an error or a return is counted without the loop's next iteration."""
    ends: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        try:
            yield
        finally:
            telemetry.at_end(lambda: ends.append("ended"))

    with pytest.raises(ValueError, match="wrong"), around():
        raise ValueError("wrong")
    with around():
        pass
    assert ends == ["ended", "ended"]
