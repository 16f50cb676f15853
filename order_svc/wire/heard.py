"""Events of the other services, as commands in envelopes."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import given, invalid, moment, money
from chassis.values.envelope import Envelope, EventSource
from order_svc.lifecycle import End
from order_svc.model import (
    Allocation,
    Allocations,
    ConfirmPayment,
    FailPayment,
    NoteFulfillment,
    NoteRefund,
    NoteReservation,
    NoteShipment,
    NoteShipmentEnd,
)
from order_svc.wire.names import END_OF, WORK_OF

# A shipment that ends so has no parcel that leaves.
WITHOUT_PARCEL = (shipping_pb2.SHIPMENT_STATUS_VOIDED, shipping_pb2.SHIPMENT_STATUS_FAILED)


def confirm_payment(
    event: payment_events_pb2.PaymentConfirmed,
    of: EventSource,
) -> Envelope[ConfirmPayment]:
    command = ConfirmPayment(
        attempt=event.attempt,
        captured=money(event.captured_amount, "captured_amount"),
        not_required=event.not_required,
    )
    return Envelope.of_event(of, command, target=UUID(event.order_id), actor="payment")


def fail_payment(
    event: payment_events_pb2.PaymentFailed,
    of: EventSource,
) -> Envelope[FailPayment]:
    fail = FailPayment(attempt=event.attempt)
    return Envelope.of_event(of, fail, target=UUID(event.order_id), actor="payment")


def note_refund(
    event: payment_events_pb2.RefundCompleted | payment_events_pb2.RefundFailed,
    of: EventSource,
) -> Envelope[NoteRefund]:
    its = event.refund
    failed = isinstance(event, payment_events_pb2.RefundFailed)
    command = NoteRefund(
        attempt=its.attempt,
        captured=money(event.captured_amount, "captured_amount"),
        refunded=money(event.refunded_amount, "refunded_amount"),
        return_id=_returned(its) if its.cause == payment_pb2.REFUND_CAUSE_RETURN else None,
        amount=money(its.amount, "refund.amount").minor,
        failure_code=its.failure_code or "unknown" if failed else None,
    )
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="payment")


def _returned(its: payment_pb2.Refund) -> UUID:
    """The return that the refund is for; events of releases before, when a return had one
    refund, name it as their cause alone.
    """
    try:
        return UUID(its.return_id or its.cause_id)
    except ValueError:
        raise invalid("refund.return_id", "must be set where the cause is a return") from None


def note_fulfillment(
    event: fulfillment_events_pb2.FulfillmentStatusChanged,
    of: EventSource,
) -> Envelope[NoteFulfillment]:
    return _note_work(event.fulfillment, event.new_status, event.reason, of)


def note_lines(
    event: fulfillment_events_pb2.FulfillmentLinesChanged,
    of: EventSource,
) -> Envelope[NoteFulfillment]:
    return _note_work(event.fulfillment, event.fulfillment.status, event.reason, of)


def _note_work(
    its: fulfillment_pb2.Fulfillment,
    status: fulfillment_pb2.FulfillmentStatus.ValueType,
    reason: str,
    of: EventSource,
) -> Envelope[NoteFulfillment]:
    command = NoteFulfillment(
        attempt=its.attempt,
        warehouse_id=its.warehouse_id,
        fulfillment_id=UUID(its.fulfillment_id),
        version=its.version,
        work=WORK_OF.get(status),
        reason=reason,
        units={line.line_number: line.quantity for line in its.picklist},
        committed=its.stock_committed,
    )
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="fulfillment")


def note_shipment(
    shipment: shipping_pb2.Shipment,
    of: EventSource,
    deliver_time: Timestamp | None = None,
) -> Envelope[NoteShipment]:
    command = NoteShipment(
        attempt=shipment.attempt,
        warehouse_id=shipment.warehouse_id,
        shipment_id=UUID(shipment.shipment_id),
        tracking_number=given(shipment, "tracking_number"),
        deliver_time=moment(deliver_time, "deliver_time") if deliver_time else None,
        fulfillment_version=shipment.fulfillment_version,
    )
    return Envelope.of_event(of, command, target=UUID(shipment.order_id), actor="shipping")


def note_shipment_end(
    event: shipping_events_pb2.ShipmentStatusChanged,
    of: EventSource,
) -> Envelope[NoteShipmentEnd]:
    its = event.shipment
    void = event.new_status == shipping_pb2.SHIPMENT_STATUS_VOIDED
    withdrawn = void and its.HasField("withdraw_version") and not its.HasField("recall_time")
    command = NoteShipmentEnd(
        attempt=its.attempt,
        warehouse_id=its.warehouse_id,
        shipment_id=UUID(its.shipment_id),
        tracking_number=given(its, "tracking_number"),
        ended=None if withdrawn else _ended(event.new_status, its.status_reason),
        withdrawn=withdrawn,
        withdraw_version=its.withdraw_version if event.new_status in WITHOUT_PARCEL else 0,
    )
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="shipping")


def _ended(status: shipping_pb2.ShipmentStatus.ValueType, reason: str) -> End | None:
    """How the parcel ended, if it did. One that was recalled before it had a label is void;
    where a carrier refuses it, or its order or its work is dead, nothing more follows from that.
    """
    if status == shipping_pb2.SHIPMENT_STATUS_FAILED and reason == "RECALLED":
        return End.VOIDED
    return END_OF.get(status)


def note_reservation(
    event: warehouse_events_pb2.ReservationStatusChanged,
    of: EventSource,
) -> Envelope[NoteReservation]:
    its, several = event.reservation, event.attempt_reservations
    confirmed = warehouse_pb2.RESERVATION_STATUS_CONFIRMED
    free = all(
        not (line.reserved or line.committed or line.shipped) for r in several for line in r.lines
    )
    command = NoteReservation(
        attempt=its.attempt,
        allocations=allocations(each for each in several if each.status == confirmed),
        refused=given(event, "confirm_refused_reason"),
        freed=free and bool(several),
    )
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="warehouse")


def allocations(reservations: Iterable[warehouse_pb2.Reservation]) -> Allocations:
    """Where the units of each line come from, as the warehouse's reservations tell."""
    at: defaultdict[int, list[Allocation]] = defaultdict(list)
    for its in reservations:
        for line in its.lines:
            if units := line.quantity - line.released:
                at[line.line_number].append(
                    Allocation(its.warehouse_id, UUID(its.reservation_id), units)
                )
    return at
