"""One run of a command: its connection, its deadline, and what becomes of its failures."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import typer
from pydantic import ValidationError

from chassis.client import Channel, connect
from chassis.config import faults
from chassis.errors import Failure
from omctl import errors
from omctl.config import Settings
from omctl.output import printable

Work = Callable[[Channel], Coroutine[Any, Any, None]]


def settings() -> Settings:
    """The settings from the environment. With faults it says all of them, and ends the program."""
    try:
        return Settings()
    except ValidationError as error:
        fail(" ".join(faults(Settings, error)), errors.USAGE)


def run(address: str, work: Work, *, timeout_s: float | None = None) -> None:
    """Does the work over a channel to `address`, in `timeout_s` seconds where given. Failures end the program, with a line and a code."""
    try:
        asyncio.run(_work(address, work, timeout_s))
    except Failure as failure:
        fail(errors.line(failure, address), errors.exit_code(failure))
    except TimeoutError:
        fail(f"Not within {timeout_s:g} s.", errors.UNAVAILABLE)
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None


def fail(text: str, code: int) -> NoReturn:
    """Says what went wrong, and ends the program."""
    typer.echo(f"omctl: {printable(text)}", err=True)
    raise typer.Exit(code)


async def _work(address: str, work: Work, timeout_s: float | None) -> None:
    async with connect(address) as channel, asyncio.timeout(timeout_s):
        await work(channel)
