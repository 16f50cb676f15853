"""Sums the units and the money that the services have recorded for orders, to compare with a file's
invoices.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2, warehouse_pb2

from chassis.values.money import from_message
from omctl.audit.difference import ARRIVED
from simulator.services import Services

PAGE: Final = 1_000
# Time in which the stock ledger must have a delivery's movements, and a service must answer.
TIMEOUT_S: Final = 30.0
LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums of units, and of money in minor units of the orders' single currency."""

    ordered_units: int = 0
    shipped_units: int = 0
    ordered: int = 0
    captured: int = 0
    returned_units: int = 0
    restocked_units: int = 0
    worth: int = 0  # the frozen shares of the returned units
    refunded: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        own, others = asdict(self), asdict(other)
        return Totals(**{name: own[name] + others[name] for name in own})


async def read_totals(services: Services, order_ids: Sequence[str], concurrency: int) -> Totals:
    """Returns what the order, payment and warehouse services have recorded for these orders."""
    turns = asyncio.Semaphore(concurrency)

    async def of(order_id: str) -> Totals:
        async with turns:
            return await _totals_of(services, order_id)

    return sum(await asyncio.gather(*(of(order_id) for order_id in order_ids)), Totals())


async def _totals_of(services: Services, order_id: str) -> Totals:
    order = (
        await services.ask(
            services.orders.GetOrder,
            order_service_pb2.GetOrderRequest(order_id=order_id),
            wait_s=TIMEOUT_S,
        )
    ).order
    payments = await services.ask(
        services.payments.ListPayments,
        payment_service_pb2.ListPaymentsRequest(order_id=order_id),
        wait_s=TIMEOUT_S,
    )
    units = sum(item.quantity for item in order.items)
    returned = sum(item.returned_quantity for item in order.items)
    return Totals(
        ordered_units=units,
        shipped_units=await _moved(
            services,
            order_id,
            warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP,
            units if order.status in ARRIVED else 0,
        ),
        ordered=from_message(order.total_amount).minor,
        captured=sum(from_message(payment.captured_amount).minor for payment in payments.payments),
        returned_units=returned,
        restocked_units=await _moved(
            services, order_id, warehouse_pb2.STOCK_MOVEMENT_KIND_RESTOCK, returned
        ),
        worth=sum(worth(item.unit_shares, item.returned_quantity) for item in order.items),
        refunded=sum(from_message(payment.refunded_amount).minor for payment in payments.payments),
    )


def worth(shares: Iterable[order_pb2.UnitShare], units: int) -> int:
    """Returns the sum of the frozen shares of a line's first `units` units."""
    total = 0
    for share in shares:
        these = min(units, share.quantity)
        total, units = total + these * from_message(share.amount).minor, units - these
    return total


async def _moved(
    services: Services,
    order_id: str,
    kind: warehouse_pb2.StockMovementKind.ValueType,
    expected: int,
) -> int:
    """Returns the order's units in the stock ledger's movements of a kind.

    Waits for `expected` units: the warehouse may consume the event after the order is delivered.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        moved = await _moved_now(services, order_id, kind)
        if moved >= expected or time.monotonic() > deadline:
            return moved
        await asyncio.sleep(LOOK_S)


async def _moved_now(
    services: Services, order_id: str, kind: warehouse_pb2.StockMovementKind.ValueType
) -> int:
    request = inventory_service_pb2.ListStockMovementsRequest(
        order_id=order_id, kinds=[kind], page_size=PAGE
    )
    units = 0
    while True:
        page = await services.ask(services.inventory.ListStockMovements, request, wait_s=TIMEOUT_S)
        units += sum(int(movement.quantity) for movement in page.stock_movements)
        if not page.next_page_token:
            return units
        request.page_token = page.next_page_token
