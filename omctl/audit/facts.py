"""Reads the records of the five services, the facts that an audit compares, over public methods.

The services keep working during a reading, so two of its facts may be of different times: see
`omctl.audit.persisting`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
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
    """Facts that a service did not return: `field` is the field of Facts, `failure` the error."""

    service: str
    field: str
    failure: Failure


@dataclass(frozen=True)
class Facts:
    """All records that the services returned. `failed`, `outboxes`, `unmatched` are by service.

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
        """The services whose database was restored to an older state and is not repaired yet."""
        unknown = ops_service_pb2.UNMATCHED_KIND_UNKNOWN
        by_service = self.unmatched.items()
        return frozenset(
            name for name, events in by_service if any(event.kind == unknown for event in events)
        )

    @cached_property
    def returns_of(self) -> Mapping[str, Sequence[return_pb2.Return]]:
        """The returns of each order that has some."""
        return _grouped(self.returns, "order_id")

    @cached_property
    def payments_of(self) -> Mapping[str, Sequence[payment_pb2.Payment]]:
        """The payments of each order that has some."""
        return _grouped(self.payments, "order_id")

    @cached_property
    def refunds_of(self) -> Mapping[str, Sequence[payment_pb2.Refund]]:
        """The refunds of each payment that has some."""
        return _grouped(self.refunds, "payment_id")

    @cached_property
    def fulfillments_of(self) -> Mapping[str, Sequence[fulfillment_pb2.Fulfillment]]:
        """The fulfilments of each order that has some."""
        return _grouped(self.fulfillments, "order_id")

    @cached_property
    def shipments_of(self) -> Mapping[str, Sequence[shipping_pb2.Shipment]]:
        """The shipments of each order that has some."""
        return _grouped(self.shipments, "order_id")


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
        """Returns the records of all pages."""
        return await _all(self.method, self.request, self.answer or self.field)


class FactsReader:
    """Reads facts from the services, each over its own channel."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        """`channels` by service: order, warehouse, fulfillment, shipping, payment."""
        self._channels = channels

    async def read(self) -> Facts:
        """Returns the facts as they now stand; `gaps` has those that a service did not return."""
        names, lists = list(self._channels), self._lists()
        async with asyncio.TaskGroup() as group:
            listed = [
                group.create_task(_answer_or_gap(each.service, each.field, each.records()))
                for each in lists
            ]
            failed = [
                group.create_task(_answer_or_gap(name, "failed", self._failed(name)))
                for name in names
            ]
            outboxes = [
                group.create_task(_answer_or_gap(name, "outboxes", self._outbox(name)))
                for name in names
            ]
            unmatched = [
                group.create_task(_answer_or_gap(name, "unmatched", self._unmatched(name)))
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

    def _lists(self) -> tuple[_List, ...]:
        order, warehouse = self._channels["order"], self._channels["warehouse"]
        payment = PaymentServiceStub(self._channels["payment"])
        return (
            _List(
                service="order",
                field="orders",
                method=OrderServiceStub(order).ListOrders,
                request=order_service_pb2.ListOrdersRequest(),
            ),
            _List(
                service="order",
                field="returns",
                method=ReturnServiceStub(order).ListReturns,
                request=return_service_pb2.ListReturnsRequest(),
            ),
            _List(
                service="warehouse",
                field="levels",
                method=InventoryServiceStub(warehouse).ListStockLevels,
                request=inventory_service_pb2.ListStockLevelsRequest(),
                answer="stock_levels",
            ),
            _List(
                service="warehouse",
                field="movements",
                method=InventoryServiceStub(warehouse).ListStockMovements,
                request=inventory_service_pb2.ListStockMovementsRequest(),
                answer="stock_movements",
            ),
            _List(
                service="warehouse",
                field="reservations",
                method=ReservationServiceStub(warehouse).ListReservations,
                request=reservation_service_pb2.ListReservationsRequest(),
            ),
            _List(
                service="payment",
                field="payments",
                method=payment.ListPayments,
                request=payment_service_pb2.ListPaymentsRequest(),
            ),
            _List(
                service="payment",
                field="refunds",
                method=payment.ListRefunds,
                request=payment_service_pb2.ListRefundsRequest(),
            ),
            _List(
                service="fulfillment",
                field="fulfillments",
                method=FulfillmentServiceStub(self._channels["fulfillment"]).ListFulfillments,
                request=fulfillment_service_pb2.ListFulfillmentsRequest(),
            ),
            _List(
                service="shipping",
                field="shipments",
                method=ShippingServiceStub(self._channels["shipping"]).ListShipments,
                request=shipping_service_pb2.ListShipmentsRequest(),
            ),
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
async def facts_reader(addresses: Mapping[str, str]) -> AsyncIterator[FactsReader]:
    """Opens a channel to each of these addresses, by service."""
    async with AsyncExitStack() as stack:
        yield FactsReader(
            {
                name: await stack.enter_async_context(connect(address))
                for name, address in addresses.items()
            }
        )


async def _answer_or_gap(service: str, field: str, facts: Awaitable[T]) -> T | Gap:
    """Returns the service's answer, or the gap that its failure leaves."""
    try:
        return await facts
    except Failure as failure:
        return Gap(service, field, failure)


def _or_empty(answer: list[Any] | Gap) -> Any:
    return [] if isinstance(answer, Gap) else answer


def _without_gaps(answers: Iterable[tuple[str, asyncio.Task[T | Gap]]]) -> dict[str, T]:
    """Returns the answers of the services that answered, by service."""
    return {name: answer for name, task in answers if not isinstance(answer := task.result(), Gap)}


async def _all(method: Any, request: Any, field: str) -> list[Any]:
    """Returns the records of all pages of a List method."""
    return [
        record
        async for page in pages(method, request, field, size=PAGE, timeout_s=TIMEOUT_S)
        for record in page
    ]


def _grouped(records: Sequence[Any], field: str) -> dict[str, list[Any]]:
    """Returns the records grouped by the value of a field, in their order."""
    grouped: dict[str, list[Any]] = {}
    for record in records:
        grouped.setdefault(getattr(record, field), []).append(record)
    return grouped
