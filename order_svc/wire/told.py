"""What the order service tells the world: a fact becomes an event."""

from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2

from chassis.values.convert import timestamp, timestamp_or_none
from chassis.values.money import to_message
from chassis.values.outgoing_event import OutgoingEvent
from order_svc.model import ItemsCancelled, Line, Order, ReturnChanged, StatusChanged
from order_svc.wire.names import PAYMENT, STATUS, STOCK
from order_svc.wire.returns import return_changed


def event(fact: StatusChanged | ItemsCancelled | ReturnChanged) -> OutgoingEvent:
    """The event that tells of a step, with the order, or the return, as it stood after it."""
    if isinstance(fact, ReturnChanged):
        rma = fact.rma
        return OutgoingEvent(aggregate=rma.id, order_id=rma.order_id, message=return_changed(fact))
    order_id = fact.order.id
    message = _items_cancelled(fact) if isinstance(fact, ItemsCancelled) else _status_changed(fact)
    return OutgoingEvent(aggregate=order_id, order_id=order_id, message=message)


def _items_cancelled(fact: ItemsCancelled) -> order_events_pb2.OrderItemsCancelled:
    its, step = fact.order, fact.step
    return order_events_pb2.OrderItemsCancelled(
        order_id=str(its.id),
        order_number=its.number,
        attempt=step.attempt,
        status=STATUS[step.new],
        reason=step.reason,
        total_amount=to_message(its.money(its.total)),
        order_version=step.version,
        occur_time=timestamp(step.time),
        items=[_event_line(its, line) for line in its.lines],
        actor=step.actor,
        claimed_actor=step.claimed_actor,
        cause_id=step.cause,
    )


def _status_changed(fact: StatusChanged) -> order_events_pb2.OrderStatusChanged:
    its, step = fact.order, fact.step
    return order_events_pb2.OrderStatusChanged(
        order_id=str(its.id),
        order_number=its.number,
        attempt=step.attempt,
        old_status=STATUS[step.old] if step.old else order_pb2.ORDER_STATUS_UNSPECIFIED,
        new_status=STATUS[step.new],
        reason=step.reason,
        total_amount=to_message(its.money(its.total)),
        order_version=step.version,
        occur_time=timestamp(step.time),
        items=[_event_line(its, line) for line in its.lines],
        actor=step.actor,
        claimed_actor=step.claimed_actor,
        cause_id=step.cause,
        stock_status=STOCK[its.stock],
        payment_status=PAYMENT[its.payment],
        expire_time=timestamp_or_none(its.expire_time),
    )


def _event_line(its: Order, line: Line) -> order_events_pb2.OrderLine:
    return order_events_pb2.OrderLine(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        cancelled_quantity=line.cancelled,
        unit_shares=[
            order_events_pb2.LineUnitShare(
                quantity=share.quantity, amount=to_message(its.money(share.amount))
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
