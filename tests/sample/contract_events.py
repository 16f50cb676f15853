"""One valid event of each published type, for the tests of invalid events. No tests here."""

from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2 as fulfillment_events
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1 import order_events_pb2 as order_events
from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.payment.events.v1 import payment_events_pb2 as payment_events
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2 as shipping_events
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2 as warehouse_events
from ordermesh.warehouse.v1 import warehouse_pb2

ORDER, RECORD, OTHER = (
    str(UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number)) for number in (1, 2, 3)
)
POUND = Money(currency_code="GBP", units=1)
NOON = Timestamp(seconds=1_800_000_000)


def order_line() -> order_events.OrderLine:
    return order_events.OrderLine(
        line_number=1,
        sku="TEA",
        quantity=2,
        unit_shares=[order_events.LineUnitShare(quantity=2, amount=POUND)],
        allocations=[
            order_events.LineAllocation(warehouse_id="london", reservation_id=RECORD, quantity=2)
        ],
    )


def fulfillment(
    status: fulfillment_pb2.FulfillmentStatus.ValueType, version: int = 2
) -> fulfillment_pb2.Fulfillment:
    return fulfillment_pb2.Fulfillment(
        fulfillment_id=RECORD,
        order_id=ORDER,
        attempt=1,
        warehouse_id="london",
        status=status,
        stock_committed=True,
        picklist=[fulfillment_pb2.PicklistLine(line_number=1, sku="TEA", quantity=2)],
        packages=[
            fulfillment_pb2.Package(
                weight_grams=10,
                length_mm=10,
                width_mm=10,
                height_mm=10,
                items=[fulfillment_pb2.PackedItem(line_number=1, quantity=2)],
            )
        ],
        version=version,
    )


def shipment() -> shipping_pb2.Shipment:
    return shipping_pb2.Shipment(
        shipment_id=OTHER,
        order_id=ORDER,
        attempt=1,
        fulfillment_id=RECORD,
        warehouse_id="london",
        status=shipping_pb2.SHIPMENT_STATUS_CREATED,
        tracking_number="SBX1",
        version=2,
    )


def reservation() -> warehouse_pb2.Reservation:
    return warehouse_pb2.Reservation(
        reservation_id=RECORD,
        order_id=ORDER,
        attempt=1,
        warehouse_id="london",
        status=warehouse_pb2.RESERVATION_STATUS_CONFIRMED,
        lines=[warehouse_pb2.ReservationLine(line_number=1, sku="TEA", quantity=2, committed=2)],
        version=2,
        generation=1,
    )


def refund() -> payment_pb2.Refund:
    return payment_pb2.Refund(
        refund_id=RECORD,
        payment_id=OTHER,
        order_id=ORDER,
        attempt=1,
        amount=POUND,
        status=payment_pb2.REFUND_STATUS_COMPLETED,
        cause=payment_pb2.REFUND_CAUSE_ORDER,
        cause_id="version:7",
    )


def order_return() -> return_pb2.Return:
    return return_pb2.Return(
        return_id=RECORD,
        order_id=ORDER,
        attempt=1,
        status=return_pb2.RETURN_STATUS_INSPECTED,
        kind=return_pb2.RETURN_KIND_CUSTOMER,
        warehouse_id="london",
        lines=[
            return_pb2.ReturnLine(line_number=1, sku="TEA", received_quantity=1, passed_quantity=1)
        ],
        refund_amount=POUND,
        version=4,
    )


def events_of_orders() -> list[Message]:
    return [
        order_events.OrderStatusChanged(
            order_id=ORDER,
            attempt=1,
            old_status=order_pb2.ORDER_STATUS_PENDING,
            new_status=order_pb2.ORDER_STATUS_CONFIRMED,
            total_amount=POUND,
            order_version=2,
            items=[order_line()],
            stock_status=order_pb2.STOCK_STATUS_COMMITTED,
            payment_status=order_pb2.PAYMENT_STATUS_COMPLETED,
        ),
        order_events.OrderItemsCancelled(
            order_id=ORDER,
            attempt=1,
            status=order_pb2.ORDER_STATUS_PENDING,
            total_amount=POUND,
            order_version=2,
            items=[order_line()],
        ),
        order_events.ReturnStatusChanged(
            order_return=order_return(), new_status=return_pb2.RETURN_STATUS_INSPECTED
        ),
    ]


def events_of_payments() -> list[Message]:
    money = {"captured_amount": POUND, "refunded_amount": POUND}
    return [
        payment_events.PaymentConfirmed(
            payment_id=OTHER, order_id=ORDER, attempt=1, captured_amount=POUND, payment_version=3
        ),
        payment_events.PaymentFailed(
            payment_id=OTHER, order_id=ORDER, attempt=1, payment_version=3
        ),
        payment_events.RefundCompleted(refund=refund(), payment_version=4, **money),
        payment_events.RefundFailed(refund=refund(), payment_version=4, **money),
    ]


def events_of_fulfillments() -> list[Message]:
    ready = fulfillment(fulfillment_pb2.FULFILLMENT_STATUS_READY)
    return [
        fulfillment_events.FulfillmentStatusChanged(fulfillment=ready, new_status=ready.status),
        fulfillment_events.FulfillmentLinesChanged(fulfillment=ready),
    ]


def events_of_shipments() -> list[Message]:
    return [
        shipping_events.ShipmentCreated(shipment=shipment()),
        shipping_events.ShipmentStatusChanged(
            shipment=shipment(), new_status=shipping_pb2.SHIPMENT_STATUS_LOST
        ),
        shipping_events.DeliveryConfirmed(shipment=shipment(), deliver_time=NOON),
    ]


def events_of_stock() -> list[Message]:
    return [
        warehouse_events.ReservationStatusChanged(
            reservation=reservation(), attempt_reservations=[reservation()], reservations_version=2
        ),
        warehouse_events.StockChanged(
            stock_level=warehouse_pb2.StockLevel(
                warehouse_id="london", sku="TEA", available=2, version=2
            ),
            stock_movement=warehouse_pb2.StockMovement(
                movement_id=RECORD,
                warehouse_id="london",
                sku="TEA",
                kind=warehouse_pb2.STOCK_MOVEMENT_KIND_RECEIVE,
                quantity=2,
                source_id=OTHER,
                stock_level_version=2,
            ),
        ),
    ]


def valid() -> dict[type[Message], Message]:
    """Returns a new event of each type, all of one order."""
    events = [
        *events_of_orders(),
        *events_of_payments(),
        *events_of_fulfillments(),
        *events_of_shipments(),
        *events_of_stock(),
    ]
    return {type(event): event for event in events}
