"""`omctl audit`"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from json import dumps
from typing import Annotated

import typer
from rich.console import Console

from omctl import errors, output
from omctl.audit.audit import STUCK_AFTER, Audit, persisting, unchecked
from omctl.audit.difference import Difference
from omctl.audit.facts import Gap, facts_reader, grouped
from omctl.calls import settings
from omctl.output import printable


def audit(
    settle: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds between two readings: an event in transit is a brief difference."
        ),
    ] = 5.0,
    readings: Annotated[
        int,
        typer.Option(min=1, max=100, help="Readings that must all show a difference unchanged."),
    ] = 3,
    stuck_after: Annotated[
        float,
        typer.Option(min=0, help="Seconds after which an automatic step counts as stuck."),
    ] = STUCK_AFTER.total_seconds(),
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help=(
                "One line of JSON for each difference, and for each service that does not answer."
            ),
        ),
    ] = False,
) -> None:
    """Checks every unit, every penny and every event of a live system, and finds stuck steps. It
    changes nothing.

    Each difference names its record and the command that repairs it or shows more. The exit code is
    1 if there is a difference. If a service does not answer, the audit makes the checks that the
    other answers allow. A line then names the service and the unchecked rules, and the exit code is
    not 0.
    """
    addresses = settings().addresses
    try:
        done = asyncio.run(_audit(addresses, settle, readings, timedelta(seconds=stuck_after)))
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None
    incomplete = list(_incomplete(done.gaps, addresses))
    if json:
        for difference in (*done.found, *incomplete):
            typer.echo(dumps(asdict(difference), ensure_ascii=False))
    else:
        _show(done)
    for each in incomplete:
        typer.echo(f"omctl: {printable(f'{each.subject}: {each.text}')}", err=True)
    codes = {errors.exit_code(gap.failure) for gap in done.gaps}
    if done.found or errors.FAILED in codes:
        raise typer.Exit(errors.FAILED)
    if codes:
        raise typer.Exit(max(codes))


async def _audit(
    addresses: Mapping[str, str],
    settle_s: float,
    readings: int,
    stuck_after: timedelta,
) -> Audit:
    async with facts_reader(addresses) as reader:
        return await persisting(
            reader, settle_s=settle_s, readings=readings, stuck_after=stuck_after
        )


def _incomplete(gaps: Sequence[Gap], addresses: Mapping[str, str]) -> Iterator[Difference]:
    """Returns one entry for each service that did not answer: the error and the unchecked rules."""
    for service, missing in grouped(gaps, "service").items():
        why = errors.line(missing[0].failure, addresses[service])
        text = f"{why} Not checked: {', '.join(unchecked(missing))}."
        yield Difference(check="audit.incomplete", subject=service, text=text, repair="omctl audit")


def _show(done: Audit) -> None:
    if done.found:
        rows = [(each.check, each.subject, each.text, each.repair) for each in done.found]
        output.show(output.Table(("CHECK", "ABOUT", "WHAT DIFFERS", "NEXT"), rows), Console())
    facts = done.facts
    typer.echo(
        f"{len(done.found)} differences over {len(facts.orders)} orders, {len(facts.returns)}"
        f" returns, {len(facts.levels)} stock levels, {len(facts.movements)} movements,"
        f" {len(facts.payments)} payments and {len(facts.refunds)} refunds."
    )
