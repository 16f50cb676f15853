"""Returns of a delivered order, and requests about them. No tests here."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID, uuid4

from ordermesh.order.events.v1.order_events_pb2 import ReturnStatusChanged
from ordermesh.order.v1 import return_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Failure
from order_svc import tables
from order_svc.app import Operations
from order_svc.model.records import Order
from tests.integration.order.events import (
    delivery,
    paid,
    shipped_and_delivered,
    shipped_fulfilment,
)
from tests.integration.order.requests import Orders, Returns, create_order, item
from tests.integration.order.test_events import deliver

STATUS = return_pb2.ReturnStatus


async def delivered(orders: Orders, operations: Operations) -> Order:
    placed = (
        await orders.CreateOrder(create_order(item("LAMP", 3, 10), item("BULB", 2, 1)), timeout=30)
    ).order
    [order] = await operations.reading.get_orders([UUID(placed.order_id)])
    await deliver(
        operations,
        [
            delivery(event)
            for event in (
                paid(order),
                *shipped_fulfilment(order, "london", {1: 3, 2: 2}),
                *shipped_and_delivered(order, "london"),
            )
        ],
    )
    [order] = await operations.reading.get_orders([order.id])
    assert order.status == "delivered"
    return order


def wanted(
    order: Order, lines: dict[int, int] | list[api.NewReturnLine], **fields: Any
) -> api.CreateReturnRequest:
    values: dict[str, Any] = {"request_id": str(uuid4()), "order_id": str(order.id)}
    if isinstance(lines, dict):
        lines = [
            api.NewReturnLine(line_number=number, quantity=quantity)
            for number, quantity in lines.items()
        ]
    return api.CreateReturnRequest(**(values | {"lines": lines} | fields))


def money(
    order: Order, lines: dict[int, tuple[int, str]], **fields: Any
) -> api.CreateReturnRequest:
    """Returns the request of a refund without goods: the units by line, and the disposition of
    their stock.
    """
    named = [
        api.NewReturnLine(
            line_number=n,
            quantity=units,
            disposition=return_pb2.StockDisposition.Value(f"STOCK_DISPOSITION_{what}"),
        )
        for n, (units, what) in lines.items()
    ]
    return wanted(order, named, without_goods=True, **fields)


def about(order_return: return_pb2.Return, **fields: Any) -> dict[str, Any]:
    return {"request_id": str(uuid4()), "return_id": order_return.return_id, **fields}


def receipt(
    order_return: return_pb2.Return, lines: dict[int, int], **fields: Any
) -> api.ReceiveReturnRequest:
    arrived = [
        api.ReceivedReturnLine(line_number=number, quantity=quantity)
        for number, quantity in lines.items()
    ]
    return api.ReceiveReturnRequest(
        **about(order_return, **({"warehouse_id": "london"} | fields)), lines=arrived
    )


def inspection(
    order_return: return_pb2.Return, lines: dict[int, tuple[int, int, int]], **fields: Any
) -> api.InspectReturnRequest:
    found = [
        api.InspectedReturnLine(
            line_number=number,
            passed_quantity=passed,
            failed_quantity=failed,
            unrefunded_quantity=unrefunded,
        )
        for number, (passed, failed, unrefunded) in lines.items()
    ]
    return api.InspectReturnRequest(**about(order_return, **fields), lines=found)


async def made(returns: Returns, order: Order, lines: dict[int, int]) -> return_pb2.Return:
    return (await ask(returns.CreateReturn, wanted(order, lines))).order_return


async def approved(returns: Returns, order: Order, lines: dict[int, int]) -> return_pb2.Return:
    order_return = await made(returns, order, lines)
    return (
        await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(order_return)))
    ).order_return


async def published(engine: AsyncEngine, return_id: str) -> list[ReturnStatusChanged]:
    """Returns the events of a return, in order."""
    statement = (
        select(tables.outbox.c.payload)
        .where(tables.outbox.c.aggregate == UUID(return_id))
        .order_by(tables.outbox.c.id)
    )
    async with engine.connect() as connection:
        return [
            ReturnStatusChanged.FromString(payload)
            for payload in (await connection.execute(statement)).scalars()
        ]


async def reasons(calls: Sequence[Awaitable[Any]]) -> list[str]:
    """Runs the calls at once; returns "" for each that succeeded, else the reason of its
    refusal.
    """
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return sorted(outcome.reason if isinstance(outcome, Failure) else "" for outcome in outcomes)
