"""The breaker's rules, on a clock of the test's own."""

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
    """A monotonic clock that stands until it is moved."""

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
    """It opens at the third failure in a row, for 10 s."""
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


async def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """The third failure in a row opens it, not the second, nor three with a success between;
    each error comes out as it went in.
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


async def test_open_it_lets_nothing_through(breaker: Breaker, clock: Clock) -> None:
    """Open, no call begins, and whoever wanted one learns how long that lasts."""
    await _trip(breaker)
    clock.now += 4
    with pytest.raises(Open) as caught:
        await _call(breaker, _raising(AssertionError("the call was made")))
    assert caught.value.retry_after_s == OPEN_S - 4


async def test_one_probe_at_a_time(breaker: Breaker, clock: Clock) -> None:
    """Of twenty calls at once on a half-open breaker one is made; when it succeeds all are."""
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


async def test_a_failed_probe_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    """A probe that fails opens it for the whole time again."""
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


async def test_a_cancelled_call_says_nothing(breaker: Breaker, clock: Clock) -> None:
    """Cancellations neither open a closed breaker nor close a half-open one, they stay
    cancellations, and a cancelled probe makes room for the next.
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


async def test_a_cancelled_call_does_not_forget_failures(breaker: Breaker) -> None:
    """Failures in a row with a cancellation between are still in a row."""
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
    """What began before the breaker opened neither closes it by succeeding nor opens it again,
    once it is closed, by failing.
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
async def test_every_code_is_an_outage_or_an_answer(
    breaker: Breaker, code: grpc.StatusCode
) -> None:
    """Exactly the codes of a peer in trouble count; any refusal is a sign of life, which also
    ends a row of failures.
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


def _told(failure: Failure, domain: str = DOMAIN) -> grpc.aio.AioRpcError:
    """The status that a server of ours makes of it, as its caller gets it."""
    code, message, trailing = encode(failure)
    told = [(key, value.replace(DOMAIN.encode(), domain.encode())) for key, value in trailing]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*told), message)


ALIVE = [Deferred(reason) for reason in ("CONTENTION", "EVENT_AHEAD", "PAYMENT_OUTSTANDING")]
# Nobody is served just now, whatever record he asks for.
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
async def test_who_defers_one_record_is_alive(breaker: Breaker, failure: Failure) -> None:
    """UNAVAILABLE for one record's sake (others hold it, it waits for an event) is an answer: it
    opens nothing, ends a row of failures, and the peer's other records are still to be had.
    """
    for error in (DOWN, DOWN, _told(failure), DOWN, DOWN, *[_told(failure)] * 5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(breaker, _raising(error))
        assert caught.value is error
        assert breaker.state == "closed"


async def test_a_probe_that_is_deferred_closes_it(breaker: Breaker, clock: Clock) -> None:
    """A peer that comes back and answers its first call with CONTENTION is back."""
    await _trip(breaker)
    clock.now += OPEN_S
    with pytest.raises(grpc.aio.AioRpcError):
        await _call(breaker, _raising(_told(Deferred("CONTENTION"))))
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "failure",
    [*AWAY, Overloaded("OVERLOADED"), Defect(ValueError())],
    ids=lambda failure: failure.reason,
)
async def test_who_defers_everybody_is_in_trouble(breaker: Breaker, failure: Failure) -> None:
    """A peer whose database or own peer is away, that is overloaded, drains or has a defect
    counts, although it says so itself.
    """
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(breaker, _raising(_told(failure)))
    assert breaker.state == "open"


async def test_only_our_own_word_is_a_sign_of_life(breaker: Breaker) -> None:
    """The same reason in somebody else's domain (a proxy's, say) is an outage like any
    UNAVAILABLE.
    """
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await _call(breaker, _raising(_told(Deferred("CONTENTION"), domain="proxymesh")))
    assert breaker.state == "open"


async def test_our_own_defects_say_nothing(breaker: Breaker, clock: Clock) -> None:
    """An exception that is no status (a message that cannot be encoded) is neither an outage nor
    an answer.
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


async def test_too_short_a_time_is_not_the_peers_fault(breaker: Breaker) -> None:
    """Calls that were given less than a fair time and ran out of it do not open the breaker;
    with a fair time they do.
    """
    late = _status(grpc.StatusCode.DEADLINE_EXCEEDED)
    for timeout_s, state in ((FAIR_TIMEOUT_S / 2, "closed"), (FAIR_TIMEOUT_S, "open")):
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await _call(breaker, _raising(late), timeout_s)
        assert breaker.state == state


async def test_the_state_is_a_metric(breaker: Breaker, clock: Clock) -> None:
    """0 closed, 1 half-open, 2 open; refusals and trips are counted."""
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
    """A caller that hangs up after the peer's time-out, or after all the time that the call was
    given, has met an outage.
    """

    def hanging_up_after(waited_s: float) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            clock.now += waited_s
            raise asyncio.CancelledError

        return work

    async def give_up(waited_s: float, timeout_s: float | None) -> None:
        for _ in range(3):
            with pytest.raises(asyncio.CancelledError):
                await _call(breaker, hanging_up_after(waited_s), timeout_s)

    await give_up(PEER_TIMEOUT_S - 0.1, 10.0)
    await give_up(0.9, 1.0)
    await give_up(FAIR_TIMEOUT_S / 2, FAIR_TIMEOUT_S / 2)
    assert breaker.state == "closed"
    await give_up(PEER_TIMEOUT_S, 10.0)
    assert breaker.state == "open"
    clock.now += OPEN_S
    await _call(breaker)
    assert breaker.state == "closed"
    await give_up(1.0, 1.0)
    assert breaker.state == "open"


async def test_probe_past_its_deadline_opens_again(breaker: Breaker, clock: Clock) -> None:
    """However short the deadline was: a probe that the peer does not answer in time is a failed
    one.
    """
    await _trip(breaker)
    clock.now += OPEN_S
    late = _status(grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(grpc.aio.AioRpcError):
        await _call(breaker, _raising(late), FAIR_TIMEOUT_S / 2)
    assert breaker.state == "open"
    assert _state_metric() == 2


@pytest.mark.parametrize(
    ("timeout_s", "bound_s"), [(1.0, 1.0), (3_600.0, PROBE_MAX_S), (None, PROBE_MAX_S)]
)
async def test_probe_without_an_end_opens_again(
    breaker: Breaker, clock: Clock, timeout_s: float | None, bound_s: float
) -> None:
    """A probe that neither fails nor ends counts as failed at its deadline, after ten seconds at
    most; its end comes too late.
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


async def test_the_gauge_is_true_without_traffic(breaker: Breaker, clock: Clock) -> None:
    """Nobody calls, and the gauge tells half-open as soon as a probe would be let through."""
    await _trip(breaker)
    clock.now += OPEN_S - 0.1
    assert _state_metric() == 2
    clock.now += 0.1
    assert (_state_metric(), breaker.state) == (1, "half-open")
