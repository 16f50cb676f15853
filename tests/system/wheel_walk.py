"""A program of another project: walks an order to delivered with the client wheel alone. No tests
here, and no part of the project but the wheel.

Arguments: the addresses of order, warehouse, fulfillment, shipping and payment services.
"""

import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

import grpc
from google.type.money_pb2 import Money
from ordermesh.fulfillment.v1 import fulfillment_pb2, fulfillment_service_pb2
from ordermesh.fulfillment.v1.fulfillment_service_pb2_grpc import FulfillmentServiceStub
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from ordermesh.shipping.v1 import shipping_pb2, shipping_service_pb2
from ordermesh.shipping.v1.shipping_service_pb2_grpc import ShippingServiceStub
from ordermesh.warehouse.v1 import inventory_service_pb2
from ordermesh.warehouse.v1.inventory_service_pb2_grpc import InventoryServiceStub

TIMEOUT_S = 60.0
CALL_S = 10.0
SKU = f"client {uuid.uuid4()}"

Found = TypeVar("Found")


def main(addresses: Sequence[str]) -> None:
    order_channel, warehouse, fulfillment, shipping, payment = map(grpc.insecure_channel, addresses)
    orders = OrderServiceStub(order_channel)
    receipt = inventory_service_pb2.ReceiveStockRequest(
        request_id=new_id(),
        warehouse_id="london-1",
        lines=[inventory_service_pb2.ReceivedLine(sku=SKU, quantity=3)],
    )
    InventoryServiceStub(warehouse).ReceiveStock(receipt, timeout=CALL_S)
    order = orders.CreateOrder(checkout(), timeout=CALL_S).order
    pay = payment_service_pb2.CreatePaymentRequest(
        request_id=new_id(), order_id=order.order_id, payment_method_token="tok_ok"
    )
    PaymentServiceStub(payment).CreatePayment(pay, timeout=CALL_S)
    work(FulfillmentServiceStub(fulfillment), order.order_id)
    deliver(ShippingServiceStub(shipping), order.order_id)
    get = order_service_pb2.GetOrderRequest(order_id=order.order_id)
    await_that(
        lambda: (
            orders.GetOrder(get, timeout=CALL_S).order.status == order_pb2.ORDER_STATUS_DELIVERED
            or None
        )
    )
    # Subscribers also read events with it.
    event = order_events_pb2.OrderStatusChanged(
        order_id=order.order_id, new_status=order_pb2.ORDER_STATUS_DELIVERED
    )
    assert order_events_pb2.OrderStatusChanged.FromString(event.SerializeToString()) == event
    print("delivered", order.order_id)  # noqa: T201  what it is run for


def checkout() -> order_service_pb2.CreateOrderRequest:
    price = Money(currency_code="GBP", units=7, nanos=250_000_000)
    return order_service_pb2.CreateOrderRequest(
        request_id=new_id(),
        items=[order_service_pb2.NewOrderItem(sku=SKU, quantity=3, unit_price=price)],
        recipient=order_pb2.Recipient(
            name="Ada Example", address_lines=["1 Test Street"], country_code="GB"
        ),
    )


def work(warehouse: FulfillmentServiceStub, order_id: str) -> None:
    """Picks and packs the order's fulfilments."""
    planned = fulfillment_service_pb2.ListFulfillmentsRequest(
        order_id=order_id, statuses=[fulfillment_pb2.FULFILLMENT_STATUS_PLANNING]
    )
    [found] = await_that(
        lambda: [
            each
            for each in warehouse.ListFulfillments(planned, timeout=CALL_S).fulfillments
            if each.stock_committed
        ]
    )
    which = found.fulfillment_id
    api = fulfillment_service_pb2
    warehouse.StartPicking(
        api.StartPickingRequest(request_id=new_id(), fulfillment_id=which), timeout=CALL_S
    )
    scans = [api.Scan(sku=SKU, quantity=3)]
    warehouse.ScanItem(
        api.ScanItemRequest(request_id=new_id(), fulfillment_id=which, scans=scans), timeout=CALL_S
    )
    warehouse.CompletePicking(
        api.CompletePickingRequest(request_id=new_id(), fulfillment_id=which), timeout=CALL_S
    )
    warehouse.StartPacking(
        api.StartPackingRequest(request_id=new_id(), fulfillment_id=which), timeout=CALL_S
    )
    items = [fulfillment_pb2.PackedItem(line_number=1, quantity=3)]
    box = fulfillment_pb2.Package(
        weight_grams=500, length_mm=300, width_mm=200, height_mm=100, items=items
    )
    warehouse.PackFulfillment(
        api.PackFulfillmentRequest(request_id=new_id(), fulfillment_id=which, packages=[box]),
        timeout=CALL_S,
    )


def deliver(shipping: ShippingServiceStub, order_id: str) -> None:
    """Reports as the carrier does."""
    labelled = shipping_service_pb2.ListShipmentsRequest(
        order_id=order_id, statuses=[shipping_pb2.SHIPMENT_STATUS_CREATED]
    )
    [shipment] = await_that(
        lambda: list(shipping.ListShipments(labelled, timeout=CALL_S).shipments)
    )
    report = shipping_service_pb2.RecordTrackingEventRequest(
        request_id=new_id(),
        carrier=shipment.carrier,
        tracking_number=shipment.tracking_number,
        carrier_event_id=new_id(),
        status=shipping_pb2.SHIPMENT_STATUS_DELIVERED,
        occur_time=shipment.update_time,
    )
    shipping.RecordTrackingEvent(report, timeout=CALL_S)


def await_that(look: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.1)
    return found


def new_id() -> str:
    return str(uuid.uuid4())


if __name__ == "__main__":
    main(sys.argv[1:])
