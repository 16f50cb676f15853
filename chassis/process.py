"""A service as a process: it starts, runs until a signal or a failed task, and drains within a
bounded time.

This module has signals, the supervision of background tasks, and timers. It runs the service's own
`running(config)`: an async context manager that starts on entering, yields its Supervisor, and ends
on leaving, in reverse order. The database, the broker and the channels are entered first and end
last. The server is entered last and drains first. chassis/service.py composes every service in this
way.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

import structlog
import uvloop

from chassis.observe import telemetry
from chassis.values.config import ServiceConfig
from chassis.values.errors import Deferred
from chassis.write.error_classification import deferring_outages

Config = TypeVar("Config", bound=ServiceConfig)

# The bound of the end without the server's drain: tasks, broker, database.
CLOSING_S: Final = 10.0
# A task that swallowed its cancellation (a client library's flush can) is cancelled again.
RECANCEL_S: Final = 1.0
BACK_OFF_MAX_S: Final = 60.0

_log = structlog.get_logger(__name__)


class TaskEnded(Exception):
    """A background task ended before the process did. Its error, if it had one, is the cause."""


class Supervisor:
    """The background tasks of a process. On leaving it cancels them in reverse order, each when the
    later ones have ended.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[object]] = []

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Runs `work` until the end of the process. The process ends if `work` fails or returns."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_failure)
        self._tasks.append(task)

    async def run_until(self, stopping: asyncio.Event) -> None:
        """Waits until `stopping` is set. Raises TaskEnded if a task ends before that."""
        stop = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait([*self._tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in self._tasks:
            if task in done:
                raise TaskEnded(f"{task.get_name()} ended before the process") from _error(task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in reversed(self._tasks):
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=RECANCEL_S)


def _log_failure(task: asyncio.Task[object]) -> None:
    """Logs each task that failed, also while the other tasks are cancelled."""
    error = _error(task)
    if error is not None:
        _log.critical("background task failed", task=task.get_name(), exc_info=error)


def _error(task: asyncio.Task[object]) -> BaseException | None:
    """Returns the error of a task that has ended; None for a cancelled one."""
    return None if task.cancelled() else task.exception()


async def run_every(seconds: float, action: Callable[[], Awaitable[object]], name: str) -> NoReturn:
    """Calls `action` now and then every `seconds`, plus or minus a tenth, without end: a worker's
    timer, for `Supervisor.start`.

    The worker survives every exception. Deferred, and a database that is away, count as deferred:
    the worker tries again at its next turn. Any other exception is a defect. The worker logs it
    with an error id, counts it (alert on it), and tries again with growing pauses, at last once a
    minute.
    """
    runs = telemetry.counter(
        "worker_runs_total",
        "Turns of a worker's timer: done, deferred or failed",
        "worker",
        "outcome",
    )
    success = telemetry.gauge(
        "worker_last_success_timestamp_seconds", "When a worker's last turn was done", "worker"
    )
    failures = 0
    while True:
        try:
            with deferring_outages():
                await action()
        except Deferred as deferred:
            runs.labels(name, "deferred").inc()
            _log.warning(
                "worker deferred", worker=name, reason=deferred.reason, message=deferred.message
            )
        # a worker survives its defects: it counts them, and an alert reports them
        except Exception as error:  # noqa: BLE001
            failures += 1
            runs.labels(name, "failed").inc()
            _log.error("worker failed", worker=name, error_id=uuid.uuid4().hex, exc_info=error)
        else:
            failures = 0
            runs.labels(name, "done").inc()
            success.labels(name).set_to_current_time()
        await asyncio.sleep(_pause(seconds, failures) * random.uniform(0.9, 1.1))


def _pause(seconds: float, failures: int) -> float:
    """Returns the pause of a worker after so many failures in a row, in seconds."""
    return min(seconds * 2.0 ** min(failures, 10), max(seconds, BACK_OFF_MAX_S))


def run(
    running: Callable[[Config], AbstractAsyncContextManager[Supervisor]], config: Config
) -> None:
    """Runs the service until SIGTERM or SIGINT. Exits with code 1 when the
    service could not start, a task failed, or the end took too long.

    Sets up logs, traces and the metrics' address. The end takes the drain and CLOSING_S at most.
    After that, or at a second signal, the process exits at once.
    """
    telemetry.configure_log(config.service, config.log_level)
    grace_s = config.drain_delay_s + config.drain_grace_s + CLOSING_S
    try:
        with (
            telemetry.tracing(config.service),
            _exit_after(grace_s) as start_exit_timer,
            telemetry.serve_metrics(config.metrics_address),
        ):
            uvloop.run(_run_until_stopped(running(config), start_exit_timer))
    except OSError as error:  # an address that cannot be had: the error's text is enough
        _log.critical("ended by a failure", error=str(error))
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001  # the last line of the log says why the process ends
        _log.critical("ended by a failure", exc_info=error)
        raise SystemExit(1) from None
    _log.info("ended")


@contextmanager
def _exit_after(grace_s: float) -> Iterator[Callable[[], None]]:
    """Yields a function that starts a timer of `grace_s` seconds. The process exits at once if the
    block has not ended when the timer runs out.
    """
    # a thread: the loop itself may be stuck
    last_exit = threading.Timer(grace_s, _exit_now, [f"not ended in {grace_s:g} s"])
    last_exit.daemon = True

    def begin() -> None:
        if not last_exit.is_alive():
            last_exit.start()

    try:
        yield begin
    finally:
        last_exit.cancel()


async def _run_until_stopped(
    context: AbstractAsyncContextManager[Supervisor], start_exit_timer: Callable[[], None]
) -> None:
    """Enters the context, waits for a signal or a failed task, and leaves. Raises the error that
    ended it; a signal raises nothing.
    """
    loop, stopping, main_task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
    started = False

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            _exit_now(f"second signal ({number.name})")
        _log.info("ending on a signal", signal=number.name)
        stopping.set()
        start_exit_timer()
        if not started and main_task is not None:
            main_task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        async with context as supervisor:
            started = True
            _log.info("started")
            try:
                await supervisor.run_until(stopping)
            finally:
                start_exit_timer()
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


def _exit_now(why: str) -> NoReturn:
    """Ends the process at once, without cleaning up."""
    _log.critical("exit without an orderly end", why=why)
    sys.stderr.flush()
    os._exit(1)
