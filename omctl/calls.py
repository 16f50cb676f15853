"""One run of a command: its connection, its deadline, and what becomes of its failures."""

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
    """The settings from the environment. With faults it says all of them, and ends the program."""
    try:
        return Settings()
    except ValidationError as error:
        fail(" ".join(faults(Settings, error)), errors.USAGE)


def run(address: str, work: Work, *, timeout_s: float | None = None) -> None:
    """Does the work over a channel to `address`, in `timeout_s` seconds where given. Failures
    end the program, with a line and a code.
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
    """What several services have answered, by name, and why the others have not."""

    found: Mapping[str, T]
    failures: Mapping[str, Failure]
    addresses: Mapping[str, str]

    def end(self) -> None:
        """Where a service has not answered, says so of each, and ends the program: what was
        found has been shown before.
        """
        for name, failure in self.failures.items():
            typer.echo(
                f"omctl: {printable(f'{name}: {errors.line(failure, self.addresses[name])}')}",
                err=True,
            )
        if codes := {errors.exit_code(failure) for failure in self.failures.values()}:
            raise typer.Exit(errors.FAILED if errors.FAILED in codes else max(codes))


def ask_each(addresses: Mapping[str, str], question: Question[T]) -> Answers[T]:
    """Asks several services the same, at once. One that fails keeps no other from being heard."""

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
    """Says what went wrong, and ends the program."""
    typer.echo(f"omctl: {printable(text)}", err=True)
    raise typer.Exit(code)


async def _work(address: str, work: Work, timeout_s: float | None) -> None:
    async with connected(address) as channel, asyncio.timeout(timeout_s):
        await work(channel)


def connected(address: str) -> AbstractAsyncContextManager[Channel]:
    """A channel whose calls claim the actor of the settings."""
    set_claimed_actor(settings().ordermesh_actor)
    return connect(address)
