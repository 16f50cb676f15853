"""A service as a process: its behaviour on signals and failures, seen from outside, and its parts,
seen from inside.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from chassis import process
from chassis.process import Supervisor, TaskEnded, run_every
from chassis.values.errors import Deferred
from tests.support import eventually, measured

PROLOGUE = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from typing import ClassVar
from chassis import process
from chassis.values.config import ServiceConfig, load
from chassis.process import Supervisor, run

process.CLOSING_S = float(os.environ.get("CLOSING_S", "10"))

class Config(ServiceConfig):
    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:0"
    metrics_address: str = "127.0.0.1:0"

async def work(name):
    try:
        await asyncio.Event().wait()
    finally:
        print("task", name, flush=True)

async def failing():
    raise ValueError("broken")

async def returning():
    pass

"""
PLAIN = """
@asynccontextmanager
async def running(config):
    async with Supervisor() as tasks:
        tasks.start("first", work("first"))
        tasks.start("second", work("second"))
        print("up", type(asyncio.get_running_loop()).__module__, flush=True)
        yield tasks
        print("down", flush=True)
    print("closed", flush=True)

run(running, load(Config))
"""


class Program:
    """A service that runs as a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """Returns its next line on stdout."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, list[str], list[dict[str, Any]]]:
        """Waits for its end; returns the exit code, the rest of stdout, and its log.

        Its few lines fit into the pipes. (`communicate` would miss the lines that `line` has read
        ahead.)
        """
        assert self.process.stdout
        assert self.process.stderr
        code = self.process.wait(timeout=20)
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return code, out.splitlines(), [json.loads(line) for line in err.splitlines()]


@contextmanager
def program(folder: Path, body: str, **environment: str) -> Iterator[Program]:
    """Runs a program of the prologue and `body`."""
    file = folder / "service.py"
    file.write_text(PROLOGUE + textwrap.dedent(body))
    settings = {
        "DATABASE_URL": "postgresql+psycopg://127.0.0.1/x",
        "NATS_URL": "nats://127.0.0.1",
        "DRAIN_DELAY_S": "0",
        "DRAIN_GRACE_S": "0",
    }
    process = subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings | environment,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_process_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """On SIGTERM the process leaves its context from the inside out, ends its tasks in reverse
    order, and exits with 0. Its loop is uvloop.
    """
    with program(tmp_path, PLAIN) as service:
        assert service.line() == "up uvloop"
        service.process.send_signal(number)
        code, out, log = service.end()
    assert code == 0
    assert out == ["down", "task second", "task first", "closed"]
    assert [line["event"] for line in log] == ["started", "ending on a signal", "ended"]


def test_signal_during_the_start_ends_the_process(tmp_path: Path) -> None:
    """A signal ends a start that waits, as for a database that is unreachable, without SIGKILL."""
    body = """
    @asynccontextmanager
    async def running(config):
        print("starting", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("undone", flush=True)
        yield

    run(running, load(Config))
    """
    with program(tmp_path, body) as service:
        assert service.line() == "starting"
        service.process.terminate()
        code, out, _ = service.end()
    assert (code, out) == (0, ["undone"])


@pytest.mark.parametrize(
    ("task", "cause"), [("failing()", "ValueError: broken"), ("returning()", None)]
)
def test_end_of_a_task_ends_the_process(tmp_path: Path, task: str, cause: str | None) -> None:
    """A background task that fails, or returns too early, ends the process in order: exit code 1,
    and the log names the task and the error.
    """
    body = PLAIN.replace('work("second")', task)
    with program(tmp_path, body) as service:
        assert service.line().startswith("up")
        code, out, log = service.end()
    assert code == 1
    assert out == ["task first"]
    last = log[-1]
    assert last["level"] == "critical"
    assert "second ended before the process" in last["exception"]
    assert cause is None or cause in last["exception"]


def test_failed_start_is_explained(tmp_path: Path) -> None:
    """A start that fails exits with 1; an address in use is one plain sentence, without a
    traceback.
    """
    body = """
    @asynccontextmanager
    async def running(config):
        raise OSError("LISTEN_ADDRESS 127.0.0.1:1 cannot be listened on")
        yield

    run(running, load(Config))
    """
    with program(tmp_path, body) as service:
        code, _, log = service.end()
    assert code == 1
    assert log[-1]["error"] == "LISTEN_ADDRESS 127.0.0.1:1 cannot be listened on"
    assert "exception" not in log[-1]


def test_invalid_settings_exit_with_2(tmp_path: Path) -> None:
    """Faults of the settings are reported first, as text for the operator that started the
    process.
    """
    with program(tmp_path, PLAIN, CALLS_MAX="many") as service:
        _, err = service.process.communicate(timeout=20)
    assert service.process.returncode == 2
    assert "CALLS_MAX is not right" in err


STUCK = {
    "a waiting end": "await asyncio.Event().wait()",
    "a stuck loop": "import time; time.sleep(60)",
    "a stuck server of metrics": (
        "import socketserver, time; socketserver.BaseServer.shutdown = lambda _: time.sleep(60)"
    ),
}


@pytest.mark.parametrize("stuck", STUCK.values(), ids=STUCK)
@pytest.mark.parametrize("task", ['work("first")', "failing()"])
def test_end_beyond_the_grace_is_forced(tmp_path: Path, stuck: str, task: str) -> None:
    """When the end takes longer than the grace, the process exits at once, with 1.

    This holds with a stuck event loop, or with stuck code after it, and after a signal or a
    failure.
    """
    body = f"""
    @asynccontextmanager
    async def running(config):
        async with Supervisor() as tasks:
            tasks.start("task", {task})
            print("up", flush=True)
            try:
                yield tasks
            finally:
                {stuck}

    run(running, load(Config))
    """
    with program(tmp_path, body, CLOSING_S="0.3") as service:
        service.line()
        begin = time.monotonic()
        if "failing" not in task:
            service.process.terminate()
        code, _, log = service.end()
    assert code == 1
    assert time.monotonic() - begin < 10
    assert log[-1]["event"] == "exit without an orderly end"


def test_start_with_a_swallowed_cancellation_is_ended(tmp_path: Path) -> None:
    """A start that swallows its cancellation does not keep the process running either."""
    body = """
    @asynccontextmanager
    async def running(config):
        print("starting", flush=True)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
        yield

    run(running, load(Config))
    """
    with program(tmp_path, body, CLOSING_S="0.3") as service:
        service.line()
        service.process.terminate()
        code, _, log = service.end()
    assert (code, log[-1]["event"]) == (1, "exit without an orderly end")


def test_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """A second signal ends the process without the grace."""
    body = """
    @asynccontextmanager
    async def running(config):
        async with Supervisor() as tasks:
            print("up", flush=True)
            yield tasks
            print("leaving", flush=True)
            await asyncio.Event().wait()

    run(running, load(Config))
    """
    with program(tmp_path, body) as service:
        service.line()
        service.process.terminate()
        assert service.line() == "leaving"
        service.process.terminate()
        code, _, log = service.end()
    assert code == 1
    assert log[-1]["why"] == "second signal (SIGTERM)"


async def test_tasks_end_one_after_the_other() -> None:
    """At the end, the task that started last is cancelled first, and ends completely before the one
    before it is cancelled, for any duration of its end.
    """
    steps: list[str] = []
    slow_end_s = 0.02

    async def work(name: str) -> None:
        steps.append(f"{name} begun")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append(f"{name} cancelled")
            await asyncio.sleep(slow_end_s)
            steps.append(f"{name} ended")

    async with Supervisor() as tasks:
        for name in ("first", "second"):
            tasks.start(name, work(name))
        await eventually(lambda: steps == ["first begun", "second begun"])
    assert steps[2:] == ["second cancelled", "second ended", "first cancelled", "first ended"]


async def test_a_swallowed_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose library swallows the first cancellation is cancelled again until it ends."""
    monkeypatch.setattr("chassis.process.RECANCEL_S", 0.05)
    begun, swallowed = asyncio.Event(), 0

    async def deaf() -> None:
        nonlocal swallowed
        begun.set()
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        async with Supervisor() as tasks:
            tasks.start("deaf", deaf())
            await begun.wait()
    assert swallowed == 2


async def test_run_until_raises_the_first_failure() -> None:
    """`run_until` raises with the task's name and its error as the cause, also when the task failed
    before the wait.
    """

    async def failing() -> None:
        raise ValueError("broken")

    async with Supervisor() as tasks:
        tasks.start("relay", failing())
        await eventually(
            lambda: "relay" not in {task.get_name() for task in asyncio.all_tasks()},
            what="the task is over",
        )
        with pytest.raises(TaskEnded, match="relay") as caught:
            await tasks.run_until(asyncio.Event())
    assert str(caught.value.__cause__) == "broken"


def _turns(outcome: str) -> float:
    return measured("worker_runs_total", worker="sample", outcome=outcome)


async def test_worker_continues_after_failed_runs() -> None:
    """A deferred run and one with a defect are counted and logged, the defect with an error id and
    its error. The next run comes all the same.
    """
    before = {outcome: _turns(outcome) for outcome in ("done", "deferred", "failed")}
    turns = iter([None, Deferred("CONTENTION", "busy"), ValueError("broken"), None, None])
    ended = asyncio.Event()

    async def action() -> None:
        error = next(turns, ended)
        if error is ended:
            ended.set()
            await asyncio.Event().wait()
        if isinstance(error, Exception):
            raise error

    with capture_logs() as log:
        async with Supervisor() as tasks:
            tasks.start("sample", run_every(0.01, action, "sample"))
            await asyncio.wait_for(ended.wait(), 5)
    assert {outcome: _turns(outcome) - count for outcome, count in before.items()} == {
        "done": 3,
        "deferred": 1,
        "failed": 1,
    }
    deferred, failed = (line for line in log if line["event"].startswith("worker"))
    assert (deferred["log_level"], deferred["reason"]) == ("warning", "CONTENTION")
    assert (failed["log_level"], str(failed["exc_info"])) == ("error", "broken")
    assert failed["error_id"]
    assert measured("worker_last_success_timestamp_seconds", worker="sample") > time.time() - 60


@pytest.mark.parametrize(
    ("seconds", "failures", "rest"),
    [
        (1.0, 0, 1),
        (1.0, 1, 2),
        (1.0, 5, 32),
        (1.0, 6, 60),
        (1.0, 5_000, 60),
        (300.0, 0, 300),
        (300.0, 3, 300),
    ],
)
def test_a_worker_with_a_defect_slows_down(seconds: float, failures: int, rest: float) -> None:
    """Consecutive defects slow the worker down, to one run a minute at last, and never make it
    faster than its pace.
    """
    assert process._pause(seconds, failures) == rest


async def test_a_worker_regains_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A success resets the delay. A deferral, or an unreachable database, is no failure."""
    rows: list[int] = []

    def pause(_seconds: float, failures: int) -> float:
        rows.append(failures)
        return 0.0

    away = OperationalError("select 1", {}, Exception("server closed the connection unexpectedly"))
    outcomes = iter([ValueError(), ValueError(), None, Deferred("CONTENTION"), away, ValueError()])

    async def action() -> None:
        error = next(outcomes, None)
        if error:
            raise error

    monkeypatch.setattr("chassis.process._pause", pause)
    async with Supervisor() as tasks:
        tasks.start("sample", run_every(1, action, "sample"))
        await eventually(lambda: len(rows) >= 7)
    assert rows[:7] == [1, 2, 0, 0, 0, 1, 0]
