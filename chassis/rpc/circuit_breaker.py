"""A circuit breaker around a peer: while it is out of reach, a call fails at once and does not wait
for its deadline.

    closed --FAILURES_MAX in a row--> open --open_s later--> half-open --probe succeeds--> closed
                                       ^                          |
                                       +- it fails, or times out -+

This module does the admission and the accounting around pybreaker's state machine, through its
public API. pybreaker counts rightly, but by itself it is not for asyncio: it lets every waiting
call through when half-open, takes every cancellation for a failure, lets late results of old calls
move it, replaces the error that trips it, and goes by the wall clock. Gate, await, report: its part
is one synchronous call at the end. What time alone changes (open to half-open, a probe that has run
out of time) is computed when it is asked for, so that the gauge is true without traffic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Final

import grpc
import pybreaker
import structlog

from chassis.observe import telemetry
from chassis.rpc import status

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
# Answers all the same, though their code is UNAVAILABLE: the peer has looked at the record that is
# asked for, and with this one it is not the moment: others hold it, or it waits for an event. All
# the other records are to be had. What defers everybody stays an outage: a database that is away or
# not ready, a peer of the peer's, too much at once, a replica that drains.
ALIVE: Final = frozenset({"CONTENTION", "EVENT_AHEAD", "PAYMENT_OUTSTANDING"})
# A call that was given less than this and ran out of it says nothing about the peer: its caller had
# spent the time elsewhere.
FAIR_TIMEOUT_S: Final = 0.25
FAILURES_MAX: Final = 5
# A peer that has not answered for so long is in trouble: a call that its caller gives up after it
# counts as a failure.
PEER_TIMEOUT_S: Final = 5.0
# No probe keeps the breaker half-open for longer, whatever its deadline: a watch has an hour.
PROBE_MAX_S: Final = 10.0

_LEVELS: Final = {pybreaker.STATE_CLOSED: 0, pybreaker.STATE_HALF_OPEN: 1, pybreaker.STATE_OPEN: 2}
_log = structlog.get_logger(__name__)


class Open(Exception):
    """The breaker lets nothing through; `retry_after_s` from now it will let a probe."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"the breaker of {name} is open")
        self.retry_after_s = retry_after_s


class Breaker:
    """One peer's breaker; `name` is the peer's, for metrics and messages.

    It opens after FAILURES_MAX failures in a row, for `open_s`. A call that is cancelled after it
    has waited longer than PEER_TIMEOUT_S, or as long as it was given, is a failure.
    """

    def __init__(self, name: str, *, open_s: float = 10.0) -> None:
        self.name = name
        self._open_s = open_s
        self._opened_at = 0.0
        self._generation = 0  # raised at each change of state: an older call's result is stale
        self._probe_until: float | None = None  # when the probe that is on its way runs out of time
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
            listeners=[_Listener(self._changed)],
            throw_new_error_on_trip=False,
            name=name,
        )

    @property
    def state(self) -> str:
        """closed, open, or half-open: the next call is the probe, or the probe is on its way."""
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
        """Surrounds one call (awaits included) that is given `timeout_s`. Raises Open instead of
        letting it begin.

        A status that comes out is reported, and so is a cancellation after the peer's time-out;
        both go on as they are. Anything else is neutral: a cancellation before it, a defect on our
        side of the wire.
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
        """Lets a call begin that is given `timeout_s`, or raises Open. When half-open only one
        at a time is let through: the probe.
        """
        if self._machine.current_state == pybreaker.STATE_CLOSED:
            return Attempt(self, self._generation, timeout_s, probe=False)
        now = monotonic()
        if self._probe_until is not None and now >= self._probe_until:  # it has run out of time
            self._open_at(self._probe_until)
        left = self._opened_at + self._open_s - now
        if self._probe_until is not None or left > 0:
            self._refused.inc()
            raise Open(self.name, max(left, 0.1))
        if self._machine.current_state == pybreaker.STATE_OPEN:
            self._machine.half_open()
        self._probe_until = now + min(PROBE_MAX_S if timeout_s is None else timeout_s, PROBE_MAX_S)
        return Attempt(self, self._generation, timeout_s, probe=True)

    def report(self, generation: int, *, outage: bool) -> None:
        """Tells the state machine of a call's end; not if the state has changed since it began."""
        if generation == self._generation:
            with suppress(_Outage):  # the machine raises what it is told
                self._machine.call(_fail if outage else _nothing)

    def probed(self, generation: int) -> None:
        """The probe is over, whatever came of it: another may begin."""
        if generation == self._generation:
            self._probe_until = None

    def _open_at(self, time_s: float) -> None:
        """Opens it as of then."""
        self._machine.open()
        self._opened_at = time_s

    def _changed(self, old: str, new: str) -> None:
        self._generation += 1
        self._probe_until = None
        if new == pybreaker.STATE_OPEN:
            self._opened_at = monotonic()
            self._trips.inc()
        _log.warning("breaker changed", breaker=self.name, old=old, new=new)


class Attempt:
    """One call that was let through: its first word counts."""

    def __init__(
        self, breaker: Breaker, generation: int, timeout_s: float | None, *, probe: bool
    ) -> None:
        self._breaker, self._generation, self._probe = breaker, generation, probe
        self._began = monotonic()
        self._fair = probe or timeout_s is None or timeout_s >= FAIR_TIMEOUT_S
        self._enough_s = PEER_TIMEOUT_S if timeout_s is None else min(timeout_s, PEER_TIMEOUT_S)
        self._settled = False

    def succeeded(self) -> None:
        """The peer has answered."""
        self._settle(outage=False)

    def failed(self, error: grpc.aio.AioRpcError) -> None:
        """The call ended with a status: an outage, or an answer like any other.

        A call that had too short a time, and ran out of it, proves neither; a probe's deadline
        always counts.
        """
        if self._fair or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._settle(outage=_is_outage(error))

    def cancelled(self) -> None:
        """The caller has given the call up: an outage where the peer had had its time, neutral
        otherwise.
        """
        if self._fair and monotonic() - self._began >= self._enough_s:
            self._settle(outage=True)

    def over(self) -> None:
        """The call is over. It is said at the end of every call."""
        if self._probe:
            self._probe = False
            self._breaker.probed(self._generation)

    def _settle(self, *, outage: bool) -> None:
        if not self._settled:
            self._settled = True
            self._breaker.report(self._generation, outage=outage)


class _Outage(Exception):
    """What the state machine is told of a failure."""


def _fail() -> None:
    raise _Outage


def _nothing() -> None:
    """What the state machine is told of a success."""


def _is_outage(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call's end says that the peer is in trouble."""
    return (
        error.code() in OUTAGE and status.reason(error) not in ALIVE and not status.too_large(error)
    )


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
