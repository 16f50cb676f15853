"""Events of other services, as the fulfilment service consumes them. No tests here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid5

from google.protobuf.message import Message
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.consume.delivery import Delivery
from chassis.values.envelope import Envelope
from chassis.values.money import Money, to_message
from fulfillment_svc.model.commands import (
    Complete,
    ConfirmWithdrawal,
    OrderEvent,
    Ship,
    ShipmentCommand,
)
from fulfillment_svc.wire import events_in

# Units of order lines by warehouse: (line, sku, units).
Places = Mapping[str, Sequence[tuple[int, str, int]]]

CHEAP = Money(10_00, "GBP")
ONE_PLACE: Places = {"DOVER": [(1, "mug", 2), (2, "Lamp, blue", 1)]}
TWO_PLACES: Places = {"DOVER": [(1, "mug", 2)], "LEEDS": [(1, "mug", 1), (2, "Lamp, blue", 1)]}


def order_changed(
    order_id: UUID,
    places: Places = ONE_PLACE,
    *,
    new: "order_pb2.OrderStatus.ValueType" = order_pb2.ORDER_STATUS_CONFIRMED,
    old: "order_pb2.OrderStatus.ValueType" = order_pb2.ORDER_STATUS_PENDING,
    stock: "order_pb2.StockStatus.ValueType" = order_pb2.STOCK_STATUS_COMMITTED,
    total: Money = CHEAP,
    attempt: int = 1,
    version: int = 2,
) -> order_events_pb2.OrderStatusChanged:
    """The order service's event of a change."""
    event = order_events_pb2.OrderStatusChanged(
        order_id=str(order_id),
        order_number="OM-100001",
        attempt=attempt,
        old_status=old,
        new_status=new,
        total_amount=to_message(total),
        order_version=version,
        stock_status=stock,
        payment_status=order_pb2.PAYMENT_STATUS_COMPLETED,
    )
    event.items.extend(items(order_id, places))
    return event


def items_cancelled(
    order_id: UUID,
    places: Places,
    *,
    version: int = 3,
    status: "order_pb2.OrderStatus.ValueType" = order_pb2.ORDER_STATUS_CONFIRMED,
    attempt: int = 1,
) -> order_events_pb2.OrderItemsCancelled:
    """Returns the order service's event of cancelled units: the units in `places` remain."""
    return order_events_pb2.OrderItemsCancelled(
        order_id=str(order_id),
        order_number="OM-100001",
        attempt=attempt,
        status=status,
        reason="CUSTOMER_REQUEST",
        total_amount=to_message(CHEAP),
        order_version=version,
        items=items(order_id, places),
    )


def items(order_id: UUID, places: Places) -> list[order_events_pb2.OrderLine]:
    """Returns the order's lines, by their places."""
    found: dict[int, order_events_pb2.OrderLine] = {}
    for at, lines in places.items():
        for number, sku, units in lines:
            item = found.setdefault(number, order_events_pb2.OrderLine(line_number=number, sku=sku))
            item.quantity += units
            item.allocations.add(
                warehouse_id=at, reservation_id=str(uuid5(order_id, at)), quantity=units
            )
    return list(found.values())


def confirmed(
    order_id: UUID,
    places: Places = ONE_PLACE,
    *,
    commit_pending: bool = False,
    total: Money = CHEAP,
) -> Envelope[OrderEvent]:
    """Returns the event of a paid order."""
    stock = (
        order_pb2.STOCK_STATUS_COMMIT_PENDING
        if commit_pending
        else order_pb2.STOCK_STATUS_COMMITTED
    )
    return order_event(order_changed(order_id, places, stock=stock, total=total))


def cancelled(
    order_id: UUID,
    places: Places = ONE_PLACE,
    *,
    version: int = 9,
) -> Envelope[OrderEvent]:
    """Returns the event of an order that is cancelled after its payment."""
    cancelled_status, paid = order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_CONFIRMED
    return order_event(
        order_changed(order_id, places, new=cancelled_status, old=paid, version=version)
    )


def lost(order_id: UUID, places: Places, *, version: int = 3) -> Envelope[OrderEvent]:
    """Returns the event of an order that lost units: the units in these places remain."""
    event = items_cancelled(order_id, places, version=version)
    envelope = events_in.order_items_cancelled(event, delivery(event))
    assert envelope
    return envelope


def order_event(event: order_events_pb2.OrderStatusChanged) -> Envelope[OrderEvent]:
    """Returns the event as an envelope, under a delivery key that follows from it."""
    envelope = events_in.order_status_changed(event, delivery(event))
    assert envelope
    return envelope


def shipment(fulfillment_id: UUID) -> shipping_pb2.Shipment:
    """Returns the fulfilment's shipment."""
    return shipping_pb2.Shipment(
        shipment_id=str(uuid5(fulfillment_id, "shipment")),
        order_id=str(uuid5(fulfillment_id, "order")),
        attempt=1,
        fulfillment_id=str(fulfillment_id),
        warehouse_id="dover",
        status=shipping_pb2.SHIPMENT_STATUS_CREATED,
        version=2,
    )


def shipped(fulfillment_id: UUID) -> Envelope[Ship]:
    """Returns the event that the label of the shipment is bought."""
    event = shipping_events_pb2.ShipmentCreated(shipment=shipment(fulfillment_id))
    return events_in.shipment_created(event, delivery(event, "created"))


def voided(fulfillment_id: UUID) -> Envelope[ShipmentCommand]:
    """Returns the event that the shipment is withdrawn: the carrier confirms that its label is
    void.
    """
    answered = shipment(fulfillment_id)
    answered.status, answered.withdraw_version = shipping_pb2.SHIPMENT_STATUS_VOIDED, 1
    event = shipping_events_pb2.ShipmentStatusChanged(shipment=answered)
    answer = events_in.shipment_status_changed(event, delivery(event, "voided"))
    assert answer
    assert isinstance(answer.command, ConfirmWithdrawal)
    return answer


def completed(fulfillment_id: UUID) -> Envelope[Complete]:
    """Returns the event that the shipment is delivered."""
    event = shipping_events_pb2.DeliveryConfirmed(shipment=shipment(fulfillment_id))
    return events_in.delivery_confirmed(event, delivery(event, "delivered"))


def delivery(event: Message, kind: str = "changed") -> Delivery[Message]:
    """Returns one delivery for each event: the same event again is the same delivery."""
    request_hash = sha256(kind.encode() + event.SerializeToString(deterministic=True)).digest()
    event_id = UUID(bytes=request_hash[:16])
    return Delivery(
        event_id=event_id,
        key=f"fulfillment:{event_id}",
        request_hash=request_hash,
        message=event,
        time=datetime.now(UTC),
    )
