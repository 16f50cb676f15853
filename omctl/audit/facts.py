"""Reads the records of the five services, the facts that an audit compares, over public methods.

The services keep working during a reading, so two of its facts may be of different times: see
`omctl.audit.audit.persisting`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from google.protobuf.message import Message
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
from omctl.names import method_name

PAGE = 100
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Facts that a service did not return: `field` is the field of Facts, `failure` the error."""

    service: str
    field: str
    failure: Failure


@dataclass(frozen=True, kw_only=True)
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
        return grouped(self.returns, "order_id")

    @cached_property
    def payments_of(self) -> Mapping[str, Sequence[payment_pb2.Payment]]:
        """The payments of each order that has some."""
        return grouped(self.payments, "order_id")

    @cached_property
    def refunds_of(self) -> Mapping[str, Sequence[payment_pb2.Refund]]:
        """The refunds of each payment that has some."""
        return grouped(self.refunds, "payment_id")

    @cached_property
    def fulfillments_of(self) -> Mapping[str, Sequence[fulfillment_pb2.Fulfillment]]:
        """The fulfilments of each order that has some."""
        return grouped(self.fulfillments, "order_id")

    @cached_property
    def shipments_of(self) -> Mapping[str, Sequence[shipping_pb2.Shipment]]:
        """The shipments of each order that has some."""
        return grouped(self.shipments, "order_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A method whose answer is `field` of Facts, for one service or (`by_service`) for each.

    The answer of a List method is its `records`, of all pages; any other answer is one message.
    """

    service: str
    field: str
    stub: Callable[[Channel], Any]
    request: Message
    records: str = ""
    by_service: bool = False


class FactsReader:
    """Reads facts from the services, each over its own channel."""

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        """`channels` by service: order, warehouse, fulfillment, shipping, payment."""
        self._channels = channels

    async def read(self) -> Facts:
        """Returns the facts as they now stand; `gaps` has those that a service did not return."""
        reads = [*LISTS, *(each for name in self._channels for each in _ops_reads(name))]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._answer_or_gap(each)) for each in reads]
        gaps: list[Gap] = []
        found: dict[str, Any] = {each.field: {} if each.by_service else [] for each in reads}
        for each, task in zip(reads, tasks, strict=True):
            answer = task.result()
            if isinstance(answer, Gap):
                gaps.append(answer)
            elif each.by_service:
                found[each.field][each.service] = answer
            else:
                found[each.field] = answer
        found["orders"] = {order.order_id: order for order in found["orders"]}
        return Facts(time=datetime.now(UTC), gaps=gaps, **found)

    async def _answer_or_gap(self, read: _Read) -> Any:
        """Returns the service's answer, or the gap that its failure leaves."""
        method = getattr(read.stub(self._channels[read.service]), method_name(read.request))
        try:
            if read.records:
                return await every_record(method, read.request, read.records, TIMEOUT_S)
            return await ask(method, read.request, timeout_s=TIMEOUT_S)
        except Failure as failure:
            return Gap(read.service, read.field, failure)


# The reads of one service each, with requests of their own.
LISTS: Final[tuple[_Read, ...]] = (
    _Read(
        service="order",
        field="orders",
        stub=OrderServiceStub,
        request=order_service_pb2.ListOrdersRequest(),
        records="orders",
    ),
    _Read(
        service="order",
        field="returns",
        stub=ReturnServiceStub,
        request=return_service_pb2.ListReturnsRequest(),
        records="returns",
    ),
    _Read(
        service="warehouse",
        field="levels",
        stub=InventoryServiceStub,
        request=inventory_service_pb2.ListStockLevelsRequest(),
        records="stock_levels",
    ),
    _Read(
        service="warehouse",
        field="movements",
        stub=InventoryServiceStub,
        request=inventory_service_pb2.ListStockMovementsRequest(),
        records="stock_movements",
    ),
    _Read(
        service="warehouse",
        field="reservations",
        stub=ReservationServiceStub,
        request=reservation_service_pb2.ListReservationsRequest(),
        records="reservations",
    ),
    _Read(
        service="payment",
        field="payments",
        stub=PaymentServiceStub,
        request=payment_service_pb2.ListPaymentsRequest(),
        records="payments",
    ),
    _Read(
        service="payment",
        field="refunds",
        stub=PaymentServiceStub,
        request=payment_service_pb2.ListRefundsRequest(),
        records="refunds",
    ),
    _Read(
        service="fulfillment",
        field="fulfillments",
        stub=FulfillmentServiceStub,
        request=fulfillment_service_pb2.ListFulfillmentsRequest(),
        records="fulfillments",
    ),
    _Read(
        service="shipping",
        field="shipments",
        stub=ShippingServiceStub,
        request=shipping_service_pb2.ListShipmentsRequest(),
        records="shipments",
    ),
)


def _ops_reads(service: str) -> tuple[_Read, ...]:
    """Returns the reads that each service answers."""
    return (
        _Read(
            service=service,
            field="failed",
            stub=FailedEventServiceStub,
            request=ops_service_pb2.ListFailedEventsRequest(),
            records="failed_events",
            by_service=True,
        ),
        _Read(
            service=service,
            field="outboxes",
            stub=OutboxServiceStub,
            request=ops_service_pb2.GetOutboxStatsRequest(),
            by_service=True,
        ),
        _Read(
            service=service,
            field="unmatched",
            stub=OutboxServiceStub,
            request=ops_service_pb2.ListUnmatchedEventsRequest(),
            records="unmatched_events",
            by_service=True,
        ),
    )


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


async def every_record(method: Any, request: Any, field: str, timeout_s: float) -> list[Any]:
    """Returns the records of all pages of a List method."""
    return [
        record
        async for page in pages(method, request, field, size=PAGE, timeout_s=timeout_s)
        for record in page
    ]


def grouped(records: Sequence[Any], field: str) -> dict[str, list[Any]]:
    """Returns the records grouped by the value of a field, in their order."""
    grouped: dict[str, list[Any]] = {}
    for record in records:
        grouped.setdefault(getattr(record, field), []).append(record)
    return grouped
