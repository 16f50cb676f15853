"""`python -m simulator`: the command line and its output."""

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
from simulator.meter import metered
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
        "Simulates shoppers, card holders, pickers, packers and carriers, with public"
        " RPCs and events only.\n\nThe services are found by ORDER_ADDRESS, WAREHOUSE_ADDRESS,"
        " FULFILLMENT_ADDRESS, SHIPPING_ADDRESS, PAYMENT_ADDRESS and NATS_URL; by default where"
        " `make run` puts them."
    ),
)
console = Console(highlight=False, soft_wrap=True)

Timeout = Annotated[
    float,
    typer.Option(
        min=1,
        help="Seconds to wait for an answer, or for a delivery, before the order counts as stuck.",
    ),
]
Work = Callable[[Services, World], Coroutine[Any, Any, int]]


@app.command()
def demo(timeout: Timeout = 60.0) -> None:
    """Takes one order from checkout to delivery and prints its transitions. The exit code is 0
    only if it was delivered.
    """

    async def work(services: Services, world: World) -> int:
        return OK if await demo_command.demo(services, world, _say, timeout) else FAILED

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
            help="Order everything again, under this label: a file is replayed once for each.",
        ),
    ] = "",
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Invoices that are under way at once.")
    ] = 8,
    timeout: Timeout = 120.0,
) -> None:
    """Orders every invoice of a file, follows each order to its end, and accounts for every row,
    unit and penny.

    The replay receives the stock that each invoice needs. A credit note (a number with a C) becomes
    a return of goods that its customer bought earlier in the file. The goods are sent back,
    inspected, restocked and refunded. Rows that cannot be used are listed with their reasons. A
    second replay of the same file finds the same orders and returns, and creates none. The exit
    code is 0 only if every order was delivered, every return closed, and the services' records
    agree with the file.
    """
    try:
        ledger = read(file)
    except FileFault as fault:
        _fail(str(fault), USAGE)

    async def work(services: Services, world: World) -> int:
        returns = f" (credits to be returned: {len(ledger.credits)})" if ledger.credits else ""
        unused = f"{len(ledger.unused):,} of {ledger.rows:,} rows cannot (listed at the end)"
        _say(f"{len(ledger.invoices)} invoices can be ordered{returns}; {unused}")
        with metered(console, len(ledger.invoices)) as count:
            done = await replay_invoices(
                services,
                Shoppers(services, world, timeout),
                ledger,
                label=again,
                concurrency=concurrency,
                progress=count,
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
    timeout: Timeout = 60.0,
) -> None:
    """Creates orders at a steady rate, whether or not earlier ones are done, and prints how long
    they took. The exit code is 0 only if all were delivered.
    """

    async def work(services: Services, world: World) -> int:
        shoppers = Shoppers(services, world, timeout)
        run = await load_command.load(
            services, shoppers, rate=rate, duration_s=duration, progress=_say
        )
        for line in load_command.report(run):
            _say(line)
        return OK if run.healthy else FAILED

    _run(work, all_orders=True)


def _run(work: Work, *, all_orders: bool = False) -> None:
    """Runs the work beside the simulated staff, and ends the program with its exit code."""
    try:
        code = asyncio.run(_live(work, Settings(), all_orders=all_orders))
    except ValidationError as error:
        _fail("\n".join(faults(Settings, error)), USAGE)
    except KeyboardInterrupt:
        _fail("Stopped. Orders that were under way stay where they are.", INTERRUPTED)
    except Unreachable as error:
        _fail(str(error), FAILED)
    except Failure as failure:
        _fail(f"{failure.reason}: {failure}", FAILED)
    raise typer.Exit(code)


async def _live(work: Work, settings: Settings, *, all_orders: bool) -> int:
    """Runs the work beside the simulated staff; returns its exit code. Without a broker, the
    simulator polls the services, which is slower.
    """
    async with connected(settings) as services:
        broker = await connect_broker(settings.nats_url.get_secret_value(), name="simulator")
        if not broker.answers:
            _say(
                "No broker answers (NATS_URL): the simulator polls the services instead of"
                " consuming events, which is slower."
            )
        world = World(services, all_orders=all_orders)
        background, working = (
            asyncio.create_task(world.run(broker)),
            asyncio.create_task(work(services, world)),
        )
        try:
            await asyncio.wait({background, working}, return_when=asyncio.FIRST_COMPLETED)
            if background.done():
                # World.run ends only with an error: a bug, which is raised here
                background.result()
            return working.result()
        finally:
            background.cancel()
            working.cancel()
            await asyncio.wait({background, working})
            await broker.close()


def _say(text: str) -> None:
    console.print(text, markup=False)


def _fail(text: str, code: int) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, style="red")
    raise typer.Exit(code)


if __name__ == "__main__":
    # Libraries log only errors, without personal data, and on stderr: stdout has the output only.
    configure_log("simulator", "error", sys.stderr)
    sys.exit(app())
