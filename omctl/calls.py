"""One run of a command: its channels, its deadline, and its failures as messages and exit codes."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import typer
from google.protobuf.message import Message
from pydantic import ValidationError

from chassis.rpc.client import Channel, ask, connect, pages
from chassis.values.actor import set_claimed_actor
from chassis.values.config import faults
from chassis.values.errors import Failure
from omctl import errors
from omctl.config import Settings
from omctl.names import method_name
from omctl.output import Table, listing, printable

T = TypeVar("T")
Work = Callable[[Channel], Coroutine[Any, Any, T]]


def settings() -> Settings:
    """Returns the settings from the environment. Prints all faults and exits if there are any."""
    try:
        return Settings()
    except ValidationError as error:
        fail(" ".join(faults(Settings, error)), errors.USAGE)


def addresses_of(services: Sequence[str] | None) -> Mapping[str, str]:
    """Returns the addresses of the named services, or of all if none is named."""
    every = settings().addresses
    return {name: every[name] for name in every if not services or name in services}


def run(address: str, work: Work[T], *, timeout_s: float | None = None) -> T:
    """Returns the result of `work` with a channel to `address`, for at most `timeout_s` seconds if
    given. A failure ends the program with one line on stderr and an exit code.
    """
    try:
        return asyncio.run(_work(address, work, timeout_s))
    except Failure as failure:
        fail(errors.line(failure, address), errors.exit_code(failure))
    except TimeoutError:
        fail(f"Not within {timeout_s:g} s.", errors.UNAVAILABLE)
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None


def sending(stub: Callable[[Channel], Any], request: Message, timeout_s: float) -> Work[Any]:
    """Returns the work of one call: it sends the request to its method of the stub's service."""

    async def work(channel: Channel) -> Any:
        return await ask(getattr(stub(channel), method_name(request)), request, timeout_s=timeout_s)

    return work


def print_list(
    address: str,
    stub: Callable[[Channel], Any],
    request: Any,
    field: str,
    view: Callable[[Sequence[Any]], Table],
    *,
    page_size: int,
    limit: int = 0,
    json: bool = False,
    timeout_s: float,
) -> None:
    """Prints the records of a List method, at most `limit` of them, 0: all. The answers have them
    as `field`.
    """

    async def work(channel: Channel) -> None:
        method = getattr(stub(channel), method_name(request))
        every = pages(method, request, field, size=page_size, limit=limit, timeout_s=timeout_s)
        await listing(every, request, view, json=json)

    run(address, work)


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


def run_each(addresses: Mapping[str, str], work: Work[T]) -> Answers[T]:
    """Runs the same work on several services concurrently. A failure of one does not affect the
    others.
    """

    async def one(address: str) -> T | Failure:
        try:
            return await _work(address, work, None)
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


async def _work(address: str, work: Work[T], timeout_s: float | None) -> T:
    async with connected(address) as channel, asyncio.timeout(timeout_s):
        return await work(channel)


def connected(address: str) -> AbstractAsyncContextManager[Channel]:
    """Returns a channel whose calls claim the actor of the settings."""
    set_claimed_actor(settings().ordermesh_actor)
    return connect(address)
