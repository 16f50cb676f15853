"""Protobuf to model and back, and facts to events. Pure."""

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

from chassis.values.convert import given, names, timestamp
from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope, EventSource
from chassis.values.errors import Deferred, Failure
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import Keyed
from warehouse_svc.lifecycle import MovementKind, Status
from warehouse_svc.model import (
    AdjustStock,
    Availability,
    BookReturn,
    ConfirmReservations,
    EndAttempt,
    FollowWork,
    Holding,
    KeepUnits,
    LeftAfterVoid,
    LevelFilter,
    Movement,
    MovementFilter,
    ReceiveStock,
    ReleaseReservations,
    ReplaceSpoiled,
    Reservation,
    ReservationChanged,
    ReservationFilter,
    ReservationLine,
    ReserveStock,
    SpoiledLine,
    StockChanged,
    StockLevel,
    View,
    WantedLine,
    WorkLine,
)

C = TypeVar("C")

TTL_DEFAULT = timedelta(minutes=30)
STATUS = names(Status, "RESERVATION_STATUS", warehouse_pb2.ReservationStatus.Value)
KIND = names(MovementKind, "STOCK_MOVEMENT_KIND", warehouse_pb2.StockMovementKind.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
KIND_OF = {value: kind for kind, value in KIND.items()}


class ChangeRequest(Protocol):
    """What every request has that changes stock or reservations."""

    request_id: str


# --- requests


def receive_stock(request: inventory.ReceiveStockRequest, of: Keyed) -> Envelope[ReceiveStock]:
    quantities = {line.sku: line.quantity for line in request.lines}
    command = ReceiveStock(warehouse_id=request.warehouse_id, quantities=quantities)
    return _requested(request, of, request.request_id, command)


def adjust_stock(request: inventory.AdjustStockRequest, of: Keyed) -> Envelope[AdjustStock]:
    command = AdjustStock(
        warehouse_id=request.warehouse_id,
        sku=request.sku,
        delta=request.delta,
        expected_version=given(request, "expected_version"),
    )
    return _requested(request, of, request.request_id, command)


def restock_item(request: inventory.RestockItemRequest, of: Keyed) -> Envelope[BookReturn]:
    command = BookReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        restocked={request.line_number: request.restocked_quantity},
    )
    return _requested(request, of, request.order_id, command)


def mark_damaged(request: inventory.MarkDamagedRequest, of: Keyed) -> Envelope[BookReturn]:
    command = BookReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        damaged={request.line_number: request.damaged_quantity},
    )
    return _requested(request, of, request.order_id, command)


def asked(request: inventory.CheckAvailabilityRequest) -> dict[str, int]:
    """Units by SKU, over all lines, in the order in which they are first named."""
    units: dict[str, int] = {}
    for line in request.lines:
        units[line.sku] = units.get(line.sku, 0) + line.quantity
    return units


def level_filter(request: inventory.ListStockLevelsRequest) -> LevelFilter:
    return LevelFilter(
        warehouse_id=given(request, "warehouse_id"),
        skus=tuple(request.skus),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


def movement_filter(request: inventory.ListStockMovementsRequest) -> MovementFilter:
    return MovementFilter(
        warehouse_id=given(request, "warehouse_id"),
        sku=given(request, "sku"),
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        kinds=tuple(KIND_OF[kind] for kind in request.kinds),
        time_from=given(request, "occur_time_from"),
        time_before=given(request, "occur_time_before"),
    )


def reserve_stock(request: reserving.ReserveStockRequest, of: Keyed) -> Envelope[ReserveStock]:
    lines = tuple(WantedLine(line.line_number, line.sku, line.quantity) for line in request.lines)
    ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else TTL_DEFAULT
    command = ReserveStock(attempt=request.attempt, lines=lines, ttl=ttl)
    return _requested(request, of, request.order_id, command)


def confirm(
    request: reserving.ConfirmReservationRequest,
    of: Keyed,
) -> Envelope[ConfirmReservations]:
    its = request.order_attempt
    return _requested(request, of, its.order_id, ConfirmReservations(attempt=its.attempt))


def confirm_all(
    request: reserving.BatchConfirmReservationsRequest,
    of: Keyed,
) -> list[Envelope[ConfirmReservations]]:
    return [
        _of_batch(request, of, its, ConfirmReservations(attempt=its.attempt))
        for its in request.order_attempts
    ]


def release(
    request: reserving.ReleaseReservationRequest,
    of: Keyed,
) -> Envelope[ReleaseReservations]:
    its = request.order_attempt
    released = {line.line_number: line.released_quantity for line in request.lines}
    command = ReleaseReservations(attempt=its.attempt, released=released)
    return _requested(request, of, its.order_id, command)


def release_all(
    request: reserving.BatchReleaseReservationsRequest,
    of: Keyed,
) -> list[Envelope[ReleaseReservations]]:
    return [
        _of_batch(request, of, its, ReleaseReservations(attempt=its.attempt, released={}))
        for its in request.order_attempts
    ]


def replace_spoiled(
    request: reserving.ReplaceSpoiledUnitsRequest,
    of: Keyed,
) -> Envelope[ReplaceSpoiled]:
    its = request.order_attempt
    lines = tuple(
        SpoiledLine(line.line_number, line.spoiled_quantity, line.short_quantity)
        for line in request.lines
    )
    command = ReplaceSpoiled(attempt=its.attempt, warehouse_id=request.warehouse_id, lines=lines)
    return _requested(request, of, its.order_id, command)


def _requested(request: ChangeRequest, of: Keyed, target: str, command: C) -> Envelope[C]:
    """The envelope of a caller's command, with the request_id as the cause.

    `target` is the order; of a receipt or a count it is the request_id.
    """
    cause = request.request_id
    return Envelope.of_request(of, command, target=UUID(target), actor="warehouse", cause=cause)


def _of_batch(
    request: ChangeRequest,
    of: Keyed,
    its: reserving.OrderAttempt,
    command: C,
) -> Envelope[C]:
    """The envelope of a command about one order of a batch, whose id is the step of the key."""
    return _requested(request, of, its.order_id, command).step(its.order_id, command)


def reservation_filter(request: reserving.ListReservationsRequest) -> ReservationFilter:
    return ReservationFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=given(request, "warehouse_id"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        update_time_from=given(request, "update_time_from"),
        update_time_before=given(request, "update_time_before"),
    )


# --- events of others


def order_changed(
    event: order_events_pb2.OrderStatusChanged,
    of: EventSource,
) -> Envelope[ConfirmReservations | KeepUnits | EndAttempt] | None:
    """What an order's new status asks of its stock; None: nothing."""
    target = UUID(event.order_id)
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        if event.stock_status == order_pb2.STOCK_STATUS_COMMITTED:
            # By whatever committed it, which may have known nothing of units that were cancelled
            # shortly before. No fulfilment will speak of those.
            return _keep(event, of, while_pending=True)
        commit = ConfirmReservations(attempt=event.attempt, by_event=True)
        return Envelope.of_event(of, commit, target=target, actor="order")
    if event.new_status in (order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED):
        while_pending = event.old_status == order_pb2.ORDER_STATUS_PENDING
        end = EndAttempt(attempt=event.attempt, while_pending=while_pending)
        return Envelope.of_event(of, end, target=target, actor="order")
    return None


def items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    of: EventSource,
) -> Envelope[KeepUnits]:
    return _keep(event, of, while_pending=event.status == order_pb2.ORDER_STATUS_PENDING)


def _keep(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    of: EventSource,
    *,
    while_pending: bool,
) -> Envelope[KeepUnits]:
    """Of each line, the units that stay, where they are."""
    kept = {
        (UUID(its.reservation_id), item.line_number): its.quantity
        for item in event.items
        for its in item.allocations
    }
    command = KeepUnits(attempt=event.attempt, kept=kept, while_pending=while_pending)
    return Envelope.of_event(of, command, target=UUID(event.order_id), actor="order")


def work_changed(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
    of: EventSource,
) -> Envelope[FollowWork | EndAttempt] | None:
    """What a fulfilment's picklist says of units; None: nothing that is not known.

    Of an attempt on which nobody ever worked, and nobody will, fulfilment says so once, whichever
    warehouses have its units. One that is completed has shipped, also where that is still unheard.
    One that is cancelled has no units left, whatever its lines say (they once said what it had). A
    picklist is final once its stock is committed; an empty one was never the work of this
    warehouse.
    """
    its = event.fulfillment
    target = UUID(its.order_id)
    if event.attempt_never_started:
        end = EndAttempt(attempt=its.attempt, while_pending=True, by_order=False)
        return Envelope.of_event(of, end, target=target, actor="fulfillment")
    cancelled = its.status == fulfillment_pb2.FULFILLMENT_STATUS_CANCELLED
    shipped = its.status in (
        fulfillment_pb2.FULFILLMENT_STATUS_SHIPPED,
        fulfillment_pb2.FULFILLMENT_STATUS_COMPLETED,
    )
    lost = any(
        line.cut_quantity or line.short_quantity or line.spoiled_quantity for line in its.picklist
    )
    left = _left(event)
    if not its.picklist or not (cancelled or shipped or left or (lost and its.stock_committed)):
        return None
    follow = FollowWork(
        attempt=its.attempt,
        warehouse_id=its.warehouse_id,
        lines=tuple(
            WorkLine(
                number=line.line_number,
                quantity=0 if cancelled else line.quantity,
                short=line.short_quantity,
                spoiled=line.spoiled_quantity,
            )
            for line in its.picklist
        ),
        shipped=shipped,
        left=left,
    )
    return Envelope.of_event(of, follow, target=target, actor="fulfillment")


def _left(
    event: fulfillment_events_pb2.FulfillmentStatusChanged
    | fulfillment_events_pb2.FulfillmentLinesChanged,
) -> LeftAfterVoid | None:
    if not isinstance(event, fulfillment_events_pb2.FulfillmentLinesChanged) or not event.HasField(
        "left_after_void"
    ):
        return None
    its = event.left_after_void
    return LeftAfterVoid(
        UUID(its.shipment_id), {item.line_number: item.quantity for item in its.items}
    )


def return_changed(
    event: order_events_pb2.ReturnStatusChanged,
    of: EventSource,
) -> Envelope[BookReturn] | None:
    """What a return's inspection says of units; None: nothing yet."""
    its = event.order_return
    passed = {line.line_number: line.passed_quantity for line in its.lines if line.passed_quantity}
    failed = {line.line_number: line.failed_quantity for line in its.lines if line.failed_quantity}
    if not passed and not failed:
        return None
    command = BookReturn(
        source=UUID(its.return_id),
        warehouse_id=its.warehouse_id,
        restocked=passed,
        damaged=failed,
    )
    return Envelope.of_event(of, command, target=UUID(its.order_id), actor="order")


# --- answers


def availability(skus: Sequence[Availability]) -> inventory.CheckAvailabilityResponse:
    return inventory.CheckAvailabilityResponse(
        available=all(sku.sellable >= sku.asked for sku in skus),
        skus=[
            inventory.SkuAvailability(sku=sku.sku, asked=sku.asked, sellable=sku.sellable)
            for sku in skus
        ],
    )


def stock_level(its: StockLevel) -> warehouse_pb2.StockLevel:
    return warehouse_pb2.StockLevel(
        warehouse_id=its.warehouse_id,
        sku=its.sku,
        available=its.available,
        reserved=its.reserved,
        committed=its.committed,
        damaged=its.damaged,
        sellable=its.sellable,
        version=its.version,
        update_time=timestamp(its.update_time),
    )


def movement(its: Movement) -> warehouse_pb2.StockMovement:
    """The row of the ledger as lists have it."""
    row = _moved(its)
    row.actor, row.cause_id = its.actor, its.cause
    if its.claimed_actor is not None:
        row.claimed_actor = its.claimed_actor
    if its.note is not None:
        row.note = its.note
    return row


def _moved(its: Movement) -> warehouse_pb2.StockMovement:
    """The row of the ledger without what led to it."""
    return warehouse_pb2.StockMovement(
        movement_id=str(its.id),
        warehouse_id=its.warehouse_id,
        sku=its.sku,
        kind=KIND[its.kind],
        quantity=its.quantity,
        available_delta=its.available,
        reserved_delta=its.reserved,
        committed_delta=its.committed,
        damaged_delta=its.damaged,
        outside_delta=its.outside,
        source_id=str(its.source_id),
        order_id=str(its.order_id) if its.order_id else None,
        line_number=its.line_number,
        cumulative_quantity=its.cumulative,
        stock_level_version=its.level_version,
        occur_time=timestamp(its.time),
    )


def reservation(
    its: Reservation, view: view_pb2.View.ValueType = view_pb2.VIEW_FULL
) -> warehouse_pb2.Reservation:
    return warehouse_pb2.Reservation(
        reservation_id=str(its.id),
        order_id=str(its.order_id),
        attempt=its.attempt,
        generation=its.generation,
        warehouse_id=its.warehouse_id,
        status=STATUS[its.status],
        lines=map(_line, its.lines) if view != view_pb2.VIEW_SUMMARY else None,
        version=its.version,
        create_time=timestamp(its.create_time),
        expire_time=timestamp(its.expire_time) if its.status is Status.ACTIVE else None,
        update_time=timestamp(its.update_time),
    )


def reserved(its: Holding, attempt: int) -> reserving.ReserveStockResponse:
    return reserving.ReserveStockResponse(
        order_id=str(its.order_id), reservations=map(reservation, its.of(attempt))
    )


def standing(
    stock: View, attempt: int, view: view_pb2.View.ValueType = view_pb2.VIEW_FULL
) -> list[warehouse_pb2.Reservation]:
    """What stands for the attempt of the order that a command was about."""
    return [reservation(r, view) for r in stock.holding.of(attempt)] if stock.holding else []


def result(
    its: reserving.OrderAttempt, outcome: Outcome[View], view: view_pb2.View.ValueType
) -> reserving.ReservationResult:
    """What came of one order of a batch."""
    if isinstance(outcome, Failure):
        retryable = isinstance(outcome, Deferred)
        failure = reserving.ReservationFailure(
            reason=outcome.reason, message=outcome.message, retryable=retryable
        )
        return reserving.ReservationResult(order_id=its.order_id, failure=failure)
    return reserving.ReservationResult(
        order_id=its.order_id, reservations=standing(outcome.record, its.attempt, view)
    )


# --- events of ours


def event(fact: StockChanged | ReservationChanged) -> OutgoingEvent:
    """The event that tells of a fact: of a stock level, or of all that is held for an order,
    whose versions count together.
    """
    match fact:
        case StockChanged():
            level_id, message = fact.level.id, _stock_changed(fact)
            return OutgoingEvent(
                aggregate=level_id, order_id=fact.movement.order_id, message=message
            )
        case ReservationChanged():
            order_id, told = fact.reservation.order_id, _reservation_changed(fact)
            return OutgoingEvent(aggregate=order_id, order_id=order_id, message=told)


def _stock_changed(fact: StockChanged) -> warehouse_events_pb2.StockChanged:
    return warehouse_events_pb2.StockChanged(
        stock_level=stock_level(fact.level),
        stock_movement=_moved(fact.movement),
        actor=fact.movement.actor,
        claimed_actor=fact.movement.claimed_actor,
        cause_id=fact.movement.cause,
    )


def _reservation_changed(fact: ReservationChanged) -> warehouse_events_pb2.ReservationStatusChanged:
    return warehouse_events_pb2.ReservationStatusChanged(
        reservation=reservation(fact.reservation),
        old_status=STATUS[fact.old_status]
        if fact.old_status
        else warehouse_pb2.RESERVATION_STATUS_UNSPECIFIED,
        confirm_refused_reason=fact.refused,
        occur_time=timestamp(fact.time),
        attempt_reservations=map(reservation, fact.standing),
        holding_version=fact.holding_version,
        actor=fact.actor,
        claimed_actor=fact.claimed_actor,
        cause_id=fact.cause,
        reason=fact.reason,
    )


def _line(its: ReservationLine) -> warehouse_pb2.ReservationLine:
    return warehouse_pb2.ReservationLine(
        line_number=its.number,
        sku=its.sku,
        quantity=its.quantity,
        reserved=its.reserved,
        released=its.released,
        committed=its.committed,
        uncommitted=its.uncommitted,
        shipped=its.shipped,
        written_off=its.written_off,
        spoiled=its.spoiled,
    )
