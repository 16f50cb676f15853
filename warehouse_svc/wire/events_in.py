"""Events of the other services, as commands in envelopes."""

from uuid import UUID

from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2

from chassis.values.envelope import Envelope, EventSource
from warehouse_svc.model.commands import (
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    FulfillmentLine,
    PostReturn,
    ShippedAfterVoid,
)


def order_status_changed(
    event: order_events_pb2.OrderStatusChanged,
    source: EventSource,
) -> Envelope[ConfirmReservations | ApplyAllocations | CloseAttempt] | None:
    """Returns the command that an order's new status needs; None where it needs none."""
    target = UUID(event.order_id)
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        if event.stock_status == order_pb2.STOCK_STATUS_COMMITTED:
            # The commit may have included units that were cancelled before it. No fulfilment will
            # report those.
            return _apply_allocations(event, source, while_pending=True)
        commit = ConfirmReservations(attempt=event.attempt, by_event=True)
        return Envelope.of_event(source, commit, target=target, actor="order")
    if event.new_status in (order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED):
        while_pending = event.old_status == order_pb2.ORDER_STATUS_PENDING
        close = CloseAttempt(attempt=event.attempt, while_pending=while_pending)
        return Envelope.of_event(source, close, target=target, actor="order")
    return None


def order_items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    source: EventSource,
) -> Envelope[ApplyAllocations]:
    return _apply_allocations(
        event, source, while_pending=event.status == order_pb2.ORDER_STATUS_PENDING
    )


def _apply_allocations(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    source: EventSource,
    *,
    while_pending: bool,
) -> Envelope[ApplyAllocations]:
    """Returns the command with the remaining allocations of each line."""
    allocated = {
        (UUID(allocation.reservation_id), item.line_number): allocation.quantity
        for item in event.items
        for allocation in item.allocations
    }
    command = ApplyAllocations(
        attempt=event.attempt, allocated=allocated, while_pending=while_pending
    )
    return Envelope.of_event(source, command, target=UUID(event.order_id), actor="order")


def fulfillment_changed(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
    source: EventSource,
) -> Envelope[ApplyFulfillment | CloseAttempt] | None:
    """Returns the command that a fulfilment's picklist needs; None where it changes no stock.

    An attempt that never started is closed, in all its warehouses. A completed fulfilment has
    shipped, also where the event about that has not arrived. A cancelled one has no units any more.
    Units that left a picklist count only once its stock is committed. An empty picklist changes
    nothing: the warehouse committed no units of the attempt.
    """
    fulfillment = event.fulfillment
    target = UUID(fulfillment.order_id)
    if event.attempt_never_started:
        close = CloseAttempt(attempt=fulfillment.attempt, while_pending=True, by_order=False)
        return Envelope.of_event(source, close, target=target, actor="fulfillment")
    cancelled = fulfillment.status == fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED
    shipped = fulfillment.status in (
        fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED,
        fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED,
    )
    has_lost_units = any(
        line.cut_quantity or line.short_quantity or line.spoiled_quantity
        for line in fulfillment.picklist
    )
    after_void = _shipped_after_void(event)
    if not fulfillment.picklist or not (
        cancelled or shipped or after_void or (has_lost_units and fulfillment.stock_committed)
    ):
        return None
    command = ApplyFulfillment(
        attempt=fulfillment.attempt,
        warehouse_id=fulfillment.warehouse_id,
        lines=tuple(
            FulfillmentLine(
                number=line.line_number,
                quantity=0 if cancelled else line.quantity,
                short=line.short_quantity,
                spoiled=line.spoiled_quantity,
            )
            for line in fulfillment.picklist
        ),
        shipped=shipped,
        shipped_after_void=after_void,
    )
    return Envelope.of_event(source, command, target=target, actor="fulfillment")


def _shipped_after_void(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
) -> ShippedAfterVoid | None:
    if not isinstance(event, fulfillment_events_pb2.FulfillmentLinesChanged) or not event.HasField(
        "shipped_after_void"
    ):
        return None
    shipped = event.shipped_after_void
    return ShippedAfterVoid(
        UUID(shipped.shipment_id), {item.line_number: item.quantity for item in shipped.items}
    )


def return_status_changed(
    event: order_events_pb2.ReturnStatusChanged,
    source: EventSource,
) -> Envelope[PostReturn] | None:
    """Returns the command that posts a return's inspected units; None where there are none."""
    order_return = event.order_return
    passed = {
        line.line_number: line.passed_quantity
        for line in order_return.lines
        if line.passed_quantity
    }
    failed = {
        line.line_number: line.failed_quantity
        for line in order_return.lines
        if line.failed_quantity
    }
    if not passed and not failed:
        return None
    command = PostReturn(
        source=UUID(order_return.return_id),
        warehouse_id=order_return.warehouse_id,
        restocked=passed,
        damaged=failed,
    )
    return Envelope.of_event(source, command, target=UUID(order_return.order_id), actor="order")
