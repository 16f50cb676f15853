"""`demo`: takes one order from checkout to delivery and prints its transitions."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2

from chassis.values.errors import Failure
from chassis.values.money import from_message
from omctl.names import name_of
from omctl.watching import timeline
from simulator import requests
from simulator.diagnosis import why_stuck
from simulator.services import Services, reason
from simulator.world import ENDS, World

# The lines of the demo's order and their warehouses: two SKUs, two warehouses.
BASKET: Final = {"TEAPOT": (1, 1895), "CUP AND SAUCER": (4, 450)}
SHELVES: Final = {"TEAPOT": "london-1", "CUP AND SAUCER": "leeds-1"}
SHIPPING: Final = 395
STOCK: Final = 100  # units of each SKU, received if there are too few

Say = Callable[[str], None]


async def demo(services: Services, world: World, say: Say, wait_s: float) -> bool:
    """Returns whether the order was delivered. If it was not, prints which step is stuck."""
    key = uuid4()
    try:
        await _stock(services, key, say, wait_s)
        order = (
            await services.ask(services.orders.CreateOrder, checkout(key), wait_s=wait_s)
        ).order
    except Failure as failure:
        say(f"The order could not be placed: {reason(failure)}: {failure}")
        return False
    contents = ", ".join(f"{item.quantity} × {item.sku}" for item in order.items)
    say(
        f"order {order.order_number} ({order.order_id}): {contents},"
        f" {from_message(order.total_amount)}"
    )
    followed = world.follow(order)
    try:
        last = await _walk(services, order, key, say, wait_s)
        order = (
            await services.ask(
                services.orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order.order_id)
            )
        ).order
    except (TimeoutError, Failure) as error:
        trouble = f"{reason(error)}: {error}" if isinstance(error, Failure) else followed.trouble
        say(f"Not delivered: {await why_stuck(services, order.order_id, trouble)}")
        return False
    for parcel in order.fulfillments:
        say(f"parcel from {parcel.warehouse_id}: tracking number {parcel.tracking_number}")
    delivered = last.new_status == order_pb2.ORDER_STATUS_DELIVERED
    seconds = (_time(last.occur_time) - _time(order.create_time)).total_seconds()
    say(
        f"{name_of(order_pb2.OrderStatus, last.new_status).capitalize()} {seconds:.1f} s after"
        " checkout."
    )
    return delivered


def checkout(key: UUID) -> order_service_pb2.CreateOrderRequest:
    """Returns the request for the demo's order."""
    return order_service_pb2.CreateOrderRequest(
        request_id=requests.request_id(key, "CreateOrder"),
        customer_id="demo",
        items=[
            order_service_pb2.NewOrderItem(
                sku=sku, quantity=quantity, unit_price=requests.pence(price)
            )
            for sku, (quantity, price) in BASKET.items()
        ],
        shipping_amount=requests.pence(SHIPPING),
        recipient=order_pb2.Recipient(
            name="Ada Lovelace",
            address_lines=["12 St James's Square"],
            locality="London",
            postal_code="SW1Y 4JH",
            country_code="GB",
        ),
    )


async def _stock(services: Services, key: UUID, say: Say, wait_s: float) -> None:
    """Receives stock of each SKU that has too few units."""
    wanted = [
        inventory_service_pb2.WantedLine(sku=sku, quantity=quantity)
        for sku, (quantity, _) in BASKET.items()
    ]
    request = inventory_service_pb2.CheckAvailabilityRequest(lines=wanted)
    answer = await services.ask(services.inventory.CheckAvailability, request, wait_s=wait_s)
    for entry in answer.skus:
        if entry.sellable >= entry.requested:
            continue
        warehouse = SHELVES[entry.sku]
        receipt = inventory_service_pb2.ReceiveStockRequest(
            request_id=requests.request_id(key, f"ReceiveStock:{entry.sku}"),
            warehouse_id=warehouse,
            lines=[inventory_service_pb2.ReceivedLine(sku=entry.sku, quantity=STOCK)],
        )
        await services.ask(services.inventory.ReceiveStock, receipt, wait_s=wait_s)
        say(f"stock {STOCK} × {entry.sku} arrive in {warehouse}")


async def _walk(
    services: Services, order: order_pb2.Order, key: UUID, say: Say, wait_s: float
) -> order_pb2.OrderTransition:
    """Pays the order and prints its transitions meanwhile; returns the last one. Raises
    TimeoutError, or the Failure of either.
    """
    paying = asyncio.create_task(
        services.ask(services.payments.CreatePayment, requests.payment(order, key), wait_s=wait_s)
    )
    printing = asyncio.create_task(_print_timeline(services, order, say, wait_s))
    try:
        async with asyncio.timeout(wait_s):
            done, _ = await asyncio.wait({paying, printing}, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return printing.result()
    finally:
        paying.cancel()
        printing.cancel()


async def _print_timeline(
    services: Services, order: order_pb2.Order, say: Say, wait_s: float
) -> order_pb2.OrderTransition:
    """Prints the order's transitions up to its end; returns the last."""
    async with aclosing(timeline(services.orders, order.order_id, wait_s)) as transitions:
        async for transition in transitions:
            status = name_of(order_pb2.OrderStatus, transition.new_status)
            say(
                f"{_time(transition.occur_time):%H:%M:%S.%f}"[:12]
                + f"  {status:<10}  {transition.reason}"
            )
            if transition.new_status in ENDS:
                return transition
    raise AssertionError("a watch ends after one of ENDS")


def _time(moment: Timestamp) -> datetime:
    """Returns the time in the local time zone."""
    return moment.ToDatetime(tzinfo=UTC).astimezone()
