"""Requests about returns, responses to them, and the published event of each change."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import return_pb2, return_service_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import enum_values, optional_field, timestamp
from chassis.values.envelope import Envelope
from chassis.values.money import to_message
from chassis.values.request_context import RequestContext
from order_svc.lifecycle import Disposition, ReturnKind, ReturnReason, ReturnStatus
from order_svc.model.commands import (
    CreateReturn,
    Findings,
    InspectReturn,
    MoveReturn,
    ReceiveReturn,
    RefundWithoutGoods,
)
from order_svc.model.events import ReturnChanged
from order_svc.model.filters import ReturnFilter
from order_svc.model.returns import Return, ReturnLine, ReturnTransition
from order_svc.wire.requests import requested

STATUS = enum_values(ReturnStatus, "RETURN_STATUS", return_pb2.ReturnStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
KIND = enum_values(ReturnKind, "RETURN_KIND", return_pb2.ReturnKind.Value)
DISPOSITION = enum_values(Disposition, "STOCK_DISPOSITION", return_pb2.StockDisposition.Value)
DISPOSITION_OF = {value: disposition for disposition, value in DISPOSITION.items()}

MoveRequest = (
    return_service_pb2.ApproveReturnRequest
    | return_service_pb2.RejectReturnRequest
    | return_service_pb2.MarkReturnInTransitRequest
    | return_service_pb2.CancelReturnRequest
)
# The new status of the return, and its reason.
MOVES: Mapping[type[MoveRequest], tuple[ReturnStatus, ReturnReason]] = {
    return_service_pb2.ApproveReturnRequest: (
        ReturnStatus.APPROVED,
        ReturnReason.RETURN_APPROVED,
    ),
    return_service_pb2.RejectReturnRequest: (ReturnStatus.REJECTED, ReturnReason.RETURN_REJECTED),
    return_service_pb2.MarkReturnInTransitRequest: (
        ReturnStatus.IN_TRANSIT,
        ReturnReason.RETURN_IN_TRANSIT,
    ),
    return_service_pb2.CancelReturnRequest: (
        ReturnStatus.CANCELLED,
        ReturnReason.RETURN_CANCELLED,
    ),
}

# --- requests
#
# The cause is the key, because two methods may be called with one request_id. Where a request names
# a return, the target is the return until an operation has its order.


def create_return(
    request: return_service_pb2.CreateReturnRequest,
    context: RequestContext,
) -> Envelope[CreateReturn | RefundWithoutGoods]:
    """Returns the command. The id of its return is made of the order's id and the request's key.

    So a repeat names the same return after its idempotency key was deleted.
    """
    order_id = UUID(request.order_id)
    about: dict[str, Any] = {
        "return_id": uuid5(order_id, context.key),
        "expected_version": optional_field(request, "expected_version"),
        "reason": optional_field(request, "reason") or "",
    }
    if not request.without_goods:
        announced = {line.line_number: line.quantity for line in request.lines}
        return requested(context, order_id, context.key, CreateReturn(**about, lines=announced))
    command = RefundWithoutGoods(
        **about,
        lines={
            line.line_number: (line.quantity, DISPOSITION_OF[line.disposition])
            for line in request.lines
        },
        warehouse_id=optional_field(request, "warehouse_id"),
    )
    return requested(context, order_id, context.key, command)


def move_return(request: MoveRequest, context: RequestContext) -> Envelope[MoveReturn]:
    """Returns the command that changes the return's status. A rejection may have its own reason."""
    to, reason = MOVES[type(request)]
    own_reason: str = getattr(request, "reason", "")
    command = MoveReturn(
        return_id=UUID(request.return_id),
        expected_version=optional_field(request, "expected_version"),
        to=to,
        reason=own_reason or reason,
    )
    return requested(context, command.return_id, context.key, command)


def receive_return(
    request: return_service_pb2.ReceiveReturnRequest,
    context: RequestContext,
) -> Envelope[ReceiveReturn]:
    command = ReceiveReturn(
        return_id=UUID(request.return_id),
        expected_version=optional_field(request, "expected_version"),
        warehouse_id=request.warehouse_id,
        lines={line.line_number: line.quantity for line in request.lines},
    )
    return requested(context, command.return_id, context.key, command)


def inspect_return(
    request: return_service_pb2.InspectReturnRequest,
    context: RequestContext,
) -> Envelope[InspectReturn]:
    command = InspectReturn(
        return_id=UUID(request.return_id),
        expected_version=optional_field(request, "expected_version"),
        lines={
            line.line_number: Findings(
                line.passed_quantity, line.failed_quantity, line.unrefunded_quantity
            )
            for line in request.lines
        },
    )
    return requested(context, command.return_id, context.key, command)


def return_filter(request: return_service_pb2.ListReturnsRequest) -> ReturnFilter:
    return ReturnFilter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        create_time_from=optional_field(request, "create_time_from"),
        create_time_before=optional_field(request, "create_time_before"),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


# --- responses and published events


def order_return(record: Return, view: View.ValueType = VIEW_FULL) -> return_pb2.Return:
    return return_pb2.Return(
        return_id=str(record.id),
        order_id=str(record.order_id),
        order_number=record.order_number,
        status=STATUS[record.status],
        status_reason=record.status_reason,
        kind=KIND[record.kind],
        reason=record.reason,
        warehouse_id=record.warehouse_id,
        lines=map(_line, record.lines) if view != VIEW_SUMMARY else None,
        refund_amount=to_message(record.money(record.refund)),
        refunded_amount=to_message(record.money(record.refunded)),
        version=record.version,
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        attempt=record.attempt,
    )


def return_changed(domain_event: ReturnChanged) -> order_events_pb2.ReturnStatusChanged:
    """Returns the published event of one version of a return."""
    row = domain_event.transition
    return order_events_pb2.ReturnStatusChanged(
        order_return=order_return(domain_event.order_return),
        old_status=STATUS[row.old] if row.old else return_pb2.RETURN_STATUS_UNSPECIFIED,
        new_status=STATUS[row.new],
        occur_time=timestamp(row.time),
        reason=row.reason,
        actor=row.actor,
        claimed_actor=row.claimed_actor,
        cause_id=_cause_id(row),
    )


def return_transition(row: ReturnTransition) -> return_pb2.ReturnTransition:
    return return_pb2.ReturnTransition(
        return_id=str(row.return_id),
        return_version=row.version,
        old_status=STATUS[row.old] if row.old else return_pb2.RETURN_STATUS_UNSPECIFIED,
        new_status=STATUS[row.new],
        reason=row.reason,
        actor=row.actor,
        claimed_actor=row.claimed_actor,
        cause_id=_cause_id(row),
        note=row.note,
        occur_time=timestamp(row.time),
    )


def _cause_id(row: ReturnTransition) -> str:
    """Returns the event's id, or the request_id at the end of a call's key (see
    chassis/values/request_context.py).
    """
    return row.cause.rpartition(":")[2] if row.cause.startswith("/") else row.cause


def _line(line: ReturnLine) -> return_pb2.ReturnLine:
    return return_pb2.ReturnLine(
        line_number=line.number,
        sku=line.sku,
        announced_quantity=line.announced,
        received_quantity=line.received,
        passed_quantity=line.passed,
        failed_quantity=line.failed,
        written_off_quantity=line.written_off,
        unrefunded_quantity=line.unrefunded,
    )
