"""`omctl audit`"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from json import dumps
from typing import Annotated

import typer
from rich.console import Console

from omctl import errors, output
from omctl.audit import PATIENCE, Audit, Difference, Gap, persisting, unchecked
from omctl.audit.facts import witnesses
from omctl.calls import settings
from omctl.output import printable


def audit(
    settle: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds between two readings: what is on its way differs for a moment."
        ),
    ] = 5.0,
    readings: Annotated[
        int,
        typer.Option(min=1, max=100, help="So often must a difference be seen, in the same words."),
    ] = 3,
    patience: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds after which what should go on by itself counts as stuck."
        ),
    ] = PATIENCE.total_seconds(),
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help=(
                "A JSON document on a line for each difference, and for each service that is away."
            ),
        ),
    ] = False,
) -> None:
    """Checks that every unit and every penny is where it belongs, and that nothing is stuck; on a
    live system, changing nothing.

    Each difference names what it is about, and the command that repairs it, or shows more. Exit
    code 1 where there is one. Where a service does not answer, all that the others' answers show is
    checked; a line names the service and what was not checked, and the exit code is not 0.
    """
    addresses = settings().addresses
    try:
        done = asyncio.run(_audit(addresses, settle, readings, timedelta(seconds=patience)))
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
    patience: timedelta,
) -> Audit:
    async with witnesses(addresses) as all_of_them:
        return await persisting(
            all_of_them, settle_s=settle_s, readings=readings, patience=patience
        )


def _incomplete(gaps: Sequence[Gap], addresses: Mapping[str, str]) -> Sequence[Difference]:
    """Of each service that did not answer: why, and what was not checked for want of its facts."""
    of_service: dict[str, list[Gap]] = {}
    for gap in gaps:
        of_service.setdefault(gap.service, []).append(gap)
    found: list[Difference] = []
    for service, its in of_service.items():
        why = errors.line(its[0].failure, addresses[service])
        text = f"{why} Not checked: {', '.join(unchecked(its))}."
        found.append(Difference("audit.incomplete", service, text, repair="omctl audit"))
    return found


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
