"""Events and responses of the order service, as commands and records."""

from uuid import UUID

from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, return_pb2

from chassis.values.convert import money
from chassis.values.envelope import Envelope, EventSource
from payment_svc.lifecycle import ORDER_UNKNOWN
from payment_svc.model.commands import ApplyOrderVersion, RefundReturn
from payment_svc.model.records import Order
from payment_svc.wire.enums import ORDER_STATUS_OF

OrderEvent = order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled


def order_of_event(event: OrderEvent) -> Order:
    """Returns the order as it stands after the event. Both kinds of events share one sequence of
    versions, and have the order's total.
    """
    status = (
        event.new_status if isinstance(event, order_events_pb2.OrderStatusChanged) else event.status
    )
    return Order(
        id=UUID(event.order_id),
        version=event.order_version,
        attempt=event.attempt,
        status=ORDER_STATUS_OF.get(status, ORDER_UNKNOWN),
        total=money(event.total_amount, "total_amount"),
    )


def order_of_response(order: order_pb2.Order) -> Order:
    return Order(
        id=UUID(order.order_id),
        version=order.version,
        attempt=order.attempt,
        status=ORDER_STATUS_OF.get(order.status, ORDER_UNKNOWN),
        total=money(order.total_amount, "total_amount"),
    )


def apply_order_version(
    event: OrderEvent, source: EventSource, payment_id: UUID
) -> Envelope[ApplyOrderVersion]:
    """Returns the command. `payment_id` is for the payment of an order of total zero, which needs
    no request.
    """
    command = ApplyOrderVersion(order=order_of_event(event), payment_id=payment_id)
    return Envelope.of_event(source, command, target=command.order.id, actor="order")


def refund_return(
    event: order_events_pb2.ReturnStatusChanged,
    source: EventSource,
) -> Envelope[RefundReturn] | None:
    """Returns the command that refunds an inspected return; None for another transition of a
    return, and where its units are worth nothing.
    """
    order_return = event.order_return
    if event.new_status != return_pb2.RETURN_STATUS_INSPECTED:
        return None
    amount = money(order_return.refund_amount, "order_return.refund_amount")
    if not amount.minor:
        return None
    command = RefundReturn(
        return_id=order_return.return_id, attempt=order_return.attempt, amount=amount
    )
    return Envelope.of_event(source, command, target=UUID(order_return.order_id), actor="order")
