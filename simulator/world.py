"""What goes on in the background: events are heard, pickers and carriers work, and whoever waits
for an order is told.

Events make it quick, and looking makes it sure: what no event tells of within seconds is looked up,
so that a lost event strands nothing. Every step may be taken twice (see staff.py).
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
from simulator.services import Services, reason, verb
from simulator.staff import AT_WORK, REPORTS, next_report, next_step

# Nothing more is to be expected of an order that stands there.
ENDS: Final[frozenset[int]] = frozenset(
    {
        order_pb2.ORDER_STATUS_DELIVERED,
        order_pb2.ORDER_STATUS_CANCELLED,
        order_pb2.ORDER_STATUS_REFUNDED,
        order_pb2.ORDER_STATUS_FAILED,
    }
)
PAGE: Final = 1_000  # as much as a list method gives at once
LOOK_MAX: Final = 100  # orders that are asked for at once


@dataclass(slots=True)
class Followed:
    """An order that somebody waits for, as last heard of; `times`: when each status was heard
    of, in monotonic seconds of this process.
    """

    order_id: str
    status: int = order_pb2.ORDER_STATUS_UNSPECIFIED
    version: int = 0
    heard: float = 0.0
    times: dict[int, float] = field(default_factory=dict)
    trouble: str = ""  # the last failure of a step that was taken for it
    lost: bool = False  # it was acknowledged, and the service does not know it any more
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, status: int, version: int) -> None:
        """Takes in where the order stands; older news is no news."""
        if version <= self.version:
            return
        self.status, self.version, self.heard = status, version, time.monotonic()
        self.times.setdefault(status, self.heard)
        if status in ENDS:
            self.ended.set()

    def lose(self) -> None:
        """The service says that there is no such order."""
        self.lost = True
        self.ended.set()


class World:
    """Pickers, carriers, and those who wait. `everybody`: work for all orders there are, and not
    only for those that are followed.
    """

    def __init__(
        self,
        services: Services,
        *,
        everybody: bool = False,
        look_s: float = 1.0,
        silent_s: float = 2.0,
        hands: int = 32,
    ) -> None:
        """Looks every `look_s` seconds for what has not been heard of for `silent_s`; `hands`
        work at once.
        """
        self.services, self.everybody = services, everybody
        self._look_s, self._silent_s = look_s, silent_s
        self._hands = asyncio.Semaphore(hands)
        self._followed: dict[str, Followed] = {}
        self._busy: set[str] = set()
        self._group = asyncio.TaskGroup()

    def follow(self, order: order_pb2.Order) -> Followed:
        """Follows the order until it ends."""
        followed = Followed(order.order_id)
        followed.hear(order.status, order.version)
        if not followed.ended.is_set():
            self._followed[order.order_id] = followed
        return followed

    async def run(self, broker: Broker) -> None:
        """Works until it is cancelled."""
        callbacks: dict[type[Message], EventCallback] = {
            order_events_pb2.OrderStatusChanged: self._hear_order,
            fulfillment_events_pb2.FulfillmentStatusChanged: self._hear_fulfillment,
            shipping_events_pb2.ShipmentCreated: self._hear_shipment,
            shipping_events_pb2.ShipmentStatusChanged: self._hear_shipment,
        }
        async with self._group as group:
            group.create_task(subscribe(broker, callbacks))
            group.create_task(self._look_forever(broker))

    # --- what is heard

    def _hear_order(self, event: order_events_pb2.OrderStatusChanged) -> None:
        if followed := self._followed.get(event.order_id):
            followed.hear(event.new_status, event.order_version)
            if followed.ended.is_set():
                del self._followed[event.order_id]

    def _hear_fulfillment(self, event: fulfillment_events_pb2.FulfillmentStatusChanged) -> None:
        # The later steps are those that the work itself takes: their events bring nothing new.
        if event.new_status == fulfillment_pb2.FULFILLMENT_STATUS_PLANNING:
            self._take_up(event.fulfillment)

    def _hear_shipment(
        self, event: shipping_events_pb2.ShipmentCreated | shipping_events_pb2.ShipmentStatusChanged
    ) -> None:
        # Of the changes only a recall is news: the others are what the carrier itself has reported.
        if isinstance(event, shipping_events_pb2.ShipmentCreated) or event.shipment.HasField(
            "recall_time"
        ):
            self._carry(event.shipment)

    # --- what is done

    def _take_up(self, work: fulfillment_pb2.Fulfillment) -> None:
        self._start(work.fulfillment_id, work.order_id, lambda: self._pick(work))

    def _carry(self, shipment: shipping_pb2.Shipment) -> None:
        self._start(shipment.shipment_id, shipment.order_id, lambda: self._report(shipment))

    def _start(self, id: str, order_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """Works on it in the background, unless somebody does already, or it is none of ours."""
        if id in self._busy or not (self.everybody or order_id in self._followed):
            return
        self._busy.add(id)
        self._group.create_task(self._do(id, order_id, work))

    async def _do(self, id: str, order_id: str, work: Callable[[], Awaitable[None]]) -> None:
        """A step that fails is remembered, and taken again when next looked at."""
        try:
            async with self._hands:
                await work()
        except Failure as failure:
            if followed := self._followed.get(order_id):
                followed.trouble = f"{reason(failure)}: {failure}"
        finally:
            self._busy.discard(id)

    async def _pick(self, work: fulfillment_pb2.Fulfillment) -> None:
        while (step := next_step(work)) is not None:
            method = getattr(self.services.fulfillments, verb(step))
            work = (await self.services.ask(method, step)).fulfillment

    async def _report(self, shipment: shipping_pb2.Shipment) -> None:
        while (report := next_report(shipment)) is not None:
            shipment = (
                await self.services.ask(self.services.shipping.RecordTrackingEvent, report)
            ).shipment

    async def _fetch_back(self, its: return_pb2.Return) -> None:
        """Takes back what nobody has asked to return: goods of cancelled orders and units, once
        all parcels have come to rest.
        """
        listed = shipping_service_pb2.ListShipmentsRequest(page_size=PAGE, order_id=its.order_id)
        shipments = (
            await self.services.ask(self.services.shipping.ListShipments, listed)
        ).shipments
        if not any(shipment.status in REPORTS for shipment in shipments):
            await take_back(self.services, its)

    # --- what is looked for

    async def _look_forever(self, broker: Broker) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            # Where nothing can be heard, all are silent.
            silent_s = self._silent_s if broker.answers else 0.0
            silent = [
                each
                for each in self._followed.values()
                if time.monotonic() - each.heard >= silent_s
            ]
            work_of = [None] if self.everybody else [each.order_id for each in silent]
            looks = [*map(self._look_for_work, work_of), *map(self._look_at, batched(silent))]
            # A look that fails is counted by Services, and the next one comes soon.
            for fault in await asyncio.gather(*looks, return_exceptions=True):
                if fault is not None and not isinstance(fault, Failure):
                    raise fault

    async def _look_at(self, silent: Sequence[Followed]) -> None:
        """How far these orders are."""
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
                for each in silent:  # all or none: one by one, then
                    await self._look_at([each])
                return
            silent[0].lose()
        else:
            for each in silent:
                each.hear(found[each.order_id].status, found[each.order_id].version)
        for each in silent:
            if each.ended.is_set():
                self._followed.pop(each.order_id, None)

    async def _look_for_work(self, order_id: str | None) -> None:
        """What waits for hands, of one order or of all. One page is enough: what is done leaves
        it, and the next look comes soon.
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
        for its in (await self.services.ask(self.services.returns.ListReturns, coming)).returns:
            if its.kind == return_pb2.RETURN_KIND_RECALL:
                self._start(its.return_id, its.order_id, partial(self._fetch_back, its))


def batched(orders: Sequence[Followed]) -> Iterator[Sequence[Followed]]:
    """As many at once as make an answer of a reasonable size."""
    return (orders[start : start + LOOK_MAX] for start in range(0, len(orders), LOOK_MAX))
