"""Events of the other services, as commands in envelopes."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.payment.events.v1 import payment_events_pb2
from ordermesh.payment.v1 import payment_pb2
from ordermesh.shipping.events.v1 import shipping_events_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import invalid_field, money, optional_field, parse_time
from chassis.values.envelope import Envelope, EventSource
from order_svc.lifecycle import ShipmentOutcome
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyRefund,
    ApplyReservation,
    ApplyShipment,
    ApplyShipmentOutcome,
    ConfirmPayment,
    FailPayment,
)
from order_svc.model.records import Allocation, Allocations
from order_svc.wire.enums import OUTCOME_OF_SHIPMENT_STATUS, STATE_OF_FULFILLMENT_STATUS

# No parcel of a shipment in one of these statuses leaves the warehouse.
WITHOUT_PARCEL = (shipping_pb2.SHIPMENT_STATUS_VOIDED, shipping_pb2.SHIPMENT_STATUS_FAILED)


def confirm_payment(
    event: payment_events_pb2.PaymentConfirmed,
    source: EventSource,
) -> Envelope[ConfirmPayment]:
    command = ConfirmPayment(
        attempt=event.attempt,
        captured=money(event.captured_amount, "captured_amount"),
        not_required=event.not_required,
    )
    return Envelope.of_event(source, command, target=UUID(event.order_id), actor="payment")


def fail_payment(
    event: payment_events_pb2.PaymentFailed,
    source: EventSource,
) -> Envelope[FailPayment]:
    fail = FailPayment(attempt=event.attempt)
    return Envelope.of_event(source, fail, target=UUID(event.order_id), actor="payment")


def apply_refund(
    event: payment_events_pb2.RefundCompleted | payment_events_pb2.RefundFailed,
    source: EventSource,
) -> Envelope[ApplyRefund]:
    refund = event.refund
    failed = isinstance(event, payment_events_pb2.RefundFailed)
    command = ApplyRefund(
        attempt=refund.attempt,
        captured=money(event.captured_amount, "captured_amount"),
        refunded=money(event.refunded_amount, "refunded_amount"),
        return_id=_refunded_return_id(refund)
        if refund.cause == payment_pb2.REFUND_CAUSE_RETURN
        else None,
        amount=money(refund.amount, "refund.amount").minor,
        failure_code=refund.failure_code or "unknown" if failed else None,
    )
    return Envelope.of_event(source, command, target=UUID(refund.order_id), actor="payment")


def _refunded_return_id(refund: payment_pb2.Refund) -> UUID:
    """Returns the id of the return that the refund is for. Events of earlier releases, in which a
    return had one refund, name it in cause_id alone.
    """
    try:
        return UUID(refund.return_id or refund.cause_id)
    except ValueError:
        raise invalid_field("refund.return_id", "must be set where the cause is a return") from None


def apply_fulfillment(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
    source: EventSource,
) -> Envelope[ApplyFulfillmentStatus]:
    """Returns the command with the status that the fulfilment had at the event's transition."""
    fulfillment = event.fulfillment
    command = ApplyFulfillmentStatus(
        attempt=fulfillment.attempt,
        warehouse_id=fulfillment.warehouse_id,
        fulfillment_id=UUID(fulfillment.fulfillment_id),
        version=fulfillment.version,
        state=STATE_OF_FULFILLMENT_STATUS.get(fulfillment.status),
        reason=event.reason,
        units={line.line_number: line.quantity for line in fulfillment.picklist},
        committed=fulfillment.stock_committed,
    )
    return Envelope.of_event(
        source, command, target=UUID(fulfillment.order_id), actor="fulfillment"
    )


def apply_shipment(
    event: shipping_events_pb2.ShipmentCreated | shipping_events_pb2.DeliveryConfirmed,
    source: EventSource,
) -> Envelope[ApplyShipment]:
    shipment = event.shipment
    deliver_time = None
    if isinstance(event, shipping_events_pb2.DeliveryConfirmed):
        deliver_time = parse_time(event.deliver_time, "deliver_time")
    command = ApplyShipment(
        attempt=shipment.attempt,
        warehouse_id=shipment.warehouse_id,
        shipment_id=UUID(shipment.shipment_id),
        tracking_number=optional_field(shipment, "tracking_number"),
        deliver_time=deliver_time,
        fulfillment_version=shipment.fulfillment_version,
    )
    return Envelope.of_event(source, command, target=UUID(shipment.order_id), actor="shipping")


def apply_shipment_outcome(
    event: shipping_events_pb2.ShipmentStatusChanged,
    source: EventSource,
) -> Envelope[ApplyShipmentOutcome]:
    shipment = event.shipment
    void = event.new_status == shipping_pb2.SHIPMENT_STATUS_VOIDED
    withdrawn = (
        void and shipment.HasField("withdraw_version") and not shipment.HasField("recall_time")
    )
    command = ApplyShipmentOutcome(
        attempt=shipment.attempt,
        warehouse_id=shipment.warehouse_id,
        shipment_id=UUID(shipment.shipment_id),
        tracking_number=optional_field(shipment, "tracking_number"),
        outcome=None if withdrawn else _shipment_outcome(event.new_status, shipment.status_reason),
        withdrawn=withdrawn,
        withdraw_version=shipment.withdraw_version if event.new_status in WITHOUT_PARCEL else 0,
    )
    return Envelope.of_event(source, command, target=UUID(shipment.order_id), actor="shipping")


def _shipment_outcome(
    status: shipping_pb2.ShipmentStatus.ValueType, reason: str
) -> ShipmentOutcome | None:
    """Returns the outcome of the parcel, if it has one. A parcel that was recalled before it had a
    label is voided. A shipment that failed for another reason has no outcome: the carrier refused
    it, or its order or its fulfilment is cancelled.
    """
    if status == shipping_pb2.SHIPMENT_STATUS_FAILED and reason == "RECALLED":
        return ShipmentOutcome.VOIDED
    return OUTCOME_OF_SHIPMENT_STATUS.get(status)


def apply_reservation(
    event: warehouse_events_pb2.ReservationStatusChanged,
    source: EventSource,
) -> Envelope[ApplyReservation]:
    reservation, attempt_reservations = event.reservation, event.attempt_reservations
    confirmed = warehouse_pb2.RESERVATION_STATUS_CONFIRMED
    freed = all(
        not (line.reserved or line.committed or line.shipped)
        for r in attempt_reservations
        for line in r.lines
    )
    command = ApplyReservation(
        attempt=reservation.attempt,
        allocations=allocations(r for r in attempt_reservations if r.status == confirmed),
        refused=optional_field(event, "confirm_refused_reason"),
        freed=freed and bool(attempt_reservations),
    )
    return Envelope.of_event(source, command, target=UUID(reservation.order_id), actor="warehouse")


def allocations(reservations: Iterable[warehouse_pb2.Reservation]) -> Allocations:
    """Returns the allocations of each line, from the warehouse's reservations."""
    by_line: defaultdict[int, list[Allocation]] = defaultdict(list)
    for reservation in reservations:
        for line in reservation.lines:
            if units := line.quantity - line.released:
                by_line[line.line_number].append(
                    Allocation(
                        warehouse_id=reservation.warehouse_id,
                        reservation_id=UUID(reservation.reservation_id),
                        quantity=units,
                    )
                )
    return by_line
