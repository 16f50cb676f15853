"""`load`: creates orders at a steady rate (open loop), follows each to its end, and reports."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4, uuid5

from ordermesh.order.v1 import order_pb2, order_service_pb2

from simulator import requests
from simulator.services import Services
from simulator.shoppers import Purchase, Shoppers

DELIVERED: Final = "delivered"
SKUS: Final = tuple(f"LOAD {number:03}" for number in range(100))
LINES_MAX: Final = 3
UNITS_MAX: Final = 4
PRICE: Final = 250
PERCENTILES: Final = (50, 95, 99)
SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Load:
    """The outcomes of a run's orders; `seconds` is the time in which they were sent."""

    purchases: tuple[Purchase, ...]
    troubles: Counter[str]
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether every order was delivered. Each order has stock and money, so a refusal or a
        cancellation is a fault of the services.
        """
        return all(purchase.outcome == DELIVERED for purchase in self.purchases)


async def load(
    services: Services,
    shoppers: Shoppers,
    *,
    rate: float,
    duration_s: float,
    progress: Callable[[str], None],
) -> Load:
    """Sends `rate` orders a second for `duration_s`, and waits for the end of each, up to the
    shoppers' `wait_s`.

    An order's times count from its scheduled time, so they include the delay of a slow sender.
    Raises a Failure if the stock cannot be received.
    """
    count, run = max(1, round(rate * duration_s)), uuid4()
    # enough, even if all orders have the same SKU
    stock = dict.fromkeys(SKUS, count * LINES_MAX * UNITS_MAX)
    for receipt in requests.receipts(stock, run):
        await services.ask(services.inventory.ReceiveStock, receipt, wait_s=shoppers.wait_s)
    services.troubles.clear()
    buying: list[asyncio.Task[Purchase]] = []
    began = time.monotonic()
    for number in range(count):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        key = uuid5(run, str(number))
        buying.append(asyncio.create_task(shoppers.buy(checkout(key), key, due)))
        if number and number % max(1, round(rate)) == 0:
            progress(f"{number} of {count} sent, {sum(task.done() for task in buying)} through")
    sent = time.monotonic() - began
    progress(
        f"{count} sent in {sent:.1f} s; waiting for {sum(not task.done() for task in buying)} that"
        " are under way"
    )
    return Load(tuple(await asyncio.gather(*buying)), services.troubles, sent)


def checkout(key: UUID) -> order_service_pb2.CreateOrderRequest:
    """Returns a request of one to three lines, always the same for a key."""
    chance = random.Random(key.int)
    skus = chance.sample(SKUS, chance.randint(1, LINES_MAX))
    return order_service_pb2.CreateOrderRequest(
        request_id=requests.request_id(key, "CreateOrder"),
        customer_id="load",
        items=[
            order_service_pb2.NewOrderItem(
                sku=sku, quantity=chance.randint(1, UNITS_MAX), unit_price=requests.pence(PRICE)
            )
            for sku in skus
        ],
        recipient=order_pb2.Recipient(
            name="Customer of load", address_lines=["1 High Street"], country_code="GB"
        ),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that at least `percent` per cent of the values do not exceed
    (nearest rank). The sequence must not be empty.
    """
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def report(run: Load) -> Iterator[str]:
    """Yields the report of a run. Pure."""
    outcomes = Counter(purchase.outcome for purchase in run.purchases)
    count = len(run.purchases)
    yield (
        f"{count} orders sent in {run.seconds:.1f} s ({count / max(run.seconds, 1e-9):.1f} a"
        " second): "
        + ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
    )
    yield f"{'seconds':<22}" + "".join(f"{f'p{percent}':>9}" for percent in PERCENTILES)
    measures = {
        "create": [purchase.created_s for purchase in run.purchases],
        "checkout to confirmed": [purchase.confirmed_s for purchase in run.purchases],
        "order to delivered": [purchase.delivered_s for purchase in run.purchases],
    }
    for name, taken in measures.items():
        seconds = [each for each in taken if each is not None]
        figures = (
            f"{percentile(seconds, percent):>9.3f}" if seconds else f"{'-':>9}"
            for percent in PERCENTILES
        )
        yield f"{name:<22}" + "".join(figures)
    if run.troubles:
        yield "failed calls, by method and reason (what may be a moment's trouble was tried again):"
        for trouble, number in run.troubles.most_common():
            yield f"  {number:>6} × {trouble}"
    unhappy = [purchase for purchase in run.purchases if purchase.outcome != DELIVERED]
    for purchase in unhappy[:SHOWN_MAX]:
        yield (
            f"  {purchase.outcome}: {purchase.order.order_id if purchase.order else 'no order'}:"
            f" {purchase.why}"
        )
    if len(unhappy) > SHOWN_MAX:
        yield f"  and {len(unhappy) - SHOWN_MAX} more"
