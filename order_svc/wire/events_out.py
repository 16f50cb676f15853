"""Domain events as published events."""

from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2

from chassis.values.convert import timestamp, timestamp_or_none
from chassis.values.money import to_message
from chassis.values.outgoing_event import OutgoingEvent
from order_svc.model.events import ItemsCancelled, ReturnChanged, StatusChanged
from order_svc.model.records import Line, Order
from order_svc.wire.enums import PAYMENT, STATUS, STOCK
from order_svc.wire.returns import return_changed


def outgoing_event(domain_event: StatusChanged | ItemsCancelled | ReturnChanged) -> OutgoingEvent:
    """Returns the published event of a domain event, with the order or the return after it."""
    if isinstance(domain_event, ReturnChanged):
        order_return = domain_event.order_return
        return OutgoingEvent(
            aggregate=order_return.id,
            order_id=order_return.order_id,
            message=return_changed(domain_event),
        )
    order_id = domain_event.order.id
    message = (
        _items_cancelled(domain_event)
        if isinstance(domain_event, ItemsCancelled)
        else _status_changed(domain_event)
    )
    return OutgoingEvent(aggregate=order_id, order_id=order_id, message=message)


def _items_cancelled(domain_event: ItemsCancelled) -> order_events_pb2.OrderItemsCancelled:
    order, transition = domain_event.order, domain_event.transition
    return order_events_pb2.OrderItemsCancelled(
        order_id=str(order.id),
        order_number=order.number,
        attempt=transition.attempt,
        status=STATUS[transition.new],
        reason=transition.reason,
        total_amount=to_message(order.money(order.total)),
        order_version=transition.version,
        occur_time=timestamp(transition.time),
        items=[_event_line(order, line) for line in order.lines],
        actor=transition.actor,
        claimed_actor=transition.claimed_actor,
        cause_id=transition.cause,
    )


def _status_changed(domain_event: StatusChanged) -> order_events_pb2.OrderStatusChanged:
    order, transition = domain_event.order, domain_event.transition
    return order_events_pb2.OrderStatusChanged(
        order_id=str(order.id),
        order_number=order.number,
        attempt=transition.attempt,
        old_status=STATUS[transition.old] if transition.old else order_pb2.ORDER_STATUS_UNSPECIFIED,
        new_status=STATUS[transition.new],
        reason=transition.reason,
        total_amount=to_message(order.money(order.total)),
        order_version=transition.version,
        occur_time=timestamp(transition.time),
        items=[_event_line(order, line) for line in order.lines],
        actor=transition.actor,
        claimed_actor=transition.claimed_actor,
        cause_id=transition.cause,
        stock_status=STOCK[order.stock],
        payment_status=PAYMENT[order.payment],
        expire_time=timestamp_or_none(order.expire_time),
    )


def _event_line(order: Order, line: Line) -> order_events_pb2.OrderLine:
    return order_events_pb2.OrderLine(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        cancelled_quantity=line.cancelled,
        unit_shares=[
            order_events_pb2.LineUnitShare(
                quantity=share.quantity, amount=to_message(order.money(share.amount))
            )
            for share in line.shares
        ],
        allocations=[
            order_events_pb2.LineAllocation(
                warehouse_id=a.warehouse_id,
                reservation_id=str(a.reservation_id),
                quantity=a.quantity,
            )
            for a in line.allocations
            if a.quantity
        ],
    )
