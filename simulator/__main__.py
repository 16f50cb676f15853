"""`python -m simulator`: what people type, and what they see."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from chassis.broker.stream import connect as connect_broker
from chassis.observe.telemetry import configure_log
from chassis.values.config import faults
from chassis.values.errors import Failure
from simulator import demo as demo_command
from simulator import load as load_command
from simulator import report
from simulator.config import Settings
from simulator.ledger import FileFault, read
from simulator.meter import Meter
from simulator.replay import replay as replay_invoices
from simulator.services import Services, Unreachable, connected
from simulator.shoppers import Shoppers
from simulator.world import World

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="simulator",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Plays the world outside: shoppers, card holders, pickers, packers, carriers. By public"
        " RPCs and events only.\n\nThe services are found by ORDER_ADDRESS, WAREHOUSE_ADDRESS,"
        " FULFILLMENT_ADDRESS, SHIPPING_ADDRESS, PAYMENT_ADDRESS and NATS_URL; by default where"
        " `make run` puts them."
    ),
)
console = Console(highlight=False, soft_wrap=True)

Patience = Annotated[
    float,
    typer.Option(
        min=1,
        help="Seconds to wait for an answer, or for an order to arrive, before it counts as stuck.",
    ),
]
Work = Callable[[Services, World], Coroutine[Any, Any, int]]


@app.command()
def demo(patience: Patience = 60.0) -> None:
    """Walks one order from checkout to delivered, and prints its timeline as it happens. Exit
    code 0 only if it was delivered.
    """

    async def work(services: Services, world: World) -> int:
        return OK if await demo_command.demo(services, world, _say, patience) else FAILED

    _run(work)


@app.command()
def replay(
    file: Annotated[
        Path,
        typer.Argument(
            help=(
                "CSV: InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice,"
                " CustomerID, Country"
            )
        ),
    ],
    again: Annotated[
        str,
        typer.Option(
            metavar="LABEL",
            help="Order everything anew, under this label: a file is replayed once for each.",
        ),
    ] = "",
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Invoices that are under way at once.")
    ] = 8,
    patience: Patience = 120.0,
) -> None:
    """Walks every invoice of a file through its whole lifetime, and accounts for every row, unit
    and penny of it.

    The stock that it needs is booked on the way. Credit notes (numbers with a C) become returns of
    what their customers bought before, as far as the file has it: sent back, inspected, restocked,
    refunded. What cannot be used is listed with its reason. Replaying the same file again orders
    and returns nothing twice: it finds the same orders. Exit code 0 only if every order was
    delivered, every return closed, and the services' books agree with the file.
    """
    try:
        ledger = read(file)
    except FileFault as fault:
        _fail(str(fault), USAGE)

    async def work(services: Services, world: World) -> int:
        returns = f" (credits to be returned: {len(ledger.credits)})" if ledger.credits else ""
        left = f"{len(ledger.left):,} of {ledger.rows:,} rows cannot (listed at the end)"
        _say(f"{len(ledger.invoices)} invoices can be ordered{returns}; {left}")
        with Meter(console, len(ledger.invoices)) as meter:
            done = await replay_invoices(
                services,
                Shoppers(services, world, patience),
                ledger,
                label=again,
                concurrency=concurrency,
                tell=meter.walked,
            )
        for line in report.lines(done):
            _say(line)
        return OK if report.complete(done) else FAILED

    _run(work)


@app.command()
def load(
    rate: Annotated[float, typer.Option(min=0.01, max=10_000, help="Orders a second.")],
    duration: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds for which orders are sent.")
    ],
    patience: Patience = 60.0,
) -> None:
    """Sends orders at a steady rate, whoever waits, and prints how long they took. Exit code 0
    only if all were delivered.
    """

    async def work(services: Services, world: World) -> int:
        shoppers = Shoppers(services, world, patience)
        run = await load_command.load(services, shoppers, rate=rate, duration_s=duration, tell=_say)
        for line in load_command.report(run):
            _say(line)
        return OK if run.healthy else FAILED

    _run(work, everybody=True)


def _run(work: Work, *, everybody: bool = False) -> None:
    """Does the work in a world that lives meanwhile, and ends the program with its exit code."""
    try:
        code = asyncio.run(_live(work, _settings(), everybody=everybody))
    except KeyboardInterrupt:
        _fail("Stopped. Orders that were under way stay where they are.", INTERRUPTED)
    except Unreachable as silence:
        _fail(str(silence), FAILED)
    except Failure as failure:
        _fail(f"{failure.reason}: {failure}", FAILED)
    raise typer.Exit(code)


async def _live(work: Work, settings: Settings, *, everybody: bool) -> int:
    """Does the work while the world goes on around it. Without a broker it looks instead of
    hearing, and is slower.
    """
    async with connected(settings) as services:
        broker = await connect_broker(settings.nats_url.get_secret_value(), name="simulator")
        if not broker.answers:
            _say(
                "No broker answers (NATS_URL): events cannot be heard, and the work goes by"
                " looking, which is slower."
            )
        world = World(services, everybody=everybody)
        background, working = (
            asyncio.create_task(world.run(broker)),
            asyncio.create_task(work(services, world)),
        )
        try:
            await asyncio.wait({background, working}, return_when=asyncio.FIRST_COMPLETED)
            if background.done():
                # the world has no end of its own: this is a bug of ours, and says so
                background.result()
            return working.result()
        finally:
            background.cancel()
            working.cancel()
            await asyncio.wait({background, working})
            await broker.close()


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        _fail("\n".join(faults(Settings, error)), USAGE)


def _say(text: str) -> None:
    console.print(text, markup=False)


def _fail(text: str, code: int) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, style="red")
    raise typer.Exit(code)


if __name__ == "__main__":
    # What goes wrong is told in the program's own words, between which the libraries' log lines
    # would stand; an error's line shows nobody's data.
    configure_log("simulator", "error", sys.stderr)
    sys.exit(app())
