"""`make run`: starts the stack, runs the demo, prints the addresses, and runs until Ctrl-C.

This module has the terminal's output; stack.py runs the servers.
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
DIRECTIONS = """
ordermesh is up:
{services}
  PostgreSQL   {postgres}
  NATS         {nats}

Try:
  {omctl} --help
  grpcurl -plaintext -max-time 5 -d '{{"page_size": 5}}' {order} \
ordermesh.order.v1.OrderService/ListOrders
  {buf} curl --timeout 5s --protocol grpc --http2-prior-knowledge -d '{{"pageSize": 5}}' \
http://{order}/ordermesh.order.v1.OrderService/ListOrders
{psql}
Logs are in {logs}. Ctrl-C stops everything."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # a shell's exit code of a program that Ctrl-C ended


class Reported(DevstackError):
    """A failure that has been shown already."""


class Screen:
    """Prints to the user: with colours and a spinner on a terminal, plain lines in a pipe."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str = "") -> None:
        """Prints a line."""
        self._out.print(text, markup=False)

    def fail(self, text: str) -> None:
        """Prints an error."""
        self._err.print(text, markup=False, style="red")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows that `what` is in progress, then the time that it took."""
        started = time.monotonic()
        with self._out.status(what) if self._out.is_terminal else nullcontext(), self.reporting():
            yield
        self.say(f"  {what:<12} ready in {time.monotonic() - started:.1f} s")

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Prints a failure at once, before everything is stopped, and raises Reported in its
        place.
        """
        try:
            yield
        except (DevstackError, OSError) as error:
            self.fail(_message(error))
            self.say("Stopping everything ...")
            raise Reported(str(error)) from error


def main(arguments: Sequence[str]) -> int:
    """Runs the stack; returns the exit code: 0 after Ctrl-C, 1 after a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description="Runs PostgreSQL, NATS and the five services on this machine.",
    )
    parser.add_argument(
        "--no-demo", action="store_true", help="start everything without the demo's order"
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where data and logs go (.ordermesh)"
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="remove the data and the logs, and end",
    )
    options = parser.parse_args(arguments)
    screen = Screen()
    try:
        if options.clean:
            with _alone(options.folder.absolute(), up="stop it first"):
                clean(options.folder.absolute())
            return 0
        demo = () if options.no_demo else DEMO
        return asyncio.run(_run(screen, options.folder.absolute(), demo))
    except Reported:
        return 1
    except (DevstackError, OSError) as error:
        screen.fail(_message(error))
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
                with screen.reporting():
                    await _stay_up(stack, screen, demo)
        except asyncio.CancelledError:
            screen.say("Stopped.")
        return 0 if up else INTERRUPTED


@contextmanager
def _alone(folder: Path, *, up: str) -> Iterator[None]:
    """Locks the folder against a second `make run`. If one is up, raises DevstackError with its
    process and the advice `up`.
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
    """Makes the first Ctrl-C (or SIGTERM, or SIGHUP) stop the stack in order, and the second one
    kill it.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        for number in STOPPING:
            loop.add_signal_handler(number, stack.kill)
        screen.say("Stopping (Ctrl-C again: at once) ...")
        if task is not None:
            task.cancel()

    for number in STOPPING:
        loop.add_signal_handler(number, stop)


async def _stay_up(stack: Stack, screen: Screen, demo: Sequence[str]) -> None:
    """Runs the demo and prints the addresses. Ends only with an error, or if it is cancelled."""
    if demo:
        await beside(stack.watch(), _show(stack, demo))
    screen.say(_directions(stack))
    await stack.watch()


def _message(failed: Exception) -> str:
    """Returns the message of the error that stopped the stack."""
    return str(
        refused("The stack could not run.", failed) if isinstance(failed, OSError) else failed
    )


async def _show(stack: Stack, demo: Sequence[str]) -> None:
    """Runs the demo on this terminal. Raises DevstackError if it fails."""
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
        stack.check()  # raises if a server or a service has died, which is the cause
        raise DevstackError(
            f"The demo failed (exit code {code}); what it printed stands above, the services' logs"
            f" are in {_shown(stack.folder / 'logs')}. `.venv/bin/python -m devstack --no-demo`"
            " starts everything without it."
        )


def _directions(stack: Stack) -> str:
    """Returns the addresses, and commands to paste."""
    programs = _shown(Path(sys.executable).parent)
    services = [
        f"  {name:<12} {stack.addresses[name]:<18}"
        f" metrics http://{stack.metrics_addresses[name]}/metrics"
        for name in reversed(SERVICES)
    ]
    elsewhere = [
        f"{name.upper()}_ADDRESS={stack.addresses[name]}"
        for name in SERVICES
        if stack.addresses[name] != f"127.0.0.1:{settings.SERVICE_PORTS[name]}"
    ]
    postgres = "yours (DATABASE_URL)"
    psql = ""
    server = stack.postgres
    if server is not None:
        postgres = f"127.0.0.1:{server.port:<8} data in {_shown(server.data)}"
        psql = (
            f"  PGPASSWORD=$(cat {_shown(server.password_file)})"
            f" {_shown(installed_programs() / 'psql')} -h 127.0.0.1 -p {server.port} -U postgres"
            " orders\n"
        )
    return DIRECTIONS.format(
        services="\n".join(services),
        postgres=postgres,
        nats=stack.nats_url if stack.nats else "yours (NATS_URL)",
        omctl=" ".join([*elsewhere, f"{programs}/omctl"]),
        buf=f"{programs}/buf",
        order=stack.addresses["order"],
        psql=psql,
        logs=_shown(stack.folder / "logs"),
    )


def _shown(path: Path) -> str:
    """Returns the path relative to the working folder if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
