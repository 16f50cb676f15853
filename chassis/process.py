"""A service as a process: it starts, runs until it is told to end or something in it fails, and
ends in order, within a bounded time.

What lives here: signals, the supervision of background tasks, timers. What is run is the service's
own `running(config)`, an async context manager that starts on entering, gives its Supervisor, and
ends on leaving, in reverse order: what was entered first (database, broker, channels) ends last,
the server is entered last and drains first. chassis/service.py puts every service together so.
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

# What the end may take beside the server's drain: tasks, broker, database.
CLOSING_S: Final = 10.0
# A task that swallowed its cancellation (a client library's flush can) is told again.
RECANCEL_S: Final = 1.0
BACK_OFF_MAX_S: Final = 60.0

_log = structlog.get_logger(__name__)


class TaskEnded(Exception):
    """A background task ended although nobody asked it to; its error, if it had one, is the
    cause.
    """


class Supervisor:
    """The background tasks of a process. On leaving it cancels them in reverse order, each when
    the later ones have ended.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[object]] = []
        self._ending = False
        self._ended: asyncio.Future[TaskEnded] = asyncio.get_running_loop().create_future()

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` until the end of the process. That it fails, or just ends, ends the
        process.
        """
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note)
        self._tasks.append(task)

    async def ended(self) -> NoReturn:
        """Waits until a task ends unasked, and raises TaskEnded."""
        raise await asyncio.shield(self._ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        for task in reversed(self._tasks):
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=RECANCEL_S)
        if not self._ended.done():
            self._ended.cancel()

    def _note(self, task: asyncio.Task[object]) -> None:
        """Records the first task that ended unasked, and logs each that failed, also while the
        others are being ended.
        """
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.critical("background task failed", task=task.get_name(), exc_info=error)
        if not self._ending and not self._ended.done():
            ended = TaskEnded(f"{task.get_name()} ended although nobody asked it to")
            ended.__cause__ = error
            self._ended.set_result(ended)


async def run_every(seconds: float, action: Callable[[], Awaitable[object]], name: str) -> NoReturn:
    """Do `action` now and then every `seconds`, give or take a tenth, for ever: a worker's timer,
    for `Supervisor.start`.

    Whatever goes wrong, the worker lives on. Deferred is a moment's trouble, and so is a database
    that is away: it is counted and tried again at the next turn. Another exception is a defect: it
    goes to the log with an error id, is counted (alert on it), and is tried again ever more slowly,
    once a minute at last.
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
        # a worker outlives its defects: they are counted, and alerted on
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
    """How long a worker of this pace rests after so many failures in a row."""
    return min(seconds * 2.0 ** min(failures, 10), max(seconds, BACK_OFF_MAX_S))


def run(
    running: Callable[[Config], AbstractAsyncContextManager[Supervisor]], config: Config
) -> NoReturn:
    """Be the service until SIGTERM or SIGINT; then exit with code 0, or 1 when it could not start,
    a task failed, or it would not end.

    Sets up logs, traces and the metrics' address. The end takes the drain and CLOSING_S at most;
    after that, or at a second signal, the process exits as it stands.
    """
    telemetry.configure_log(config.service, config.log_level)
    grace_s = config.drain_delay_s + config.drain_grace_s + CLOSING_S
    try:
        with (
            telemetry.tracing(config.service),
            _ended_within(grace_s) as end_in_time,
            telemetry.serve_metrics(config.metrics_address),
        ):
            uvloop.run(_live(running(config), end_in_time))
    except OSError as error:  # an address that cannot be had: its sentence says all
        _log.critical("ended by a failure", error=str(error))
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001  # the last line of the log says why the process ends
        _log.critical("ended by a failure", exc_info=error)
        raise SystemExit(1) from None
    _log.info("ended")
    raise SystemExit(0)


@contextmanager
def _ended_within(grace_s: float) -> Iterator[Callable[[], None]]:
    """Gives what says that the end begins: if this is not left so much later, the process exits
    as it stands.
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


async def _live(
    context: AbstractAsyncContextManager[Supervisor], end_in_time: Callable[[], None]
) -> None:
    """Enter, wait for a signal or a failed task, leave. Raises what made it end, unless that was
    a signal.
    """
    loop, told, me = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
    started = False

    def on_signal(number: signal.Signals) -> None:
        if told.is_set():
            _exit_now(f"told twice ({number.name})")
        _log.info("told to end", signal=number.name)
        told.set()
        end_in_time()
        if not started and me is not None:
            me.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        async with context as supervisor:
            started = True
            _log.info("started")
            try:
                await _either(told.wait(), supervisor.ended())
            finally:
                end_in_time()
    except asyncio.CancelledError:
        if not told.is_set():
            raise


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    """Waits for the first of `waits` to end, and ends the others. Raises what it raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()


def _exit_now(why: str) -> NoReturn:
    """The process ends here, whatever still runs."""
    _log.critical("exit without an orderly end", why=why)
    sys.stderr.flush()
    os._exit(1)
