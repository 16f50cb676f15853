"""What the five services say at about one time: the facts that an audit compares. Read over public
methods, page by page.

Nothing stops the world meanwhile, so that two facts of one reading may be of different moments: see
`omctl.audit.persisting`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
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

from chassis.rpc.client import Channel, ask, connect, pages
from chassis.values.errors import Failure

T = TypeVar("T")

PAGE = 100
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Facts that a service did not give: `field` is the field of Facts, `failure` says why."""

    service: str
    field: str
    failure: Failure


@dataclass(frozen=True)
class Facts:
    """All that the services told. `failed`, `outboxes` and `unmatched` are by service.

    A field that is named in `gaps` is empty; those by service lack the gap's service.
    """

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
    gaps: Sequence[Gap] = ()
    unmatched: Mapping[str, Sequence[ops_service_pb2.UnmatchedEvent]] = field(default_factory=dict)

    @cached_property
    def restored(self) -> frozenset[str]:
        """The services whose database was restored to an older state, as far as it is not
        repaired.
        """
        unknown = ops_service_pb2.UNMATCHED_KIND_UNKNOWN
        by_service = self.unmatched.items()
        return frozenset(
            name for name, events in by_service if any(event.kind == unknown for event in events)
        )

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
    """A service has not told its facts: `service` is its name, `failure` why not."""

    code = "UNAVAILABLE"

    def __init__(self, service: str, failure: Failure) -> None:
        super().__init__(
            failure.reason,
            f"{service}: {failure}",
            violations=failure.violations,
            **failure.metadata,
        )
        self.service, self.failure = service, failure


@dataclass(frozen=True, slots=True)
class _List:
    """A List method whose records are `field` of Facts.

    `answer` is their name in the method's answer, where that is another.
    """

    service: str
    field: str
    method: Any
    request: Any
    answer: str = ""

    async def records(self) -> list[Any]:
        """Every page of it."""
        return await _all(self.method, self.request, self.answer or self.field)


class Witnesses:
    """The services, each over a channel of its own, as they are asked for facts."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        """`channels` by service: order, warehouse, fulfillment, shipping, payment."""
        self._channels = channels
        self._orders, self._returns = (
            OrderServiceStub(channels["order"]),
            ReturnServiceStub(channels["order"]),
        )
        self._inventory = InventoryServiceStub(channels["warehouse"])
        self._reservations = ReservationServiceStub(channels["warehouse"])
        self._fulfillments = FulfillmentServiceStub(channels["fulfillment"])
        self._shipping, self._payments = (
            ShippingServiceStub(channels["shipping"]),
            PaymentServiceStub(channels["payment"]),
        )

    async def tell(self) -> Facts:
        """What they say now, all of it. Raises Silent for the first that has not answered."""
        facts = await self.read()
        for gap in facts.gaps:
            raise Silent(gap.service, gap.failure) from gap.failure
        return facts

    async def read(self) -> Facts:
        """What they say now. What a service does not give is in `gaps`."""
        names, lists = list(self._channels), list(self._lists())
        async with asyncio.TaskGroup() as group:
            listed = [
                group.create_task(_given(each.service, each.field, each.records()))
                for each in lists
            ]
            failed = [
                group.create_task(_given(name, "failed", self._failed(name))) for name in names
            ]
            outboxes = [
                group.create_task(_given(name, "outboxes", self._outbox(name))) for name in names
            ]
            unmatched = [
                group.create_task(_given(name, "unmatched", self._unmatched(name)))
                for name in names
            ]
        answers = [task.result() for task in (*listed, *failed, *outboxes, *unmatched)]
        found = {
            each.field: _or_empty(task.result()) for each, task in zip(lists, listed, strict=True)
        }
        found["orders"] = {order.order_id: order for order in found["orders"]}
        return Facts(
            time=datetime.now(UTC),
            failed=_without_gaps(zip(names, failed, strict=True)),
            outboxes=_without_gaps(zip(names, outboxes, strict=True)),
            unmatched=_without_gaps(zip(names, unmatched, strict=True)),
            gaps=[answer for answer in answers if isinstance(answer, Gap)],
            **found,
        )

    def _lists(self) -> Iterator[_List]:
        orders, returns = (
            order_service_pb2.ListOrdersRequest(),
            return_service_pb2.ListReturnsRequest(),
        )
        yield _List(service="order", field="orders", method=self._orders.ListOrders, request=orders)
        yield _List(
            service="order", field="returns", method=self._returns.ListReturns, request=returns
        )
        levels, movements = (
            inventory_service_pb2.ListStockLevelsRequest(),
            inventory_service_pb2.ListStockMovementsRequest(),
        )
        yield _List(
            service="warehouse",
            field="levels",
            method=self._inventory.ListStockLevels,
            request=levels,
            answer="stock_levels",
        )
        yield _List(
            service="warehouse",
            field="movements",
            method=self._inventory.ListStockMovements,
            request=movements,
            answer="stock_movements",
        )
        reservations = reservation_service_pb2.ListReservationsRequest()
        yield _List(
            service="warehouse",
            field="reservations",
            method=self._reservations.ListReservations,
            request=reservations,
        )
        payments, refunds = (
            payment_service_pb2.ListPaymentsRequest(),
            payment_service_pb2.ListRefundsRequest(),
        )
        yield _List(
            service="payment",
            field="payments",
            method=self._payments.ListPayments,
            request=payments,
        )
        yield _List(
            service="payment", field="refunds", method=self._payments.ListRefunds, request=refunds
        )
        fulfillments = fulfillment_service_pb2.ListFulfillmentsRequest()
        yield _List(
            service="fulfillment",
            field="fulfillments",
            method=self._fulfillments.ListFulfillments,
            request=fulfillments,
        )
        yield _List(
            service="shipping",
            field="shipments",
            method=self._shipping.ListShipments,
            request=shipping_service_pb2.ListShipmentsRequest(),
        )

    async def _failed(self, service: str) -> list[ops_service_pb2.FailedEvent]:
        method = FailedEventServiceStub(self._channels[service]).ListFailedEvents
        return await _all(method, ops_service_pb2.ListFailedEventsRequest(), "failed_events")

    async def _outbox(self, service: str) -> ops_service_pb2.GetOutboxStatsResponse:
        method = OutboxServiceStub(self._channels[service]).GetOutboxStats
        return await ask(method, ops_service_pb2.GetOutboxStatsRequest(), timeout_s=TIMEOUT_S)

    async def _unmatched(self, service: str) -> list[ops_service_pb2.UnmatchedEvent]:
        method = OutboxServiceStub(self._channels[service]).ListUnmatchedEvents
        return await _all(method, ops_service_pb2.ListUnmatchedEventsRequest(), "unmatched_events")


@asynccontextmanager
async def witnesses(addresses: Mapping[str, str]) -> AsyncIterator[Witnesses]:
    """The services at these addresses, by name."""
    async with AsyncExitStack() as stack:
        yield Witnesses(
            {
                name: await stack.enter_async_context(connect(address))
                for name, address in addresses.items()
            }
        )


async def _given(service: str, field: str, facts: Awaitable[T]) -> T | Gap:
    """What the service answers, or the gap that it leaves."""
    try:
        return await facts
    except Failure as failure:
        return Gap(service, field, failure)


def _or_empty(answer: list[Any] | Gap) -> Any:
    return [] if isinstance(answer, Gap) else answer


def _without_gaps(answers: Iterable[tuple[str, asyncio.Task[T | Gap]]]) -> dict[str, T]:
    """What each service has answered, of those that have."""
    return {name: answer for name, task in answers if not isinstance(answer := task.result(), Gap)}


async def _all(method: Any, request: Any, field: str) -> list[Any]:
    """Every page of a List method."""
    return [
        record
        async for page in pages(method, request, field, size=PAGE, timeout_s=TIMEOUT_S)
        for record in page
    ]


def _by_order(records: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for record in records:
        grouped.setdefault(record.order_id, []).append(record)
    return grouped
