"""One run of a command: its channels, its deadline, and its failures as messages and exit codes."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from chassis.rpc.client import Channel, connect
from chassis.values.actor import set_claimed_actor
from chassis.values.config import faults
from chassis.values.errors import Failure
from omctl import errors
from omctl.config import Settings
from omctl.output import printable

T = TypeVar("T")
Work = Callable[[Channel], Coroutine[Any, Any, None]]
Question = Callable[[Channel], Coroutine[Any, Any, T]]


def settings() -> Settings:
    """Returns the settings from the environment. Prints all faults and exits if there are any."""
    try:
        return Settings()
    except ValidationError as error:
        fail(" ".join(faults(Settings, error)), errors.USAGE)


def run(address: str, work: Work, *, timeout_s: float | None = None) -> None:
    """Runs `work` with a channel to `address`, for at most `timeout_s` seconds if given. A failure
    ends the program with one line on stderr and an exit code.
    """
    try:
        asyncio.run(_work(address, work, timeout_s))
    except Failure as failure:
        fail(errors.line(failure, address), errors.exit_code(failure))
    except TimeoutError:
        fail(f"Not within {timeout_s:g} s.", errors.UNAVAILABLE)
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """The answers of several services, by name, and the failures of the others."""

    found: Mapping[str, T]
    failures: Mapping[str, Failure]
    addresses: Mapping[str, str]

    def end(self) -> None:
        """Prints each failure and ends the program, if a service did not answer. The command has
        already shown what it found.
        """
        for name, failure in self.failures.items():
            typer.echo(
                f"omctl: {printable(f'{name}: {errors.line(failure, self.addresses[name])}')}",
                err=True,
            )
        if codes := {errors.exit_code(failure) for failure in self.failures.values()}:
            raise typer.Exit(errors.FAILED if errors.FAILED in codes else max(codes))


def ask_each(addresses: Mapping[str, str], question: Question[T]) -> Answers[T]:
    """Calls several services concurrently with the same question. A failure of one does not affect
    the others.
    """

    async def one(address: str) -> T | Failure:
        try:
            async with connected(address) as channel:
                return await question(channel)
        except Failure as failure:
            return failure

    async def each() -> list[T | Failure]:
        return list(await asyncio.gather(*map(one, addresses.values())))

    try:
        answers = dict(zip(addresses, asyncio.run(each()), strict=True))
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, Failure)}
    return Answers(
        {name: answer for name, answer in answers.items() if not isinstance(answer, Failure)},
        failures,
        addresses,
    )


def fail(text: str, code: int) -> NoReturn:
    """Prints the error and ends the program."""
    typer.echo(f"omctl: {printable(text)}", err=True)
    raise typer.Exit(code)


async def _work(address: str, work: Work, timeout_s: float | None) -> None:
    async with connected(address) as channel, asyncio.timeout(timeout_s):
        await work(channel)


def connected(address: str) -> AbstractAsyncContextManager[Channel]:
    """Returns a channel whose calls claim the actor of the settings."""
    set_claimed_actor(settings().ordermesh_actor)
    return connect(address)
