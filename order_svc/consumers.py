"""Events in: wire -> operation or write, for all events that a pull returned."""

from collections.abc import Mapping, Sequence
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

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler
from chassis.values.decision import Outcome
from chassis.write.writer import Writer
from order_svc.model.records import Order
from order_svc.operations.payments import PaymentOperations
from order_svc.wire import events_in

Outcomes = Sequence[Outcome[Order]]


class Consumers:
    """The handlers of the events that the order service consumes."""

    def __init__(self, payments: PaymentOperations, writer: Writer[Order]) -> None:
        self.payments, self.writer = payments, writer

    @property
    def handlers(self) -> Mapping[type[Message], Handler[Any]]:
        return {
            PaymentConfirmed: self.payment_confirmed,
            PaymentFailed: self.payment_failed,
            RefundCompleted: self.refund_settled,
            RefundFailed: self.refund_settled,
            FulfillmentStatusChanged: self.fulfillment_status_changed,
            FulfillmentLinesChanged: self.fulfillment_lines_changed,
            ShipmentCreated: self.shipment_created,
            ShipmentStatusChanged: self.shipment_status_changed,
            DeliveryConfirmed: self.delivery_confirmed,
            ReservationStatusChanged: self.reservation_status_changed,
        }

    async def payment_confirmed(
        self,
        deliveries: Sequence[Delivery[PaymentConfirmed]],
    ) -> Outcomes:
        return await self.payments.confirm_payments(
            [events_in.confirm_payment(d.message, d) for d in deliveries]
        )

    async def payment_failed(
        self,
        deliveries: Sequence[Delivery[PaymentFailed]],
    ) -> Outcomes:
        return await self.payments.fail_payments(
            [events_in.fail_payment(d.message, d) for d in deliveries]
        )

    async def refund_settled(
        self,
        deliveries: Sequence[Delivery[RefundCompleted | RefundFailed]],
    ) -> Outcomes:
        return await self.writer.write([events_in.apply_refund(d.message, d) for d in deliveries])

    async def fulfillment_status_changed(
        self,
        deliveries: Sequence[Delivery[FulfillmentStatusChanged]],
    ) -> Outcomes:
        return await self.writer.write(
            [events_in.apply_fulfillment_status(d.message, d) for d in deliveries]
        )

    async def fulfillment_lines_changed(
        self,
        deliveries: Sequence[Delivery[FulfillmentLinesChanged]],
    ) -> Outcomes:
        return await self.writer.write(
            [events_in.apply_fulfillment_lines(d.message, d) for d in deliveries]
        )

    async def shipment_created(
        self,
        deliveries: Sequence[Delivery[ShipmentCreated]],
    ) -> Outcomes:
        return await self.writer.write(
            [events_in.apply_shipment(d.message.shipment, d) for d in deliveries]
        )

    async def shipment_status_changed(
        self,
        deliveries: Sequence[Delivery[ShipmentStatusChanged]],
    ) -> Outcomes:
        return await self.writer.write(
            [events_in.apply_shipment_outcome(d.message, d) for d in deliveries]
        )

    async def delivery_confirmed(
        self,
        deliveries: Sequence[Delivery[DeliveryConfirmed]],
    ) -> Outcomes:
        return await self.writer.write(
            [
                events_in.apply_shipment(d.message.shipment, d, d.message.deliver_time)
                for d in deliveries
            ]
        )

    async def reservation_status_changed(
        self,
        deliveries: Sequence[Delivery[ReservationStatusChanged]],
    ) -> Outcomes:
        return await self.payments.apply_reservations(
            [events_in.apply_reservation(d.message, d) for d in deliveries]
        )
