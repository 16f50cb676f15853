"""`make run`: starts the whole, shows it at work, says how to reach it, and stays up until Ctrl-C.

What a person at a terminal sees stands here; what runs stands in stack.py.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from devstack import lock, settings
from devstack.child import tethered
from devstack.clean import clean
from devstack.errors import DevstackError, refused
from devstack.processes import program
from devstack.rooms import installed_programs
from devstack.stack import SERVICES, Stack, beside

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".ordermesh"
DEMO = (sys.executable, "-m", "simulator", "demo")
DEMO_GRACE_S = 5.0
LIST_ORDERS = "ordermesh.order.v1.OrderService/ListOrders"
COULD_NOT = "The stack could not run."
INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended


class Reported(DevstackError):
    """A failure that has been shown already."""


class Screen:
    """What is said to the user: with colour and movement on a terminal, line by line in a pipe."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str = "") -> None:
        """Prints a line."""
        self._out.print(text, markup=False)

    def fail(self, text: str) -> None:
        """Prints what went wrong."""
        self._err.print(text, markup=False, style="red")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows that `what` is being done, and how long it took once it is done."""
        started = time.monotonic()
        with self._out.status(what) if self._out.is_terminal else nullcontext(), self.reporting():
            yield
        self.say(f"  {what:<12} ready in {time.monotonic() - started:.1f} s")

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Shows a failure as soon as it happens, and not when all else has been stopped. Raises
        Reported in its place.
        """
        try:
            yield
        except (DevstackError, OSError) as error:
            self.fail(_told(error))
            self.say("Stopping everything ...")
            raise Reported(str(error)) from error


def main(arguments: Sequence[str]) -> int:
    """Runs the stack; returns the exit code: 0 after Ctrl-C, 1 when something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description="Runs PostgreSQL, NATS and the five services on this machine.",
    )
    parser.add_argument(
        "--no-demo", action="store_true", help="start everything, and leave the shop empty"
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where data and logs go (.ordermesh)"
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="remove the data and the logs, wherever they are, and end",
    )
    options = parser.parse_args(arguments)
    screen = Screen()
    try:
        if options.clean:
            _clean(options.folder.absolute())
            return 0
        demo = () if options.no_demo else DEMO
        return asyncio.run(_run(screen, options.folder.absolute(), demo))
    except Reported:
        return 1
    except (DevstackError, OSError) as error:
        screen.fail(_told(error))
    return 1


async def _run(screen: Screen, folder: Path, demo: Sequence[str]) -> int:
    chosen = settings.read(os.environ)
    with _alone(folder, up="use that one, or stop it first"):
        settings.need_ports(chosen)
        screen.say(f"ordermesh starts; its data and logs are in {_shown(folder)}")
        stack = Stack(
            folder,
            ports=chosen.ports,
            database_url=chosen.database_url,
            nats_url=chosen.nats_url,
            program=program,
            step=screen.step,
        )
        _stop_on_signals(stack, screen)
        up = False
        try:
            async with stack:
                up = True
                await _stay_up(stack, screen, demo)
        except asyncio.CancelledError:
            screen.say("Stopped.")
        return 0 if up else INTERRUPTED


def _clean(folder: Path) -> None:
    with _alone(folder, up="stop it first"):
        clean(folder)


@contextmanager
def _alone(folder: Path, *, up: str) -> Iterator[None]:
    """Holds the folder against a second `make run`; where one is up already, whoever comes is
    told who has it, and to do `up`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "pid"
        pid = mark.read_text().strip() if mark.exists() else "unknown"
    except OSError as error:
        raise refused(f"The folder {folder} cannot be used.", error) from error
    taken = (
        f"`make run` is up already (process {pid}): {up}, with Ctrl-C in its terminal or `kill"
        f" {pid}`."
    )
    held = lock.hold(folder / "lock", taken=taken)
    try:
        mark.write_text(f"{os.getpid()}\n")
        yield
    finally:
        mark.unlink(missing_ok=True)
        os.close(held)


def _stop_on_signals(stack: Stack, screen: Screen) -> None:
    """Lets the first Ctrl-C (or SIGTERM, or the end of the terminal) stop the stack in order,
    and the second one kill it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    asked: list[int] = []

    def stop(number: int) -> None:
        if asked:
            stack.kill()
            return
        asked.append(number)
        screen.say("Stopping (Ctrl-C again: at once) ...")
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)


async def _stay_up(stack: Stack, screen: Screen, demo: Sequence[str]) -> None:
    """Shows the demo and the addresses, and ends only with an error, or cancelled."""

    async def watch() -> None:
        with screen.reporting():
            await stack.watch()

    async def show() -> None:
        with screen.reporting():
            await _show(stack, demo)

    if demo:
        await beside(watch(), show())
    for line in _directions(stack):
        screen.say(line)
    await watch()


def _told(failed: Exception) -> str:
    """What kept the stack from running, in words for people."""
    return str(refused(COULD_NOT, failed) if isinstance(failed, OSError) else failed)


async def _show(stack: Stack, demo: Sequence[str]) -> None:
    """Runs the demo on this terminal. Raises DevstackError when it fails."""
    command = tethered(demo, dies_with=signal.SIGTERM)
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | stack.environment, start_new_session=True
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), DEMO_GRACE_S)
            except TimeoutError:
                process.kill()
                await process.wait()
    if code != 0:
        stack.check()  # a part that has died is the cause
        raise DevstackError(
            f"The demo failed (exit code {code}); what it printed stands above, the services' logs"
            f" are in {_shown(stack.folder / 'logs')}. `.venv/bin/python -m devstack --no-demo`"
            " starts everything without it."
        )


def _directions(stack: Stack) -> Iterator[str]:
    """How to reach what runs, ready to paste."""
    yield ""
    yield "ordermesh is up:"
    for name in reversed(SERVICES):
        yield f"  {name:<12} {stack.addresses[name]:<18} metrics http://{stack.metrics_addresses[name]}/metrics"
    server = stack.postgres
    yield f"  {'PostgreSQL':<12} " + (
        f"127.0.0.1:{server.port:<8} data in {_shown(server.data)}"
        if server
        else "yours (DATABASE_URL)"
    )
    yield f"  {'NATS':<12} " + (stack.nats_url if stack.nats else "yours (NATS_URL)")
    yield ""
    yield "Try:"
    programs, order = _shown(Path(sys.executable).parent), stack.addresses["order"]
    elsewhere = [
        f"{name.upper()}_ADDRESS={stack.addresses[name]}"
        for name in SERVICES
        if not _at_default(stack, name)
    ]
    yield "  " + " ".join([*elsewhere, f"{programs}/omctl --help"])
    yield f"  grpcurl -plaintext -max-time 5 -d '{{\"page_size\": 5}}' {order} {LIST_ORDERS}"
    yield (
        f"  {programs}/buf curl --timeout 5s --protocol grpc --http2-prior-knowledge -d"
        f" '{{\"pageSize\": 5}}' http://{order}/{LIST_ORDERS}"
    )
    if server is not None:
        psql = _shown(installed_programs() / "psql")
        yield (
            f"  PGPASSWORD=$(cat {_shown(server.password_file)}) {psql} -h 127.0.0.1 -p"
            f" {server.port} -U postgres orders"
        )
    yield ""
    yield f"Logs are in {_shown(stack.folder / 'logs')}. Ctrl-C stops everything."


def _at_default(stack: Stack, name: str) -> bool:
    return stack.addresses[name] == f"127.0.0.1:{settings.SERVICE_PORTS[name]}"


def _shown(path: Path) -> str:
    """The path as somebody in this folder would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
