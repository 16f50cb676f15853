"""An order service and a warehouse with answers that the test sets, on a port of their own, and
omctl run against them. No tests here.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import (
    OrderServiceServicer,
    add_OrderServiceServicer_to_server,
)
from ordermesh.warehouse.v1 import inventory_service_pb2, warehouse_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import (
    InventoryServiceServicer,
    add_InventoryServiceServicer_to_server,
)
from typer.testing import CliRunner, Result

from chassis.rpc.status import encode
from chassis.values.errors import Failure, NotFound
from omctl.__main__ import app

ORDER_ID = "01890000-0000-7000-8000-000000000001"
PLACED = Timestamp()
PLACED.FromDatetime(datetime(2026, 1, 31, 9, 0, 0, 123_000, tzinfo=UTC))
# The printed form, in the time zone of the tests.
AT = PLACED.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S.123")


def order(status: str = "PENDING", version: int = 1, number: int = 1) -> order_pb2.Order:
    """Returns an order of two teapots and a cup."""
    pounds = [Money(currency_code="GBP", units=units) for units in range(50)]
    return order_pb2.Order(
        order_id=f"{ORDER_ID[:-4]}{number:04}",
        order_number=f"OM-{number}",
        customer_id="17850",
        status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}"),
        status_reason="BECAUSE",
        attempt=1,
        version=version,
        items=[
            order_pb2.OrderItem(
                line_number=1,
                sku="TEAPOT",
                quantity=2,
                unit_price=pounds[19],
                total_amount=pounds[38],
            ),
            order_pb2.OrderItem(
                line_number=2,
                sku="[red]CUP\n",
                quantity=1,
                unit_price=pounds[4],
                total_amount=pounds[4],
            ),
        ],
        subtotal_amount=pounds[42],
        discount_amount=pounds[0],
        tax_amount=pounds[0],
        shipping_amount=pounds[3],
        total_amount=pounds[45],
        refunded_amount=pounds[0],
        create_time=PLACED,
        update_time=PLACED,
    )


def change(version: int, status: str) -> order_pb2.OrderTransition:
    """Returns a transition of the order."""
    return order_pb2.OrderTransition(
        order_id=ORDER_ID,
        order_version=version,
        new_status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}"),
        reason=f"WHY_{version}",
        actor="payment",
        occur_time=PLACED,
    )


class Fake(OrderServiceServicer, InventoryServiceServicer):
    """Records the requests. Answers with `orders`, `levels` and `transitions`, in pages of two, or
    raises its `failure`.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.failure: Failure | None = None
        self.orders = [order()]
        self.levels = [
            warehouse_pb2.StockLevel(
                warehouse_id="london-1", sku=f"SKU {n}", available=10, reserved=n, sellable=10 - n
            )
            for n in range(5)
        ]
        self.transitions = [change(1, "PENDING")]
        self.new_transitions: list[order_pb2.OrderTransition] = []

    def _take(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        if self.failure:
            code, message, trailing = encode(self.failure)
            context.set_trailing_metadata(trailing)
            context.abort(code, message)

    def CreateOrder(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return order_service_pb2.CreateOrderResponse(order=self.orders[0])

    def GetOrder(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        found = [each for each in self.orders if each.order_id == request.order_id]
        if not found:
            self.failure = NotFound("ORDER_NOT_FOUND", f"There is no order {request.order_id}.")
            self._take(request, context)
        return order_service_pb2.GetOrderResponse(order=found[0])

    def ListOrders(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        found = [each for each in self.orders if request.order_number in ("", each.order_number)]
        page, token = _page(found, request)
        return order_service_pb2.ListOrdersResponse(orders=page, next_page_token=token)

    def CancelOrder(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return order_service_pb2.CancelOrderResponse(order=order("CANCELLED", 2))

    def CancelOrderItems(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return order_service_pb2.CancelOrderItemsResponse(order=order("CONFIRMED", 3))

    def RetryOrder(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return order_service_pb2.RetryOrderResponse(order=order("PENDING", 4))

    def ListOrderTransitions(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        page, token = _page(self.transitions, request)
        return order_service_pb2.ListOrderTransitionsResponse(
            transitions=page, next_page_token=token
        )

    def WatchOrder(self, request: Any, context: Any) -> Iterator[Any]:
        self._take(request, context)
        yield order_service_pb2.WatchOrderResponse(snapshot=self.orders[0], resume_token="0")
        yield order_service_pb2.WatchOrderResponse(
            heartbeat=order_service_pb2.WatchHeartbeat(), resume_token="1"
        )
        for transition in self.new_transitions:
            yield order_service_pb2.WatchOrderResponse(
                transition=transition, resume_token=str(transition.order_version)
            )
        pause = Event()
        while context.is_active():
            pause.wait(0.05)
            yield order_service_pb2.WatchOrderResponse(
                heartbeat=order_service_pb2.WatchHeartbeat(), resume_token="1"
            )

    def ReceiveStock(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return inventory_service_pb2.ReceiveStockResponse(stock_levels=self.levels[:1])

    def AdjustStock(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        return inventory_service_pb2.AdjustStockResponse(stock_level=self.levels[0])

    def ListStockLevels(self, request: Any, context: Any) -> Any:
        self._take(request, context)
        page, token = _page(self.levels, request)
        return inventory_service_pb2.ListStockLevelsResponse(
            stock_levels=page, next_page_token=token
        )


def _page(found: list[Any], request: Any) -> tuple[list[Any], str]:
    start = int(request.page_token or 0)
    end = start + min(request.page_size or 50, 2)
    return found[start:end], str(end) if end < len(found) else ""


class Omctl:
    """omctl at a shell, in an environment with the addresses of the fake services."""

    def __init__(self, fake: Fake, address: str) -> None:
        self.fake, self.environment = fake, {"ORDER_ADDRESS": address, "WAREHOUSE_ADDRESS": address}

    def __call__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
        """Runs a command in a pipe."""
        return CliRunner().invoke(app, arguments, env=dict(environment or self.environment))


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    """Runs the fake services on a port; yields their address."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    add_OrderServiceServicer_to_server(fake, server)
    add_InventoryServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
