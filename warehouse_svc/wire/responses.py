"""Records, as messages of responses."""

from collections.abc import Sequence

from ordermesh.view.v1 import view_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import timestamp
from chassis.values.decision import Outcome
from chassis.values.errors import Deferred, Failure
from warehouse_svc.lifecycle import Status
from warehouse_svc.model.records import (
    Availability,
    Movement,
    OrderReservations,
    OrderStock,
    Reservation,
    ReservationLine,
    StockLevel,
)
from warehouse_svc.wire.enums import KIND, STATUS


def availability_response(skus: Sequence[Availability]) -> inventory.CheckAvailabilityResponse:
    return inventory.CheckAvailabilityResponse(
        available=all(sku.sellable >= sku.requested for sku in skus),
        skus=[
            inventory.SkuAvailability(sku=sku.sku, requested=sku.requested, sellable=sku.sellable)
            for sku in skus
        ],
    )


def stock_level(level: StockLevel) -> warehouse_pb2.StockLevel:
    return warehouse_pb2.StockLevel(
        warehouse_id=level.warehouse_id,
        sku=level.sku,
        available=level.available,
        reserved=level.reserved,
        committed=level.committed,
        damaged=level.damaged,
        sellable=level.sellable,
        version=level.version,
        update_time=timestamp(level.update_time),
    )


def movement(entry: Movement) -> warehouse_pb2.StockMovement:
    """Returns the row of the ledger with actor, cause and note."""
    row = stock_movement(entry)
    row.actor, row.cause_id = entry.actor, entry.cause
    if entry.claimed_actor is not None:
        row.claimed_actor = entry.claimed_actor
    if entry.note is not None:
        row.note = entry.note
    return row


def stock_movement(entry: Movement) -> warehouse_pb2.StockMovement:
    """Returns the row of the ledger without actor, cause and note."""
    return warehouse_pb2.StockMovement(
        movement_id=str(entry.id),
        warehouse_id=entry.warehouse_id,
        sku=entry.sku,
        kind=KIND[entry.kind],
        quantity=entry.quantity,
        available_delta=entry.available,
        reserved_delta=entry.reserved,
        committed_delta=entry.committed,
        damaged_delta=entry.damaged,
        outside_delta=entry.outside,
        source_id=str(entry.source_id),
        order_id=str(entry.order_id) if entry.order_id else None,
        line_number=entry.line_number,
        cumulative_quantity=entry.cumulative,
        stock_level_version=entry.level_version,
        occur_time=timestamp(entry.time),
    )


def reservation(
    record: Reservation, view: view_pb2.View.ValueType = view_pb2.VIEW_FULL
) -> warehouse_pb2.Reservation:
    return warehouse_pb2.Reservation(
        reservation_id=str(record.id),
        order_id=str(record.order_id),
        attempt=record.attempt,
        generation=record.generation,
        warehouse_id=record.warehouse_id,
        status=STATUS[record.status],
        lines=map(_line, record.lines) if view != view_pb2.VIEW_SUMMARY else None,
        version=record.version,
        create_time=timestamp(record.create_time),
        expire_time=timestamp(record.expire_time) if record.status is Status.ACTIVE else None,
        update_time=timestamp(record.update_time),
    )


def reserve_stock_response(
    record: OrderReservations, attempt: int
) -> reserving.ReserveStockResponse:
    return reserving.ReserveStockResponse(
        order_id=str(record.order_id), reservations=map(reservation, record.of_attempt(attempt))
    )


def attempt_reservations(
    record: OrderStock, attempt: int, view: view_pb2.View.ValueType = view_pb2.VIEW_FULL
) -> list[warehouse_pb2.Reservation]:
    """Returns the current reservations of the order's attempt."""
    return (
        [reservation(r, view) for r in record.order_reservations.of_attempt(attempt)]
        if record.order_reservations
        else []
    )


def reservation_result(
    order_attempt: reserving.OrderAttempt,
    outcome: Outcome[OrderStock],
    view: view_pb2.View.ValueType,
) -> reserving.ReservationResult:
    """Returns the result of one order of a batch."""
    if isinstance(outcome, Failure):
        retryable = isinstance(outcome, Deferred)
        failure = reserving.ReservationFailure(
            reason=outcome.reason, message=outcome.message, retryable=retryable
        )
        return reserving.ReservationResult(order_id=order_attempt.order_id, failure=failure)
    return reserving.ReservationResult(
        order_id=order_attempt.order_id,
        reservations=attempt_reservations(outcome.record, order_attempt.attempt, view),
    )


def _line(line: ReservationLine) -> warehouse_pb2.ReservationLine:
    return warehouse_pb2.ReservationLine(
        line_number=line.number,
        sku=line.sku,
        quantity=line.quantity,
        reserved=line.reserved,
        released=line.released,
        committed=line.committed,
        uncommitted=line.uncommitted,
        shipped=line.shipped,
        written_off=line.written_off,
        spoiled=line.spoiled,
    )
