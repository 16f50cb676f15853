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
from omctl.audit import PATIENCE, Difference, Facts, persisting
from omctl.audit.facts import Silent, witnesses
from omctl.calls import fail, settings


def audit(
    settle: Annotated[float, typer.Option(min=0, help="Seconds between two readings: what is on its way differs for a moment.")] = 5.0,
    readings: Annotated[int, typer.Option(min=1, max=100, help="So often must a difference be seen, in the same words.")] = 3,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds after which what should go on by itself counts as stuck.")
    ] = PATIENCE.total_seconds(),
    json: Annotated[bool, typer.Option("--json", help="A JSON document on a line for each difference.")] = False,
) -> None:
    """Checks that every unit and every penny is where it belongs, and that nothing is stuck; on a live system, changing nothing.

    Each difference names what it is about, and the command that repairs it, or shows more. Exit code 1 where there is one.
    """
    addresses = settings().addresses
    try:
        found, facts = asyncio.run(_audit(addresses, settle, readings, timedelta(seconds=patience)))
    except Silent as silent:
        told = errors.line(silent.failure, addresses[silent.service])
        fail(f"{silent.service}: {told}", errors.exit_code(silent.failure))
    except KeyboardInterrupt:
        raise typer.Exit(errors.INTERRUPTED) from None
    _tell(found, facts, json=json)
    if found:
        raise typer.Exit(errors.FAILED)


async def _audit(addresses: Mapping[str, str], settle_s: float, readings: int, patience: timedelta) -> tuple[Sequence[Difference], Facts]:
    async with witnesses(addresses) as all_of_them:
        return await persisting(all_of_them, settle_s=settle_s, readings=readings, patience=patience)


def _tell(found: Sequence[Difference], facts: Facts, *, json: bool) -> None:
    if json:
        for difference in found:
            typer.echo(dumps(asdict(difference), ensure_ascii=False))
        return
    if found:
        rows = [(each.check, each.subject, each.text, each.repair) for each in found]
        output.show(output.Table(("CHECK", "ABOUT", "WHAT DIFFERS", "NEXT"), rows), Console())
    typer.echo(
        f"{len(found)} differences over {len(facts.orders)} orders, {len(facts.returns)} returns, {len(facts.levels)} stock levels, "
        f"{len(facts.movements)} movements, {len(facts.payments)} payments and {len(facts.refunds)} refunds."
    )
