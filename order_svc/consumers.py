"""Events in: wire -> operation or write, for all events that a pull returned."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
    RefundCompleted,
    RefundFailed,
)
from ordermesh.shipping.events.v1.shipping_events_pb2 import (
    DeliveryConfirmed,
    ShipmentCreated,
    ShipmentStatusChanged,
)
from ordermesh.warehouse.events.v1.warehouse_events_pb2 import ReservationStatusChanged

from chassis.consume.dispatch import Handler, handler
from chassis.write.writer import Writer
from order_svc.model.records import Order
from order_svc.operations.payments import PaymentOperations
from order_svc.wire import events_in


def handlers(
    payments: PaymentOperations, writer: Writer[Order]
) -> Mapping[type[Message], Handler[Any]]:
    """Returns the handler of each event that the order service consumes."""
    write = writer.write
    return {
        PaymentConfirmed: handler(events_in.confirm_payment, payments.confirm_payments),
        PaymentFailed: handler(events_in.fail_payment, payments.fail_payments),
        RefundCompleted: handler(events_in.apply_refund, write),
        RefundFailed: handler(events_in.apply_refund, write),
        FulfillmentStatusChanged: handler(events_in.apply_fulfillment, write),
        FulfillmentLinesChanged: handler(events_in.apply_fulfillment, write),
        ShipmentCreated: handler(events_in.apply_shipment, write),
        ShipmentStatusChanged: handler(events_in.apply_shipment_outcome, write),
        DeliveryConfirmed: handler(events_in.apply_shipment, write),
        ReservationStatusChanged: handler(events_in.apply_reservation, payments.apply_reservations),
    }
