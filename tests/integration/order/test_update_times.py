"""Lists by update_time: the bounds, over a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.v1 import order_service_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from sqlalchemy import Table, update
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from chassis.values.errors import Invalid
from order_svc import tables
from order_svc.app import Operations
from tests.integration.order.requests import Orders, Returns, create_order
from tests.integration.order.returns import delivered, made

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STEP = timedelta(microseconds=1)
# Below the bound, at it, above it.
TIMES = (NOON - STEP, NOON, NOON + STEP)
AT = Timestamp(seconds=int(NOON.timestamp()))
AFTER = Timestamp(seconds=AT.seconds, nanos=1)  # rounded up to NOON + STEP
BOUNDS = [
    ({"from": AT}, [2, 1]),
    ({"before": AT}, [0]),
    ({"from": AFTER}, [2]),
    ({"before": AFTER}, [1, 0]),
    ({"from": AT, "before": AFTER}, [1]),
]


async def set_times(engine: AsyncEngine, table: Table, column: str, ids: list[str]) -> None:
    """Sets the rows' update times to TIMES."""
    async with engine.begin() as connection:
        for id, time in zip(ids, TIMES, strict=True):
            await connection.execute(
                update(table).where(table.c.id == UUID(id)).values({column: time})
            )


def bounds(name: str, given: dict[str, Timestamp]) -> dict[str, Any]:
    return {f"{name}_time_{side}": time for side, time in given.items()}


@pytest.mark.parametrize(("given", "expected"), BOUNDS)
async def test_orders_by_update_time_are_those_within(
    orders: Orders, engine: AsyncEngine, given: dict[str, Timestamp], expected: list[int]
) -> None:
    """The lower bound is inclusive, the upper one exclusive, and nanoseconds are rounded up."""
    ids = [(await ask(orders.CreateOrder, create_order())).order.order_id for _ in TIMES]
    await set_times(engine, tables.orders, "update_time", ids)
    found = await ask(
        orders.ListOrders, order_service_pb2.ListOrdersRequest(**bounds("update", given))
    )
    assert [ids.index(order.order_id) for order in found.orders] == expected


@pytest.mark.parametrize(("given", "expected"), BOUNDS)
@pytest.mark.parametrize("name", ["update", "create"])
async def test_returns_by_time_are_those_within(
    returns: Returns,
    orders: Orders,
    operations: Operations,
    engine: AsyncEngine,
    name: str,
    given: dict[str, Timestamp],
    expected: list[int],
) -> None:
    """The lower bound is inclusive, the upper one exclusive, and nanoseconds are rounded up."""
    order = await delivered(orders, operations)
    ids = [(await made(returns, order, {1: 1})).return_id for _ in TIMES]
    await set_times(engine, tables.returns, f"{name}_time", ids)
    found = await ask(returns.ListReturns, api.ListReturnsRequest(**bounds(name, given)))
    assert [ids.index(order_return.return_id) for order_return in found.returns] == expected


async def test_token_with_another_update_time_is_refused(orders: Orders) -> None:
    """A page token belongs to both bounds."""
    for _ in range(2):
        await ask(orders.CreateOrder, create_order())
    first = await ask(
        orders.ListOrders, order_service_pb2.ListOrdersRequest(page_size=1, update_time_from=AT)
    )
    for bound in ("update_time_from", "update_time_before"):
        request = order_service_pb2.ListOrdersRequest(page_size=1, page_token=first.next_page_token)
        getattr(request, bound).CopyFrom(AFTER)
        with pytest.raises(Invalid) as refused:
            await ask(orders.ListOrders, request)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"
