"""Domain events, as published events."""

from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import timestamp
from chassis.values.outgoing_event import OutgoingEvent
from warehouse_svc.model.events import ReservationChanged, StockChanged
from warehouse_svc.wire.enums import STATUS
from warehouse_svc.wire.responses import reservation, stock_level, stock_movement


def outgoing_event(change: StockChanged | ReservationChanged) -> OutgoingEvent:
    """Returns the message of a domain event.

    Its aggregate is the stock level, or the order, whose reservations have a common version.
    """
    match change:
        case StockChanged():
            level_id, message = change.level.id, _stock_changed(change)
            return OutgoingEvent(
                aggregate=level_id, order_id=change.movement.order_id, message=message
            )
        case ReservationChanged():
            order_id = change.reservation.order_id
            return OutgoingEvent(
                aggregate=order_id, order_id=order_id, message=_reservation_changed(change)
            )


def _stock_changed(change: StockChanged) -> warehouse_events_pb2.StockChanged:
    return warehouse_events_pb2.StockChanged(
        stock_level=stock_level(change.level),
        stock_movement=stock_movement(change.movement),
        actor=change.movement.actor,
        claimed_actor=change.movement.claimed_actor,
        cause_id=change.movement.cause,
    )


def _reservation_changed(
    change: ReservationChanged,
) -> warehouse_events_pb2.ReservationStatusChanged:
    return warehouse_events_pb2.ReservationStatusChanged(
        reservation=reservation(change.reservation),
        old_status=STATUS[change.old_status]
        if change.old_status
        else warehouse_pb2.RESERVATION_STATUS_UNSPECIFIED,
        confirm_refused_reason=change.refused,
        occur_time=timestamp(change.time),
        attempt_reservations=map(reservation, change.attempt_reservations),
        reservations_version=change.reservations_version,
        actor=change.actor,
        claimed_actor=change.claimed_actor,
        cause_id=change.cause,
        reason=change.reason,
    )
