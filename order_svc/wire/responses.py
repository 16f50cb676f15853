"""Records as messages of responses."""

from datetime import datetime
from uuid import UUID

from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import resume_token, timestamp, timestamp_or_none
from chassis.values.money import to_message
from order_svc.model.records import (
    Allocation,
    LateEvent,
    Line,
    Order,
    Recipient,
    Share,
    Transition,
    WarehouseFulfillment,
)
from order_svc.wire.enums import FULFILLMENT_STATE, PAYMENT, PROGRESS, RETURNS, STATUS, STOCK


def order(record: Order, view: View.ValueType = VIEW_FULL) -> order_pb2.Order:
    """Returns the order, in VIEW_SUMMARY without its items and late events."""
    full = view != VIEW_SUMMARY
    return order_pb2.Order(
        order_id=str(record.id),
        order_number=record.number,
        customer_id=record.customer_id,
        external_reference=record.external_reference,
        unique_external_reference=record.unique_external_reference,
        status=STATUS[record.status],
        status_reason=record.reason,
        attempt=record.attempt,
        version=record.version,
        payment_status=PAYMENT[record.payment],
        fulfillment_progress=PROGRESS[record.progress],
        stock_status=STOCK[record.stock],
        return_progress=RETURNS[record.return_progress],
        items=[_item(record, line) for line in record.lines] if full else None,
        subtotal_amount=to_message(record.money(sum(line.subtotal for line in record.lines))),
        discount_amount=to_message(record.money(sum(line.discount for line in record.lines))),
        tax_amount=to_message(record.money(sum(line.tax for line in record.lines))),
        shipping_amount=to_message(record.money(record.shipping)),
        total_amount=to_message(record.money(record.total)),
        cancelled_amount=to_message(record.money(record.cancelled_amount)),
        refunded_amount=to_message(record.money(record.refunded)),
        fulfillments=[_fulfillment(fulfillment) for fulfillment in record.fulfillments],
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        expire_time=timestamp_or_none(record.expire_time),
        late_events=[_late_event(event) for event in record.late_events] if full else None,
    )


def transition(row: Transition) -> order_pb2.OrderTransition:
    return order_pb2.OrderTransition(
        order_id=str(row.order_id),
        order_version=row.version,
        old_status=STATUS[row.old] if row.old else order_pb2.ORDER_STATUS_UNSPECIFIED,
        new_status=STATUS[row.new],
        reason=row.reason,
        actor=row.actor,
        cause_id=row.cause,
        occur_time=timestamp(row.time),
        claimed_actor=row.claimed_actor,
        note=row.note,
    )


def recipient(record: Recipient) -> order_pb2.Recipient:
    return order_pb2.Recipient(
        name=record.name,
        address_lines=record.address_lines,
        locality=record.locality,
        administrative_area=record.administrative_area,
        postal_code=record.postal_code,
        country_code=record.country_code,
        email=record.email,
        phone=record.phone,
    )


def watch_response(
    order_id: UUID, update: Order | Transition | datetime, version: int
) -> order_service_pb2.WatchOrderResponse:
    """Returns a message of a watch: the order, a transition, or (of a time) a heartbeat. `version`
    is the order's after it.
    """
    response = order_service_pb2.WatchOrderResponse(resume_token=resume_token(order_id, version))
    match update:
        case Order():
            response.snapshot.CopyFrom(order(update))
        case Transition():
            response.transition.CopyFrom(transition(update))
        case datetime():
            response.heartbeat.server_time.FromDatetime(update)
    return response


def _item(order: Order, line: Line) -> order_pb2.OrderItem:
    return order_pb2.OrderItem(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        cancelled_quantity=line.cancelled,
        unit_price=to_message(order.money(line.unit_price)),
        discount_amount=to_message(order.money(line.discount)),
        tax_amount=to_message(order.money(line.tax)),
        total_amount=to_message(order.money(line.total)),
        unit_shares=[_share(order, share) for share in line.shares],
        allocations=[
            _allocation(allocation) for allocation in line.allocations if allocation.quantity
        ],
        returned_quantity=order.returned(line.number),
    )


def _share(order: Order, share: Share) -> order_pb2.UnitShare:
    return order_pb2.UnitShare(
        quantity=share.quantity,
        amount=to_message(order.money(share.amount)),
        discount_amount=to_message(order.money(share.discount)),
        tax_amount=to_message(order.money(share.tax)),
    )


def _allocation(allocation: Allocation) -> order_pb2.Allocation:
    return order_pb2.Allocation(
        warehouse_id=allocation.warehouse_id,
        reservation_id=str(allocation.reservation_id),
        quantity=allocation.quantity,
    )


def _late_event(event: LateEvent) -> order_pb2.LateEvent:
    return order_pb2.LateEvent(
        reason=event.reason,
        actor=event.actor,
        cause_id=event.cause,
        occur_time=timestamp(event.time),
    )


def _fulfillment(fulfillment: WarehouseFulfillment) -> order_pb2.OrderFulfillment:
    return order_pb2.OrderFulfillment(
        warehouse_id=fulfillment.warehouse_id,
        fulfillment_id=str(fulfillment.fulfillment_id) if fulfillment.fulfillment_id else None,
        status=FULFILLMENT_STATE[fulfillment.state],
        shipment_id=str(fulfillment.shipment_id) if fulfillment.shipment_id else None,
        tracking_number=fulfillment.tracking_number,
        deliver_time=timestamp_or_none(fulfillment.deliver_time),
    )
