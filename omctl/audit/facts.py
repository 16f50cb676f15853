"""What the five services say at about one time: the facts that an audit compares. Read over public methods, page by page.

Nothing stops the world meanwhile, so that two facts of one reading may be of different moments: see `omctl.audit.persisting`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.ops.v1.ops_service_pb2_grpc import FailedEventServiceStub, OutboxServiceStub
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceStub
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import inventory_service_pb2, reservation_service_pb2, warehouse_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub
from ordermesh.warehouse.v1.reservation_service_pb2_grpc import ReservationServiceStub

from chassis.client import Channel, ask, connect, pages
from chassis.errors import Failure

T = TypeVar("T")

PAGE = 100
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Facts:
    """All that the services told. `failed` and `outboxes` are by service."""

    time: datetime
    orders: Mapping[str, order_pb2.Order]
    returns: Sequence[return_pb2.Return]
    levels: Sequence[warehouse_pb2.StockLevel]
    movements: Sequence[warehouse_pb2.StockMovement]
    reservations: Sequence[warehouse_pb2.Reservation]
    payments: Sequence[payment_pb2.Payment]
    refunds: Sequence[payment_pb2.Refund]
    fulfillments: Sequence[fulfillment_pb2.Fulfillment]
    shipments: Sequence[shipping_pb2.Shipment]
    failed: Mapping[str, Sequence[ops_service_pb2.FailedEvent]]
    outboxes: Mapping[str, ops_service_pb2.GetOutboxStatsResponse]

    @cached_property
    def returns_of(self) -> Mapping[str, Sequence[return_pb2.Return]]:
        """The returns of each order that has some."""
        return _by_order(self.returns)

    @cached_property
    def payments_of(self) -> Mapping[str, Sequence[payment_pb2.Payment]]:
        """The payments of each order that has some."""
        return _by_order(self.payments)

    @cached_property
    def refunds_of(self) -> Mapping[str, Sequence[payment_pb2.Refund]]:
        """The refunds of each payment that has some."""
        grouped: dict[str, list[payment_pb2.Refund]] = {}
        for refund in self.refunds:
            grouped.setdefault(refund.payment_id, []).append(refund)
        return grouped

    @cached_property
    def fulfillments_of(self) -> Mapping[str, Sequence[fulfillment_pb2.Fulfillment]]:
        """The fulfilments of each order that has some."""
        return _by_order(self.fulfillments)

    @cached_property
    def shipments_of(self) -> Mapping[str, Sequence[shipping_pb2.Shipment]]:
        """The shipments of each order that has some."""
        return _by_order(self.shipments)


class Silent(Failure):
    """A service has not told its facts: `service` is its name, `failure` why not. Without all facts there is nothing to compare."""

    code = "UNAVAILABLE"

    def __init__(self, service: str, failure: Failure) -> None:
        super().__init__(failure.reason, f"{service}: {failure}", violations=failure.violations, **failure.metadata)
        self.service, self.failure = service, failure


class Witnesses:
    """The services, each over a channel of its own, as they are asked for facts."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        """`channels` by service: order, warehouse, fulfillment, shipping, payment."""
        self._channels = channels
        self._orders, self._returns = OrderServiceStub(channels["order"]), ReturnServiceStub(channels["order"])
        self._inventory = InventoryServiceStub(channels["warehouse"])
        self._reservations = ReservationServiceStub(channels["warehouse"])
        self._fulfillments = FulfillmentServiceStub(channels["fulfillment"])
        self._shipping, self._payments = ShippingServiceStub(channels["shipping"]), PaymentServiceStub(channels["payment"])

    async def tell(self) -> Facts:
        """What they say now. Raises Silent for the first that cannot be asked."""
        try:
            return await self._tell()
        except ExceptionGroup as group:  # one of several that were asked at once is enough to know that nothing whole is told
            if silent := group.subgroup(Silent):
                raise _first(silent) from None
            raise

    async def _tell(self) -> Facts:
        names = list(self._channels)
        async with asyncio.TaskGroup() as group:
            lists = {
                name: group.create_task(_told(service, _all(method, request, field)))
                for name, service, method, request, field in (
                    ("orders", "order", self._orders.ListOrders, order_service_pb2.ListOrdersRequest(), "orders"),
                    ("returns", "order", self._returns.ListReturns, return_service_pb2.ListReturnsRequest(), "returns"),
                    (
                        "levels",
                        "warehouse",
                        self._inventory.ListStockLevels,
                        inventory_service_pb2.ListStockLevelsRequest(),
                        "stock_levels",
                    ),
                    (
                        "movements",
                        "warehouse",
                        self._inventory.ListStockMovements,
                        inventory_service_pb2.ListStockMovementsRequest(),
                        "stock_movements",
                    ),
                    (
                        "reservations",
                        "warehouse",
                        self._reservations.ListReservations,
                        reservation_service_pb2.ListReservationsRequest(),
                        "reservations",
                    ),
                    ("payments", "payment", self._payments.ListPayments, payment_service_pb2.ListPaymentsRequest(), "payments"),
                    ("refunds", "payment", self._payments.ListRefunds, payment_service_pb2.ListRefundsRequest(), "refunds"),
                    (
                        "fulfillments",
                        "fulfillment",
                        self._fulfillments.ListFulfillments,
                        fulfillment_service_pb2.ListFulfillmentsRequest(),
                        "fulfillments",
                    ),
                    ("shipments", "shipping", self._shipping.ListShipments, shipping_service_pb2.ListShipmentsRequest(), "shipments"),
                )
            }
            failed = [group.create_task(_told(name, self._failed(name))) for name in names]
            outboxes = [group.create_task(_told(name, self._outbox(name))) for name in names]
        found: dict[str, Any] = {name: task.result() for name, task in lists.items()}
        found["orders"] = {order.order_id: order for order in found["orders"]}
        return Facts(
            time=datetime.now(UTC),
            failed=dict(zip(names, (task.result() for task in failed), strict=True)),
            outboxes=dict(zip(names, (task.result() for task in outboxes), strict=True)),
            **found,
        )

    async def _failed(self, service: str) -> list[ops_service_pb2.FailedEvent]:
        method = FailedEventServiceStub(self._channels[service]).ListFailedEvents
        return await _all(method, ops_service_pb2.ListFailedEventsRequest(), "failed_events")

    async def _outbox(self, service: str) -> ops_service_pb2.GetOutboxStatsResponse:
        method = OutboxServiceStub(self._channels[service]).GetOutboxStats
        return await ask(method, ops_service_pb2.GetOutboxStatsRequest(), timeout_s=TIMEOUT_S)


@asynccontextmanager
async def witnesses(addresses: Mapping[str, str]) -> AsyncIterator[Witnesses]:
    """The services at these addresses, by name."""
    async with AsyncExitStack() as stack:
        yield Witnesses({name: await stack.enter_async_context(connect(address)) for name, address in addresses.items()})


async def _told(service: str, facts: Awaitable[T]) -> T:
    """What the service answers. Raises Silent."""
    try:
        return await facts
    except Failure as failure:
        raise Silent(service, failure) from failure


def _first(group: BaseExceptionGroup[Silent]) -> Silent:
    """The first of a group, which may hold groups."""
    first = group.exceptions[0]
    return first if isinstance(first, Silent) else _first(first)


async def _all(method: Any, request: Any, field: str) -> list[Any]:
    """Every page of a List method."""
    return [record async for page in pages(method, request, field, size=PAGE, timeout_s=TIMEOUT_S) for record in page]


def _by_order(records: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for record in records:
        grouped.setdefault(record.order_id, []).append(record)
    return grouped
