"""`replay`: every invoice of a file walks through its whole lifetime."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from chassis.errors import Failure
from simulator import requests
from simulator.books import Books, books
from simulator.invoices import Invoice, Ledger
from simulator.services import Services, reason
from simulator.shoppers import REFUSED, Purchase, Shoppers


@dataclass(frozen=True, slots=True)
class Walked:
    """An invoice, and how its order went."""

    invoice: Invoice
    purchase: Purchase


@dataclass(frozen=True, slots=True)
class Replay:
    """A file that was replayed: what came of each invoice, and what the services have in their books for them all."""

    ledger: Ledger
    walked: tuple[Walked, ...]
    books: Books
    seconds: float


async def replay(
    services: Services, shoppers: Shoppers, ledger: Ledger, *, label: str, concurrency: int, tell: Callable[[Walked], None]
) -> Replay:
    """Walks every invoice, `concurrency` of them at once, and says of each when it is through.

    The same file again (with the same label) finds the same orders. Raises a Failure where the books cannot be asked for at the end.
    """
    began, turns = time.monotonic(), asyncio.Semaphore(concurrency)

    async def walk(invoice: Invoice) -> Walked:
        async with turns:
            walked = Walked(invoice, await _buy(services, shoppers, invoice, label))
        tell(walked)
        return walked

    walked = await asyncio.gather(*(walk(invoice) for invoice in ledger.invoices))
    seconds = time.monotonic() - began
    orders = [each.purchase.order.order_id for each in walked if each.purchase.order]
    return Replay(ledger, tuple(walked), await books(services, orders, concurrency), seconds)


async def _buy(services: Services, shoppers: Shoppers, invoice: Invoice, label: str) -> Purchase:
    """Brings the stock that the invoice needs, and buys it."""
    try:
        for receipt in requests.stock_for(invoice, label):
            await services.ask(services.inventory.ReceiveStock, receipt, patience_s=shoppers.patience_s)
    except Failure as failure:
        return Purchase(REFUSED, f"its stock could not be booked: {reason(failure)}: {failure}")
    return await shoppers.buy(requests.checkout(invoice, label), invoice.key(label))
