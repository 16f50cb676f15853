"""The five services in memory, which answer at once, with faults that a test sets. No tests
here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from google.protobuf.message import Message
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2, warehouse_pb2

from chassis.values.errors import Failure, NotFound
from chassis.values.money import from_message
from omctl.names import method_name
from simulator.requests import pence
from simulator.services import Services
from simulator.totals import worth
from simulator.world import World

AFTER = {
    "StartPicking": "PICKING",
    "CompletePicking": "PICKED",
    "StartPacking": "PACKING",
    "PackFulfillment": "READY",
}


class SilentBroker:
    """A broker without a connection."""

    answers = False
    generation = 0

    @property
    def client(self) -> Any:
        """Returns None: there is no connection."""
        raise ConnectionError("no broker")


def ordered_total(request: order_service_pb2.CreateOrderRequest) -> int:
    """Returns the total of an order, in pence."""
    total = sum(from_message(item.unit_price).minor * item.quantity for item in request.items)
    total += (
        from_message(request.shipping_amount).minor if request.HasField("shipping_amount") else 0
    )
    total -= (
        from_message(request.discount_amount).minor if request.HasField("discount_amount") else 0
    )
    return total


def ordered_items(
    request: order_service_pb2.CreateOrderRequest,
) -> list[order_pb2.OrderItem]:
    """Returns the lines of an order. The first unit has all of the discount."""
    items = [
        order_pb2.OrderItem(
            line_number=n,
            sku=item.sku,
            quantity=item.quantity,
            unit_shares=[order_pb2.UnitShare(quantity=item.quantity, amount=item.unit_price)],
        )
        for n, item in enumerate(request.items, 1)
    ]
    if request.HasField("discount_amount"):
        [share] = items[0].unit_shares
        less = from_message(share.amount).minor - from_message(request.discount_amount).minor
        del items[0].unit_shares[:]
        items[0].unit_shares.extend(
            [
                order_pb2.UnitShare(quantity=1, amount=pence(less)),
                order_pb2.UnitShare(quantity=share.quantity - 1, amount=share.amount),
            ]
        )
    return items


class Shop(Services):
    """Replaces the services: `ask` answers at once. One warehouse serves every order.

    failures  raised by the next calls of a method, in turn
    uncommitted  the stock of new orders is not committed, until a test does it
    unconfirmed  no payment confirms an order
    unrefunded  returned units are inspected, and not refunded
    """

    def __init__(self) -> None:
        names: Any = _Names()  # the simulator reads only the names of a stub's methods
        self.orders = self.returns = self.inventory = names
        self.fulfillments = self.shipping = self.payments = names
        self.troubles = Counter()
        self.calls: Counter[str] = Counter()
        self.failures: dict[str, list[Failure]] = {}
        self.uncommitted = self.unconfirmed = False
        self.placed: dict[str, order_pb2.Order] = {}
        self.by_request: dict[str, str] = {}
        self.received: dict[str, inventory_service_pb2.ReceiveStockRequest] = {}
        self.captured: dict[str, int] = {}
        self.works: dict[str, fulfillment_pb2.Fulfillment] = {}
        self.parcels: dict[str, shipping_pb2.Shipment] = {}
        self.sent_back: dict[str, return_pb2.Return] = {}
        self.refunded: Counter[str] = Counter()
        self.unrefunded = False

    async def ask(
        self, method: Any, request: Message, *, wait_s: float = 0.0, timeout_s: float = 1.0
    ) -> Any:
        """Answers as the contract defines, in its main features."""
        name = method_name(request)
        assert method == name
        self.calls[name] += 1
        await asyncio.sleep(0)
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        return getattr(self, f"_{name}", self._step)(request)

    def _repeated(self, request: Any) -> bool:
        """Whether the request is a repeat."""
        known = request.request_id in self.by_request
        self.by_request.setdefault(request.request_id, "")
        return known

    # --- orders

    def _CreateOrder(self, request: order_service_pb2.CreateOrderRequest) -> Any:
        if request.request_id not in self.by_request:
            order_id = str(uuid5(NAMESPACE_OID, request.request_id))
            self.by_request[request.request_id] = order_id
            total = ordered_total(request)
            self.placed[order_id] = order_pb2.Order(
                order_id=order_id,
                order_number=f"OM-{len(self.placed)}",
                items=ordered_items(request),
                total_amount=pence(total),
            )
            self._move(order_id, "PENDING")
            answer = order_service_pb2.CreateOrderResponse(order=self.placed[order_id])
            if total == 0:
                self._confirm(order_id)  # automatic, after the answer
            return answer
        return order_service_pb2.CreateOrderResponse(
            order=self.placed[self.by_request[request.request_id]]
        )

    def _GetOrder(self, request: order_service_pb2.GetOrderRequest) -> Any:
        if request.order_id not in self.placed:
            raise NotFound("ORDER_NOT_FOUND")
        return order_service_pb2.GetOrderResponse(order=self.placed[request.order_id])

    def _BatchGetOrders(self, request: order_service_pb2.BatchGetOrdersRequest) -> Any:
        if set(request.order_ids) - set(self.placed):
            raise NotFound("ORDER_NOT_FOUND")
        return order_service_pb2.BatchGetOrdersResponse(
            orders=[self.placed[order_id] for order_id in request.order_ids]
        )

    def _move(self, order_id: str, status: str) -> None:
        order = self.placed[order_id]
        order.status, order.version = (
            order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}"),
            order.version + 1,
        )

    def _confirm(self, order_id: str) -> None:
        if self.unconfirmed:
            return
        self._move(order_id, "CONFIRMED")
        self._move(order_id, "PROCESSING")
        lines = [
            fulfillment_pb2.PicklistLine(
                line_number=item.line_number, sku=item.sku, quantity=item.quantity
            )
            for item in self.placed[order_id].items
        ]
        self.works[order_id] = fulfillment_pb2.Fulfillment(
            fulfillment_id=order_id,
            order_id=order_id,
            warehouse_id="london-1",
            status=fulfillment_pb2.FULFILLMENT_STATUS_PLANNING,
            stock_committed=not self.uncommitted,
            picklist=lines,
            version=1,
        )

    # --- money and stock

    def _CreatePayment(self, request: payment_service_pb2.CreatePaymentRequest) -> Any:
        if request.order_id not in self.captured:
            self.captured[request.order_id] = from_message(
                self.placed[request.order_id].total_amount
            ).minor
            self._confirm(request.order_id)
        return payment_service_pb2.CreatePaymentResponse()

    def _ListPayments(self, request: payment_service_pb2.ListPaymentsRequest) -> Any:
        captured = payment_pb2.Payment(
            status=payment_pb2.PAYMENT_STATUS_CAPTURED,
            captured_amount=pence(self.captured.get(request.order_id, 0)),
            refunded_amount=pence(self.refunded[request.order_id]),
        )
        return payment_service_pb2.ListPaymentsResponse(
            payments=[captured] if request.order_id in self.captured else []
        )

    def _ReceiveStock(self, request: inventory_service_pb2.ReceiveStockRequest) -> Any:
        self.received[request.request_id] = request
        return inventory_service_pb2.ReceiveStockResponse()

    def _ListStockMovements(self, request: inventory_service_pb2.ListStockMovementsRequest) -> Any:
        """Returns one row a page, so that a reader of one page fails."""
        if list(request.kinds) == [warehouse_pb2.STOCK_MOVEMENT_KIND_RESTOCK]:
            back = [
                order_return
                for order_return in self.sent_back.values()
                if order_return.order_id == request.order_id
            ]
            moved = [
                warehouse_pb2.StockMovement(quantity=line.passed_quantity)
                for order_return in back
                for line in order_return.lines
            ]
            return inventory_service_pb2.ListStockMovementsResponse(stock_movements=moved)
        assert list(request.kinds) == [warehouse_pb2.STOCK_MOVEMENT_KIND_SHIP]
        rows = [
            warehouse_pb2.StockMovement(quantity=line.quantity)
            for work in self.works.values()
            if work.order_id == request.order_id
            and work.status == fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED
            for line in work.picklist
        ]
        place = int(request.page_token or 0)
        more = str(place + 1) if place + 1 < len(rows) else ""
        return inventory_service_pb2.ListStockMovementsResponse(
            stock_movements=rows[place : place + 1], next_page_token=more
        )

    # --- goods

    def _ListFulfillments(self, request: fulfillment_service_pb2.ListFulfillmentsRequest) -> Any:
        found = [
            work
            for work in self.works.values()
            if (not request.HasField("order_id") or work.order_id == request.order_id)
            and (not request.statuses or work.status in request.statuses)
        ]
        return fulfillment_service_pb2.ListFulfillmentsResponse(fulfillments=found)

    def _step(self, request: Any) -> Any:
        """Any step of the warehouse's staff; a repeat changes nothing."""
        work, name = self.works[request.fulfillment_id], method_name(request)
        if self._repeated(request):
            return fulfillment_service_pb2.StartPickingResponse(fulfillment=work)
        work.version += 1
        if name == "ScanItem":
            for line in work.picklist:
                line.picked_quantity = line.quantity
        else:
            work.status = fulfillment_pb2.FulfillmentStatus.Value(
                f"FULFILLMENT_STATUS_{AFTER[name]}"
            )
        if work.status == fulfillment_pb2.FULFILLMENT_STATUS_READY:
            work.status = fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED
            self._move(work.order_id, "SHIPPED")
            self.parcels[work.order_id] = shipping_pb2.Shipment(
                # every resource has its own id
                shipment_id=str(uuid5(NAMESPACE_OID, f"shipment of {work.order_id}")),
                order_id=work.order_id,
                status=shipping_pb2.SHIPMENT_STATUS_CREATED,
                tracking_number=work.order_id,
                version=1,
            )
        return fulfillment_service_pb2.StartPickingResponse(fulfillment=work)

    def _ListShipments(self, request: shipping_service_pb2.ListShipmentsRequest) -> Any:
        found = [
            parcel
            for parcel in self.parcels.values()
            if (not request.HasField("order_id") or parcel.order_id == request.order_id)
            and (not request.statuses or parcel.status in request.statuses)
        ]
        return shipping_service_pb2.ListShipmentsResponse(shipments=found)

    def _RecordTrackingEvent(self, request: shipping_service_pb2.RecordTrackingEventRequest) -> Any:
        parcel = self.parcels[request.tracking_number]
        if self._repeated(request):
            return shipping_service_pb2.RecordTrackingEventResponse(shipment=parcel)
        parcel.status, parcel.version = request.status, parcel.version + 1
        if request.status == shipping_pb2.SHIPMENT_STATUS_DELIVERED:
            self._move(parcel.order_id, "DELIVERED")
        return shipping_service_pb2.RecordTrackingEventResponse(shipment=parcel)

    # --- returns of goods

    def _CreateReturn(self, request: return_service_pb2.CreateReturnRequest) -> Any:
        if not self._repeated(request):
            order = self.placed[request.order_id]
            return_id = str(uuid5(NAMESPACE_OID, f"return {request.request_id}"))
            self.by_request[request.request_id] = return_id
            lines = [
                return_pb2.ReturnLine(
                    line_number=line.line_number,
                    sku=order.items[line.line_number - 1].sku,
                    announced_quantity=line.quantity,
                )
                for line in request.lines
            ]
            self.sent_back[return_id] = return_pb2.Return(
                return_id=return_id,
                order_id=request.order_id,
                kind=return_pb2.RETURN_KIND_CUSTOMER,
                status=return_pb2.RETURN_STATUS_REQUESTED,
                lines=lines,
                version=1,
            )
        return return_service_pb2.CreateReturnResponse(
            order_return=self.sent_back[self.by_request[request.request_id]]
        )

    def _to(self, request: Any, status: str) -> return_pb2.Return:
        order_return = self.sent_back[request.return_id]
        order_return.status, order_return.version = (
            return_pb2.ReturnStatus.Value(f"RETURN_STATUS_{status}"),
            order_return.version + 1,
        )
        return order_return

    def _ApproveReturn(self, request: return_service_pb2.ApproveReturnRequest) -> Any:
        return return_service_pb2.ApproveReturnResponse(order_return=self._to(request, "APPROVED"))

    def _ReceiveReturn(self, request: return_service_pb2.ReceiveReturnRequest) -> Any:
        order_return = self._to(request, "RECEIVED")
        for line, arrived in zip(order_return.lines, request.lines, strict=True):
            line.received_quantity = arrived.quantity
        return return_service_pb2.ReceiveReturnResponse(order_return=order_return)

    def _InspectReturn(self, request: return_service_pb2.InspectReturnRequest) -> Any:
        order_return, order = (
            self._to(request, "INSPECTED"),
            self.placed[self.sent_back[request.return_id].order_id],
        )
        for line, good in zip(order_return.lines, request.lines, strict=True):
            line.passed_quantity = good.passed_quantity
            item = order.items[line.line_number - 1]
            before = worth(item.unit_shares, item.returned_quantity)
            item.returned_quantity += good.passed_quantity
            if order_return.kind == return_pb2.RETURN_KIND_CUSTOMER and not self.unrefunded:
                self.refunded[order.order_id] += (
                    worth(item.unit_shares, item.returned_quantity) - before
                )
        if self.refunded[order.order_id] == self.captured.get(order.order_id, -1):
            self._move(order.order_id, "REFUNDED")
        return return_service_pb2.InspectReturnResponse(order_return=order_return)

    def _GetReturn(self, request: return_service_pb2.GetReturnRequest) -> Any:
        """The return is closed one read after its inspection."""
        answer = return_service_pb2.GetReturnResponse(
            order_return=self.sent_back[request.return_id]
        )
        if not self.unrefunded:
            self._to(request, "CLOSED")
        return answer

    def _ListReturns(self, request: return_service_pb2.ListReturnsRequest) -> Any:
        found = [
            order_return
            for order_return in self.sent_back.values()
            if (not request.HasField("order_id") or order_return.order_id == request.order_id)
            and order_return.status in request.statuses
        ]
        return return_service_pb2.ListReturnsResponse(returns=found)


class _Names:
    """Stubs whose methods are their names."""

    def __getattr__(self, name: str) -> str:
        return name


@asynccontextmanager
async def living(world: World) -> AsyncIterator[World]:
    """Runs the world inside."""
    broker: Any = SilentBroker()
    background = asyncio.create_task(world.run(broker))
    try:
        yield world
    finally:
        background.cancel()
        await asyncio.wait([background])
        assert background.cancelled(), background.exception()
