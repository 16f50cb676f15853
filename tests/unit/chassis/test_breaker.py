"""The circuit breaker's rules, on a clock of the test."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from prometheus_client import REGISTRY

from chassis.rpc import circuit_breaker
from chassis.rpc.circuit_breaker import (
    FAIR_TIMEOUT_S,
    OUTAGE,
    PEER_TIMEOUT_S,
    PROBE_MAX_S,
    Breaker,
    Open,
)
from chassis.rpc.status import DOMAIN, encode
from chassis.values.errors import Defect, Deferred, Failure, Overloaded
from tests.support import eventually, measured

OPEN_S = 10.0


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The breaker's clock."""
    clock = Clock()
    monkeypatch.setattr(circuit_breaker, "monotonic", clock)
    return clock


@pytest.fixture
def breaker(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Breaker:
    """A breaker that opens at the third failure in a row, for 10 s."""
    monkeypatch.setattr(circuit_breaker, "FAILURES_MAX", 3)
    return Breaker("sample", open_s=OPEN_S)


def _status(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


DOWN = _status(grpc.StatusCode.UNAVAILABLE)


async def _call(
    breaker: Breaker,
    work: Callable[[], Awaitable[None]] | None = None,
    timeout_s: float | None = None,
) -> None:
    with breaker.attempt(timeout_s):
        if work:
            await work()


def _raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        raise error

    return work


async def _trip(breaker: Breaker) -> None:
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(breaker, _raising(DOWN))
    assert breaker.state == "open"


def _state_metric() -> float | None:
    return REGISTRY.get_sample_value("grpc_client_breaker_state", {"breaker": "sample"})


async def test_third_failure_in_a_row_opens_breaker(breaker: Breaker) -> None:
    """The third failure in a row opens the breaker. The second does not, nor do three with a
    success between. The caller gets each error unchanged.
    """
    for work in (_raising(DOWN), _raising(DOWN), None, _raising(DOWN), _raising(DOWN)):
        if work:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _call(breaker, work)
            assert caught.value is DOWN
        else:
            await _call(breaker)
    assert breaker.state == "closed"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _call(breaker, _raising(DOWN))
    assert caught.value is DOWN
    assert breaker.state == "open"


async def test_open_breaker_makes_no_call(breaker: Breaker, clock: Clock) -> None:
    """An open breaker makes no call, and the caller gets the time until it may call again."""
    await _trip(breaker)
    clock.now += 4
    with pytest.raises(Open) as caught:
        await _call(breaker, _raising(AssertionError("the call was made")))
    assert caught.value.retry_after_s == OPEN_S - 4


async def test_half_open_breaker_makes_one_call_at_a_time(breaker: Breaker, clock: Clock) -> None:
    """A half-open breaker makes one of twenty calls. When it succeeds, the breaker makes all of
    them.
    """
    await _trip(breaker)
    clock.now += OPEN_S
    made, free = 0, asyncio.Event()

    async def work() -> None:
        nonlocal made
        made += 1
        await free.wait()

    calls = [asyncio.create_task(_call(breaker, work)) for _ in range(20)]
    await eventually(lambda: sum(call.done() for call in calls) == 19)
    assert made == 1
    assert breaker.state == "half-open"
    free.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Open) for result in results) == 19
    assert breaker.state == "closed"
    await asyncio.gather(*(_call(breaker, work) for _ in range(20)))
    assert made == 21


async def test_failed_probe_opens_breaker_again(breaker: Breaker, clock: Clock) -> None:
    """A failed probe opens the breaker for the whole time again."""
    await _trip(breaker)
    clock.now += OPEN_S
    with pytest.raises(grpc.aio.AioRpcError):
        await _call(breaker, _raising(DOWN))
    assert breaker.state == "open"
    clock.now += OPEN_S - 0.1
    with pytest.raises(Open):
        await _call(breaker)
    clock.now += 0.1
    await _call(breaker)
    assert breaker.state == "closed"


async def test_cancelled_call_changes_no_state(breaker: Breaker, clock: Clock) -> None:
    """A cancellation neither opens a closed breaker nor closes a half-open one, and the caller gets
    it as a cancellation. After a cancelled probe the next call is a probe.
    """
    for _ in range(20):
        with pytest.raises(asyncio.CancelledError):
            await _call(breaker, _raising(asyncio.CancelledError()))
    assert breaker.state == "closed"
    await _trip(breaker)
    clock.now += OPEN_S
    with pytest.raises(asyncio.CancelledError):
        await _call(breaker, _raising(asyncio.CancelledError()))
    assert breaker.state == "half-open"
    await _call(breaker)
    assert breaker.state == "closed"


async def test_cancelled_call_keeps_the_failure_count(breaker: Breaker) -> None:
    """A cancellation between failures leaves them in a row."""
    for work in (
        _raising(DOWN),
        _raising(DOWN),
        _raising(asyncio.CancelledError()),
        _raising(DOWN),
    ):
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await _call(breaker, work)
    assert breaker.state == "open"


async def test_late_results_are_ignored(breaker: Breaker, clock: Clock) -> None:
    """A call from before the opening does not close the breaker by its success. Once the breaker is
    closed, such a call's failure does not open it.
    """
    soon, later = asyncio.Event(), asyncio.Event()

    async def slow_success() -> None:
        await soon.wait()

    async def slow_failure() -> None:
        await later.wait()
        raise DOWN

    success, *failures = [
        asyncio.create_task(_call(breaker, work)) for work in (slow_success, *[slow_failure] * 3)
    ]
    await asyncio.sleep(0)
    await _trip(breaker)
    soon.set()
    await success
    assert breaker.state == "open"
    clock.now += OPEN_S
    await _call(breaker)
    assert breaker.state == "closed"
    later.set()
    assert await asyncio.gather(*failures, return_exceptions=True) == [DOWN] * 3
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK],
    ids=lambda code: code.name,
)
async def test_each_status_code_is_an_outage_or_an_answer(
    breaker: Breaker, code: grpc.StatusCode
) -> None:
    """The codes of a failing peer count as failures. Any refusal is an answer, which ends a row of
    failures.
    """
    outage = code.name in {
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "UNKNOWN",
        "DATA_LOSS",
    }
    assert outage == (code in OUTAGE)
    for error in (DOWN, DOWN, _status(code)):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(breaker, _raising(error))
    assert breaker.state == ("open" if outage else "closed")
    if not outage:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await _call(breaker, _raising(DOWN))
        assert breaker.state == "closed"


def _received_error(failure: Failure, domain: str = DOMAIN) -> grpc.aio.AioRpcError:
    """Returns the status of the failure as the caller receives it from a server of the project."""
    code, message, trailing = encode(failure)
    trailing_with_domain = [
        (key, value.replace(DOMAIN.encode(), domain.encode())) for key, value in trailing
    ]
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing_with_domain), message
    )


ALIVE = [Deferred(reason) for reason in ("CONTENTION", "EVENT_AHEAD", "PAYMENT_OUTSTANDING")]
# The peer serves no record at this moment.
AWAY = [
    Deferred(reason)
    for reason in (
        "DEPENDENCY_UNAVAILABLE",
        "DATABASE_NOT_READY",
        "DRAINING",
        "PAYMENT_OUTCOME_UNKNOWN",
    )
]


@pytest.mark.parametrize("failure", ALIVE, ids=lambda failure: failure.reason)
async def test_deferral_of_one_record_is_an_answer(breaker: Breaker, failure: Failure) -> None:
    """UNAVAILABLE for one record (locked, or waiting for an event) is an answer. It opens nothing,
    ends a row of failures, and the peer's other records can be called.
    """
    for error in (
        DOWN,
        DOWN,
        _received_error(failure),
        DOWN,
        DOWN,
        *[_received_error(failure)] * 5,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(breaker, _raising(error))
        assert caught.value is error
        assert breaker.state == "closed"


async def test_deferred_probe_closes_breaker(breaker: Breaker, clock: Clock) -> None:
    """The first call is answered with CONTENTION: the peer answers again, and the breaker
    closes.
    """
    await _trip(breaker)
    clock.now += OPEN_S
    with pytest.raises(grpc.aio.AioRpcError):
        await _call(breaker, _raising(_received_error(Deferred("CONTENTION"))))
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "failure",
    [*AWAY, Overloaded("OVERLOADED"), Defect(ValueError())],
    ids=lambda failure: failure.reason,
)
async def test_deferral_of_every_record_is_an_outage(breaker: Breaker, failure: Failure) -> None:
    """A peer counts as failing while its database or own peer is unavailable, it is overloaded or
    drains, or it has a defect. Its answer changes nothing about that.
    """
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(breaker, _raising(_received_error(failure)))
    assert breaker.state == "open"


async def test_reason_of_another_domain_is_an_outage(breaker: Breaker) -> None:
    """The same reason in another domain, such as a proxy's, is an outage like any UNAVAILABLE."""
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(
                breaker, _raising(_received_error(Deferred("CONTENTION"), domain="proxymesh"))
            )
    assert breaker.state == "open"


async def test_defect_of_the_caller_changes_no_state(breaker: Breaker, clock: Clock) -> None:
    """An exception that is no status, such as a message that cannot be encoded, is neither an
    outage nor an answer.
    """
    for _ in range(5):
        with pytest.raises(TypeError):
            await _call(breaker, _raising(TypeError("not a message")))
    assert breaker.state == "closed"
    await _trip(breaker)
    clock.now += OPEN_S
    with pytest.raises(TypeError):
        await _call(breaker, _raising(TypeError("not a message")))
    assert breaker.state == "half-open"


async def test_timeout_of_a_short_deadline_is_no_outage(breaker: Breaker) -> None:
    """A timeout with less than FAIR_TIMEOUT_S does not open the breaker; with FAIR_TIMEOUT_S it
    does.
    """
    timed_out = _status(grpc.StatusCode.DEADLINE_EXCEEDED)
    for timeout_s, state in ((FAIR_TIMEOUT_S / 2, "closed"), (FAIR_TIMEOUT_S, "open")):
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await _call(breaker, _raising(timed_out), timeout_s)
        assert breaker.state == state


async def test_breaker_reports_its_state_as_a_metric(breaker: Breaker, clock: Clock) -> None:
    """The gauge is 0 for closed, 1 for half-open and 2 for open. Refusals and openings are
    counted.
    """
    refused, opened = (
        measured(f"grpc_client_breaker_{what}_total", breaker="sample")
        for what in ("refused", "opened")
    )
    assert _state_metric() == 0
    await _trip(breaker)
    assert _state_metric() == 2
    with pytest.raises(Open):
        await _call(breaker)
    clock.now += OPEN_S
    with pytest.raises(TypeError):
        await _call(breaker, _raising(TypeError()))
    assert _state_metric() == 1
    await _call(breaker)
    assert _state_metric() == 0
    assert measured("grpc_client_breaker_refused_total", breaker="sample") == refused + 1
    assert measured("grpc_client_breaker_opened_total", breaker="sample") == opened + 1


async def test_cancel_after_the_peers_timeout_opens(breaker: Breaker, clock: Clock) -> None:
    """A cancellation by the caller counts as an outage after the peer's timeout, or after the
    call's whole timeout.
    """

    def cancelled_after(waited_s: float) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            clock.now += waited_s
            raise asyncio.CancelledError

        return work

    async def cancel_calls(waited_s: float, timeout_s: float | None) -> None:
        for _ in range(3):
            with pytest.raises(asyncio.CancelledError):
                await _call(breaker, cancelled_after(waited_s), timeout_s)

    await cancel_calls(PEER_TIMEOUT_S - 0.1, 10.0)
    await cancel_calls(0.9, 1.0)
    await cancel_calls(FAIR_TIMEOUT_S / 2, FAIR_TIMEOUT_S / 2)
    assert breaker.state == "closed"
    await cancel_calls(PEER_TIMEOUT_S, 10.0)
    assert breaker.state == "open"
    clock.now += OPEN_S
    await _call(breaker)
    assert breaker.state == "closed"
    await cancel_calls(1.0, 1.0)
    assert breaker.state == "open"


async def test_probe_past_its_deadline_opens_again(breaker: Breaker, clock: Clock) -> None:
    """A probe that the peer does not answer in time is a failed one, also with a short deadline."""
    await _trip(breaker)
    clock.now += OPEN_S
    timed_out = _status(grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(grpc.aio.AioRpcError):
        await _call(breaker, _raising(timed_out), FAIR_TIMEOUT_S / 2)
    assert breaker.state == "open"
    assert _state_metric() == 2


@pytest.mark.parametrize(
    ("timeout_s", "bound_s"), [(1.0, 1.0), (3_600.0, PROBE_MAX_S), (None, PROBE_MAX_S)]
)
async def test_probe_without_an_end_opens_again(
    breaker: Breaker, clock: Clock, timeout_s: float | None, bound_s: float
) -> None:
    """A probe without an answer counts as failed at its deadline, after ten seconds at most. A
    later answer is ignored.
    """
    await _trip(breaker)
    clock.now += OPEN_S
    free = asyncio.Event()
    probe = asyncio.create_task(_call(breaker, lambda: _done(free), timeout_s))
    await asyncio.sleep(0)
    clock.now += bound_s - 0.1
    assert (breaker.state, _state_metric()) == ("half-open", 1)
    clock.now += 0.1
    assert (breaker.state, _state_metric()) == ("open", 2)
    with pytest.raises(Open) as caught:
        await _call(breaker)
    assert caught.value.retry_after_s == OPEN_S
    free.set()
    await probe
    assert breaker.state == "open"
    clock.now += OPEN_S
    await _call(breaker)
    assert breaker.state == "closed"


async def _done(event: asyncio.Event) -> None:
    await event.wait()


async def test_gauge_without_calls_shows_half_open(breaker: Breaker, clock: Clock) -> None:
    """Without a call, the gauge shows half-open as soon as the breaker would make a probe."""
    await _trip(breaker)
    clock.now += OPEN_S - 0.1
    assert _state_metric() == 2
    clock.now += 0.1
    assert (_state_metric(), breaker.state) == (1, "half-open")
