"""Orders walked through their whole life by the simulator's staff, and a check of all their units
and pennies.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2, warehouse_pb2

from chassis.broker.stream import connect
from devstack.stack import Stack
from simulator import world
from simulator.config import Settings
from simulator.services import Services, connected
from simulator.world import World
from tests.support import eventually

TIMEOUT_S = 120.0
LIFE = ["PENDING", "CONFIRMED", "PROCESSING", "SHIPPED", "DELIVERED"]
RECIPIENT = order_pb2.Recipient(
    name="Ada Example", address_lines=["1 Test Street"], locality="London", country_code="GB"
)


class Shop:
    """A shop with its own SKUs, one in each of two warehouses, used by no other test."""

    def __init__(self, services: Services, world: World) -> None:
        self.services, self.world = services, world
        self.skus = [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("lamp", "bulb")]
        self.received = 100

    async def stock(self) -> None:
        """Receives a hundred of each, each in its own warehouse: every order needs both."""
        for warehouse, sku in zip(("london", "paris"), self.skus, strict=True):
            line = inventory_service_pb2.ReceivedLine(sku=sku, quantity=self.received)
            request = inventory_service_pb2.ReceiveStockRequest(
                request_id=str(uuid.uuid4()), warehouse_id=warehouse, lines=[line]
            )
            await self.services.ask(self.services.inventory.ReceiveStock, request, wait_s=TIMEOUT_S)

    async def walk(self) -> str:
        """Walks one order of two lamps and a bulb from checkout to its end; returns its id."""
        items = [
            order_service_pb2.NewOrderItem(
                sku=sku,
                quantity=quantity,
                unit_price=Money(currency_code="GBP", units=3, nanos=330_000_000),
            )
            for sku, quantity in zip(self.skus, (2, 1), strict=True)
        ]
        checkout = order_service_pb2.CreateOrderRequest(
            request_id=str(uuid.uuid4()), items=items, recipient=RECIPIENT
        )
        order: order_pb2.Order = (
            await self.services.ask(self.services.orders.CreateOrder, checkout, wait_s=TIMEOUT_S)
        ).order
        followed = self.world.follow(order)
        pay = payment_service_pb2.CreatePaymentRequest(
            request_id=str(uuid.uuid4()),
            order_id=order.order_id,
            payment_method_token="tok_ok",
            expected_amount=order.total_amount,
        )
        await self.services.ask(self.services.payments.CreatePayment, pay, wait_s=TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            await followed.ended.wait()
        return order.order_id

    async def account(self, order_ids: Sequence[str]) -> None:
        """Checks that every order is delivered, with each status once, in order, and that every
        unit and penny is accounted for once.

        The warehouse may consume the shipment after the order has consumed the delivery, so the
        check is repeated.
        """
        await eventually(
            lambda: self._agree(order_ids), timeout_s=TIMEOUT_S, what="the records agree"
        )

    async def _agree(self, order_ids: Sequence[str]) -> bool:
        for order_id in order_ids:
            await self._account_of(order_id)
        for sku, quantity in zip(self.skus, (2, 1), strict=True):
            request = inventory_service_pb2.ListStockLevelsRequest(skus=[sku])
            [level] = (
                await self.services.ask(self.services.inventory.ListStockLevels, request)
            ).stock_levels
            remaining = self.received - quantity * len(order_ids)
            assert (level.available, level.reserved, level.committed, level.damaged) == (
                remaining,
                0,
                0,
                0,
            ), sku
        return True

    async def _account_of(self, order_id: str) -> None:
        ask, services = self.services.ask, self.services
        order = (
            await ask(
                services.orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order_id)
            )
        ).order
        listed = order_service_pb2.ListOrderTransitionsRequest(order_id=order_id)
        transitions = (await ask(services.orders.ListOrderTransitions, listed)).transitions
        names = [
            order_pb2.OrderStatus.Name(transition.new_status).removeprefix("ORDER_STATUS_")
            for transition in transitions
        ]
        assert names == LIFE
        assert [transition.order_version for transition in transitions] == [1, 2, 3, 4, 5]
        payments = (
            await ask(
                services.payments.ListPayments,
                payment_service_pb2.ListPaymentsRequest(order_id=order_id),
            )
        ).payments
        assert [(p.status, p.captured_amount, p.refunded_amount.units) for p in payments] == [
            (payment_pb2.PAYMENT_STATUS_CAPTURED, order.total_amount, 0)
        ]
        shipments = (
            await ask(
                services.shipping.ListShipments,
                shipping_service_pb2.ListShipmentsRequest(order_id=order_id),
            )
        ).shipments
        assert [
            (s.status, s.warehouse_id) for s in sorted(shipments, key=lambda s: s.warehouse_id)
        ] == [
            (shipping_pb2.SHIPMENT_STATUS_DELIVERED, "london"),
            (shipping_pb2.SHIPMENT_STATUS_DELIVERED, "paris"),
        ]
        moved = inventory_service_pb2.ListStockMovementsRequest(order_id=order_id, page_size=1000)
        movements: Counter[tuple[str, int]] = Counter()
        for movement in (await ask(services.inventory.ListStockMovements, moved)).stock_movements:
            movements[movement.sku, movement.kind] += movement.quantity
        kinds = (
            warehouse_pb2.STOCK_MOVEMENT_KIND_RESERVE,
            warehouse_pb2.STOCK_MOVEMENT_KIND_CONFIRM,
            warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP,
        )
        assert movements == {
            (sku, kind): quantity
            for sku, quantity in zip(self.skus, (2, 1), strict=True)
            for kind in kinds
        }


@asynccontextmanager
async def open_shop(stack: Stack) -> AsyncIterator[Shop]:
    """A shop over the stack, with its staff at work."""
    addresses = {f"{name}_address": address for name, address in stack.addresses.items()}
    settings = Settings(**addresses, nats_url=stack.nats_url)  # type: ignore[arg-type]
    async with connected(settings) as services:
        broker = await connect(stack.nats_url, name="system-test")
        people = World(services)
        working = asyncio.create_task(people.run(broker))
        try:
            with pytest.MonkeyPatch.context() as quick:
                quick.setattr(world, "LOOK_S", 0.3)
                quick.setattr(world, "SILENT_S", 0.5)
                yield Shop(services, people)
        finally:
            working.cancel()
            await asyncio.wait([working])
            await broker.close()
