"""A circuit breaker around a peer: while the peer is out of reach, a call fails at once and does
not wait for its deadline.

    closed --FAILURES_MAX in a row--> open --open_s later--> half-open --probe succeeds--> closed
                                       ^                          |
                                       +- it fails, or times out -+

This module does the admission and the accounting around pybreaker's state machine, through its
public API. pybreaker counts correctly, but is not made for asyncio. It lets every waiting call
through when half-open, takes every cancellation for a failure, and lets late results of old calls
change its state. It also replaces the error that trips it, and uses the wall clock. So each call is
admitted, awaited and reported here, and pybreaker gets one synchronous call at the end. The changes
that depend on time alone (open to half-open, a probe that has run out of time) are computed when
the state is read, so that the gauge is right without traffic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final

import grpc
import pybreaker
import structlog

from chassis.observe import telemetry
from chassis.rpc import status

# The codes of a peer in trouble. Every other code is an answer: a peer that refuses is alive.
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
# Reasons of an answer although its code is UNAVAILABLE: the peer has read the record, which others
# hold at the moment or which waits for an event. All other records are available. A reason that
# defers every call stays an outage: a database that is away or not ready, a peer of the peer that
# is away, too many calls, a replica that drains.
ALIVE: Final = frozenset({"CONTENTION", "EVENT_AHEAD", "PAYMENT_OUTSTANDING"})
# A call that got less time than this, and ran out of it, is no evidence about the peer: its caller
# had spent the time before.
FAIR_TIMEOUT_S: Final = 0.25
FAILURES_MAX: Final = 5
# A peer that has not answered for so long is in trouble: a call that its caller cancels later
# counts as a failure.
PEER_TIMEOUT_S: Final = 5.0
# No probe keeps the breaker half-open for longer, even with a later deadline: a watch has an hour.
PROBE_MAX_S: Final = 10.0

_LEVELS: Final = {pybreaker.STATE_CLOSED: 0, pybreaker.STATE_HALF_OPEN: 1, pybreaker.STATE_OPEN: 2}
_log = structlog.get_logger(__name__)


class Open(Exception):
    """The breaker is open; it admits a probe in `retry_after_s` seconds."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"the breaker of {name} is open")
        self.retry_after_s = retry_after_s


class Breaker(pybreaker.CircuitBreakerListener):
    """One peer's breaker; `name` is the peer's, for metrics and messages.

    It opens after FAILURES_MAX failures in a row, for `open_s`. A call that is cancelled after
    PEER_TIMEOUT_S, or after its own time-out, is a failure.
    """

    def __init__(self, name: str, *, open_s: float = 10.0) -> None:
        self.name = name
        self._open_s = open_s
        self._opened_at = 0.0
        self._generation = 0  # raised at each change of state: an older call's result is stale
        self._probe_until: float | None = None  # when the running probe runs out of time
        level = telemetry.gauge(
            "grpc_client_breaker_state", "0 closed, 1 half-open, 2 open", "breaker"
        )
        level.labels(name).set_function(lambda: _LEVELS[self.state])
        self._refused = telemetry.counter(
            "grpc_client_breaker_refused_total", "Calls not made: breaker open", "breaker"
        ).labels(name)
        self._trips = telemetry.counter(
            "grpc_client_breaker_opened_total", "Times that a breaker opened", "breaker"
        ).labels(name)
        self._machine = pybreaker.CircuitBreaker(
            fail_max=FAILURES_MAX,
            listeners=[self],
            throw_new_error_on_trip=False,
            name=name,
        )

    @property
    def state(self) -> str:
        """The state: closed, open, or half-open. Half-open means that the next call is the probe,
        or that the probe is running.
        """
        if self._machine.current_state == pybreaker.STATE_CLOSED:
            return pybreaker.STATE_CLOSED
        now, probe_until, opened_at = monotonic(), self._probe_until, self._opened_at
        if probe_until is not None:
            if now < probe_until:
                return pybreaker.STATE_HALF_OPEN
            opened_at = probe_until
        return pybreaker.STATE_OPEN if now < opened_at + self._open_s else pybreaker.STATE_HALF_OPEN

    @contextmanager
    def attempt(self, timeout_s: float | None = None) -> Iterator[None]:
        """Surrounds one call (awaits included) with a time-out of `timeout_s`. Raises Open instead
        of letting it begin.

        It reports a status, and a cancellation after the peer's time-out, and raises both again.
        Any other error is neutral: an earlier cancellation, or a defect on this side of the wire.
        """
        attempt = self.admit(timeout_s)
        try:
            yield
            attempt.succeeded()
        except grpc.aio.AioRpcError as error:
            attempt.failed(error)
            raise
        except asyncio.CancelledError:
            attempt.cancelled()
            raise
        finally:
            attempt.over()

    def admit(self, timeout_s: float | None = None) -> Attempt:
        """Lets a call with a time-out of `timeout_s` begin, or raises Open. When half-open it
        admits only one at a time: the probe.
        """
        if self._machine.current_state == pybreaker.STATE_CLOSED:
            return Attempt(self, self._generation, timeout_s, probe=False)
        now = monotonic()
        probe_until = self._probe_until
        if probe_until is not None and now >= probe_until:  # it has run out of time
            self._machine.open()
            self._opened_at = probe_until
        remaining = self._opened_at + self._open_s - now
        if self._probe_until is not None or remaining > 0:
            self._refused.inc()
            raise Open(self.name, max(remaining, 0.1))
        if self._machine.current_state == pybreaker.STATE_OPEN:
            self._machine.half_open()
        self._probe_until = now + min(PROBE_MAX_S if timeout_s is None else timeout_s, PROBE_MAX_S)
        return Attempt(self, self._generation, timeout_s, probe=True)

    def report(self, generation: int, *, outage: bool) -> None:
        """Reports a call's end to the state machine, unless the state has changed since the call
        began.
        """
        if generation == self._generation:
            with suppress(_Outage), self._machine.calling():
                if outage:
                    raise _Outage

    def probed(self, generation: int) -> None:
        """Records that the probe has ended, with any result: another may begin."""
        if generation == self._generation:
            self._probe_until = None

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        """Records a change of the state machine, which calls it."""
        self._generation += 1
        self._probe_until = None
        if new_state.name == pybreaker.STATE_OPEN:
            self._opened_at = monotonic()
            self._trips.inc()
        old = old_state.name if old_state else ""
        _log.warning(
            "circuit breaker changed its state", breaker=self.name, old=old, new=new_state.name
        )


class Attempt:
    """One call that was let through. Only its first report counts."""

    def __init__(
        self, breaker: Breaker, generation: int, timeout_s: float | None, *, probe: bool
    ) -> None:
        self._breaker, self._generation, self._probe = breaker, generation, probe
        self._began = monotonic()
        self._fair = probe or timeout_s is None or timeout_s >= FAIR_TIMEOUT_S
        self._enough_s = PEER_TIMEOUT_S if timeout_s is None else min(timeout_s, PEER_TIMEOUT_S)
        self._settled = False

    def succeeded(self) -> None:
        """Reports that the peer has answered."""
        self._settle(outage=False)

    def failed(self, error: grpc.aio.AioRpcError) -> None:
        """Reports a call that ended with a status: an outage, or an answer.

        A call that had too short a time, and ran out of it, is evidence of neither; a probe's
        deadline always counts.
        """
        if self._fair or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            answered = status.reason(error) in ALIVE or status.too_large(error)
            self._settle(outage=error.code() in OUTAGE and not answered)

    def cancelled(self) -> None:
        """Reports a call that its caller has cancelled: an outage after the peer's time-out,
        otherwise neutral.
        """
        if self._fair and monotonic() - self._began >= self._enough_s:
            self._settle(outage=True)

    def over(self) -> None:
        """Ends the attempt. Every call calls it at its end."""
        if self._probe:
            self._probe = False
            self._breaker.probed(self._generation)

    def _settle(self, *, outage: bool) -> None:
        if not self._settled:
            self._settled = True
            self._breaker.report(self._generation, outage=outage)


class _Outage(Exception):
    """The error that the state machine gets for a failure."""
