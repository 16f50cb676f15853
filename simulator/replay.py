"""`replay`: every invoice of a file walks through its whole lifetime, and what its credit notes
give back comes back.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chassis.values.errors import Failure
from simulator import requests
from simulator.books import Books, books
from simulator.credits import Credit
from simulator.invoices import Invoice
from simulator.ledger import Ledger
from simulator.returns import Returned, give_back
from simulator.services import Services, reason
from simulator.shoppers import ARRIVED, REFUSED, Purchase, Shoppers


@dataclass(frozen=True, slots=True)
class Walked:
    """An invoice, how its order went, and how the returns of its credits did."""

    invoice: Invoice
    purchase: Purchase
    returned: tuple[Returned, ...] = ()

    @property
    def arrived(self) -> bool:
        """Its customer has received it, whatever came back since."""
        return self.purchase.outcome in ARRIVED


@dataclass(frozen=True, slots=True)
class Replay:
    """A file that was replayed: what came of each invoice, and what the services have in their
    books for them all.
    """

    ledger: Ledger
    walked: tuple[Walked, ...]
    books: Books
    seconds: float


async def replay(
    services: Services,
    shoppers: Shoppers,
    ledger: Ledger,
    *,
    label: str,
    concurrency: int,
    tell: Callable[[Walked], None],
) -> Replay:
    """Walks every invoice, `concurrency` of them at once, and says of each when it is through.

    The same file again (with the same label) finds the same orders. Raises a Failure where the
    books cannot be asked for at the end.
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
        tell(walked)
        return walked

    walked = await asyncio.gather(*(walk(invoice) for invoice in ledger.invoices))
    seconds = time.monotonic() - began
    orders = [each.purchase.order.order_id for each in walked if each.purchase.order]
    return Replay(
        ledger=ledger,
        walked=tuple(walked),
        books=await books(services, orders, concurrency),
        seconds=seconds,
    )


async def _give_back(
    services: Services, shoppers: Shoppers, walked: Walked, credited: Sequence[Credit], label: str
) -> tuple[Returned, ...]:
    """One after the other, of an order that has arrived."""
    order = walked.purchase.order
    if not walked.arrived or not order:
        return tuple(Returned(credit, REFUSED, "its order did not arrive") for credit in credited)
    return tuple(
        [
            await give_back(services, credit, order, label=label, patience_s=shoppers.patience_s)
            for credit in credited
        ]
    )


async def _buy(services: Services, shoppers: Shoppers, invoice: Invoice, label: str) -> Purchase:
    """Brings the stock that the invoice needs, and buys it."""
    try:
        for receipt in requests.stock_for(invoice, label):
            await services.ask(
                services.inventory.ReceiveStock, receipt, patience_s=shoppers.patience_s
            )
    except Failure as failure:
        return Purchase(REFUSED, f"its stock could not be booked: {reason(failure)}: {failure}")
    return await shoppers.buy(requests.checkout(invoice, label), invoice.key(label))
