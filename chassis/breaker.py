"""A circuit breaker around a peer: when it is out of reach, callers learn so at once instead of each waiting for a deadline.

    closed --failures_max in a row--> open --open_s later--> half-open --the one probe succeeds--> closed
                                       ^                          |
                                       +------- it fails ---------+

What lives here: admission and accounting around pybreaker's state machine. pybreaker counts rightly, but by itself it is not for
asyncio: it lets every waiting call through when half-open, takes a cancellation for a failure, lets late results of old calls move
it, replaces the error that trips it, and goes by the wall clock. Gate, await, report: its part is one synchronous call at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import pybreaker
import structlog

from chassis import status, telemetry

# What says that a peer is in trouble. Every other code is an answer: whoever refuses is alive.
OUTAGE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
    }
)
# Answers all the same, though their code is UNAVAILABLE: the peer has looked at the record that is asked for, and with this one it is
# not the moment: others hold it, or it waits for an event. All the other records are to be had. What defers everybody stays an outage: a
# database that is away or not ready, a peer of the peer's, too much at once, a replica that drains.
ALIVE: Final = frozenset({"CONTENTION", "EVENT_AHEAD", "PAYMENT_OUTSTANDING"})
# A call that was given less than this and ran out of it says nothing about the peer: its caller had spent the time elsewhere.
FAIR_TIMEOUT_S: Final = 0.25

_LEVELS: Final = {pybreaker.STATE_CLOSED: 0, pybreaker.STATE_HALF_OPEN: 1, pybreaker.STATE_OPEN: 2}
_log = structlog.get_logger(__name__)


class Open(Exception):
    """The breaker lets nothing through; `retry_after_s` from now it will let a probe."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"the breaker of {name} is open")
        self.retry_after_s = retry_after_s


class Breaker:
    """One peer's breaker; `name` is the peer's, for metrics and messages. `open_s` in seconds of `clock`, a monotonic one."""

    def __init__(self, name: str, *, failures_max: int = 5, open_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._open_s, self._clock = open_s, clock
        self._opened_at = 0.0
        self._generation = 0  # raised at each change of state: an older call's result is stale
        self._probing = False
        self._level = telemetry.gauge("grpc_client_breaker_state", "0 closed, 1 half-open, 2 open", "breaker").labels(name)
        self._refused = telemetry.counter("grpc_client_breaker_refused_total", "Calls not made: breaker open", "breaker").labels(name)
        self._trips = telemetry.counter("grpc_client_breaker_opened_total", "Times that a breaker opened", "breaker").labels(name)
        self._level.set(0)
        self._machine = pybreaker.CircuitBreaker(
            fail_max=failures_max,
            listeners=[_Listener(self._changed)],
            exclude=[lambda error: not _is_outage(error)],
            throw_new_error_on_trip=False,
            name=name,
        )

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return self._machine.current_state

    @contextmanager
    def attempt(self, timeout_s: float | None = None) -> Iterator[None]:
        """Surrounds one call (awaits included) that is given `timeout_s`. Raises Open instead of letting it begin.

        A status that comes out is reported, and goes on as it is. Anything else is neutral: a cancellation, a defect on our side of
        the wire.
        """
        attempt = self.admit(timeout_s)
        try:
            yield
            attempt.succeeded()
        except grpc.aio.AioRpcError as error:
            attempt.failed(error)
            raise
        finally:
            attempt.over()

    def admit(self, timeout_s: float | None = None) -> Attempt:
        """Lets a call begin that is given `timeout_s`, or raises Open. When half-open only one at a time is let through: the probe."""
        if self.state == pybreaker.STATE_CLOSED:
            return Attempt(self, self._generation, timeout_s, probe=False)
        left = self._opened_at + self._open_s - self._clock()
        if self._probing or (self.state == pybreaker.STATE_OPEN and left > 0):
            self._refused.inc()
            raise Open(self.name, max(left, 0.1))
        if self.state == pybreaker.STATE_OPEN:
            self._machine.half_open()
        self._probing = True
        return Attempt(self, self._generation, timeout_s, probe=True)

    def report(self, generation: int, error: grpc.aio.AioRpcError | None) -> None:
        """Tell the state machine, which raises what it is told, of a call's end; not if the state has changed since it began."""
        if generation != self._generation:
            return

        def outcome() -> None:
            if error is not None:
                raise error

        try:
            self._machine.call(outcome)
        except grpc.aio.AioRpcError as raised:
            if raised is not error:
                raise

    def probed(self) -> None:
        """The probe is over, whatever came of it: another may begin."""
        self._probing = False

    def _changed(self, old: str, new: str) -> None:
        self._generation += 1
        self._level.set(_LEVELS[new])
        if new == pybreaker.STATE_OPEN:
            self._opened_at = self._clock()
            self._trips.inc()
        _log.warning("breaker changed", breaker=self.name, old=old, new=new)


class Attempt:
    """One call that was let through: its first word counts."""

    def __init__(self, breaker: Breaker, generation: int, timeout_s: float | None, *, probe: bool) -> None:
        self._breaker, self._generation, self._probe = breaker, generation, probe
        self._fair = timeout_s is None or timeout_s >= FAIR_TIMEOUT_S
        self._settled = False

    def succeeded(self) -> None:
        """The peer has answered."""
        if not self._settled:
            self._settled = True
            self._breaker.report(self._generation, None)

    def failed(self, error: grpc.aio.AioRpcError) -> None:
        """The call ended with a status: an outage, or an answer like any other. One that had too short a time proves neither."""
        if not self._settled and (self._fair or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED):
            self._settled = True
            self._breaker.report(self._generation, error)

    def over(self) -> None:
        """The call is over. It is said at the end of every call."""
        if self._probe:
            self._probe = False
            self._breaker.probed()


def _is_outage(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call's end says that the peer is in trouble."""
    return error.code() in OUTAGE and status.reason(error) not in ALIVE


class _Listener(pybreaker.CircuitBreakerListener):
    """Hands changes of state on."""

    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        self._changed(old_state.name if old_state else "", new_state.name)
