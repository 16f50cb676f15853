"""Consumes events in the background, takes the steps of pickers and carriers, and tracks orders.

Orders without an event for some seconds are polled, so a lost event blocks no order. A step may be
taken twice (see staff.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY

from chassis.broker.stream import Broker
from chassis.broker.subscribe import EventCallback, subscribe
from chassis.values.errors import Failure, NotFound
from simulator.returns import AT_DESK, take_back
from simulator.services import Services, reason
from simulator.staff import AT_WORK, REPORTS, next_report, next_step

# Statuses after which no step of an order follows.
ENDS: Final[frozenset[int]] = frozenset(
    {
        order_pb2.ORDER_STATUS_DELIVERED,
        order_pb2.ORDER_STATUS_CANCELLED,
        order_pb2.ORDER_STATUS_REFUNDED,
        order_pb2.ORDER_STATUS_FAILED,
    }
)
PAGE: Final = 1_000  # the most records that a List method returns in a page
LOOK_MAX: Final = 100  # orders in one BatchGetOrders
LOOK_S: Final = 1.0
SILENT_S: Final = 2.0
HANDS: Final = 32


@dataclass(slots=True, kw_only=True)
class Followed:
    """An order that a shopper waits for, in its last known status. `times` is when each status was
    received, in monotonic seconds.
    """

    order_id: str
    status: int = order_pb2.ORDER_STATUS_UNSPECIFIED
    version: int = 0
    updated_at: float = 0.0
    times: dict[int, float] = field(default_factory=dict)
    trouble: str = ""  # the last failure of a step for it
    lost: bool = False  # the order service acknowledged it and no longer has it
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, status: int, version: int) -> None:
        """Stores the order's status, unless the version is not higher than the stored one."""
        if version <= self.version:
            return
        self.status, self.version, self.updated_at = status, version, time.monotonic()
        self.times.setdefault(status, self.updated_at)
        if status in ENDS:
            self.ended.set()

    def mark_lost(self) -> None:
        """Marks the order as lost: the order service no longer has it."""
        self.lost = True
        self.ended.set()


class World:
    """Simulates pickers and carriers, and tracks the followed orders.

    With `all_orders` the staff work for all orders, otherwise only for the followed ones.
    """

    def __init__(self, services: Services, *, all_orders: bool = False) -> None:
        """Every LOOK_S seconds, polls orders without an event for SILENT_S seconds. At most HANDS
        steps run concurrently.
        """
        self.services, self.all_orders = services, all_orders
        self._hands = asyncio.Semaphore(HANDS)
        self._followed: dict[str, Followed] = {}
        self._busy: set[str] = set()
        self._group = asyncio.TaskGroup()

    def follow(self, order: order_pb2.Order) -> Followed:
        """Follows the order until it ends."""
        followed = Followed(order_id=order.order_id)
        followed.update(order.status, order.version)
        if not followed.ended.is_set():
            self._followed[order.order_id] = followed
        return followed

    async def run(self, broker: Broker) -> None:
        """Works until it is cancelled."""
        callbacks: dict[type[Message], EventCallback] = {
            order_events_pb2.OrderStatusChanged: self._on_order_status,
            fulfillment_events_pb2.FulfillmentStatusChanged: self._on_fulfillment_status,
            shipping_events_pb2.ShipmentCreated: self._on_shipment,
            shipping_events_pb2.ShipmentStatusChanged: self._on_shipment,
        }
        async with self._group as group:
            group.create_task(subscribe(broker, callbacks))
            group.create_task(self._poll_forever(broker))

    # --- events

    def _on_order_status(self, event: order_events_pb2.OrderStatusChanged) -> None:
        if followed := self._followed.get(event.order_id):
            followed.update(event.new_status, event.order_version)
            if followed.ended.is_set():
                del self._followed[event.order_id]

    def _on_fulfillment_status(
        self, event: fulfillment_events_pb2.FulfillmentStatusChanged
    ) -> None:
        # The simulated staff take the later steps: their events carry no new information.
        if event.new_status == fulfillment_pb2.FULFILLMENT_STATUS_PLANNING:
            self._take_up(event.fulfillment)

    def _on_shipment(
        self, event: shipping_events_pb2.ShipmentCreated | shipping_events_pb2.ShipmentStatusChanged
    ) -> None:
        # Of the changes only a recall matters: the simulated carrier has reported the others.
        if isinstance(event, shipping_events_pb2.ShipmentCreated) or event.shipment.HasField(
            "recall_time"
        ):
            self._carry(event.shipment)

    # --- steps

    def _take_up(self, work: fulfillment_pb2.Fulfillment) -> None:
        services = self.services
        steps = partial(services.take_steps, services.fulfillments, work, next_step, "fulfillment")
        self._start(work.fulfillment_id, work.order_id, steps)

    def _carry(self, shipment: shipping_pb2.Shipment) -> None:
        services = self.services
        steps = partial(services.take_steps, services.shipping, shipment, next_report, "shipment")
        self._start(shipment.shipment_id, shipment.order_id, steps)

    def _start(self, id: str, order_id: str, work: Callable[[], Awaitable[object]]) -> None:
        """Runs `work` in the background, unless it runs already or the order is not followed."""
        if id in self._busy or not (self.all_orders or order_id in self._followed):
            return
        self._busy.add(id)
        self._group.create_task(self._do(id, order_id, work))

    async def _do(self, id: str, order_id: str, work: Callable[[], Awaitable[object]]) -> None:
        """Takes the steps. Stores a failure; the next poll tries again."""
        try:
            async with self._hands:
                await work()
        except Failure as failure:
            if followed := self._followed.get(order_id):
                followed.trouble = f"{reason(failure)}: {failure}"
        finally:
            self._busy.discard(id)

    async def _fetch_back(self, item: return_pb2.Return) -> None:
        """Takes the steps of a recall, for goods of cancelled orders and units, when no parcel is
        in transit.
        """
        listed = shipping_service_pb2.ListShipmentsRequest(page_size=PAGE, order_id=item.order_id)
        shipments = (
            await self.services.ask(self.services.shipping.ListShipments, listed)
        ).shipments
        if not any(shipment.status in REPORTS for shipment in shipments):
            await take_back(self.services, item)

    # --- polling

    async def _poll_forever(self, broker: Broker) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            # Without a broker, every order is polled.
            silent_s = SILENT_S if broker.answers else 0.0
            silent = [
                each
                for each in self._followed.values()
                if time.monotonic() - each.updated_at >= silent_s
            ]
            work_of = [None] if self.all_orders else [each.order_id for each in silent]
            looks = [*map(self._look_for_work, work_of), *map(self._look_at, batched(silent))]
            # Services counts a failed poll, and the next one follows.
            for fault in await asyncio.gather(*looks, return_exceptions=True):
                if fault is not None and not isinstance(fault, Failure):
                    raise fault

    async def _look_at(self, silent: Sequence[Followed]) -> None:
        """Reads the status of these orders."""
        request = order_service_pb2.BatchGetOrdersRequest(
            order_ids=[each.order_id for each in silent], view=VIEW_SUMMARY
        )
        try:
            found = {
                order.order_id: order
                for order in (
                    await self.services.ask(self.services.orders.BatchGetOrders, request)
                ).orders
            }
        except NotFound:
            if len(silent) > 1:
                for each in silent:  # BatchGetOrders returns all or none
                    await self._look_at([each])
                return
            silent[0].mark_lost()
        else:
            for each in silent:
                each.update(found[each.order_id].status, found[each.order_id].version)
        for each in silent:
            if each.ended.is_set():
                self._followed.pop(each.order_id, None)

    async def _look_for_work(self, order_id: str | None) -> None:
        """Starts the steps that one order, or all, wait for. One page is enough: work that is done
        leaves the list, and the next poll follows.
        """
        waiting = fulfillment_service_pb2.ListFulfillmentsRequest(
            page_size=PAGE, order_id=order_id, statuses=AT_WORK
        )
        for work in (
            await self.services.ask(self.services.fulfillments.ListFulfillments, waiting)
        ).fulfillments:
            self._take_up(work)
        under_way = shipping_service_pb2.ListShipmentsRequest(
            page_size=PAGE, order_id=order_id, statuses=list(REPORTS)
        )
        for shipment in (
            await self.services.ask(self.services.shipping.ListShipments, under_way)
        ).shipments:
            self._carry(shipment)
        coming = return_service_pb2.ListReturnsRequest(
            page_size=PAGE, order_id=order_id, statuses=AT_DESK
        )
        for item in (await self.services.ask(self.services.returns.ListReturns, coming)).returns:
            if item.kind == return_pb2.RETURN_KIND_RECALL:
                self._start(item.return_id, item.order_id, partial(self._fetch_back, item))


def batched(orders: Sequence[Followed]) -> Iterator[Sequence[Followed]]:
    """Yields the orders in groups of at most LOOK_MAX, to bound the size of an answer."""
    return (orders[start : start + LOOK_MAX] for start in range(0, len(orders), LOOK_MAX))
