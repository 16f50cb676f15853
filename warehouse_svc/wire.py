"""Protobuf messages to the model and back, and domain events to messages. Pure."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.view.v1 import view_pb2
from ordermesh.warehouse.events.v1 import warehouse_events_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving
from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import enum_values, optional_field, timestamp
from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope, EventSource
from chassis.values.errors import Deferred, Failure
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import RequestContext
from warehouse_svc.lifecycle import MovementKind, Status
from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    FulfillmentLine,
    LeftAfterVoid,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    ReplaceSpoiled,
    ReserveStock,
    SpoiledLine,
)
from warehouse_svc.model.events import ReservationChanged, StockChanged
from warehouse_svc.model.filters import LevelFilter, MovementFilter, ReservationFilter
from warehouse_svc.model.records import (
    Availability,
    Movement,
    OrderReservations,
    OrderStock,
    Reservation,
    ReservationLine,
    StockLevel,
    WantedLine,
)

C = TypeVar("C")

TTL_DEFAULT = timedelta(minutes=30)
STATUS = enum_values(Status, "RESERVATION_STATUS", warehouse_pb2.ReservationStatus.Value)
KIND = enum_values(MovementKind, "STOCK_MOVEMENT_KIND", warehouse_pb2.StockMovementKind.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
KIND_OF = {value: kind for kind, value in KIND.items()}


class ChangeRequest(Protocol):
    """A request that changes stock or reservations."""

    request_id: str


# --- requests


def receive_stock(
    request: inventory.ReceiveStockRequest, of: RequestContext
) -> Envelope[ReceiveStock]:
    quantities = {line.sku: line.quantity for line in request.lines}
    command = ReceiveStock(warehouse_id=request.warehouse_id, quantities=quantities)
    return _envelope(request, of, request.request_id, command)


def adjust_stock(
    request: inventory.AdjustStockRequest, of: RequestContext
) -> Envelope[AdjustStock]:
    command = AdjustStock(
        warehouse_id=request.warehouse_id,
        sku=request.sku,
        delta=request.delta,
        expected_version=optional_field(request, "expected_version"),
    )
    return _envelope(request, of, request.request_id, command)


def restock_item(request: inventory.RestockItemRequest, of: RequestContext) -> Envelope[PostReturn]:
    command = PostReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        restocked={request.line_number: request.restocked_quantity},
    )
    return _envelope(request, of, request.order_id, command)


def mark_damaged(request: inventory.MarkDamagedRequest, of: RequestContext) -> Envelope[PostReturn]:
    command = PostReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        damaged={request.line_number: request.damaged_quantity},
    )
    return _envelope(request, of, request.order_id, command)


def requested_units(request: inventory.CheckAvailabilityRequest) -> dict[str, int]:
    """Returns the units by SKU, over all lines, in the order in which the lines first name them."""
    units: dict[str, int] = {}
    for line in request.lines:
        units[line.sku] = units.get(line.sku, 0) + line.quantity
    return units


def level_filter(request: inventory.ListStockLevelsRequest) -> LevelFilter:
    return LevelFilter(
        warehouse_id=optional_field(request, "warehouse_id"),
        skus=tuple(request.skus),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def movement_filter(request: inventory.ListStockMovementsRequest) -> MovementFilter:
    return MovementFilter(
        warehouse_id=optional_field(request, "warehouse_id"),
        sku=optional_field(request, "sku"),
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        kinds=tuple(KIND_OF[kind] for kind in request.kinds),
        time_from=optional_field(request, "occur_time_from"),
        time_before=optional_field(request, "occur_time_before"),
    )


def reserve_stock(
    request: reserving.ReserveStockRequest, of: RequestContext
) -> Envelope[ReserveStock]:
    lines = tuple(WantedLine(line.line_number, line.sku, line.quantity) for line in request.lines)
    ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else TTL_DEFAULT
    command = ReserveStock(attempt=request.attempt, lines=lines, ttl=ttl)
    return _envelope(request, of, request.order_id, command)


def confirm(
    request: reserving.ConfirmReservationRequest,
    of: RequestContext,
) -> Envelope[ConfirmReservations]:
    order_id, attempt = request.order_attempt.order_id, request.order_attempt.attempt
    return _envelope(request, of, order_id, ConfirmReservations(attempt=attempt))


def batch_confirm(
    request: reserving.BatchConfirmReservationsRequest,
    of: RequestContext,
) -> list[Envelope[ConfirmReservations]]:
    return [
        _batch_envelope(request, of, each, ConfirmReservations(attempt=each.attempt))
        for each in request.order_attempts
    ]


def release(
    request: reserving.ReleaseReservationRequest,
    of: RequestContext,
) -> Envelope[ReleaseReservations]:
    order_attempt = request.order_attempt
    released = {line.line_number: line.released_quantity for line in request.lines}
    command = ReleaseReservations(attempt=order_attempt.attempt, released=released)
    return _envelope(request, of, order_attempt.order_id, command)


def batch_release(
    request: reserving.BatchReleaseReservationsRequest,
    of: RequestContext,
) -> list[Envelope[ReleaseReservations]]:
    return [
        _batch_envelope(request, of, each, ReleaseReservations(attempt=each.attempt, released={}))
        for each in request.order_attempts
    ]


def replace_spoiled(
    request: reserving.ReplaceSpoiledUnitsRequest,
    of: RequestContext,
) -> Envelope[ReplaceSpoiled]:
    order_attempt = request.order_attempt
    lines = tuple(
        SpoiledLine(line.line_number, line.spoiled_quantity, line.short_quantity)
        for line in request.lines
    )
    command = ReplaceSpoiled(
        attempt=order_attempt.attempt, warehouse_id=request.warehouse_id, lines=lines
    )
    return _envelope(request, of, order_attempt.order_id, command)


def _envelope(request: ChangeRequest, of: RequestContext, target: str, command: C) -> Envelope[C]:
    """Returns the envelope of a caller's command, with the request_id as the cause.

    `target` is the order; of a receipt or a count it is the request_id.
    """
    cause = request.request_id
    return Envelope.of_request(of, command, target=UUID(target), actor="warehouse", cause=cause)


def _batch_envelope(
    request: ChangeRequest,
    of: RequestContext,
    order_attempt: reserving.OrderAttempt,
    command: C,
) -> Envelope[C]:
    """Returns the envelope of a command about one order of a batch; the order's id is the step of
    its key.
    """
    order_id = order_attempt.order_id
    return _envelope(request, of, order_id, command).step(order_id, command)


def reservation_filter(request: reserving.ListReservationsRequest) -> ReservationFilter:
    return ReservationFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=optional_field(request, "warehouse_id"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


# --- events in


def order_status_changed(
    event: order_events_pb2.OrderStatusChanged,
    of: EventSource,
) -> Envelope[ConfirmReservations | ApplyAllocations | CloseAttempt] | None:
    """Returns the command that an order's new status needs; None: none."""
    target = UUID(event.order_id)
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        if event.stock_status == order_pb2.STOCK_STATUS_COMMITTED:
            # The commit may have included units that were cancelled shortly before. No fulfilment
            # will report those.
            return _apply_allocations(event, of, while_pending=True)
        commit = ConfirmReservations(attempt=event.attempt, by_event=True)
        return Envelope.of_event(of, commit, target=target, actor="order")
    if event.new_status in (order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED):
        while_pending = event.old_status == order_pb2.ORDER_STATUS_PENDING
        close = CloseAttempt(attempt=event.attempt, while_pending=while_pending)
        return Envelope.of_event(of, close, target=target, actor="order")
    return None


def order_items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    of: EventSource,
) -> Envelope[ApplyAllocations]:
    return _apply_allocations(
        event, of, while_pending=event.status == order_pb2.ORDER_STATUS_PENDING
    )


def _apply_allocations(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    of: EventSource,
    *,
    while_pending: bool,
) -> Envelope[ApplyAllocations]:
    """Returns the command with the allocations of each line that remain."""
    allocated = {
        (UUID(allocation.reservation_id), item.line_number): allocation.quantity
        for item in event.items
        for allocation in item.allocations
    }
    command = ApplyAllocations(
        attempt=event.attempt, allocated=allocated, while_pending=while_pending
    )
    return Envelope.of_event(of, command, target=UUID(event.order_id), actor="order")


def fulfillment_changed(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
    of: EventSource,
) -> Envelope[ApplyFulfillment | CloseAttempt] | None:
    """Returns the command that a fulfilment's picklist needs; None: it changes no stock.

    An attempt that is never fulfilled is reported once, for all warehouses. A completed fulfilment
    has shipped, also where the event about that has not arrived. A cancelled one has no units left,
    although its lines still have their earlier quantities. A picklist is final once its stock is
    committed; an empty picklist was never this warehouse's work.
    """
    fulfillment = event.fulfillment
    target = UUID(fulfillment.order_id)
    if event.attempt_never_started:
        close = CloseAttempt(attempt=fulfillment.attempt, while_pending=True, by_order=False)
        return Envelope.of_event(of, close, target=target, actor="fulfillment")
    cancelled = fulfillment.status == fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED
    shipped = fulfillment.status in (
        fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED,
        fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED,
    )
    lost = any(
        line.cut_quantity or line.short_quantity or line.spoiled_quantity
        for line in fulfillment.picklist
    )
    left = _left_after_void(event)
    if not fulfillment.picklist or not (
        cancelled or shipped or left or (lost and fulfillment.stock_committed)
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
        left_after_void=left,
    )
    return Envelope.of_event(of, command, target=target, actor="fulfillment")


def _left_after_void(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
) -> LeftAfterVoid | None:
    if not isinstance(event, fulfillment_events_pb2.FulfillmentLinesChanged) or not event.HasField(
        "left_after_void"
    ):
        return None
    left = event.left_after_void
    return LeftAfterVoid(
        UUID(left.shipment_id), {item.line_number: item.quantity for item in left.items}
    )


def return_status_changed(
    event: order_events_pb2.ReturnStatusChanged,
    of: EventSource,
) -> Envelope[PostReturn] | None:
    """Returns the command that posts a return's inspected units; None: there are none yet."""
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
    return Envelope.of_event(of, command, target=UUID(order_return.order_id), actor="order")


# --- responses


def availability_response(skus: Sequence[Availability]) -> inventory.CheckAvailabilityResponse:
    return inventory.CheckAvailabilityResponse(
        available=all(sku.sellable >= sku.asked for sku in skus),
        skus=[
            inventory.SkuAvailability(sku=sku.sku, asked=sku.asked, sellable=sku.sellable)
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
    """Returns the row of the ledger with entry actor, cause and note."""
    row = _stock_movement(entry)
    row.actor, row.cause_id = entry.actor, entry.cause
    if entry.claimed_actor is not None:
        row.claimed_actor = entry.claimed_actor
    if entry.note is not None:
        row.note = entry.note
    return row


def _stock_movement(entry: Movement) -> warehouse_pb2.StockMovement:
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
    """Returns the current reservations of an attempt of the record's order."""
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


# --- events out


def outgoing_event(change: StockChanged | ReservationChanged) -> OutgoingEvent:
    """Returns the message of a domain event. Its aggregate is the stock level, or the order, whose
    reservations have a common version.
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
        stock_movement=_stock_movement(change.movement),
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
