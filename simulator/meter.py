"""Shows the progress of a replay: a bar on a terminal, a line for each invoice in a pipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chassis.values.money import Money
from simulator.invoices import CURRENCY
from simulator.replay import Walked
from simulator.returns import CLOSED


@contextmanager
def metered(console: Console, total: int) -> Iterator[Callable[[Walked], None]]:
    """Yields a function that counts and shows one more invoice."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("replaying", total=total)

    def count(walked: Walked) -> None:
        bar.advance(task)
        through = walked.arrived and all(each.outcome == CLOSED for each in walked.returned)
        if not console.is_terminal or not through:
            console.print(line(walked, int(bar.tasks[task].completed), total), markup=False)

    with bar:
        yield count


def line(walked: Walked, done: int, total: int) -> str:
    """Returns the line for an invoice that is done."""
    invoice, purchase = walked.invoice, walked.purchase
    width = len(str(total))
    amount = str(Money(invoice.total, CURRENCY))
    back = "".join(f", {each.credit.units} units back: {each.outcome}" for each in walked.returned)
    return (
        f"{done:>{width}}/{total}  {invoice.number:<8} {invoice.units:>6} units {amount:>14} "
        f" {purchase.outcome}{back}"
    )
