"""Events of the other services about an order."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.events.v1.fulfillment_events_pb2 import (
    FulfillmentLinesChanged,
    FulfillmentStatusChanged,
)
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.payment.events.v1.payment_events_pb2 import (
    PaymentConfirmed,
    PaymentFailed,
    RefundCompleted,
)
from ordermesh.payment.v1 import payment_pb2
from ordermesh.payment.v1.payment_pb2 import Refund
from ordermesh.shipping.events.v1.shipping_events_pb2 import (
    DeliveryConfirmed,
    ShipmentCreated,
    ShipmentStatusChanged,
)
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.shipping.v1.shipping_pb2 import Shipment
from ordermesh.warehouse.events.v1.warehouse_events_pb2 import ReservationStatusChanged
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.consume.delivery import Delivery
from chassis.values.money import to_message
from order_svc.model.records import Order

DELIVERED = datetime(2026, 11, 22, 18, tzinfo=UTC)
WORK = fulfillment_pb2.FulfillmentStatus


def delivery(message: Message) -> Delivery[Message]:
    """Returns the message as the order service's consumer gets it; each call makes another
    event.
    """
    event_id = uuid4()
    request_hash = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
    return Delivery(
        event_id=event_id,
        key=f"order-test:{event_id}",
        request_hash=request_hash,
        message=message,
        time=datetime.now(UTC),
    )


def paid(order: Order) -> PaymentConfirmed:
    captured = to_message(order.money(order.total))
    return PaymentConfirmed(
        payment_id=str(uuid4()),
        order_id=str(order.id),
        attempt=order.attempt,
        captured_amount=captured,
        payment_version=3,
    )


def not_paid(order: Order) -> PaymentFailed:
    return PaymentFailed(
        payment_id=str(uuid4()),
        order_id=str(order.id),
        attempt=1,
        decline_code="stolen_card",
        payment_version=3,
    )


def working(
    order: Order, warehouse_id: str, statuses: Sequence[fulfillment_pb2.FulfillmentStatus.ValueType]
) -> list[FulfillmentStatusChanged]:
    """Returns a fulfilment's events, version by version."""
    fulfillment_id = str(uuid4())
    return [
        FulfillmentStatusChanged(
            fulfillment=fulfillment_pb2.Fulfillment(
                fulfillment_id=fulfillment_id,
                order_id=str(order.id),
                attempt=1,
                warehouse_id=warehouse_id,
                status=status,
                version=version,
            ),
            new_status=status,
        )
        for version, status in enumerate(statuses, 1)
    ]


def shipped_fulfilment(
    order: Order, warehouse_id: str, units: Mapping[int, int], version: int = 5
) -> list[FulfillmentStatusChanged]:
    """Returns the events of a fulfilment that has shipped these units."""
    fulfillment = fulfillment_pb2.Fulfillment(
        fulfillment_id=str(uuid4()),
        order_id=str(order.id),
        attempt=order.attempt,
        warehouse_id=warehouse_id,
        status=fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED,
        version=version,
        stock_committed=True,
        picklist=[
            fulfillment_pb2.PicklistLine(line_number=number, quantity=quantity)
            for number, quantity in units.items()
        ],
    )
    done = fulfillment_pb2.Fulfillment()
    done.CopyFrom(fulfillment)
    done.status, done.version = fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED, version + 1
    return [
        FulfillmentStatusChanged(fulfillment=each, new_status=each.status)
        for each in (fulfillment, done)
    ]


def shipped_and_delivered(
    order: Order, warehouse_id: str
) -> tuple[ShipmentCreated, DeliveryConfirmed]:
    shipment = Shipment(
        shipment_id=str(uuid4()),
        order_id=str(order.id),
        attempt=1,
        fulfillment_id=str(uuid4()),
        warehouse_id=warehouse_id,
        status=shipping_pb2.SHIPMENT_STATUS_CREATED,
        tracking_number=f"SB-{warehouse_id}",
        version=2,
    )
    time = Timestamp()
    time.FromDatetime(DELIVERED)
    return ShipmentCreated(shipment=shipment), DeliveryConfirmed(
        shipment=shipment, deliver_time=time
    )


def committed(order: Order, warehouse_id: str) -> ReservationStatusChanged:
    """Returns the event of one committed reservation of an attempt; the others are committed with
    it.
    """
    held: dict[str, warehouse_pb2.Reservation] = {}
    for line in order.lines:
        for at in line.allocations:
            reservation = held.setdefault(
                at.warehouse_id,
                warehouse_pb2.Reservation(
                    reservation_id=str(at.reservation_id),
                    order_id=str(order.id),
                    attempt=1,
                    warehouse_id=at.warehouse_id,
                    status=warehouse_pb2.RESERVATION_STATUS_CONFIRMED,
                    version=2,
                    generation=1,
                ),
            )
            reservation.lines.append(
                warehouse_pb2.ReservationLine(
                    line_number=line.number, sku=line.sku, quantity=at.quantity
                )
            )
    old_status = warehouse_pb2.RESERVATION_STATUS_ACTIVE
    return ReservationStatusChanged(
        reservation=held[warehouse_id],
        old_status=old_status,
        attempt_reservations=held.values(),
        reservations_version=2,
    )


def refunded(order: Order, minor: int, **fields: Any) -> RefundCompleted:
    """Returns the event of a refund: `amount` of the order's payment is refunded so far."""
    values: dict[str, Any] = {
        "cause": payment_pb2.REFUND_CAUSE_REQUEST,
        "status": payment_pb2.REFUND_STATUS_COMPLETED,
    }
    refund = Refund(
        refund_id=str(uuid4()),
        payment_id=str(uuid4()),
        order_id=str(order.id),
        attempt=order.attempt,
        amount=to_message(order.money(minor)),
        **(values | fields),
    )
    captured, sum_so_far = (
        to_message(order.money(order.placed_total)),
        to_message(order.money(minor)),
    )
    return RefundCompleted(
        refund=refund, captured_amount=captured, refunded_amount=sum_so_far, payment_version=4
    )


def with_units(
    event: FulfillmentStatusChanged, units: Mapping[int, int]
) -> FulfillmentStatusChanged:
    """Returns the same event with its stock committed, and with these units."""
    message = FulfillmentStatusChanged()
    message.CopyFrom(event)
    message.fulfillment.stock_committed = True
    message.fulfillment.picklist.extend(
        fulfillment_pb2.PicklistLine(line_number=n, sku="LAMP", quantity=quantity)
        for n, quantity in units.items()
    )
    return message


def fewer_lines(
    of: FulfillmentStatusChanged, version: int, units: Mapping[int, int], reason: str
) -> FulfillmentLinesChanged:
    """Returns a later event of the same fulfilment, with fewer units."""
    fulfillment = with_units(of, units).fulfillment
    fulfillment.version = version
    return FulfillmentLinesChanged(fulfillment=fulfillment, reason=reason)


def parcel_ended(
    shipment: Shipment, status: shipping_pb2.ShipmentStatus.ValueType
) -> ShipmentStatusChanged:
    return ShipmentStatusChanged(shipment=shipment, new_status=status)
