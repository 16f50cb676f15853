"""Pickers, carriers, inspectors of returns and a warehouse operator: they act on what the services
list, until they are cancelled.

The shopper's scenario determines the treatment of an order; orders of another run get the usual
one. Each request_id is made of the record's status and version (as in simulator.staff), so a second
call is a repeat.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.ops.v1 import ops_service_pb2
from ordermesh.order.v1 import return_pb2, return_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2

from chassis.values.errors import Failure
from omctl.names import method_name
from simulator.staff import AT_WORK, REPORTS, next_report, next_step
from tests.chaos.calls import Calls, GaveUp
from tests.chaos.scenarios import Afterwards, Picking, Scenario, Travel

LOOK_S: Final = 0.5
HANDS: Final = 24
PAGE: Final = 1000
CAME_BACK: Final = frozenset(
    {shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER, shipping_pb2.SHIPMENT_STATUS_VOIDED}
)
# The parts of a SHELF_SHORTAGE: each SKU's units, and the warehouse.
MISSING: Final = re.compile(r"([\w-]+): (\d+) shipped, \d+ sellable")
SHIPPED: Final = re.compile(r"A parcel left (\S+) after")
OPEN_RETURNS: Final = (
    return_pb2.RETURN_STATUS_REQUESTED,
    return_pb2.RETURN_STATUS_APPROVED,
    return_pb2.RETURN_STATUS_IN_TRANSIT,
    return_pb2.RETURN_STATUS_RECEIVED,
)


class Staff:
    """All staff. `scenarios` by order id, for the orders found so far."""

    def __init__(self, calls: Calls, scenarios: Mapping[str, Scenario]) -> None:
        self._calls, self._scenarios = calls, scenarios
        self._hands, self._busy = asyncio.Semaphore(HANDS), set[str]()

    async def run(self) -> None:
        """Works until it is cancelled."""
        calls = self._calls
        waiting = fulfillment_service_pb2.ListFulfillmentsRequest(page_size=PAGE, statuses=AT_WORK)
        travelling = shipping_service_pb2.ListShipmentsRequest(
            page_size=PAGE, statuses=list(REPORTS)
        )
        short = ops_service_pb2.ListFailedEventsRequest(
            filter=ops_service_pb2.FailedEventFilter(reason="SHELF_SHORTAGE")
        )
        coming = return_service_pb2.ListReturnsRequest(page_size=PAGE, statuses=OPEN_RETURNS)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._look(
                    group, calls.fulfillments.ListFulfillments, waiting, "fulfillment", self._pick
                )
            )
            group.create_task(
                self._look(group, calls.shipping.ListShipments, travelling, "shipment", self._carry)
            )
            group.create_task(
                self._look(group, calls.returns.ListReturns, coming, "return", self._take_back)
            )
            group.create_task(
                self._look(
                    group,
                    calls.warehouse_events.ListFailedEvents,
                    short,
                    "failed_event",
                    self._receive_missing,
                )
            )

    async def _look(
        self,
        group: asyncio.TaskGroup,
        method: Any,
        request: Message,
        what: str,
        work: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Lists open work repeatedly, and executes it."""
        while True:
            await asyncio.sleep(LOOK_S)  # the interval of polling
            try:
                found = getattr(await self._calls.ask(method, request), f"{what}s")
            except (GaveUp, Failure):
                continue  # Calls has recorded it
            for each in found:
                id = each.event_id if what == "failed_event" else getattr(each, f"{what}_id")
                if id not in self._busy:
                    self._busy.add(id)
                    group.create_task(self._do(id, work(each)))

    async def _do(self, id: str, work: Awaitable[None]) -> None:
        """Executes one step. Another worker may be faster, or the order cancelled: a refused step
        is read again.
        """
        try:
            async with self._hands:
                await work
        except (Failure, GaveUp):
            return  # Calls has recorded it
        finally:
            self._busy.discard(id)

    # --- in the warehouse

    async def _pick(self, work: fulfillment_pb2.Fulfillment) -> None:
        scenario = self._scenarios.get(work.order_id)
        while (step := _unlucky(work, scenario) or next_step(work)) is not None:
            method = getattr(self._calls.fulfillments, method_name(step))
            work = (await self._calls.ask(method, step)).fulfillment

    async def _receive_missing(self, event: ops_service_pb2.FailedEvent) -> None:
        """Follows the advice of a SHELF_SHORTAGE: receives the stock, and replays the event.

        The carrier reported a parcel after it had confirmed the void of its label, and the shelf
        has fewer units than the parcel.
        """
        [warehouse_id] = SHIPPED.findall(event.error)
        received = inventory_service_pb2.ReceiveStockRequest(
            request_id=_id(event.event_id, "ReceiveStock"),
            warehouse_id=warehouse_id,
            lines=[
                inventory_service_pb2.ReceivedLine(sku=sku, quantity=int(units))
                for sku, units in MISSING.findall(event.error)
            ],
        )
        await self._calls.ask(self._calls.inventory.ReceiveStock, received)
        replayed = ops_service_pb2.ReplayFailedEventRequest(
            request_id=_id(event.event_id, f"Replay@{event.attempts}"),
            consumer=event.consumer,
            event_id=event.event_id,
            digest=event.digest,
        )
        await self._calls.ask(self._calls.warehouse_events.ReplayFailedEvent, replayed)

    # --- carriers

    async def _carry(self, shipment: shipping_pb2.Shipment) -> None:
        scenario = self._scenarios.get(shipment.order_id)
        while (report := next_report(shipment)) is not None:
            if (ending := _ending(shipment, scenario)) is not None:
                report.status = ending
                report.carrier_event_id = f"{shipment.shipment_id}:{ending}"
                report.request_id = _id(shipment.shipment_id, f"{ending}@{shipment.version}")
            shipment = (
                await self._calls.ask(self._calls.shipping.RecordTrackingEvent, report)
            ).shipment

    # --- returns of goods

    async def _take_back(self, item: return_pb2.Return) -> None:
        scenario = self._scenarios.get(item.order_id)
        if item.kind == return_pb2.RETURN_KIND_RECALL and not await self._came_back(item.order_id):
            return
        if (
            scenario
            and scenario.afterwards is Afterwards.CALL_OFF
            and item.status == return_pb2.RETURN_STATUS_REQUESTED
        ):
            return  # the customer is about to cancel it
        while (step := _next_of_return(item, scenario)) is not None:
            method = getattr(self._calls.returns, method_name(step))
            item = (await self._calls.ask(method, step)).order_return

    async def _came_back(self, order_id: str) -> bool:
        listed = shipping_service_pb2.ListShipmentsRequest(order_id=order_id)
        shipments: Sequence[shipping_pb2.Shipment] = (
            await self._calls.ask(self._calls.shipping.ListShipments, listed)
        ).shipments
        return all(each.status in CAME_BACK for each in shipments)


def _unlucky(work: fulfillment_pb2.Fulfillment, scenario: Scenario | None) -> Message | None:
    """Returns the failing step of this fulfilment; None if all steps succeed."""
    if scenario is None:
        return None
    short = any(line.short_quantity for line in work.picklist)
    if (
        work.status == fulfillment_pb2.FULFILLMENT_STATUS_PICKING
        and scenario.picking is Picking.SHORT
        and not short
    ):
        return _short(work)
    spoiled = any(line.spoiled_quantity for line in work.picklist)
    if (
        work.status == fulfillment_pb2.FULFILLMENT_STATUS_PACKED
        and work.inspection_required
        and scenario.picking is Picking.SPOILED
        and not spoiled
    ):
        line = next(line for line in work.picklist if line.picked_quantity)
        return fulfillment_service_pb2.RecordInspectionRequest(
            request_id=_id(work.fulfillment_id, f"RecordInspection@{work.version}"),
            fulfillment_id=work.fulfillment_id,
            passed=False,
            note="a dent",
            spoiled=[
                fulfillment_service_pb2.SpoiledUnits(line_number=line.line_number, quantity=1)
            ],
        )
    return None


def _short(work: fulfillment_pb2.Fulfillment) -> Message | None:
    """Returns all units but the last of the picklist."""
    open_lines = [line for line in work.picklist if line.quantity > line.picked_quantity]
    if not open_lines:
        return None
    last = open_lines[-1]
    missing = {
        line.line_number: line.quantity - line.picked_quantity - (line is last)
        for line in open_lines
    }
    scans = [
        fulfillment_service_pb2.Scan(sku=line.sku, quantity=units)
        for line in open_lines
        if (units := missing[line.line_number])
    ]
    if scans:
        return fulfillment_service_pb2.ScanItemRequest(
            request_id=_id(work.fulfillment_id, f"ScanItem@{work.version}"),
            fulfillment_id=work.fulfillment_id,
            scans=scans,
        )
    return fulfillment_service_pb2.CompletePickingRequest(
        request_id=_id(work.fulfillment_id, f"CompletePicking@{work.version}"),
        fulfillment_id=work.fulfillment_id,
        short_line_numbers=[last.line_number],
    )


def _ending(
    shipment: shipping_pb2.Shipment, scenario: Scenario | None
) -> shipping_pb2.ShipmentStatus.ValueType | None:
    """Returns how the parcel ends other than by its delivery; None while it does not."""
    if shipment.status != shipping_pb2.SHIPMENT_STATUS_IN_TRANSIT:
        return None
    if shipment.HasField("recall_time"):
        return shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER
    if scenario and scenario.travel is Travel.LOST:
        return shipping_pb2.SHIPMENT_STATUS_LOST
    if scenario and scenario.travel is Travel.RETURNED:
        return shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER
    return None


def _next_of_return(item: return_pb2.Return, scenario: Scenario | None) -> Message | None:
    number = scenario.number if scenario else 0
    match item.status:
        case return_pb2.RETURN_STATUS_REQUESTED:
            if number % 10 == 9:
                return return_service_pb2.RejectReturnRequest(
                    request_id=_of(item, "reject"), return_id=item.return_id
                )
            return return_service_pb2.ApproveReturnRequest(
                request_id=_of(item, "approve"), return_id=item.return_id
            )
        case return_pb2.RETURN_STATUS_APPROVED if number % 2:
            return return_service_pb2.MarkReturnInTransitRequest(
                request_id=_of(item, "transit"), return_id=item.return_id
            )
        case return_pb2.RETURN_STATUS_APPROVED | return_pb2.RETURN_STATUS_IN_TRANSIT:
            arrived = [
                return_service_pb2.ReceivedReturnLine(
                    line_number=line.line_number, quantity=line.announced_quantity
                )
                for line in item.lines
                if line.announced_quantity
            ]
            return return_service_pb2.ReceiveReturnRequest(
                request_id=_of(item, "receive"),
                return_id=item.return_id,
                warehouse_id=("london", "paris")[number % 2],
                lines=arrived,
            )
        case return_pb2.RETURN_STATUS_RECEIVED:
            looked_at = [_inspected(line, number) for line in item.lines if _unseen(line)]
            return return_service_pb2.InspectReturnRequest(
                request_id=_of(item, "inspect"), return_id=item.return_id, lines=looked_at
            )
    return None


def _unseen(line: return_pb2.ReturnLine) -> int:
    return (
        line.received_quantity
        - line.passed_quantity
        - line.failed_quantity
        - line.written_off_quantity
    )


def _inspected(line: return_pb2.ReturnLine, number: int) -> return_service_pb2.InspectedReturnLine:
    """One unit of every third return is damaged, and sometimes by the customer."""
    failed = 1 if number % 3 == 0 else 0
    return return_service_pb2.InspectedReturnLine(
        line_number=line.line_number,
        passed_quantity=_unseen(line) - failed,
        failed_quantity=failed,
        unrefunded_quantity=1 if number % 6 == 0 else 0,
    )


def _of(item: return_pb2.Return, step: str) -> str:
    return _id(item.return_id, f"{step}@{item.version}")


def _id(id: str, step: str) -> str:
    return str(uuid5(UUID(id), step))
