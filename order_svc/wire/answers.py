"""What callers get."""

from datetime import datetime
from uuid import UUID

from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import resume_token, timestamp, timestamp_or_none
from chassis.values.money import to_message
from order_svc.model import Allocation, LateEvent, Line, Order, Part, Recipient, Share, Transition
from order_svc.wire.names import PAYMENT, PROGRESS, RETURNS, STATUS, STOCK, WORK


def order(its: Order, view: View.ValueType = VIEW_FULL) -> order_pb2.Order:
    """The order, in VIEW_SUMMARY without its items and late events."""
    full = view != VIEW_SUMMARY
    return order_pb2.Order(
        order_id=str(its.id),
        order_number=its.number,
        customer_id=its.customer_id,
        external_reference=its.external_reference,
        unique_external_reference=its.unique_external_reference,
        status=STATUS[its.status],
        status_reason=its.reason,
        attempt=its.attempt,
        version=its.version,
        payment_status=PAYMENT[its.payment],
        fulfillment_progress=PROGRESS[its.progress],
        stock_status=STOCK[its.stock],
        return_progress=RETURNS[its.returns],
        items=[_item(its, line) for line in its.lines] if full else None,
        subtotal_amount=to_message(its.money(sum(line.subtotal for line in its.lines))),
        discount_amount=to_message(its.money(sum(line.discount for line in its.lines))),
        tax_amount=to_message(its.money(sum(line.tax for line in its.lines))),
        shipping_amount=to_message(its.money(its.shipping)),
        total_amount=to_message(its.money(its.total)),
        cancelled_amount=to_message(its.money(its.cancelled_amount)),
        refunded_amount=to_message(its.money(its.refunded)),
        fulfillments=[_part(part) for part in its.parts],
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
        expire_time=timestamp_or_none(its.expire_time),
        late_events=[_late(event) for event in its.late] if full else None,
    )


def transition(step: Transition) -> order_pb2.OrderTransition:
    return order_pb2.OrderTransition(
        order_id=str(step.order_id),
        order_version=step.version,
        old_status=STATUS[step.old] if step.old else order_pb2.ORDER_STATUS_UNSPECIFIED,
        new_status=STATUS[step.new],
        reason=step.reason,
        actor=step.actor,
        cause_id=step.cause,
        occur_time=timestamp(step.time),
        claimed_actor=step.claimed_actor,
        note=step.note,
    )


def recipient(its: Recipient) -> order_pb2.Recipient:
    return order_pb2.Recipient(
        name=its.name,
        address_lines=its.address_lines,
        locality=its.locality,
        administrative_area=its.administrative_area,
        postal_code=its.postal_code,
        country_code=its.country_code,
        email=its.email,
        phone=its.phone,
    )


def watched(
    order_id: UUID, update: Order | Transition | datetime, version: int
) -> order_service_pb2.WatchOrderResponse:
    """What a watch sends: the order as it stands, a step, or (a time) a heartbeat; `version` is
    where it stands now.
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


def _item(its: Order, line: Line) -> order_pb2.OrderItem:
    return order_pb2.OrderItem(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        cancelled_quantity=line.cancelled,
        unit_price=to_message(its.money(line.unit_price)),
        discount_amount=to_message(its.money(line.discount)),
        tax_amount=to_message(its.money(line.tax)),
        total_amount=to_message(its.money(line.total)),
        unit_shares=[_share(its, share) for share in line.shares],
        allocations=[
            _allocation(allocation) for allocation in line.allocations if allocation.quantity
        ],
        returned_quantity=its.returned(line.number),
    )


def _share(its: Order, share: Share) -> order_pb2.UnitShare:
    return order_pb2.UnitShare(
        quantity=share.quantity,
        amount=to_message(its.money(share.amount)),
        discount_amount=to_message(its.money(share.discount)),
        tax_amount=to_message(its.money(share.tax)),
    )


def _allocation(its: Allocation) -> order_pb2.Allocation:
    return order_pb2.Allocation(
        warehouse_id=its.warehouse_id, reservation_id=str(its.reservation_id), quantity=its.quantity
    )


def _late(its: LateEvent) -> order_pb2.LateEvent:
    return order_pb2.LateEvent(
        reason=its.reason, actor=its.actor, cause_id=its.cause, occur_time=timestamp(its.time)
    )


def _part(its: Part) -> order_pb2.OrderFulfillment:
    return order_pb2.OrderFulfillment(
        warehouse_id=its.warehouse_id,
        fulfillment_id=str(its.fulfillment_id) if its.fulfillment_id else None,
        status=WORK[its.work],
        shipment_id=str(its.shipment_id) if its.shipment_id else None,
        tracking_number=its.tracking_number,
        deliver_time=timestamp_or_none(its.deliver_time),
    )
