"""Requests of callers, as commands in envelopes and as filters."""

from datetime import timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from ordermesh.warehouse.v1 import inventory_service_pb2 as inventory
from ordermesh.warehouse.v1 import reservation_service_pb2 as reserving

from chassis.values.convert import optional_field
from chassis.values.envelope import Envelope
from chassis.values.request_context import RequestContext
from warehouse_svc.model.commands import (
    AdjustStock,
    ConfirmReservations,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    ReplaceSpoiled,
    ReserveStock,
    SpoiledLine,
)
from warehouse_svc.model.filters import LevelFilter, MovementFilter, ReservationFilter
from warehouse_svc.model.records import WantedLine
from warehouse_svc.wire.enums import KIND_OF, STATUS_OF

C = TypeVar("C")
TTL_DEFAULT = timedelta(minutes=30)


class ChangeRequest(Protocol):
    """A request that changes stock or reservations."""

    request_id: str


def receive_stock(
    request: inventory.ReceiveStockRequest, context: RequestContext
) -> Envelope[ReceiveStock]:
    quantities = {line.sku: line.quantity for line in request.lines}
    command = ReceiveStock(warehouse_id=request.warehouse_id, quantities=quantities)
    return _envelope(request, context, request.request_id, command)


def adjust_stock(
    request: inventory.AdjustStockRequest, context: RequestContext
) -> Envelope[AdjustStock]:
    command = AdjustStock(
        warehouse_id=request.warehouse_id,
        sku=request.sku,
        delta=request.delta,
        expected_version=optional_field(request, "expected_version"),
    )
    return _envelope(request, context, request.request_id, command)


def restock_item(
    request: inventory.RestockItemRequest, context: RequestContext
) -> Envelope[PostReturn]:
    command = PostReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        restocked={request.line_number: request.restocked_quantity},
    )
    return _envelope(request, context, request.order_id, command)


def mark_damaged(
    request: inventory.MarkDamagedRequest, context: RequestContext
) -> Envelope[PostReturn]:
    command = PostReturn(
        source=UUID(request.source_id),
        warehouse_id=request.warehouse_id,
        damaged={request.line_number: request.damaged_quantity},
    )
    return _envelope(request, context, request.order_id, command)


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
    request: reserving.ReserveStockRequest, context: RequestContext
) -> Envelope[ReserveStock]:
    lines = tuple(WantedLine(line.line_number, line.sku, line.quantity) for line in request.lines)
    ttl = request.ttl.ToTimedelta() if request.HasField("ttl") else TTL_DEFAULT
    command = ReserveStock(attempt=request.attempt, lines=lines, ttl=ttl)
    return _envelope(request, context, request.order_id, command)


def confirm(
    request: reserving.ConfirmReservationRequest,
    context: RequestContext,
) -> Envelope[ConfirmReservations]:
    order_id, attempt = request.order_attempt.order_id, request.order_attempt.attempt
    return _envelope(request, context, order_id, ConfirmReservations(attempt=attempt))


def batch_confirm(
    request: reserving.BatchConfirmReservationsRequest,
    context: RequestContext,
) -> list[Envelope[ConfirmReservations]]:
    return [
        _batch_envelope(request, context, each, ConfirmReservations(attempt=each.attempt))
        for each in request.order_attempts
    ]


def release(
    request: reserving.ReleaseReservationRequest,
    context: RequestContext,
) -> Envelope[ReleaseReservations]:
    order_attempt = request.order_attempt
    released = {line.line_number: line.released_quantity for line in request.lines}
    command = ReleaseReservations(attempt=order_attempt.attempt, released=released)
    return _envelope(request, context, order_attempt.order_id, command)


def batch_release(
    request: reserving.BatchReleaseReservationsRequest,
    context: RequestContext,
) -> list[Envelope[ReleaseReservations]]:
    return [
        _batch_envelope(
            request, context, each, ReleaseReservations(attempt=each.attempt, released={})
        )
        for each in request.order_attempts
    ]


def replace_spoiled(
    request: reserving.ReplaceSpoiledUnitsRequest,
    context: RequestContext,
) -> Envelope[ReplaceSpoiled]:
    order_attempt = request.order_attempt
    lines = tuple(
        SpoiledLine(line.line_number, line.spoiled_quantity, line.short_quantity)
        for line in request.lines
    )
    command = ReplaceSpoiled(
        attempt=order_attempt.attempt, warehouse_id=request.warehouse_id, lines=lines
    )
    return _envelope(request, context, order_attempt.order_id, command)


def _envelope(
    request: ChangeRequest, context: RequestContext, target: str, command: C
) -> Envelope[C]:
    """Returns the envelope of a caller's command, with the request_id as the cause.

    `target` is the order; of a receipt or a count it is the request_id.
    """
    cause = request.request_id
    return Envelope.of_request(
        context, command, target=UUID(target), actor="warehouse", cause=cause
    )


def _batch_envelope(
    request: ChangeRequest,
    context: RequestContext,
    order_attempt: reserving.OrderAttempt,
    command: C,
) -> Envelope[C]:
    """Returns the envelope of a command about one order of a batch.

    The order's id is the step of its key.
    """
    order_id = order_attempt.order_id
    return _envelope(request, context, order_id, command).step(order_id, command)


def reservation_filter(request: reserving.ListReservationsRequest) -> ReservationFilter:
    return ReservationFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=optional_field(request, "warehouse_id"),
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )
