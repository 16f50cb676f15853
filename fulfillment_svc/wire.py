"""Protobuf to model and back, and domain events to messages. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.fulfillment.events.v1 import fulfillment_events_pb2
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.order.events.v1 import order_events_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2
from ordermesh.view.v1.view_pb2 import VIEW_FULL, VIEW_SUMMARY, View

from chassis.values.convert import enum_values, money, optional_field, timestamp
from chassis.values.envelope import Envelope, EventSource
from chassis.values.outgoing_event import OutgoingEvent
from chassis.values.request_context import RequestContext
from fulfillment_svc.lifecycle import InspectionRule, Status
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    Complete,
    CompletePicking,
    ConfirmWithdrawal,
    OrderEvent,
    OrderEventKind,
    Pack,
    RecordInspection,
    Scan,
    ScanItems,
    Ship,
    ShipmentCommand,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.records import (
    Filter,
    Fulfillment,
    Line,
    LinesByWarehouse,
    LinesChanged,
    Package,
    PackedItem,
    StatusChanged,
    Transition,
    VoidLabel,
)

C = TypeVar("C")

STATUS = enum_values(Status, "FULFILLMENT_STATUS", fulfillment_pb2.FulfillmentStatus.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
RULE = enum_values(InspectionRule, "INSPECTION_RULE", fulfillment_pb2.InspectionRule.Value)
NO_STATUS = fulfillment_pb2.FULFILLMENT_STATUS_UNSPECIFIED
NO_RULE = fulfillment_pb2.INSPECTION_RULE_UNSPECIFIED
# Statuses of a shipment whose parcels are still in the warehouse.
IN_WAREHOUSE = frozenset(
    {
        shipping_pb2.SHIPMENT_STATUS_UNSPECIFIED,
        shipping_pb2.SHIPMENT_STATUS_PENDING,
        shipping_pb2.SHIPMENT_STATUS_CREATED,
    }
)


class ChangeRequest(Protocol):
    """What every request has that changes a fulfilment."""

    fulfillment_id: str


# --- requests


def start_picking(
    request: api.StartPickingRequest, context: RequestContext
) -> Envelope[StartPicking]:
    command = StartPicking(expected_version=optional_field(request, "expected_version"))
    return _request_envelope(request, context, "picker", command)


def scan_items(request: api.ScanItemRequest, context: RequestContext) -> Envelope[ScanItems]:
    command = ScanItems(
        expected_version=optional_field(request, "expected_version"),
        scans=tuple(Scan(scan.sku, scan.quantity) for scan in request.scans),
    )
    return _request_envelope(request, context, "picker", command)


def complete_picking(
    request: api.CompletePickingRequest, context: RequestContext
) -> Envelope[CompletePicking]:
    command = CompletePicking(
        expected_version=optional_field(request, "expected_version"),
        short_line_numbers=frozenset(request.short_line_numbers),
    )
    return _request_envelope(request, context, "picker", command)


def start_packing(
    request: api.StartPackingRequest, context: RequestContext
) -> Envelope[StartPacking]:
    command = StartPacking(expected_version=optional_field(request, "expected_version"))
    return _request_envelope(request, context, "packer", command)


def pack(request: api.PackFulfillmentRequest, context: RequestContext) -> Envelope[Pack]:
    command = Pack(
        expected_version=optional_field(request, "expected_version"),
        packages=tuple(map(_package_from_request, request.packages)),
    )
    return _request_envelope(request, context, "packer", command)


def record_inspection(
    request: api.RecordInspectionRequest,
    context: RequestContext,
) -> Envelope[RecordInspection]:
    command = RecordInspection(
        expected_version=optional_field(request, "expected_version"),
        passed=request.passed,
        spoiled={line.line_number: line.quantity for line in request.spoiled},
    )
    return _request_envelope(request, context, "inspector", command)


def cancel_fulfillment(
    request: api.CancelFulfillmentRequest, context: RequestContext
) -> Envelope[CancelFulfillment]:
    command = CancelFulfillment(expected_version=optional_field(request, "expected_version"))
    return _request_envelope(request, context, "staff", command)


def _request_envelope(
    request: ChangeRequest, context: RequestContext, actor: str, command: C
) -> Envelope[C]:
    """The envelope of a person's command.

    Its cause is the key, because two methods may be called with the same request_id.
    """
    target = UUID(request.fulfillment_id)
    return Envelope.of_request(context, command, target=target, actor=actor, cause=context.key)


def fulfillment_filter(request: api.ListFulfillmentsRequest) -> Filter:
    return Filter(
        order_id=UUID(request.order_id) if request.HasField("order_id") else None,
        warehouse_id=optional_field(request, "warehouse_id"),
        statuses=frozenset(STATUS_OF[status] for status in request.statuses),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def _package_from_request(package: fulfillment_pb2.Package) -> Package:
    """A parcel as the packer's request has it: without a number, each line once."""
    items: Counter[int] = Counter()
    for item in package.items:
        items[item.line_number] += item.quantity
    return Package(
        number=0,
        weight_grams=package.weight_grams,
        length_mm=package.length_mm,
        width_mm=package.width_mm,
        height_mm=package.height_mm,
        items=tuple(PackedItem(number, quantity) for number, quantity in sorted(items.items())),
    )


# --- events of others


def order_status_changed(
    event: order_events_pb2.OrderStatusChanged,
    source: EventSource,
) -> Envelope[OrderEvent]:
    """CONFIRMED plans fulfilments, CANCELLED after it cancels them; other changes mean nothing."""
    kind = OrderEventKind.OTHER
    if event.new_status == order_pb2.ORDER_STATUS_CONFIRMED:
        kind = OrderEventKind.CONFIRMED
    elif (
        event.new_status == order_pb2.ORDER_STATUS_CANCELLED
        and event.old_status != order_pb2.ORDER_STATUS_PENDING
    ):
        kind = OrderEventKind.CANCELLED
    committed = event.stock_status == order_pb2.STOCK_STATUS_COMMITTED
    return _order_event(event, kind, source, committed)


def order_items_cancelled(
    event: order_events_pb2.OrderItemsCancelled,
    source: EventSource,
) -> Envelope[OrderEvent]:
    """A cut. It means nothing before the confirmation, whose event has the remaining units."""
    pending = event.status == order_pb2.ORDER_STATUS_PENDING
    return _order_event(
        event, OrderEventKind.OTHER if pending else OrderEventKind.CUT, source, committed=False
    )


def _order_event(
    event: order_events_pb2.OrderStatusChanged | order_events_pb2.OrderItemsCancelled,
    kind: OrderEventKind,
    source: EventSource,
    committed: bool,
) -> Envelope[OrderEvent]:
    command = OrderEvent(
        kind=kind,
        order_id=UUID(event.order_id),
        order_number=event.order_number,
        attempt=event.attempt,
        version=event.order_version,
        total=money(event.total_amount, "total_amount"),
        stock_committed=committed,
        lines_by_warehouse={} if kind is OrderEventKind.OTHER else _lines_by_warehouse(event.items),
    )
    return Envelope.of_event(source, command, target=command.order_id, actor="order")


def ship(
    shipment: shipping_pb2.Shipment, source: EventSource, *, shipped: bool = False
) -> Envelope[Ship]:
    command = Ship(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
        shipped=shipped,
    )
    return _shipment_envelope(shipment, source, command)


def complete(shipment: shipping_pb2.Shipment, source: EventSource) -> Envelope[Complete]:
    command = Complete(
        shipment_id=UUID(shipment.shipment_id),
        fulfillment_version=shipment.fulfillment_version,
    )
    return _shipment_envelope(shipment, source, command)


def withdrawal_answer(
    shipment: shipping_pb2.Shipment,
    source: EventSource,
) -> Envelope[ShipmentCommand] | None:
    """The command from shipping's answer to a withdrawal: confirmed, or with the carrier.

    None: there is no answer yet, or no withdrawal.
    """
    if not shipment.HasField("withdraw_version"):
        return None
    void = shipment.status == shipping_pb2.SHIPMENT_STATUS_VOIDED
    if void or shipment.status == shipping_pb2.SHIPMENT_STATUS_FAILED:
        confirmation = ConfirmWithdrawal(
            shipment_id=UUID(shipment.shipment_id),
            fulfillment_version=shipment.fulfillment_version,
            label_void=void,
            shipped=shipment.HasField("contradict_time"),
        )
        return _shipment_envelope(shipment, source, confirmation)
    if shipment.status in IN_WAREHOUSE and shipment.status_reason != "WITHDRAWAL_TOO_LATE":
        return None
    return ship(shipment, source, shipped=True)


def _shipment_envelope(
    shipment: shipping_pb2.Shipment, source: EventSource, command: C
) -> Envelope[C]:
    """The envelope of a command from an event of the shipment."""
    target = UUID(shipment.fulfillment_id)
    return Envelope.of_event(source, command, target=target, actor="shipping")


def _lines_by_warehouse(items: Iterable[order_events_pb2.OrderLine]) -> LinesByWarehouse:
    """The order's lines, by the warehouses that serve them."""
    lines_by_warehouse: defaultdict[str, list[Line]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.line_number):
        of_line: Counter[str] = Counter()
        for allocation in item.allocations:
            of_line[allocation.warehouse_id] += allocation.quantity
        for warehouse_id, quantity in of_line.items():
            if quantity:
                lines_by_warehouse[warehouse_id].append(Line(item.line_number, item.sku, quantity))
    return {warehouse_id: tuple(lines) for warehouse_id, lines in lines_by_warehouse.items()}


# --- answers and events of ours


def fulfillment(
    record: Fulfillment, view: View.ValueType = VIEW_FULL
) -> fulfillment_pb2.Fulfillment:
    return fulfillment_pb2.Fulfillment(
        fulfillment_id=str(record.id),
        order_id=str(record.key.order_id),
        order_number=record.order_number,
        attempt=record.key.attempt,
        warehouse_id=record.key.warehouse_id,
        status=STATUS[record.status],
        stock_committed=record.stock_committed,
        picklist=map(_line, record.lines) if view != VIEW_SUMMARY else None,
        packages=map(_package, record.packages) if view != VIEW_SUMMARY else None,
        inspection_required=record.inspection_rule is not None,
        inspection_rule=RULE[record.inspection_rule] if record.inspection_rule else NO_RULE,
        shipment_id=str(record.shipment_id) if record.shipment_id else None,
        version=record.version,
        create_time=timestamp(record.create_time),
        update_time=timestamp(record.update_time),
        withdraw_reason=record.withdraw_reason,
    )


def transition(step: Transition) -> fulfillment_pb2.FulfillmentTransition:
    return fulfillment_pb2.FulfillmentTransition(
        fulfillment_id=str(step.fulfillment_id),
        fulfillment_version=step.version,
        old_status=STATUS[step.old] if step.old else NO_STATUS,
        new_status=STATUS[step.new],
        reason=step.reason,
        actor=step.actor,
        claimed_actor=step.claimed_actor,
        cause_id=step.cause,
        note=step.note or None,
        occur_time=timestamp(step.time),
    )


def outgoing_event(fact: StatusChanged | LinesChanged) -> OutgoingEvent:
    """The message of a change, with the fulfilment as it was after it."""
    record = fact.fulfillment
    return OutgoingEvent(aggregate=record.id, order_id=record.key.order_id, message=_message(fact))


def _message(fact: StatusChanged | LinesChanged) -> Message:
    record = fact.fulfillment
    if isinstance(fact, LinesChanged):
        return fulfillment_events_pb2.FulfillmentLinesChanged(
            fulfillment=fulfillment(record),
            reason=fact.reason,
            occur_time=timestamp(record.update_time),
            attempt_never_started=fact.never_started,
            left_after_void=_left_after_void(fact.left_after_void)
            if fact.left_after_void
            else None,
            actor=fact.actor,
            claimed_actor=fact.claimed_actor,
            cause_id=fact.cause,
        )
    return fulfillment_events_pb2.FulfillmentStatusChanged(
        fulfillment=fulfillment(record),
        old_status=STATUS[fact.old] if fact.old else NO_STATUS,
        new_status=STATUS[record.status],
        reason=fact.reason,
        occur_time=timestamp(record.update_time),
        attempt_never_started=fact.never_started,
        actor=fact.actor,
        claimed_actor=fact.claimed_actor,
        cause_id=fact.cause,
    )


def _left_after_void(label: VoidLabel) -> fulfillment_events_pb2.LeftAfterVoid:
    items = [
        fulfillment_pb2.PackedItem(line_number=number, quantity=quantity)
        for number, quantity in label.units.items()
    ]
    return fulfillment_events_pb2.LeftAfterVoid(shipment_id=str(label.shipment_id), items=items)


def _line(line: Line) -> fulfillment_pb2.PicklistLine:
    return fulfillment_pb2.PicklistLine(
        line_number=line.line_number,
        sku=line.sku,
        quantity=line.quantity,
        picked_quantity=line.picked,
        cut_quantity=line.cut,
        short_quantity=line.short,
        spoiled_quantity=line.spoiled,
    )


def _package(package: Package) -> fulfillment_pb2.Package:
    return fulfillment_pb2.Package(
        package_number=package.number,
        weight_grams=package.weight_grams,
        length_mm=package.length_mm,
        width_mm=package.width_mm,
        height_mm=package.height_mm,
        items=[
            fulfillment_pb2.PackedItem(line_number=item.line_number, quantity=item.quantity)
            for item in package.items
        ],
    )
