"""Protobuf to model and back, and facts to events. Pure."""

import base64
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.convert import given, invalid, moment, money, names, timestamp, timestamp_or_none
from chassis.idempotency import Keyed
from chassis.money import to_message
from order_svc.lifecycle import PaymentStatus, Progress, ReturnProgress, Status, StockStatus, Work
from order_svc.model import (
    Allocation,
    Allocations,
    Checkout,
    ConfirmPayment,
    FailPayment,
    Line,
    NoteFulfillment,
    NoteReservation,
    NoteShipment,
    Order,
    OrderFilter,
    Part,
    Recipient,
    Share,
    StatusChanged,
    Transition,
    WantedLine,
)

STATUS = names(Status, "ORDER_STATUS", order_pb2.OrderStatus.Value)
PAYMENT = names(PaymentStatus, "PAYMENT_STATUS", order_pb2.PaymentStatus.Value)
PROGRESS = names(Progress, "FULFILLMENT_PROGRESS", order_pb2.FulfillmentProgress.Value)
STOCK = names(StockStatus, "STOCK_STATUS", order_pb2.StockStatus.Value)
RETURNS = names(ReturnProgress, "RETURN_PROGRESS", order_pb2.ReturnProgress.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
STOCK_OF = {value: stock for stock, value in STOCK.items()}
WORK_OF = {fulfillment_pb2.FulfillmentStatus.Value(f"FULFILLMENT_STATUS_{w.name}"): w for w in Work if w is not Work.EXPECTED}

AMOUNTS = ("unit_price", "discount_amount", "tax_amount")

# --- requests


def checkout(request: order_service_pb2.CreateOrderRequest) -> Checkout:
    """Raises Invalid VALIDATION_FAILED for an amount that is not in the checkout's one currency, or has a fraction of its minor unit."""
    currency = request.items[0].unit_price.currency_code

    def minor(of: Message, name: str, path: str = "") -> int:
        return money(getattr(of, name), path + name, currency).minor if of.HasField(name) else 0

    lines = tuple(
        WantedLine(item.sku, item.quantity, *(minor(item, name, f"items[{index}].") for name in AMOUNTS))
        for index, item in enumerate(request.items)
    )
    return Checkout(
        currency=currency,
        lines=lines,
        discount=minor(request, "discount_amount"),
        tax=minor(request, "tax_amount"),
        shipping=minor(request, "shipping_amount"),
        customer_id=given(request, "customer_id"),
        external_reference=given(request, "external_reference"),
        recipient=_recipient(request.recipient),
    )


def order_filter(request: order_service_pb2.ListOrdersRequest) -> OrderFilter:
    return OrderFilter(
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        customer_id=given(request, "customer_id"),
        external_reference=given(request, "external_reference"),
        number=given(request, "order_number"),
        create_time_from=given(request, "create_time_from"),
        create_time_before=given(request, "create_time_before"),
        stock=STOCK_OF.get(request.stock_status),
    )


def resume_token(order_id: UUID, version: int) -> str:
    return base64.urlsafe_b64encode(f"{order_id}:{version}".encode()).decode()


def resumed(request: order_service_pb2.WatchOrderRequest) -> int | None:
    """The version after which the watch goes on; None: from the start. Raises Invalid for a token that is not of this order."""
    if not request.resume_token:
        return None
    try:
        order_id, version = base64.urlsafe_b64decode(request.resume_token.encode()).decode().split(":")
        if UUID(order_id) == UUID(request.order_id):
            return int(version)
    except ValueError:
        pass  # not one of ours: refused below, as one of another order is
    raise invalid("resume_token", "must be one that a watch of this order has sent")


# --- events of others


def confirm_payment(event: payment_events_pb2.PaymentConfirmed, of: Keyed, cause: str) -> ConfirmPayment:
    captured = money(event.captured_amount, "captured_amount")
    target = UUID(event.order_id)
    return ConfirmPayment(
        of.key, of.digest, target, "payment", cause, attempt=event.attempt, captured=captured, not_required=event.not_required
    )


def fail_payment(event: payment_events_pb2.PaymentFailed, of: Keyed, cause: str) -> FailPayment:
    return FailPayment(of.key, of.digest, UUID(event.order_id), "payment", cause, attempt=event.attempt)


def note_fulfillment(event: fulfillment_events_pb2.FulfillmentStatusChanged, of: Keyed, cause: str) -> NoteFulfillment:
    its = event.fulfillment
    return NoteFulfillment(
        of.key,
        of.digest,
        UUID(its.order_id),
        "fulfillment",
        cause,
        attempt=its.attempt,
        warehouse_id=its.warehouse_id,
        fulfillment_id=UUID(its.fulfillment_id),
        version=its.version,
        work=WORK_OF.get(event.new_status),
    )


def note_shipment(shipment: shipping_pb2.Shipment, of: Keyed, cause: str, deliver_time: Timestamp | None = None) -> NoteShipment:
    return NoteShipment(
        of.key,
        of.digest,
        UUID(shipment.order_id),
        "shipping",
        cause,
        attempt=shipment.attempt,
        warehouse_id=shipment.warehouse_id,
        shipment_id=UUID(shipment.shipment_id),
        tracking_number=given(shipment, "tracking_number"),
        deliver_time=moment(deliver_time) if deliver_time else None,
    )


def note_reservation(event: warehouse_events_pb2.ReservationStatusChanged, of: Keyed, cause: str) -> NoteReservation:
    its = event.reservation
    committed = [r for r in event.attempt_reservations if r.status == warehouse_pb2.RESERVATION_STATUS_CONFIRMED]
    refused = given(event, "confirm_refused_reason")
    target = UUID(its.order_id)
    return NoteReservation(
        of.key, of.digest, target, "warehouse", cause, attempt=its.attempt, allocations=allocations(committed), refused=refused
    )


def allocations(reservations: Iterable[warehouse_pb2.Reservation]) -> Allocations:
    """Where the units of each line come from, as the warehouse's reservations tell."""
    at: defaultdict[int, list[Allocation]] = defaultdict(list)
    for its in reservations:
        for line in its.lines:
            at[line.line_number].append(Allocation(its.warehouse_id, UUID(its.reservation_id), line.quantity))
    return at


# --- answers and events of ours


def order(its: Order) -> order_pb2.Order:
    return order_pb2.Order(
        order_id=str(its.id),
        order_number=its.number,
        customer_id=its.customer_id,
        external_reference=its.external_reference,
        status=STATUS[its.status],
        status_reason=its.reason,
        attempt=its.attempt,
        version=its.version,
        payment_status=PAYMENT[its.payment],
        fulfillment_progress=PROGRESS[its.progress],
        stock_status=STOCK[its.stock],
        return_progress=RETURNS[its.returns],
        items=[_item(its, line) for line in its.lines],
        subtotal_amount=to_message(its.money(sum(line.subtotal for line in its.lines))),
        discount_amount=to_message(its.money(sum(line.discount for line in its.lines))),
        tax_amount=to_message(its.money(sum(line.tax for line in its.lines))),
        shipping_amount=to_message(its.money(its.shipping)),
        total_amount=to_message(its.money(its.total)),
        refunded_amount=to_message(its.money(its.refunded)),
        fulfillments=[_part(part) for part in its.parts],
        create_time=timestamp(its.create_time),
        update_time=timestamp(its.update_time),
        expire_time=timestamp_or_none(its.expire_time),
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


def watched(order_id: UUID, update: Order | Transition | datetime, version: int) -> order_service_pb2.WatchOrderResponse:
    """What a watch sends: the order as it stands, a step, or (a time) a heartbeat; `version` is where it stands now."""
    response = order_service_pb2.WatchOrderResponse(resume_token=resume_token(order_id, version))
    match update:
        case Order():
            response.snapshot.CopyFrom(order(update))
        case Transition():
            response.transition.CopyFrom(transition(update))
        case datetime():
            response.heartbeat.server_time.FromDatetime(update)
    return response


def event(fact: StatusChanged) -> tuple[UUID, Message]:
    """The event that tells of a step, with the order as it stood after it."""
    its, step = fact.order, fact.step
    return its.id, order_events_pb2.OrderStatusChanged(
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
        stock_status=STOCK[its.stock],
        payment_status=PAYMENT[its.payment],
        expire_time=timestamp_or_none(its.expire_time),
    )


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
        allocations=[_allocation(allocation) for allocation in line.allocations],
    )


def _share(its: Order, share: Share) -> order_pb2.UnitShare:
    return order_pb2.UnitShare(
        quantity=share.quantity,
        amount=to_message(its.money(share.amount)),
        discount_amount=to_message(its.money(share.discount)),
        tax_amount=to_message(its.money(share.tax)),
    )


def _allocation(its: Allocation) -> order_pb2.Allocation:
    return order_pb2.Allocation(warehouse_id=its.warehouse_id, reservation_id=str(its.reservation_id), quantity=its.quantity)


def _part(its: Part) -> order_pb2.OrderFulfillment:
    return order_pb2.OrderFulfillment(
        warehouse_id=its.warehouse_id,
        fulfillment_id=str(its.fulfillment_id) if its.fulfillment_id else None,
        status=its.work.value,
        shipment_id=str(its.shipment_id) if its.shipment_id else None,
        tracking_number=its.tracking_number,
        deliver_time=timestamp_or_none(its.deliver_time),
    )


def _event_line(its: Order, line: Line) -> order_events_pb2.OrderLine:
    return order_events_pb2.OrderLine(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        cancelled_quantity=line.cancelled,
        unit_shares=[
            order_events_pb2.LineUnitShare(quantity=share.quantity, amount=to_message(its.money(share.amount))) for share in line.shares
        ],
        allocations=[
            order_events_pb2.LineAllocation(warehouse_id=a.warehouse_id, reservation_id=str(a.reservation_id), quantity=a.quantity)
            for a in line.allocations
        ],
    )


def _recipient(its: order_pb2.Recipient) -> Recipient:
    lines = tuple(its.address_lines)
    return Recipient(its.name, lines, its.locality, its.administrative_area, its.postal_code, its.country_code, its.email, its.phone)
