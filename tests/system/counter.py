"""A shop's counter over the five services: the test moves customers, staff and carriers step by
step, and checks that all records agree afterwards.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.order.v1 import order_pb2, order_service_pb2, return_pb2, return_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.order.v1.return_service_pb2_grpc import ReturnServiceStub
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import inventory_service_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub

from chassis.rpc.client import ask, connect
from chassis.values.errors import Deferred, Refused
from devstack.stack import Stack
from omctl.audit.audit import differences
from omctl.audit.facts import FactsReader
from omctl.names import method_name
from simulator.staff import next_step
from tests.facts import complete
from tests.support import eventually

TIMEOUT_S = 60.0
RECIPIENT = order_pb2.Recipient(
    name="Ada Example", address_lines=["1 Test Street"], locality="London", country_code="GB"
)
PENNIES = 250  # a unit's price
RECEIVED = 10
WAREHOUSES = ("london", "paris")

COMING = frozenset(
    {
        return_pb2.RETURN_STATUS_REQUESTED,
        return_pb2.RETURN_STATUS_APPROVED,
        return_pb2.RETURN_STATUS_IN_TRANSIT,
    }
)


@contextmanager
def retrying() -> Iterator[None]:
    """Inside `eventually`: repeats a call that a service defers, because a slow machine is not the
    subject of the test.
    """
    try:
        yield
    except Deferred as error:
        raise AssertionError(repr(error)) from error


@dataclass
class Counter:
    """A shop's counter: its own SKUs, one in each of two warehouses, and the steps of the staff for
    its orders.
    """

    channels: dict[str, Any]
    skus: list[str] = field(
        default_factory=lambda: [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("lamp", "bulb")]
    )

    def __post_init__(self) -> None:
        self.orders, self.returns = (
            OrderServiceStub(self.channels["order"]),
            ReturnServiceStub(self.channels["order"]),
        )
        self.inventory, self.payments = (
            InventoryServiceStub(self.channels["warehouse"]),
            PaymentServiceStub(self.channels["payment"]),
        )
        self.fulfillments = FulfillmentServiceStub(self.channels["fulfillment"])
        self.shipping = ShippingServiceStub(self.channels["shipping"])

    async def stock(self) -> None:
        for warehouse, sku in zip(WAREHOUSES, self.skus, strict=True):
            line = inventory_service_pb2.ReceivedLine(sku=sku, quantity=RECEIVED)
            request = inventory_service_pb2.ReceiveStockRequest(
                request_id=new(), warehouse_id=warehouse, lines=[line]
            )
            await ask(self.inventory.ReceiveStock, request)

    async def place(self, *quantities: int) -> str:
        items = [
            order_service_pb2.NewOrderItem(
                sku=sku,
                quantity=quantity,
                unit_price=Money(currency_code="GBP", units=2, nanos=500_000_000),
            )
            for sku, quantity in zip(self.skus, quantities, strict=False)
        ]
        request = order_service_pb2.CreateOrderRequest(
            request_id=new(), items=items, recipient=RECIPIENT
        )
        order: order_pb2.Order = (await ask(self.orders.CreateOrder, request)).order
        return order.order_id

    async def pay(self, order_id: str, token: str = "tok_ok") -> payment_pb2.Payment:
        return await self._pay(order_id, token, manual_capture=False)

    async def authorize(self, order_id: str) -> payment_pb2.Payment:
        """Authorises the order's amount on the card, without a capture."""
        return await self._pay(order_id, "tok_ok", manual_capture=True)

    async def _pay(self, order_id: str, token: str, *, manual_capture: bool) -> payment_pb2.Payment:
        request = payment_service_pb2.CreatePaymentRequest(
            request_id=new(),
            order_id=order_id,
            payment_method_token=token,
            manual_capture=manual_capture,
        )
        payment: payment_pb2.Payment = (await ask(self.payments.CreatePayment, request)).payment
        return payment

    async def order(self, order_id: str) -> order_pb2.Order:
        order: order_pb2.Order = (
            await ask(self.orders.GetOrder, order_service_pb2.GetOrderRequest(order_id=order_id))
        ).order
        return order

    async def cancel(self, order_id: str) -> order_pb2.Order:
        request = order_service_pb2.CancelOrderRequest(request_id=new(), order_id=order_id)
        order: order_pb2.Order = (await ask(self.orders.CancelOrder, request)).order
        return order

    async def work_until(self, order_id: str, statuses: Sequence[str]) -> None:
        """The warehouse staff work on the order until each of its fulfilments has one of these
        statuses.
        """
        wanted = {
            fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{status}")
            for status in statuses
        }

        async def there() -> bool:
            listed = fulfillment_service_pb2.ListFulfillmentsRequest(order_id=order_id)
            with retrying():
                works = (await ask(self.fulfillments.ListFulfillments, listed)).fulfillments
                for work in works:
                    if work.status not in wanted and (step := next_step(work)):
                        # its picklist has changed since: it is read again
                        with suppress(Refused):
                            await ask(getattr(self.fulfillments, method_name(step)), step)
            return bool(works) and all(work.status in wanted for work in works)

        await eventually(there, timeout_s=TIMEOUT_S, what=f"the goods of {order_id} are {statuses}")

    async def carry(self, order_id: str, status: str) -> None:
        """The carrier reports this status of every parcel of the order with a label that is not
        void.
        """
        reported = shipping_pb2.ShipmentStatus.Value(f"SHIPMENT_STATUS_{status}")
        for shipment in await self.shipments(order_id):
            if (
                not shipment.tracking_number
                or shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED
            ):
                continue
            request = shipping_service_pb2.RecordTrackingEventRequest(
                request_id=new(),
                carrier=shipment.carrier,
                tracking_number=shipment.tracking_number,
                carrier_event_id=new(),
                status=reported,
                occur_time=shipment.update_time,
            )
            await ask(self.shipping.RecordTrackingEvent, request)

    async def shipments(self, order_id: str) -> Sequence[shipping_pb2.Shipment]:
        """Returns the order's shipments, newest first."""
        listed = shipping_service_pb2.ListShipmentsRequest(order_id=order_id)
        shipments: Sequence[shipping_pb2.Shipment] = (
            await ask(self.shipping.ListShipments, listed)
        ).shipments
        return shipments

    async def becomes(self, order_id: str, status: str) -> order_pb2.Order:
        async def there() -> order_pb2.Order | None:
            with retrying():
                order = await self.order(order_id)
            return (
                order
                if order.status == order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status}")
                else None
            )

        order: order_pb2.Order = await eventually(
            there, timeout_s=TIMEOUT_S, what=f"{order_id} is {status}"
        )
        return order

    async def bring_back(self, order_id: str, warehouse_id: str = "london") -> None:
        """All returning parcels of the order arrive and pass inspection, and the return is
        closed.
        """
        listed = return_service_pb2.ListReturnsRequest(order_id=order_id)
        for each in (await ask(self.returns.ListReturns, listed)).returns:
            if each.status not in COMING | {return_pb2.RETURN_STATUS_RECEIVED}:
                continue
            if each.status == return_pb2.RETURN_STATUS_REQUESTED:
                await ask(
                    self.returns.ApproveReturn,
                    return_service_pb2.ApproveReturnRequest(
                        request_id=new(), return_id=each.return_id
                    ),
                )
            lines = [
                (line.line_number, line.announced_quantity)
                for line in each.lines
                if line.announced_quantity
            ]
            received = [
                return_service_pb2.ReceivedReturnLine(line_number=n, quantity=units)
                for n, units in lines
            ]
            receive = return_service_pb2.ReceiveReturnRequest(
                request_id=new(),
                return_id=each.return_id,
                warehouse_id=warehouse_id,
                lines=received,
            )
            if each.status in COMING:  # else it arrived before an earlier call was interrupted here
                await ask(self.returns.ReceiveReturn, receive)
            inspected = [
                return_service_pb2.InspectedReturnLine(line_number=n, passed_quantity=units)
                for n, units in lines
            ]
            await ask(
                self.returns.InspectReturn,
                return_service_pb2.InspectReturnRequest(
                    request_id=new(), return_id=each.return_id, lines=inspected
                ),
            )

    async def returns_arrive(
        self, order_id: str, *, available: Sequence[int], refunded: int
    ) -> None:
        """Receives every returning parcel once the order has its return (`bring_back`), then checks
        the records (`records_agree`).
        """

        async def home() -> bool:
            with retrying():
                await self.bring_back(order_id)
            return await self._agrees(order_id, available, refunded)

        await eventually(
            home, timeout_s=TIMEOUT_S, what="everything is back, and the audit finds nothing"
        )

    async def records_agree(
        self, order_id: str, *, available: Sequence[int], refunded: int
    ) -> None:
        """The audit finds nothing about the order and its SKUs. So many units of each are
        available, and so many pennies are refunded.
        """
        await eventually(
            lambda: self._agrees(order_id, available, refunded),
            timeout_s=TIMEOUT_S,
            what="the audit finds nothing",
        )

    async def _agrees(self, order_id: str, available: Sequence[int], refunded: int) -> bool:
        with retrying():
            facts = await complete(FactsReader(self.channels))
        mine = [
            d
            for d in differences(facts)
            if any(name in f"{d.subject} {d.text}" for name in (order_id, *self.skus))
        ]
        assert not mine, mine
        shelves: dict[str, list[int]] = {sku: [0, 0, 0] for sku in self.skus}
        for level in facts.levels:
            if level.sku in shelves:
                for place, units in enumerate((level.available, level.reserved, level.committed)):
                    shelves[level.sku][place] += units
        assert list(shelves.values()) == [[units, 0, 0] for units in available], shelves
        given = sum(
            p.refunded_amount.units * 100 + p.refunded_amount.nanos // 10**7
            for p in facts.payments_of.get(order_id, ())
        )
        assert given == refunded, given
        returns = [
            return_pb2.ReturnStatus.Name(each.status) for each in facts.returns_of.get(order_id, ())
        ]
        assert all(status == "RETURN_STATUS_CLOSED" for status in returns), returns
        return True


@asynccontextmanager
async def open_counter(stack: Stack) -> AsyncIterator[Counter]:
    """A counter over the stack, with stock received."""
    async with AsyncExitStack() as channels:
        counter = Counter(
            {
                name: await channels.enter_async_context(connect(address))
                for name, address in stack.addresses.items()
            }
        )
        await counter.stock()
        yield counter


def new() -> str:
    """Returns a request_id."""
    return str(uuid.uuid4())
