"""What the other services tell, as commands."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.convert import given, moment, money
from chassis.idempotency import Keyed
from order_svc.model import Allocation, Allocations, ConfirmPayment, FailPayment, NoteFulfillment, NoteReservation, NoteShipment
from order_svc.wire.names import WORK_OF


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
