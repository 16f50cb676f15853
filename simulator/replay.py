"""`replay`: orders every invoice of a file, follows each order to its end, and returns the goods of
its credit notes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chassis.values.errors import Failure
from simulator import requests
from simulator.credits import Credit
from simulator.invoices import Invoice
from simulator.ledger import Ledger
from simulator.returns import REFUSED, Returned, give_back
from simulator.services import Services, reason
from simulator.shoppers import ARRIVED, Purchase, Shoppers
from simulator.totals import Totals, read_totals


@dataclass(frozen=True, slots=True)
class Walked:
    """An invoice, the outcome of its order, and the outcomes of its credits' returns."""

    invoice: Invoice
    purchase: Purchase
    returned: tuple[Returned, ...] = ()

    @property
    def arrived(self) -> bool:
        """Whether its order was delivered, also if goods were returned since."""
        return self.purchase.outcome in ARRIVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replayed file: the outcome of each invoice, and the sums that the services have recorded
    for all.
    """

    ledger: Ledger
    walked: tuple[Walked, ...]
    totals: Totals
    seconds: float


async def replay(
    services: Services,
    shoppers: Shoppers,
    ledger: Ledger,
    *,
    label: str,
    concurrency: int,
    progress: Callable[[Walked], None],
) -> Replay:
    """Orders every invoice, `concurrency` of them at once, and calls `progress` with each outcome.

    A second replay of the same file (with the same label) finds the same orders. Raises a Failure
    if the services' sums cannot be read at the end.
    """
    began, turns = time.monotonic(), asyncio.Semaphore(concurrency)

    credits_of: defaultdict[str, list[Credit]] = defaultdict(list)
    for credit in ledger.credits:
        credits_of[credit.invoice.number].append(credit)

    async def walk(invoice: Invoice) -> Walked:
        async with turns:
            walked = Walked(invoice, await _buy(services, shoppers, invoice, label))
            if credited := credits_of[invoice.number]:
                walked = replace(
                    walked, returned=await _give_back(services, shoppers, walked, credited, label)
                )
        progress(walked)
        return walked

    walked = await asyncio.gather(*(walk(invoice) for invoice in ledger.invoices))
    seconds = time.monotonic() - began
    orders = [each.purchase.order.order_id for each in walked if each.purchase.order]
    return Replay(
        ledger=ledger,
        walked=tuple(walked),
        totals=await read_totals(services, orders, concurrency),
        seconds=seconds,
    )


async def _give_back(
    services: Services, shoppers: Shoppers, walked: Walked, credited: Sequence[Credit], label: str
) -> tuple[Returned, ...]:
    """Returns the credited goods of a delivered order, one credit after the other."""
    order = walked.purchase.order
    if not walked.arrived or not order:
        return tuple(Returned(credit, REFUSED, "its order did not arrive") for credit in credited)
    return tuple(
        [
            await give_back(services, credit, order, label=label, wait_s=shoppers.wait_s)
            for credit in credited
        ]
    )


async def _buy(services: Services, shoppers: Shoppers, invoice: Invoice, label: str) -> Purchase:
    """Receives the stock that the invoice needs, and orders it."""
    try:
        for receipt in requests.stock_for(invoice, label):
            await services.ask(services.inventory.ReceiveStock, receipt, wait_s=shoppers.wait_s)
    except Failure as failure:
        return Purchase(
            outcome=REFUSED, why=f"its stock could not be received: {reason(failure)}: {failure}"
        )
    return await shoppers.buy(requests.checkout(invoice, label), invoice.key(label))
