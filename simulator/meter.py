"""Shows the progress of a replay: a bar on a terminal, a line for each invoice in a pipe."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from chassis.values.money import Money
from simulator.invoices import CURRENCY
from simulator.replay import Walked
from simulator.returns import CLOSED


class Meter:
    """Counts the invoices that are done."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("replaying", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def walked(self, walked: Walked) -> None:
        """Counts and shows one more invoice."""
        self._done += 1
        self._bar.advance(self._task)
        through = walked.arrived and all(each.outcome == CLOSED for each in walked.returned)
        if not self._console.is_terminal or not through:
            self._console.print(line(walked, self._done, self._total), markup=False)


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
