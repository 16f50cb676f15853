"""Requests that a storefront would send, and their stubs; and expiry times that have passed. No
tests here.
"""

from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask
from order_svc import tables
from order_svc.model.records import Order

if TYPE_CHECKING:
    # only the stubs have these names
    from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceAsyncStub as AsyncStub
    from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceAsyncStub as AsyncReturns

Orders: TypeAlias = "AsyncStub"
Returns: TypeAlias = "AsyncReturns"
RECIPIENT = order_pb2.Recipient(
    name="Ada Example",
    address_lines=["1 Test Street"],
    locality="London",
    postal_code="N1 1AA",
    country_code="GB",
)


def item(
    sku: str = "LAMP", quantity: int = 1, price: int = 10, **fields: Any
) -> order_service_pb2.NewOrderItem:
    return order_service_pb2.NewOrderItem(
        **({"sku": sku, "quantity": quantity, "unit_price": pounds(price)} | fields)
    )


def create_order(
    *items: order_service_pb2.NewOrderItem, **fields: Any
) -> order_service_pb2.CreateOrderRequest:
    values: dict[str, Any] = {
        "request_id": str(uuid4()),
        "items": items or [item()],
        "recipient": RECIPIENT,
    }
    return order_service_pb2.CreateOrderRequest(**(values | fields))


def pounds(units: int, pence: int = 0) -> Money:
    return Money(currency_code="GBP", units=units, nanos=pence * 10_000_000)


async def overdue(engine: AsyncEngine, *several: Order) -> None:
    """Sets the orders' time to pay to the past."""
    ids = ", ".join(f"'{order.id}'" for order in several)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "update orders set expire_time = clock_timestamp() - interval '1 second' where id"
                f" in ({ids})"
            )
        )


async def count(engine: AsyncEngine, *names: str) -> list[int]:
    """Returns the number of rows of each of these tables."""
    async with engine.connect() as connection:
        return [
            (
                await connection.execute(
                    select(func.count()).select_from(tables.metadata.tables[name])
                )
            ).scalar_one()
            for name in names
        ]


async def create(orders: Orders, request: order_service_pb2.CreateOrderRequest) -> order_pb2.Order:
    return (await ask(orders.CreateOrder, request)).order
